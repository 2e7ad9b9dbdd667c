"""A vector of output columns from one input row; strides of 1, 2 and 4.

`masks` are the lanes that lie inside the row, one mask for each load, in the order in which `set_masks` makes them.
At INSIDE all of them do, and none is looked at.  At ENDING the first load reaches the end of the row: it is the only one,
its mask the only mask, and the other taps come from its lanes (kernels of up to 3 with stride 2, no dilation).
"""

from libc.stdint cimport int64_t

from fastconv._kernels.reduction cimport LANES, LARGEST, real, reduced, vec, vset1

cdef extern from "simd.h" nogil:
    ctypedef int vmask
    vec vkeep(vec)
    vec vload(const real*)
    vec vload_mask(const real*, vmask, vec)
    vec veven(vec, vec)
    vec vodd(vec, vec)
    vec vshift(vec, vec)
    vmask vinside(int64_t, int64_t)
    vmask vno_nan(vmask, vec, vec)

cdef enum:
    MAX_MASKS = 33

cdef enum:
    MASKED, INSIDE, ENDING


cdef inline vec load(const int edge, const real* x, vmask mask, vec filling) noexcept nogil:
    if edge == INSIDE:
        return vkeep(vload(x))
    return vload_mask(x, mask, filling)


cdef inline vec reduced_row(
    const int op, const int stride, const int edge, const real* x, const vmask* masks, int64_t taps, int64_t step,
    vec filling, vmask* ordered,
) noexcept nogil:
    """Lane i is the reduction of x[i·stride + tap·step]; LARGEST notes where it meets a NaN.

    With stride 1 it looks at the first and the last tap only: a chunk is as wide as its windows, so that these two
    together see every position.
    """
    cdef vec best, first, last
    cdef int64_t tap
    if stride == 2:
        return reduced_by_two(op, edge, x, masks, taps, step, filling, ordered)
    if stride == 4:
        return reduced_by_four(op, edge, x, masks, taps, filling, ordered)
    best = first = last = load(edge, x, masks[0], filling)
    for tap in range(1, taps):
        if edge == ENDING:
            last = vshift(last, filling)
        else:
            last = load(edge, x + tap * step, masks[tap], filling)
        best = reduced(op, best, last)
    if op == LARGEST:
        ordered[0] = vno_nan(ordered[0], first, last)
    return best


cdef inline vec reduced_by_two(
    const int op, const int edge, const real* x, const vmask* masks, int64_t taps, int64_t step, vec filling,
    vmask* ordered,
) noexcept nogil:
    """Two neighbouring taps come from the same loads, and a last odd one from those of the pair before."""
    cdef vec best = filling, low, high, even
    cdef int64_t tap = 0
    while tap < taps:
        low = load(edge, x + tap * step, masks[2 * tap], filling)
        high = filling
        if edge != ENDING:
            high = load(edge, x + tap * step + LANES, masks[2 * tap + 1], filling)
        if op == LARGEST:
            ordered[0] = vno_nan(ordered[0], low, high)
        even = veven(low, high)
        best = even if tap == 0 else reduced(op, best, even)
        tap += 1
        if step > 1 or tap == taps:
            continue
        best = reduced(op, best, vodd(low, high))
        tap += 1
        if tap + 1 == taps:
            if edge == INSIDE:
                high = vset1(x[taps + 2 * LANES - 3])
            elif edge == MASKED:
                high = vload_mask(x + taps + LANES - 2, masks[2 * taps], filling)
            if op == LARGEST:
                ordered[0] = vno_nan(ordered[0], high, high)
            return reduced(op, best, vshift(even, high))
    return best


cdef inline vec reduced_by_four(
    const int op, const int edge, const real* x, const vmask* masks, int64_t taps, vec filling, vmask* ordered
) noexcept nogil:
    """Neighbouring taps, four of them from the same loads."""
    cdef vec part[4]
    cdef vec even[2]
    cdef vec odd[2]
    cdef vec best = filling
    cdef int64_t tap = 0
    cdef int v
    while tap < taps:
        for v in range(4):
            part[v] = load(edge, x + tap + v * LANES, masks[tap + v], filling)
        for v in range(2):
            if op == LARGEST:
                ordered[0] = vno_nan(ordered[0], part[2 * v], part[2 * v + 1])
            even[v] = veven(part[2 * v], part[2 * v + 1])
            odd[v] = vodd(part[2 * v], part[2 * v + 1])
        best = veven(even[0], even[1]) if tap == 0 else reduced(op, best, veven(even[0], even[1]))
        if tap + 1 < taps:
            best = reduced(op, best, veven(odd[0], odd[1]))
        if tap + 2 < taps:
            best = reduced(op, best, vodd(even[0], even[1]))
        if tap + 3 < taps:
            best = reduced(op, best, vodd(odd[0], odd[1]))
        tap += 4
    return best


cdef inline void set_masks(
    const int stride, int64_t at, int64_t size, int64_t taps, int64_t step, vmask* masks
) noexcept nogil:
    """Of the row that starts `at` positions into the input, which has `size`; `at` may be negative."""
    cdef int64_t tap
    for tap in range(taps):
        if stride == 1:
            masks[tap] = vinside(at + tap * step, size)
        elif stride == 2:
            masks[2 * tap] = vinside(at + tap * step, size)
            masks[2 * tap + 1] = vinside(at + tap * step + LANES, size)
        elif tap % 4 == 0:
            masks[tap] = vinside(at + tap, size)
            masks[tap + 1] = vinside(at + tap + LANES, size)
            masks[tap + 2] = vinside(at + tap + 2 * LANES, size)
            masks[tap + 3] = vinside(at + tap + 3 * LANES, size)
    if stride == 2:
        masks[2 * taps] = vinside(at + taps - 2 + LANES, size)
