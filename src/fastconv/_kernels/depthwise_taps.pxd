"""Columns of taps whose lanes are pixels of one row of one filter; shared by the depthwise kernels."""

from libc.stdint cimport int64_t

from fastconv._kernels.packing cimport real

cdef extern from "simd.h" nogil:
    ctypedef float vec
    const int LANES
    vec vmuladd(vec, vec, vec)
    vec vset1(real)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)

cdef enum:
    STRIP = 2           # registers across, of one filter

cdef struct Run:        # taps one above the other
    int64_t taps
    int64_t row         # of the first, relative to the input row of an output row
    int64_t column      # its number in the kernel
    int64_t columns     # 2: the next one as well, from the lanes between


cdef inline void add_taps(
    const int i, const int taps, const int rows, const int vectors, const vec* value, const real* w, vec (*total)[STRIP],
) noexcept nogil:
    """The products of input row `i` with a column of taps."""
    cdef vec weight
    cdef int r, v
    for r in range(rows):
        if i - r >= 0 and i - r < taps:
            weight = vset1(w[i - r])
            for v in range(vectors):
                total[r][v] = vmuladd(total[r][v], weight, value[v])


cdef inline void store_pixels(real* y, vec value, int64_t pixels) noexcept nogil:
    """The first `pixels` lanes."""
    if pixels >= LANES:
        vstore(y, value)
    elif pixels > 0:
        vstore_first(y, value, <int> pixels)
