"""Arithmetic of two arrays that broadcast to each other: y = clamp(a ∘ b) at memory speed.

Decisions
---------
a. The loops are over the fewest axes that both operands step through evenly: equal shapes are one long axis, a number per
   channel or a gate per channel and image are two or three.  Broadcasting is a stride of 0, not code.
b. The innermost axis is contiguous or constant for either operand, as constant arguments; with any stride there, every
   load would be a gather.
c. The clamp is always done: at memory speed it is free, and infinite limits change nothing, NaN included.

y may be an operand that is laid out as y: every element is read before it is written, by the thread that writes it.
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.vector_math cimport (
    LANES, load_left, real, store_left, vec, vload, vmax, vmin, vselect_number, vset1, vstore,
)  # fmt: skip

cdef enum Operation:
    ADD, SUB, MUL, DIV, MAX, MIN

cdef struct BinarySizes:
    int64_t operation
    int64_t size_0, size_1, size_2, inner       # y is contiguous over these axes
    int64_t a_0, a_1, a_2, a_inner              # steps in elements; 0 repeats, a_inner is 0 or 1
    int64_t b_0, b_1, b_2, b_inner
    int64_t chunk, chunks                       # elements of a row that one task does, tasks to a row
    int64_t task_rows                           # rows of one task where chunks is 1
    double low, high

cdef struct Limits:
    vec low, high


cdef inline vec apply(const Operation operation, vec a, vec b, const Limits* limits) noexcept nogil:
    cdef vec y
    if operation == ADD:
        y = a + b
    elif operation == SUB:
        y = a - b
    elif operation == MUL:
        y = a * b
    elif operation == DIV:
        y = a / b
    elif operation == MAX:
        y = vselect_number(a, vmax(a, b), a)
    else:
        y = vselect_number(a, vmin(a, b), a)
    return vmin(limits.high, vmax(limits.low, y))


cdef inline void row(
    const Operation operation, const bint a_steps, const bint b_steps, const real* a, const real* b, real* y,
    int64_t elements, const Limits* limits,
) noexcept nogil:
    cdef vec va = vset1(0 if a_steps else a[0])
    cdef vec vb = vset1(0 if b_steps else b[0])
    cdef int64_t i = 0, left
    while i + LANES <= elements:
        if a_steps:
            va = vload(a + i)
        if b_steps:
            vb = vload(b + i)
        vstore(y + i, apply(operation, va, vb, limits))
        i += LANES
    if i < elements:
        left = elements - i
        if a_steps:
            va = load_left(a + i, left)
        if b_steps:
            vb = load_left(b + i, left)
        store_left(y + i, apply(operation, va, vb, limits), left)


cdef inline void rows(
    const Operation operation, const bint a_steps, const bint b_steps, const BinarySizes* s, void* const* arrays,
    int64_t first, int64_t last, int64_t start, int64_t elements,
) noexcept nogil:
    """Elements `start` to `start + elements` of the rows from `first` to `last`."""
    cdef int64_t i_0 = first // (s.size_2 * s.size_1), i_1 = first // s.size_2 % s.size_1, i_2 = first % s.size_2
    cdef const real* a = <const real*> arrays[1] + start * a_steps
    cdef const real* b = <const real*> arrays[2] + start * b_steps
    cdef real* y = <real*> arrays[0] + start
    cdef int64_t i
    cdef Limits limits
    limits.low, limits.high = vset1(<real> s.low), vset1(<real> s.high)
    for i in range(first, last):
        row(
            operation, a_steps, b_steps, a + (i_0 * s.a_0 + i_1 * s.a_1 + i_2 * s.a_2),
            b + (i_0 * s.b_0 + i_1 * s.b_1 + i_2 * s.b_2), y + i * s.inner, elements, &limits,
        )
        i_2 += 1
        if i_2 == s.size_2:
            i_2, i_1 = 0, i_1 + 1
            if i_1 == s.size_1:
                i_1, i_0 = 0, i_0 + 1


cdef inline void tasks(
    const Operation operation, const bint a_steps, const bint b_steps, const BinarySizes* s, void* const* arrays,
    int64_t first, int64_t last,
) noexcept nogil:
    cdef int64_t task, start
    if s.chunks == 1:
        first *= s.task_rows
        last = min(last * s.task_rows, s.size_0 * s.size_1 * s.size_2)
        rows(operation, a_steps, b_steps, s, arrays, first, last, 0, s.inner)
        return
    for task in range(first, last):
        start = task % s.chunks * s.chunk
        rows(
            operation, a_steps, b_steps, s, arrays, task // s.chunks, task // s.chunks + 1, start,
            min(s.chunk, s.inner - start),
        )


cdef inline void patterns(
    const Operation operation, const BinarySizes* s, void* const* arrays, int64_t first, int64_t last
) noexcept nogil:
    if s.a_inner and s.b_inner:
        tasks(operation, True, True, s, arrays, first, last)
    elif s.a_inner:
        tasks(operation, True, False, s, arrays, first, last)
    else:
        tasks(operation, False, True, s, arrays, first, last)


cdef void binary(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, a, b.  A task is some rows, or a chunk of one."""
    cdef const BinarySizes* s = <const BinarySizes*> sizes
    if first == last:
        return
    if s.operation == ADD:
        patterns(ADD, s, arrays, first, last)
    elif s.operation == SUB:
        patterns(SUB, s, arrays, first, last)
    elif s.operation == MUL:
        patterns(MUL, s, arrays, first, last)
    elif s.operation == DIV:
        patterns(DIV, s, arrays, first, last)
    elif s.operation == MAX:
        patterns(MAX, s, arrays, first, last)
    else:
        patterns(MIN, s, arrays, first, last)


def binary_sizes(dict fields):
    cdef BinarySizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"binary": (PyCapsule_New(<void*> binary, b"fastconv kernel", NULL), binary_sizes)}
OPERATIONS = {"add": ADD, "sub": SUB, "mul": MUL, "div": DIV, "max": MAX, "min": MIN}
