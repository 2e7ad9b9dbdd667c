"""Rows of one filter, several at a time: of an input that is read where it lies, or of a packed chunk."""

from libc.stdint cimport int64_t, uint64_t

from fastconv._kernels.chunk cimport Chunk
from fastconv._kernels.depthwise_taps cimport STRIP, Run, add_taps, store_pixels
from fastconv._kernels.packing cimport real, strides_in
from fastconv._kernels.tile cimport LANES, Clamp, clamp, vec, vload, vset1

cdef extern from "simd.h" nogil:
    ctypedef int vmask
    vec vkeep(vec)
    vec vnear_even(vec, vec)
    vec vnear_odd(vec, vec)
    vec vordered(vec)
    vec vload_inside(const real*, vmask)
    vmask vinside(int64_t, int64_t)

cdef enum:
    MAX_ROWS = 8
    MAX_KERNEL = 32     # columns of a kernel whose input is read where it lies
    MAX_COLUMN = 7
    WIDEST_STRIDE = 2   # of columns that are read where they lie; 0 stands for packed ones
    MAX_APART = 4       # taps of a run with that stride

cdef struct Edges:      # of an input that is read where it lies
    int64_t rows, columns, row_stride
    const real* zeros   # a row outside of it
    int64_t taps, first, dilation           # columns of the kernel; where the first lies relative to an output column
    int64_t strip                           # output column for which `inside` holds
    vmask inside[MAX_KERNEL * STRIP * WIDEST_STRIDE]   # per column of the kernel: the lanes whose input exists


cdef inline const vmask* inside_at(const Edges* edges, const int stride, int64_t column) noexcept nogil:
    return <const vmask*> edges.inside + column * STRIP * stride


cdef inline void find_edges(Edges* edges, const int stride, int64_t column) noexcept nogil:
    cdef int64_t k, v
    if edges.strip == column:
        return
    edges.strip = column
    for k in range(edges.taps):
        for v in range(STRIP * stride):
            edges.inside[k * STRIP * stride + v] = vinside(
                column * stride + edges.first + k * edges.dilation + v * LANES, edges.columns
            )


cdef inline void add_row(
    const int i, const int stride, const int taps, const int columns, const int rows, const int vectors, const real* x,
    const real* zeros, int64_t before, int64_t existing, const vmask* inside, const real* w, vec (*total)[STRIP],
) noexcept nogil:
    """Input row `i` of a column of taps, or two, loaded once for all the output rows that it belongs to.

    Rows from `before` on exist, as many as `existing`.
    """
    cdef vec value[STRIP]
    cdef vec between[STRIP]
    cdef vec low, high
    cdef int v
    if i >= rows + taps - 1:
        return
    if stride:
        x = x if <uint64_t> (i - before) < <uint64_t> existing else zeros
    for v in range(vectors):
        if stride == 2:
            low = vkeep(vload_inside(x + 2 * v * LANES, inside[2 * v]))
            high = vkeep(vload_inside(x + (2 * v + 1) * LANES, inside[2 * v + 1]))
            value[v] = vkeep(vnear_even(low, high))
            if columns == 2:
                between[v] = vkeep(vnear_odd(low, high))
        else:
            value[v] = vkeep(vload_inside(x + v * LANES, inside[v]) if stride else vload(x + v * LANES))
    add_taps(i, taps, rows, vectors, value, w, total)
    if columns == 2:
        add_taps(i, taps, rows, vectors, between, w + taps, total)


cdef inline const Run* add_columns(
    const int stride, const int taps, const int columns, const int rows, const int vectors, const real* x, int64_t pitch,
    const Edges* edges, int64_t row, const int64_t** offset, const Run* run, const real** w, vec (*total)[STRIP],
) noexcept nogil:
    """All columns of so many taps, one above the other, that follow each other; the sums stay in their registers.

    `stride`: 0, or that of columns of an input outside of which all is zero.  The rows are spelled out, because compilers
    unroll a loop of this size only in part.
    """
    cdef const real* at
    cdef const vmask* inside
    cdef int64_t before = 0, existing = 0
    while run.taps == taps and (stride < 2 or run.columns == columns):
        at, inside = x + offset[0][0], inside_at(edges, stride, run.column)
        if stride and edges.row_stride == 1:
            before, existing = -row - run.row, edges.rows
        elif stride:
            before = strides_in(-row - run.row, edges.row_stride)
            existing = strides_in(edges.rows - row - run.row, edges.row_stride) - before
        add_row(0, stride, taps, columns, rows, vectors, at, edges.zeros, before, existing, inside, w[0], total)
        add_row(1, stride, taps, columns, rows, vectors, at + pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(2, stride, taps, columns, rows, vectors, at + 2 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(3, stride, taps, columns, rows, vectors, at + 3 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(4, stride, taps, columns, rows, vectors, at + 4 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(5, stride, taps, columns, rows, vectors, at + 5 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(6, stride, taps, columns, rows, vectors, at + 6 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(7, stride, taps, columns, rows, vectors, at + 7 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(8, stride, taps, columns, rows, vectors, at + 8 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(9, stride, taps, columns, rows, vectors, at + 9 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(10, stride, taps, columns, rows, vectors, at + 10 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(11, stride, taps, columns, rows, vectors, at + 11 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(12, stride, taps, columns, rows, vectors, at + 12 * pitch, edges.zeros, before, existing, inside, w[0], total)
        add_row(13, stride, taps, columns, rows, vectors, at + 13 * pitch, edges.zeros, before, existing, inside, w[0], total)
        offset[0] += taps * columns
        w[0] += taps * columns
        run += 1
    return run


cdef inline void tile_rows(
    const int stride, const int rows, const int vectors, const real* x, int64_t pitch, const Edges* edges,
    int64_t row, const int64_t* offset, const Run* run, const real* w, real bias, const Clamp* limits,
    real* y, int64_t y_row, int64_t pixels, int64_t whole,
) noexcept nogil:
    """Several output rows of one filter, of which the first `whole` are stored in whole registers."""
    cdef vec total[MAX_ROWS][STRIP]
    cdef int r, v
    for r in range(rows):
        for v in range(vectors):
            total[r][v] = vset1(bias)
    while run.taps:
        if stride == 2 and run.columns == 2:
            if run.taps == 1:
                run = add_columns(stride, 1, 2, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
            elif run.taps == 2:
                run = add_columns(stride, 2, 2, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
            elif run.taps == 3:
                run = add_columns(stride, 3, 2, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
            else:
                run = add_columns(stride, MAX_APART, 2, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
        elif run.taps == 1:
            run = add_columns(stride, 1, 1, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
        elif run.taps == 2:
            run = add_columns(stride, 2, 1, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
        elif run.taps == 3:
            run = add_columns(stride, 3, 1, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
        elif run.taps == 4 or stride == 2:
            run = add_columns(stride, 4, 1, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
        elif run.taps == 5:
            run = add_columns(stride, 5, 1, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
        else:
            run = add_columns(stride, MAX_COLUMN, 1, rows, vectors, x, pitch, edges, row, &offset, run, &w, total)
    for r in range(rows):
        for v in range(vectors):
            if stride == 2:
                total[r][v] = vordered(total[r][v])
            store_pixels(
                y + r * y_row + v * LANES, clamp(total[r][v], limits), LANES if r < whole else pixels - v * LANES
            )


cdef inline void strip_of_rows(
    const int stride, const int vectors, const Chunk* chunk, int64_t whole, const real* x, int64_t pitch,
    const Edges* edges, const int64_t* offset, const Run* run, const real* w, real bias, const Clamp* limits,
    real* y, int64_t y_row, int64_t pixels,
) noexcept nogil:
    """All rows of a strip `vectors` registers wide."""
    cdef int64_t done = 0, left, height, row
    while done < chunk.rows:
        row, left = (chunk.row + done) * edges.row_stride, chunk.rows - done
        if left >= 7 and vectors == 1 and left % 7 == 0:
            height = 7
            tile_rows(
                stride, 7, vectors, x, pitch, edges, row, offset, run, w, bias, limits, y, y_row, pixels, whole - done
            )
        elif left >= 8 and vectors == 1:
            height = 8
            tile_rows(
                stride, 8, vectors, x, pitch, edges, row, offset, run, w, bias, limits, y, y_row, pixels, whole - done
            )
        elif left >= 4:
            height = 4
            tile_rows(
                stride, 4, vectors, x, pitch, edges, row, offset, run, w, bias, limits, y, y_row, pixels, whole - done
            )
        elif left >= 2:
            height = 2
            tile_rows(
                stride, 2, vectors, x, pitch, edges, row, offset, run, w, bias, limits, y, y_row, pixels, whole - done
            )
        else:
            height = 1
            tile_rows(
                stride, 1, vectors, x, pitch, edges, row, offset, run, w, bias, limits, y, y_row, pixels, whole - done
            )
        done, x, y = done + height, x + height * pitch, y + height * y_row


cdef inline void rows_of_one_filter(
    const int stride, const Chunk* chunk, const real* x, int64_t pitch, Edges* edges, const int64_t* offset,
    const Run* run, const real* w, real bias, const Clamp* limits, real* y, int64_t y_row, int64_t whole,
) noexcept nogil:
    cdef int64_t done = 0
    while done < chunk.columns:
        if stride:
            find_edges(edges, stride, chunk.column + done)
        if chunk.columns - done > LANES:
            strip_of_rows(
                stride, 2, chunk, whole, x + done * max(stride, 1), pitch, edges, offset, run, w, bias, limits, y + done, y_row,
                chunk.columns - done,
            )
        else:
            strip_of_rows(
                stride, 1, chunk, whole, x + done * max(stride, 1), pitch, edges, offset, run, w, bias, limits, y + done, y_row,
                chunk.columns - done,
            )
        done += STRIP * LANES
