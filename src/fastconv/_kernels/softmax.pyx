"""softmax and log_softmax along an axis: [outer][length][inner].

Decisions
---------
a. Three passes over a row (largest value, exponentials and their sum, scaling), while the row is in the cache.  The
   online form with a running largest value saves one pass and pays an exp for every value twice.
b. Along the last axis (inner = 1) lanes lie along the row.  Along any other, lanes are neighbouring rows, in strips of
   `STRIP` elements, whose largest values and sums wait in the scratch.
c. Nothing is done about NaN and infinity: inf - inf makes a row of -inf, or one with +inf, NaN by itself.
"""

from libc.math cimport INFINITY
from libc.math cimport log as log_of
from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.vector_math cimport (
    LANES, first_left, largest_of_lanes, load_left, real, store_left, sum_of_lanes, vec, vexp, vload, vlog, vmax, vset1,
    vstore,
)  # fmt: skip

cdef enum:
    STRIP = 256

cdef struct SoftmaxSizes:
    int64_t length, inner
    int64_t strips          # of one outer index, where lanes are rows
    int64_t logarithm


cdef inline void row(const bint logarithm, const real* x, real* y, int64_t length) noexcept nogil:
    cdef vec largest = vset1(-INFINITY), total = vset1(0), e
    cdef int64_t i = 0
    while i < length:
        largest = vmax(largest, first_left(load_left(x + i, length - i), length - i, largest))
        i += LANES
    largest = vset1(largest_of_lanes(largest))
    i = 0
    while i < length:
        e = vexp(load_left(x + i, length - i) - largest)
        total = total + first_left(e, length - i, vset1(0))
        if not logarithm:
            store_left(y + i, e, length - i)
        i += LANES
    if logarithm:
        total = vset1(<real> log_of(sum_of_lanes(total)))
    else:
        total = vset1(1 / sum_of_lanes(total))
    i = 0
    while i < length:
        if logarithm:
            e = load_left(x + i, length - i) - largest - total
        else:
            e = load_left(y + i, length - i) * total
        store_left(y + i, e, length - i)
        i += LANES


cdef inline void strip(
    const bint logarithm, const real* x, real* y, int64_t length, int64_t inner, int64_t width, real* scratch
) noexcept nogil:
    """`width` neighbouring rows, whose elements lie `inner` apart."""
    cdef real* largest = scratch
    cdef real* total = scratch + STRIP
    cdef vec e
    cdef int64_t k, i
    for i in range(STRIP):
        largest[i] = -INFINITY
        total[i] = 0
    for k in range(length):
        i = 0
        while i < width:
            vstore(largest + i, vmax(vload(largest + i), load_left(x + k * inner + i, width - i)))
            i += LANES
    for k in range(length):
        i = 0
        while i < width:
            e = vexp(load_left(x + k * inner + i, width - i) - vload(largest + i))
            vstore(total + i, vload(total + i) + e)
            if not logarithm:
                store_left(y + k * inner + i, e, width - i)
            i += LANES
    i = 0
    while i < width:
        vstore(total + i, vlog(vload(total + i)) if logarithm else vset1(1) / vload(total + i))
        i += LANES
    for k in range(length):
        i = 0
        while i < width:
            if logarithm:
                e = load_left(x + k * inner + i, width - i) - vload(largest + i) - vload(total + i)
            else:
                e = load_left(y + k * inner + i, width - i) * vload(total + i)
            store_left(y + k * inner + i, e, width - i)
            i += LANES


cdef void softmax(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x.  A task is a row (inner = 1), or a strip of rows."""
    cdef const SoftmaxSizes* s = <const SoftmaxSizes*> sizes
    cdef const real* x
    cdef real* y
    cdef int64_t task, at, width
    for task in range(first, last):
        if s.inner == 1:
            x = <const real*> arrays[1] + task * s.length
            y = <real*> arrays[0] + task * s.length
            if s.logarithm:
                row(True, x, y, s.length)
            else:
                row(False, x, y, s.length)
            continue
        at = task % s.strips * STRIP
        width = min(s.inner - at, STRIP)
        at += task // s.strips * s.length * s.inner
        x = <const real*> arrays[1] + at
        y = <real*> arrays[0] + at
        if s.logarithm:
            strip(True, x, y, s.length, s.inner, width, <real*> scratch)
        else:
            strip(False, x, y, s.length, s.inner, width, <real*> scratch)


def softmax_sizes(dict fields):
    cdef SoftmaxSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"softmax": (PyCapsule_New(<void*> softmax, b"fastconv kernel", NULL), softmax_sizes)}
STRIP_ELEMENTS = STRIP
