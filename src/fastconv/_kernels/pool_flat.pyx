"""Max and average pooling of small planes (NCHW) with windows of 3×3 that move by one and end where they began.

Decisions
---------
a. **Flat.**  The result has the shape of the input, so planes that follow one another are one long row: a tap is the same
   row some positions farther on, and a mask says in which lanes it lies in the plane.  However narrow the plane, all lanes
   work.
b. Rows are reduced first and then columns, which keeps the order of the definition (see pool.pyx).
c. A **group** of planes is reduced along its rows to the scratch, and then along its columns, in the first-level cache.  It
   is looked through for a NaN and done again where there is one.

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

cdef enum:
    TAG_BYTES = 64

cdef struct FlatSizes:
    int64_t planes, group           # in all, and of a task
    int64_t columns, positions      # of a plane


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


def pool_sizes(dict fields):
    cdef FlatSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "max_pool": (PyCapsule_New(<void*> max_pool, b"fastconv kernel", NULL), pool_sizes),
    "average_pool": (PyCapsule_New(<void*> average_pool, b"fastconv kernel", NULL), pool_sizes),
}
SLOTS = LANES       # elements that are read behind the divisors of a group
