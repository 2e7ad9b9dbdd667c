"""Resampling: every output value is a weighted sum of a few input values per axis, found in tables.

Decisions
---------
a. Positions and weights are data: one loop for every mode, scale, alignment and filter.
b. An output row first adds up its input rows, a vector at a time, into a line in the scratch; then each of its
   values adds up what it needs of the line.  Columns first, the other order, has to keep every row it has made for the
   next output rows.
c. A row that reads what the row before it read (nearest, enlarging) is copied from it.

    y[row][column] = Σ Σ row weight[row][t] · column weight[s][column] · x[row offset[row][t] + position[s][column]]
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.vector_math cimport LANES, load_left, real, store_left, vec, vmuladd, vset1

cdef struct ResampleSizes:
    int64_t in_plane, in_columns                # elements of a plane, and of a row
    int64_t out_rows, out_columns               # rows of a plane: those of all axes but the last
    int64_t row_taps, column_taps               # with one, the weight is 1
    int64_t chunk_rows, chunks                  # output rows of a task, tasks of a plane


cdef void add_rows(
    const ResampleSizes* s, const real* plane, const int64_t* offset, const real* weight, real* line
) noexcept nogil:
    cdef int64_t i = 0, t, left
    cdef vec total
    while i < s.in_columns:
        left = s.in_columns - i
        total = vset1(0)
        for t in range(s.row_taps):
            total = vmuladd(total, vset1(weight[t]), load_left(plane + offset[t] + i, left))
        store_left(line + i, total, left)
        i += LANES


cdef inline void add_columns(
    const int64_t taps, const real* line, const int32_t* position, const real* weight, real* y, int64_t columns
) noexcept nogil:
    cdef int64_t i, s
    cdef real total
    for i in range(columns):
        if taps == 1:
            y[i] = line[position[i]]
            continue
        total = 0
        for s in range(taps):
            total += weight[s * columns + i] * line[position[s * columns + i]]
        y[i] = total


cdef void resample(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, row offsets, row weights, column positions, column weights.  A task is some rows of a plane."""
    cdef const ResampleSizes* s = <const ResampleSizes*> sizes
    cdef const int32_t* position = <const int32_t*> arrays[4]
    cdef const real* weight = <const real*> arrays[5]
    cdef real* line = <real*> scratch
    cdef const int64_t* offset
    cdef const real* plane
    cdef const real* source
    cdef real* y
    cdef int64_t task, row, start, end
    for task in range(first, last):
        plane = <const real*> arrays[1] + task // s.chunks * s.in_plane
        start = task % s.chunks * s.chunk_rows
        end = min(start + s.chunk_rows, s.out_rows)
        y = <real*> arrays[0] + (task // s.chunks * s.out_rows + start) * s.out_columns
        for row in range(start, end):
            offset = <const int64_t*> arrays[2] + row * s.row_taps
            if s.row_taps == 1 and row > start and offset[0] == (offset - 1)[0]:
                memcpy(y, y - s.out_columns, s.out_columns * sizeof(real))
                y += s.out_columns
                continue
            if s.row_taps == 1:
                source = plane + offset[0]
            else:
                add_rows(s, plane, offset, <const real*> arrays[3] + row * s.row_taps, line)
                source = line
            if s.column_taps == 1:
                add_columns(1, source, position, weight, y, s.out_columns)
            elif s.column_taps == 2:
                add_columns(2, source, position, weight, y, s.out_columns)
            elif s.column_taps == 4:
                add_columns(4, source, position, weight, y, s.out_columns)
            else:
                add_columns(s.column_taps, source, position, weight, y, s.out_columns)
            y += s.out_columns


def resample_sizes(dict fields):
    cdef ResampleSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"resample": (PyCapsule_New(<void*> resample, b"fastconv kernel", NULL), resample_sizes)}
