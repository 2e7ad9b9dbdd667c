"""Padding and cropping of any number of axes: memory movement, one row of the result at a time.  Compiled once.

Decisions
---------
a. All modes are one kernel: the plan lists, per axis, where every position of the result comes from, or that it comes
   from nowhere.  A constant, a mirror and a wrap differ in a table.
b. A row is [before][run][after].  The run lies contiguous in the input and is one memcpy; the few positions around it
   are looked up one by one.
c. Only the size of an element matters, never its type.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef struct PadSizes:
    int64_t itemsize
    int64_t size_0, size_1, size_2, size_3              # of the outer axes of the result
    int64_t before, run, after                          # elements of a row
    int64_t run_start, run_step                         # bytes from the source of the row, and from element to element
    int64_t task_rows

ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    complex


cdef inline void copy(char* to, const char* start, int64_t size) noexcept nogil:
    """Short runs, the rows of small maps, in pieces that may overlap: a call of memcpy takes longer than they do."""
    if size > 64 or size < 8:
        memcpy(to, start, size)
    elif size > 32:
        memcpy(to, start, 32)
        memcpy(to + size - 32, start + size - 32, 32)
    elif size >= 16:
        memcpy(to, start, 16)
        memcpy(to + size - 16, start + size - 16, 16)
    else:
        memcpy(to, start, 8)
        memcpy(to + size - 8, start + size - 8, 8)


cdef inline void look_up(
    const char* x, const int64_t* source, int64_t count, item value, item* y
) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        y[i] = value if source[i] == INT64_MIN else (<const item*> (x + source[i]))[0]


cdef inline void pad_row(
    const PadSizes* s, const char* x, const int64_t* source, item value, item* y
) noexcept nogil:
    cdef int64_t i
    look_up(x, source, s.before, value, y)
    y += s.before
    if s.run_step == sizeof(item):
        copy(<char*> y, x + s.run_start, s.run * sizeof(item))
    else:
        for i in range(s.run):
            y[i] = (<const item*> (x + s.run_start + i * s.run_step))[0]
    look_up(x, source + s.before, s.after, value, y + s.run)


cdef void pad_rows(
    const PadSizes* s, void* const* arrays, int64_t first, int64_t last, const item* value
) noexcept nogil:
    cdef const int64_t* source_0 = <const int64_t*> arrays[2]
    cdef const int64_t* source_1 = source_0 + s.size_0
    cdef const int64_t* source_2 = source_1 + s.size_1
    cdef const int64_t* source_3 = source_2 + s.size_2
    cdef const int64_t* row_source = <const int64_t*> arrays[3]
    cdef int64_t columns = s.before + s.run + s.after
    cdef int64_t from_0, from_1, from_2, index, row, end, i
    cdef item* y = <item*> arrays[0] + first * columns
    cdef item filling = value[0]
    cdef bint inside
    while first < last:
        index = first // s.size_3
        from_2 = source_2[index % s.size_2]
        index //= s.size_2
        from_1 = source_1[index % s.size_1]
        from_0 = source_0[index // s.size_1]
        inside = from_0 != INT64_MIN and from_1 != INT64_MIN and from_2 != INT64_MIN
        row = first % s.size_3
        end = min(row + last - first, s.size_3)
        first += end - row
        for row in range(row, end):
            if inside and source_3[row] != INT64_MIN:
                pad_row(
                    s, <const char*> arrays[1] + (from_0 + from_1 + from_2 + source_3[row]), row_source, filling, y
                )
            else:
                for i in range(columns):
                    y[i] = filling
            y += columns


cdef void pad(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, where the positions of the outer axes come from (bytes, INT64_MIN from nowhere), the same for the
    positions before and after the run, and the value of what comes from nowhere."""
    cdef const PadSizes* s = <const PadSizes*> sizes
    cdef int64_t rows = s.size_0 * s.size_1 * s.size_2 * s.size_3
    cdef int64_t start = first * s.task_rows, end = min(last * s.task_rows, rows)
    if s.itemsize == 1:
        pad_rows(s, arrays, start, end, <const uint8_t*> arrays[4])
    elif s.itemsize == 2:
        pad_rows(s, arrays, start, end, <const uint16_t*> arrays[4])
    elif s.itemsize == 4:
        pad_rows(s, arrays, start, end, <const uint32_t*> arrays[4])
    elif s.itemsize == 8:
        pad_rows(s, arrays, start, end, <const uint64_t*> arrays[4])
    else:
        pad_rows(s, arrays, start, end, <const complex*> arrays[4])


def pad_sizes(dict fields):
    cdef PadSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"pad": (PyCapsule_New(<void*> pad, b"fastconv kernel", NULL), pad_sizes)}
NOWHERE = INT64_MIN
OUTER_AXES = 4
ITEM_SIZES = (1, 2, 4, 8, 16)
