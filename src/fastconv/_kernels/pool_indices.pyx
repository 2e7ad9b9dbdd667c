"""Max pooling that tells where: values and indices, for every number type.  Compiled once.

One value at a time in the order of the definition, over windows listed per axis, so that sliding and adaptive pooling
are one loop.  Without the indices it is also the kernel of integers.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

ctypedef fused number:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    float
    double

cdef struct IndexSizes:
    int64_t element                                             # place of the type in ELEMENTS
    int64_t indices                                             # 0: values alone
    int64_t channels
    int64_t x_image, x_channel, x_depth, x_row, x_column        # strides, in elements
    int64_t y_image, y_channel, y_depth, y_row, y_column        # of both results
    int64_t in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t step_depth, step_row, step_column                   # from tap to tap


cdef void search_row(const IndexSizes* s, void* const* arrays, int64_t task, const number* lowest) noexcept nogil:
    """One row of outputs."""
    cdef void* const* inputs = arrays + 1 + s.indices
    cdef int64_t row = task % s.out_rows, depth = task // s.out_rows % s.out_depth
    cdef int64_t plane = task // (s.out_rows * s.out_depth)
    cdef int64_t image = plane // s.channels, channel = plane % s.channels
    cdef int64_t to = image * s.y_image + channel * s.y_channel + depth * s.y_depth + row * s.y_row
    cdef const number* x = <const number*> inputs[0] + image * s.x_image + channel * s.x_channel
    cdef number* y = <number*> arrays[0] + to
    cdef int64_t* index = <int64_t*> arrays[1] + to
    cdef const int64_t* depths = <const int64_t*> inputs[1] + 2 * depth
    cdef const int64_t* rows = <const int64_t*> inputs[2] + 2 * row
    cdef const int64_t* columns = <const int64_t*> inputs[3]
    cdef int64_t column, d, r, _c, at, where, line
    cdef number best, value
    cdef const number* taps
    for column in range(s.out_columns):
        best, where = lowest[0], -1
        for d in range(depths[1]):
            for r in range(rows[1]):
                at = depths[0] + d * s.step_depth
                line = rows[0] + r * s.step_row
                taps = x + at * s.x_depth + line * s.x_row
                line = (at * s.in_rows + line) * s.in_columns
                at = columns[0]
                for _c in range(columns[1]):
                    value = taps[at * s.x_column]
                    if value > best or value != value or where < 0:
                        best, where = value, line + at
                    at += s.step_column
        y[column * s.y_column] = best
        if s.indices:
            index[column * s.y_column] = where
        columns += 2


cdef void max_pool_indices(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, indices where wanted, x, then (first position, taps) of every window by depth, by row and by column,
    and the lowest value of the type."""
    cdef const IndexSizes* s = <const IndexSizes*> sizes
    cdef const void* lowest = arrays[5 + s.indices]
    cdef int64_t task
    for task in range(first, last):
        if s.element == 0:
            search_row(s, arrays, task, <const int8_t*> lowest)
        elif s.element == 1:
            search_row(s, arrays, task, <const int16_t*> lowest)
        elif s.element == 2:
            search_row(s, arrays, task, <const int32_t*> lowest)
        elif s.element == 3:
            search_row(s, arrays, task, <const int64_t*> lowest)
        elif s.element == 4:
            search_row(s, arrays, task, <const uint8_t*> lowest)
        elif s.element == 5:
            search_row(s, arrays, task, <const uint16_t*> lowest)
        elif s.element == 6:
            search_row(s, arrays, task, <const uint32_t*> lowest)
        elif s.element == 7:
            search_row(s, arrays, task, <const uint64_t*> lowest)
        elif s.element == 8:
            search_row(s, arrays, task, <const float*> lowest)
        else:
            search_row(s, arrays, task, <const double*> lowest)


def index_sizes(dict fields):
    cdef IndexSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"max_pool_indices": (PyCapsule_New(<void*> max_pool_indices, b"fastconv kernel", NULL), index_sizes)}
ELEMENTS = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
)
