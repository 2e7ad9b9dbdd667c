"""How two vectors of a pooling window become one, a sum a mean, and places of maxima indices."""

from libc.stdint cimport int64_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef int real_bits
    ctypedef float vec
    const int LANES
    vec vset1(real)
    vec vadd(vec, vec)
    vec vdiv(vec, vec)
    vec vmax(vec, vec)
    vec vmax_running(vec, vec)
    void vstore(real*, vec)

cdef enum:
    SUM
    LARGEST             # of values without a NaN, which costs one instruction; of equal ones the first
    LARGEST_OR_NAN      # torch's rule: the last NaN, else the first of the largest
    PLACES              # the same, and where it was found

cdef enum:
    MAX_LANES = 16


cdef inline vec reduced(const int op, vec before, vec value) noexcept nogil:
    if op == SUM:
        return vadd(before, value)
    if op == LARGEST:
        return vmax(value, before)
    return vmax_running(before, value)


cdef inline vec mean(vec total, vec divisor) noexcept nogil:
    return vdiv(vadd(total, vset1(0)), divisor)     # a sum starts at +0: zeros of either sign give +0


cdef inline void store_indices(vec places, int64_t count, int64_t* y) noexcept nogil:
    """The first `count` places of a vector."""
    cdef real lanes[MAX_LANES]
    cdef int64_t i
    vstore(lanes, places)
    if count == LANES:
        for i in range(LANES):
            y[i] = (<const real_bits*> lanes)[i]
    else:
        for i in range(count):
            y[i] = (<const real_bits*> lanes)[i]
