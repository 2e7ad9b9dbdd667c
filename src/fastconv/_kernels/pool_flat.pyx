"""Max and average pooling of small planes (NCHW) with odd windows that move by one and end where they began.

Decisions
---------
a. **Flat.**  The result has the shape of the input, so planes that follow one another are one long row: a tap is the same
   row some positions farther on, and a mask says in which lanes it lies in the plane.  However narrow the plane, all lanes
   work.
b. Rows are reduced first and then columns, which keeps the order of the definition (see pool.pyx).
c. A **group** of planes is reduced along its rows to the scratch, and then along its columns, in the first-level cache.  It
   is looked through for a NaN and done again where there is one.

d. **Large windows** of maxima grow: the largest values r positions around each become those of r + s, s being at most
   2r + 1, out of three that are s apart; where one of them lies outside, the border's does.  Rows of up to two vectors
   stay in registers while they grow along the row.  NaN and -0 mind the order, and are reduced tap by tap.

Masks of an axis: of each vector of a group, the tap before and the tap behind.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.reduction cimport LANES, LARGEST, LARGEST_OR_NAN, SUM, mean, real, reduced, vec, vset1

cdef extern from "simd.h" nogil:
    ctypedef int vmask
    vec vload(const real*)
    vec vload_inside(const real*, vmask)
    vec vload_mask(const real*, vmask, vec)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vmask vall()
    bint vis_all(vmask)
    vmask vinside(int64_t, int64_t)
    vmask vno_nan(vmask, vec, vec)
    vec vlanes(vec, vec)
    vec vlanes_of_two(vec, vec, vec)
    vec vleast(vec, vec)
    bint vleast_is_zero(vec)

cdef enum:
    TAG_BYTES = 64

cdef struct FlatSizes:
    int64_t planes, group           # in all, and of a task
    int64_t columns, positions      # of a plane

cdef struct GrowSizes:
    int64_t rows, columns, kernel   # of a plane; its windows are square
    int64_t vectors, steps          # of a row, one or two; until a window is as large


cdef inline vec tap(const int op, const real* x, vmask inside) noexcept nogil:
    if op == SUM:
        return vload_inside(x, inside)
    return vload_mask(x, inside, vset1(-INFINITY))


cdef inline vec pooled(const int op, const real* x, vec value, int64_t step, vmask before, vmask behind) noexcept nogil:
    """Of `value`, which is at x, and its taps."""
    value = reduced(op, tap(op, x - step, before), value)
    return reduced(op, value, tap(op, x + step, behind))


cdef inline bint pool_group(
    const int op, const FlatSizes* s, void* const* arrays, int64_t first, int64_t planes, real* h
) noexcept nogil:
    """`planes` planes from the first; whether LARGEST has met a NaN, and there is no result."""
    cdef const real* x = <const real*> arrays[1] + first * s.positions
    cdef const vmask* across = <const vmask*> arrays[2]
    cdef const vmask* down = <const vmask*> arrays[3]
    cdef const real* divisors = <const real*> arrays[4] if op == SUM else NULL
    cdef real* y = <real*> arrays[0] + first * s.positions
    cdef int64_t columns = s.columns, positions = planes * s.positions, at = 0, rest = positions % LANES, v
    cdef vmask ordered = vall(), inside = vinside(0, rest)      # what follows the last plane is not the array's
    cdef vec value
    for v in range(positions // LANES):
        value = vload(x + at)
        if op == LARGEST:
            ordered = vno_nan(ordered, value, value)
        vstore(h + at, pooled(op, x + at, value, 1, across[2 * v], across[2 * v + 1]))
        at += LANES
    if rest:
        v = positions // LANES
        value = vload_inside(x + at, inside)
        if op == LARGEST:
            ordered = vno_nan(ordered, value, value)
        vstore(h + at, pooled(op, x + at, value, 1, across[2 * v] & inside, across[2 * v + 1] & inside))
    if op == LARGEST and not vis_all(ordered):
        return True
    at = 0
    for v in range(positions // LANES):
        value = pooled(op, h + at, vload(h + at), columns, down[2 * v], down[2 * v + 1])
        vstore(y + at, mean(value, vload(divisors + at)) if op == SUM else value)
        at += LANES
    if rest:
        v = positions // LANES
        value = pooled(op, h + at, vload(h + at), columns, down[2 * v] & inside, down[2 * v + 1] & inside)
        vstore_first(y + at, mean(value, vload(divisors + at)) if op == SUM else value, <int> rest)
    return False


cdef void max_pool(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """A task is a group.  arrays: y, x, masks across and down."""
    cdef const FlatSizes* s = <const FlatSizes*> sizes
    cdef real* h = <real*> (scratch + TAG_BYTES)
    cdef int64_t task, planes
    for task in range(first, last):
        planes = min(s.group, s.planes - task * s.group)
        if pool_group(LARGEST, s, arrays, task * s.group, planes, h):
            pool_group(LARGEST_OR_NAN, s, arrays, task * s.group, planes, h)


cdef void average_pool(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: as above, then the divisor of every position of a group."""
    cdef const FlatSizes* s = <const FlatSizes*> sizes
    cdef int64_t task
    for task in range(first, last):
        pool_group(
            SUM, s, arrays, task * s.group, min(s.group, s.planes - task * s.group), <real*> (scratch + TAG_BYTES)
        )


cdef inline vec moved(const int vectors, vec low, vec high, const real* pick) noexcept nogil:
    return vlanes(low, vload(pick)) if vectors == 1 else vlanes_of_two(low, high, vload(pick))


cdef inline bint load_plane(const int vectors, const GrowSizes* s, const real* x, real* h) noexcept nogil:
    """Into rows of whole vectors; whether there is neither a NaN nor -0."""
    cdef vmask ordered = vall(), inside = vinside(0, s.columns - (vectors - 1) * LANES)
    cdef vec least = vset1(0), first, last
    cdef int64_t _row
    for _row in range(s.rows):
        last = vload_inside(x + (vectors - 1) * LANES, inside)
        first = vload(x) if vectors == 2 else last
        ordered = vno_nan(ordered, first, last)
        least = vleast(vleast(least, first), last)
        vstore(h, first)
        vstore(h + (vectors - 1) * LANES, last)
        x += s.columns
        h += vectors * LANES
    return vis_all(ordered) and not vleast_is_zero(least)


cdef inline void grow_rows(
    const int vectors, const GrowSizes* s, const real* h, int64_t step, real* to
) noexcept nogil:
    """Down the columns."""
    cdef int64_t row, line = vectors * LANES, last = s.rows - 1
    cdef const real* before
    cdef const real* behind
    cdef int v
    for row in range(s.rows):
        before = h + max(row - step, 0) * line
        behind = h + min(row + step, last) * line
        for v in range(vectors):
            vstore(to + row * line + v * LANES, reduced(LARGEST, reduced(
                LARGEST, vload(before + v * LANES), vload(h + row * line + v * LANES)
            ), vload(behind + v * LANES)))


cdef inline void store_row(const int vectors, const GrowSizes* s, vec first, vec last, real* y) noexcept nogil:
    if vectors == 2:
        vstore(y, first)
        vstore_first(y + LANES, last, <int> (s.columns - LANES))
    else:
        vstore_first(y, last, <int> s.columns)


cdef inline void grow_columns(
    const int vectors, const GrowSizes* s, const real* h, const real* picks, real* y
) noexcept nogil:
    """Along the rows; picks are for each step those before and those behind of every vector."""
    cdef vec first, last, value
    cdef const real* pick
    cdef int64_t _row, _step
    for _row in range(s.rows):
        first, last = vload(h), vload(h + (vectors - 1) * LANES)
        pick = picks
        for _step in range(s.steps):
            value = reduced(LARGEST, last, moved(vectors, first, last, pick + (vectors - 1) * LANES))
            value = reduced(LARGEST, value, moved(vectors, first, last, pick + (2 * vectors - 1) * LANES))
            if vectors == 2:
                first = reduced(LARGEST, reduced(
                    LARGEST, first, moved(vectors, first, last, pick)
                ), moved(vectors, first, last, pick + 2 * LANES))
            last = value
            if vectors == 1:
                first = last
            pick += 2 * vectors * LANES
        store_row(vectors, s, first, last, y)
        h += vectors * LANES
        y += s.columns


cdef inline void reduce_in_order(
    const int vectors, const GrowSizes* s, const real* x, const real* picks, real* h, real* y
) noexcept nogil:
    """Tap by tap, rows first; picks are for each tap those of every vector."""
    cdef int64_t line = vectors * LANES, row, tap
    cdef vec best[2]
    cdef int v
    for row in range(s.rows):
        for v in range(vectors):
            best[v] = moved(vectors, vload(x), vload(x + (vectors - 1) * LANES), picks + v * LANES)
            for tap in range(1, s.kernel):
                best[v] = reduced(LARGEST_OR_NAN, best[v], moved(
                    vectors, vload(x), vload(x + (vectors - 1) * LANES), picks + tap * line + v * LANES
                ))
            vstore(h + row * line + v * LANES, best[v])
        x += line
    for row in range(s.rows):
        for v in range(vectors):
            best[v] = vload(h + max(row - s.kernel // 2, 0) * line + v * LANES)
            for tap in range(max(row - s.kernel // 2, 0) + 1, min(row + s.kernel // 2 + 1, s.rows)):
                best[v] = reduced(LARGEST_OR_NAN, best[v], vload(h + tap * line + v * LANES))
        store_row(vectors, s, best[0], best[vectors - 1], y)
        y += s.columns


cdef inline void grow_plane(
    const int vectors, const GrowSizes* s, void* const* arrays, int64_t plane, real* h
) noexcept nogil:
    cdef const int64_t* steps = <const int64_t*> arrays[2]
    cdef const real* picks = <const real*> arrays[3]
    cdef const real* x = <const real*> arrays[1] + plane * s.rows * s.columns
    cdef real* y = <real*> arrays[0] + plane * s.rows * s.columns
    cdef real* to = h + s.rows * vectors * LANES
    cdef int64_t step
    if not load_plane(vectors, s, x, h):
        reduce_in_order(vectors, s, h, picks + s.steps * 2 * vectors * LANES, to, y)
        return
    for step in range(s.steps):
        grow_rows(vectors, s, h, steps[step], to)
        h, to = to, h
    grow_columns(vectors, s, h, picks, y)


cdef void max_pool_grown(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """A task is a plane.  arrays: y, x, steps, picks of the steps and behind them those of the taps in their order."""
    cdef const GrowSizes* s = <const GrowSizes*> sizes
    cdef real* h = <real*> (scratch + TAG_BYTES)
    cdef int64_t plane
    for plane in range(first, last):
        if s.vectors == 1:
            grow_plane(1, s, arrays, plane, h)
        else:
            grow_plane(2, s, arrays, plane, h)


def grow_sizes(dict fields):
    cdef GrowSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def pool_sizes(dict fields):
    cdef FlatSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "max_pool": (PyCapsule_New(<void*> max_pool, b"fastconv kernel", NULL), pool_sizes),
    "average_pool": (PyCapsule_New(<void*> average_pool, b"fastconv kernel", NULL), pool_sizes),
    "max_pool_grown": (PyCapsule_New(<void*> max_pool_grown, b"fastconv kernel", NULL), grow_sizes),
}
SLOTS = LANES       # elements that are read behind the divisors of a group
