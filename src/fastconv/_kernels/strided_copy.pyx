"""Copies between arrays of any strides: transposition, slices, the parts of a concatenation.  Compiled once.

Decisions
---------
a. Two inner loops and four around them, over the fewest axes that both sides step through evenly; the plan orders them.
b. Where a row is contiguous on both sides it is one memcpy.  Where rows are contiguous in x and columns in y, square
   blocks are turned, by way of the stack: element by element along either side, every access to the other would fetch a
   line for one element, and lines a power of two apart push each other out of the cache before they are full.  A few
   rows are shorter without blocks.
c. Only the size of an element matters, never its type.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    vec vload(const real*)
    void vstore(real*, vec)
    void vtranspose(vec*)

cdef enum:
    BLOCK = 16

cdef struct CopySizes:
    int64_t itemsize
    int64_t size_0, size_1, size_2, size_3, rows, columns
    int64_t x_0, x_1, x_2, x_3, x_row, x_column         # steps in bytes
    int64_t y_0, y_1, y_2, y_3, y_row, y_column
    int64_t task_rows, tasks_down

ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    complex


cdef inline void turn_square(int64_t x_column, const char* x, real* square) noexcept nogil:
    cdef vec[BLOCK] turned
    cdef int64_t row, column = 0
    cdef int i
    while column < BLOCK:
        row = 0
        while row < BLOCK:
            for i in range(LANES):
                turned[i] = vload(<const real*> (x + (column + i) * x_column) + row)
            vtranspose(turned)
            for i in range(LANES):
                vstore(square + (row + i) * BLOCK + column, turned[i])
            row += LANES
        column += LANES


cdef inline void copy_block(
    const CopySizes* s, const char* x, char* y, int64_t rows, int64_t columns, const item* like
) noexcept nogil:
    """By way of a square, where columns fill a line of `y`: it is written once and whole."""
    cdef item[BLOCK][BLOCK] square
    cdef int64_t row, column
    if columns < BLOCK:
        for column in range(columns):
            for row in range(rows):
                (<item*> (y + row * s.y_row))[column] = (<const item*> (x + column * s.x_column))[row]
        return
    if sizeof(item) == sizeof(real) and LANES > 1 and rows == BLOCK:
        turn_square(s.x_column, x, <real*> square)
    else:
        for column in range(BLOCK):
            for row in range(rows):
                square[row][column] = (<const item*> (x + column * s.x_column))[row]
    for row in range(rows):
        memcpy(y + row * s.y_row, square[row], BLOCK * sizeof(item))


cdef inline void copy_rows(const CopySizes* s, const char* x, char* y, int64_t rows, const item* like) noexcept nogil:
    """`like` only says how large an element is."""
    cdef int64_t row, column
    cdef int64_t size = sizeof(item)
    if s.x_column == size and s.y_column == size:
        for row in range(rows):
            memcpy(y + row * s.y_row, x + row * s.x_row, s.columns * size)
    elif s.x_row == size and s.y_column == size and rows >= BLOCK // 2:
        row = 0
        while row < rows:
            column = 0
            while column < s.columns:
                copy_block(
                    s, x + row * s.x_row + column * s.x_column, y + row * s.y_row + column * size,
                    min(rows - row, BLOCK), min(s.columns - column, BLOCK), like,
                )
                column += BLOCK
            row += BLOCK
    else:
        for row in range(rows):
            for column in range(s.columns):
                (<item*> (y + row * s.y_row + column * s.y_column))[0] = (
                    <const item*> (x + row * s.x_row + column * s.x_column)
                )[0]


cdef void strided_copy(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x.  A task is some rows of one position of the outer axes."""
    cdef const CopySizes* s = <const CopySizes*> sizes
    cdef int64_t task, i_0, i_1, i_2, i_3, row, rows
    cdef const char* x
    cdef char* y
    for task in range(first, last):
        row = task % s.tasks_down * s.task_rows
        rows = min(s.task_rows, s.rows - row)
        i_3 = task // s.tasks_down
        i_2 = i_3 // s.size_3
        i_1 = i_2 // s.size_2
        i_0 = i_1 // s.size_1
        i_1, i_2, i_3 = i_1 % s.size_1, i_2 % s.size_2, i_3 % s.size_3
        x = <const char*> arrays[1] + (i_0 * s.x_0 + i_1 * s.x_1 + i_2 * s.x_2 + i_3 * s.x_3 + row * s.x_row)
        y = <char*> arrays[0] + (i_0 * s.y_0 + i_1 * s.y_1 + i_2 * s.y_2 + i_3 * s.y_3 + row * s.y_row)
        if s.itemsize == 1:
            copy_rows(s, x, y, rows, <const uint8_t*> x)
        elif s.itemsize == 2:
            copy_rows(s, x, y, rows, <const uint16_t*> x)
        elif s.itemsize == 4:
            copy_rows(s, x, y, rows, <const uint32_t*> x)
        elif s.itemsize == 8:
            copy_rows(s, x, y, rows, <const uint64_t*> x)
        else:
            copy_rows(s, x, y, rows, <const complex*> x)


def copy_sizes(dict fields):
    cdef CopySizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"copy": (PyCapsule_New(<void*> strided_copy, b"fastconv kernel", NULL), copy_sizes)}
OUTER_AXES = 4
BLOCK_ROWS = BLOCK
ITEM_SIZES = (1, 2, 4, 8, 16)
