"""How two vectors of a pooling window become one."""

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    vec vadd(vec, vec)
    vec vmax(vec, vec)
    vec vmax_running(vec, vec)

cdef enum:
    SUM
    LARGEST             # of values without a NaN, which costs one instruction; of equal ones the first
    LARGEST_OR_NAN      # torch's rule: the last NaN, else the first of the largest


cdef inline vec reduced(const int op, vec before, vec value) noexcept nogil:
    if op == SUM:
        return vadd(before, value)
    if op == LARGEST:
        return vmax(value, before)
    return vmax_running(before, value)
