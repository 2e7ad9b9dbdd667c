"""Winograd's filter transform, done once for a layer's weights, in float64."""

from libc.stdint cimport int64_t

from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, MAX_LANES, vec, vload, vload_first, vstore, vtranspose
from fastconv._kernels.winograd_tiles cimport POINTS, SIDE

cdef extern from "simd.h" nogil:
    ctypedef double dvec
    const int DOUBLE_LANES
    dvec dload(const real*)
    void dstore(real*, dvec)

cdef enum:
    MAX_SIDE_TAPS = 5

cdef struct TransformSizes:
    int64_t groups, channels, filters       # the last two per group
    int64_t panel, last_panel
    int64_t kernel                          # r: taps along one side


cdef inline void filters_to_lanes(
    const real* w, int64_t filter_step, int64_t filters, int64_t elements, int64_t width, real* to
) noexcept nogil:
    """From [filter][element] to [element][width]: squares turned in registers.  Missing filters repeat the last one."""
    cdef vec square[MAX_LANES]
    cdef int64_t lane = 0, element, left
    cdef int i
    while lane < width:
        element = 0
        while element < elements:
            left = min(elements - element, LANES)
            for i in range(LANES):
                if left == LANES:
                    square[i] = vload(w + min(lane + i, filters - 1) * filter_step + element)
                else:
                    square[i] = vload_first(w + min(lane + i, filters - 1) * filter_step + element, <int> left)
            vtranspose(square)
            for i in range(LANES):
                if i < left:
                    vstore(to + (element + i) * width + lane, square[i])
            element += LANES
        lane += LANES


cdef inline dvec even_terms(const int r, const double* g, const dvec* tap) noexcept nogil:
    """What the rows of G of the points p and -p have in common."""
    if r == 3:
        return g[0] * tap[0] + g[2] * tap[2]
    return g[0] * tap[0] + g[2] * tap[2] + g[4] * tap[4]


cdef inline dvec odd_terms(const int r, const double* g, const dvec* tap) noexcept nogil:
    """What they have with opposite signs."""
    if r == 3:
        return g[1] * tap[1]
    return g[1] * tap[1] + g[3] * tap[3]


cdef inline void filter_row(const int r, const double* g, const dvec* tap, real* to, int64_t step) noexcept nogil:
    """All points of one row."""
    cdef dvec even, odd
    dstore(to, g[0] * tap[0])
    even, odd = even_terms(r, g + r, tap), odd_terms(r, g + r, tap)
    dstore(to + step, even + odd)
    dstore(to + 2 * step, even - odd)
    even, odd = even_terms(r, g + 3 * r, tap), odd_terms(r, g + 3 * r, tap)
    dstore(to + 3 * step, even + odd)
    dstore(to + 4 * step, even - odd)
    dstore(to + 5 * step, g[6 * r - 1] * tap[r - 1])


cdef inline void filter_rows(
    const int r, const int row, const double* g, const real* taps, int64_t channels, int64_t width, real* to, int64_t step
) noexcept nogil:
    """Row 0 or 5 of the points, or the pair 1 and 2 or 3 and 4, for some channels, in float64."""
    cdef dvec tap[MAX_SIDE_TAPS]
    cdef dvec first[MAX_SIDE_TAPS]
    cdef dvec second[MAX_SIDE_TAPS]
    cdef dvec even, odd
    cdef int64_t _channel, lane
    cdef int i, j
    to += row * SIDE * step
    for _channel in range(channels):
        lane = 0
        while lane < width:
            for j in range(r):
                for i in range(r):
                    tap[i] = dload(taps + (i * r + j) * width + lane)
                if row == 0:
                    first[j] = g[0] * tap[0]
                elif row == 5:
                    first[j] = g[6 * r - 1] * tap[r - 1]
                else:
                    even, odd = even_terms(r, g + row * r, tap), odd_terms(r, g + row * r, tap)
                    first[j], second[j] = even + odd, even - odd
            filter_row(r, g, first, to + lane, step)
            if row == 1 or row == 3:
                filter_row(r, g, second, to + SIDE * step + lane, step)
            lane += DOUBLE_LANES
        taps += r * r * width
        to += width


cdef inline void filter_block(
    const int r, const double* g, const real* taps, int64_t channels, int64_t width, real* to, int64_t step
) noexcept nogil:
    """Few rows of points at a time: 36 streams, often a power of two apart, would push each other out of the cache."""
    filter_rows(r, 0, g, taps, channels, width, to, step)
    filter_rows(r, 1, g, taps, channels, width, to, step)
    filter_rows(r, 3, g, taps, channels, width, to, step)
    filter_rows(r, 5, g, taps, channels, width, to, step)


cdef inline void transform_block(
    const TransformSizes* s, int64_t index, const real* w, const double* g, real* transformed, real* taps
) noexcept nogil:
    """LANES channels of one panel."""
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel
    cdef int64_t square = s.kernel * s.kernel, blocks = (s.channels + LANES - 1) // LANES
    cdef int64_t group = index // blocks // panels, first_filter = index // blocks % panels * s.panel
    cdef int64_t channel = index % blocks * LANES, channels = min(s.channels - channel, LANES)
    cdef int64_t width = s.panel if first_filter + s.panel < s.filters else s.last_panel
    w += ((group * s.filters + first_filter) * s.channels + channel) * square
    transformed += (group * group_filters + first_filter) * POINTS * s.channels + channel * width
    filters_to_lanes(
        w, s.channels * square, min(s.panel, s.filters - first_filter), channels * square, width, taps
    )
    if s.kernel == 3:
        filter_block(3, g, taps, channels, width, transformed, s.channels * width)
    else:
        filter_block(5, g, taps, channels, width, transformed, s.channels * width)
