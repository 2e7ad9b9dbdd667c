"""How two vectors of a pooling window become one, and a sum a mean."""

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    vec vset1(real)
    vec vadd(vec, vec)
    vec vdiv(vec, vec)
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


cdef inline vec mean(vec total, vec divisor) noexcept nogil:
    return vdiv(vadd(total, vset1(0)), divisor)     # a sum starts at +0: zeros of either sign give +0
