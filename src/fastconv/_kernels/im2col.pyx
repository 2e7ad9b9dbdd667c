"""im2col: every window of an image as a column, so that convolution becomes a matrix product.

The algorithm to compare with.  The matrix is kernel-size times as large as the image, is written to memory and read back;
the direct kernel finds the same values by offset instead.

    columns[channel · taps + tap][output pixel]
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.packing cimport pack_row, real

cdef struct ColumnSizes:
    int64_t x_channel, x_depth, x_row, x_column             # strides, in elements
    int64_t in_depth, in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t kernel_depth, kernel_rows, kernel_columns
    int64_t pad_depth, pad_row, pad_column                  # zeros before
    int64_t stride_depth, stride_row, stride_column
    int64_t dilation_depth, dilation_row, dilation_column


cdef void columns(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: columns, x of one image.  A task is one channel."""
    cdef const ColumnSizes* s = <const ColumnSizes*> sizes
    cdef int64_t kernel = s.kernel_depth * s.kernel_rows * s.kernel_columns
    cdef int64_t task, tap, depth, row, z, y
    cdef const real* channel
    cdef real* to
    for task in range(first, last):
        channel = <const real*> arrays[1] + task * s.x_channel
        to = <real*> arrays[0] + task * kernel * s.out_depth * s.out_rows * s.out_columns
        for tap in range(kernel):
            for depth in range(s.out_depth):
                z = (
                    depth * s.stride_depth - s.pad_depth
                    + tap // (s.kernel_rows * s.kernel_columns) * s.dilation_depth
                )
                for row in range(s.out_rows):
                    y = (
                        row * s.stride_row - s.pad_row
                        + tap // s.kernel_columns % s.kernel_rows * s.dilation_row
                    )
                    # a row outside the image has no columns inside it
                    pack_row(
                        channel + z * s.x_depth + y * s.x_row, s.x_column,
                        tap % s.kernel_columns * s.dilation_column - s.pad_column, s.stride_column,
                        s.in_columns if 0 <= z < s.in_depth and 0 <= y < s.in_rows else -(1 << 48),
                        s.out_columns, to,
                    )
                    to += s.out_columns


def column_sizes(dict fields):
    cdef ColumnSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"columns": (PyCapsule_New(<void*> columns, b"fastconv kernel", NULL), column_sizes)}
