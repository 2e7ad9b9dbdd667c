"""Max and average pooling of planes (NCHW) with sliding windows: rows first, then columns.

Decisions
---------
a. **Separable.**  A window is reduced along its rows, and the results along the column.  Rows come first because then
   the order of the taps is that of the definition (depth, row, column): of equal maxima the first wins and of several
   NaN the last, so that even the sign of a zero is the reference's.
b. **Strips.**  A vector of output columns walks down the rows of a chunk whose input stays in the first-level cache.
   What touches a border, and hence the masks of the loads, is the same for every row of a strip.  Walking along the
   rows was the alternative: it builds the masks anew for every row, which narrow maps notice.  A strip that holds the
   rest of its rows in one vector loads each row once and shifts it from tap to tap.  Memory likes to be read
   in order, though: each step of a strip prefetches, line by line, the input that follows the chunk.
c. The usual windows (2×2, 3×3, 5×5) keep the reduced rows of a window in registers.  Others write the reduced rows of the
   chunk to the scratch, sorted by stride phase (below); an output row then reads its taps at fixed distances, so the
   second pass runs over the whole chunk as one long row.
d. A NaN makes a maximum three instructions instead of one.  A chunk is computed as if there were none while looking for
   them, and if there is one, computed again.
e. Padding is never stored.

Reduced rows of one chunk; phases and slots are those some tap needs:

    [depth tap][row phase][row slot][column]

    row p of the padded input = slot · stride + phase        tap k of output row o reads slot o + k·dilation // stride
                                                             of phase k·dilation % stride
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.pool_chunks cimport Chunk, PoolSizes, chunk_of, next_chunk
from fastconv._kernels.pool_rows cimport (
    ENDING, INSIDE, MASKED, MAX_MASKS, reduced_row, set_masks, vinside, vload, vmask,
)  # fmt: skip
from fastconv._kernels.reduction cimport LANES, LARGEST, LARGEST_OR_NAN, SUM, mean, real, reduced, vec, vset1

cdef extern from "simd.h" nogil:
    void prefetch(const void*)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vmul(vec, vec)
    vmask vall()
    bint vis_all(vmask)

cdef enum:
    MAX_VECTORS = 4
    MAX_SQUARE = 5          # largest window whose reduced rows stay in registers
    TAG_BYTES = 64

cdef inline vec square_row(
    const int op, const int kernel, const int stride, const int edge, const real* x, int64_t x_row, int64_t row,
    int64_t rows, int64_t step, const vmask* masks, vec filling, vmask* ordered,
) noexcept nogil:
    if row < 0 or row >= rows:
        return filling
    return reduced_row(op, stride, edge, x + row * x_row, masks, kernel, step, filling, ordered)


cdef inline bint square_strip(
    const int op, const int kernel, const int stride, const int edge, const PoolSizes* s, const real* x, int64_t at,
    const Chunk* chunk, const real* row_divisor, vec column_divisor, int64_t stored, real* y, const real* y_end,
    const real* ahead,
) noexcept nogil:
    """A vector of output columns, the first `stored` of them, all the way down a chunk; whether there is a NaN."""
    cdef vec row[MAX_SQUARE]
    cdef vmask masks[MAX_MASKS]
    cdef vmask ordered = vall()
    cdef vec filling = vset1(0 if op == SUM else -INFINITY)
    cdef vec best
    cdef int64_t x_row = s.x_row, in_rows = s.in_rows, y_row = s.out_columns, rows = chunk.rows
    cdef int64_t step = s.dilation_column if stride == 1 else 1
    cdef int64_t o, r = chunk.row * stride - s.pad_row
    cdef int k
    if edge == ENDING:
        masks[0] = vinside(at, s.in_columns)
    elif edge == MASKED:
        set_masks(stride, at, s.in_columns, kernel, step, masks)
    x += at
    for k in range(stride, kernel):
        row[k] = square_row(
            op, kernel, stride, edge, x, x_row, r + k - stride, in_rows, step, masks, filling, &ordered
        )
    r += kernel - stride
    for o in range(rows):
        for k in range(stride, kernel):
            row[k - stride] = row[k]
        for k in range(stride):
            row[kernel - stride + k] = square_row(
                op, kernel, stride, edge, x, x_row, r + k, in_rows, step, masks, filling, &ordered
            )
        r += stride
        if edge != ENDING:
            for k in range(stride * stride):
                prefetch(ahead + k * LANES)
            ahead += stride * stride * LANES
        best = row[0]
        for k in range(1, kernel):
            best = reduced(op, best, row[k])
        if op == SUM:
            best = mean(best, vmul(vset1(row_divisor[o]), column_divisor))
        if stored == LANES or y + LANES <= y_end:
            vstore(y, best)
        else:
            vstore_first(y, best, <int> stored)
        y += y_row
    return op == LARGEST and not vis_all(ordered)


cdef inline void strided_row(
    const int op, const PoolSizes* s, const real* x, const Chunk* chunk, real* h, int* nan
) noexcept nogil:
    """All columns of a chunk in one row, for any stride, one value at a time."""
    cdef int64_t column, first, last, k, at = chunk.column * s.stride_column - s.pad_column
    cdef real best, value
    for column in range(chunk.columns):
        first, last = 0, s.kernel_column
        if at < 0:
            first = (-at + s.dilation_column - 1) // s.dilation_column
        if at + (last - 1) * s.dilation_column >= s.in_columns:
            last = (s.in_columns - at + s.dilation_column - 1) // s.dilation_column
        best = 0 if op == SUM else -INFINITY
        for k in range(first, last):
            value = x[at + k * s.dilation_column]
            if op == SUM:
                best += value
            elif op == LARGEST:
                nan[0] |= value != value
                best = value if value > best else best
            elif value > best or value != value:
                best = value
        h[column] = best
        at += s.stride_column


cdef inline bint strip(
    const int op, const int stride, const int edge, const PoolSizes* s, const real* x, int64_t at,
    const int64_t* row_phase, const Chunk* chunk, real* h,
) noexcept nogil:
    """A vector of output columns of every reduced row that a chunk needs, or for stride 0 all its columns.

    Rows are written from the top: a vector that reaches behind its row is overwritten by the next.
    """
    cdef vec filling = vset1(0 if op == SUM else -INFINITY)
    cdef vmask masks[MAX_MASKS]
    cdef vmask ordered = vall()
    cdef int64_t tap, slot, phase, depth, row
    cdef const real* line
    cdef real* to
    cdef int nan = 0
    if stride > 0 and edge == MASKED:
        set_masks(stride, at, s.in_columns, s.kernel_column, s.dilation_column, masks)
    for tap in range(s.kernel_depth):
        depth = chunk.depth * s.stride_depth - s.pad_depth + tap * s.dilation_depth
        for slot in range(chunk.rows + s.row_reach):
            for phase in range(s.row_phases):
                if slot >= chunk.rows + row_phase[2 * phase + 1]:
                    continue
                row = (chunk.row + slot) * s.stride_row + row_phase[2 * phase] - s.pad_row
                line = x + depth * s.x_depth + row * s.x_row
                to = h + tap * s.plane + phase * s.phase + slot * s.line
                if depth < 0 or depth >= s.in_depth or row < 0 or row >= s.in_rows:
                    fill(to, chunk.columns if stride == 0 else 1, filling)
                elif stride == 0:
                    strided_row(op, s, line, chunk, to, &nan)
                else:
                    vstore(to, reduced_row(
                        op, stride, edge, line + at, masks, s.kernel_column, s.dilation_column, filling, &ordered
                    ))
    return nan or (op == LARGEST and not vis_all(ordered))


cdef inline void fill(real* to, int64_t count, vec filling) noexcept nogil:
    cdef int64_t i = 0
    while i < count:
        vstore(to + i, filling)
        i += LANES


cdef inline bint reduce_rows(
    const int op, const PoolSizes* s, const real* x, const int64_t* row_phase, const Chunk* chunk, real* h
) noexcept nogil:
    """The first pass; whether LARGEST has met a NaN."""
    cdef int64_t done = 0, at, reach = (s.kernel_column - 1) * s.dilation_column
    cdef bint nan = False, inside
    cdef bint by_four = s.stride_column == 4 and s.dilation_column == 1
    if op == LARGEST and s.stride_column == 1 and reach > chunk.columns:
        return True
    if s.stride_column > 2 and not by_four or 2 * s.kernel_column >= MAX_MASKS:
        return strip(op, 0, MASKED, s, x, 0, row_phase, chunk, h)
    while True:
        at = (chunk.column + done) * s.stride_column - s.pad_column
        inside = at >= 0 and at + reach + s.stride_column * LANES <= s.in_columns
        if s.stride_column == 1 and inside:
            nan |= strip(op, 1, INSIDE, s, x, at, row_phase, chunk, h + done)
        elif s.stride_column == 1:
            nan |= strip(op, 1, MASKED, s, x, at, row_phase, chunk, h + done)
        elif s.stride_column == 2 and inside:
            nan |= strip(op, 2, INSIDE, s, x, at, row_phase, chunk, h + done)
        elif s.stride_column == 2:
            nan |= strip(op, 2, MASKED, s, x, at, row_phase, chunk, h + done)
        elif inside:
            nan |= strip(op, 4, INSIDE, s, x, at, row_phase, chunk, h + done)
        else:
            nan |= strip(op, 4, MASKED, s, x, at, row_phase, chunk, h + done)
        if done + LANES >= chunk.columns:
            return nan
        done = min(done + LANES, chunk.columns - LANES)


cdef inline void reduce_vectors(
    const int op, const int vectors, const real* h, const int64_t* offset, int64_t taps, real divisor,
    const real* column_divisor, int64_t count, real* y,
) noexcept nogil:
    """y[i] = the reduction of h[i + offset] over the taps, the first `count` of them."""
    cdef vec best[MAX_VECTORS]
    cdef vec by = vset1(divisor)
    cdef const real* row
    cdef int64_t tap
    cdef int v
    for v in range(vectors):
        best[v] = vload(h + offset[0] + v * LANES)
    for tap in range(1, taps):
        row = h + offset[tap]
        for v in range(vectors):
            best[v] = reduced(op, best[v], vload(row + v * LANES))
    for v in range(vectors):
        if op == SUM:
            if column_divisor != NULL:
                by = vmul(vset1(divisor), vload(column_divisor + v * LANES))
            best[v] = mean(best[v], by)
        if count >= (v + 1) * LANES:
            vstore(y + v * LANES, best[v])
        else:
            vstore_first(y + v * LANES, best[v], <int> (count - v * LANES))


cdef inline void reduce_columns(
    const int op, const real* h, const int64_t* offset, int64_t taps, real divisor, const real* column_divisor,
    int64_t count, real* y,
) noexcept nogil:
    """The second pass over `count` neighbouring outputs."""
    cdef int64_t done = 0
    while done < count:
        if count - done >= MAX_VECTORS * LANES:
            reduce_vectors(op, MAX_VECTORS, h + done, offset, taps, divisor, column_divisor, count - done, y + done)
            done += MAX_VECTORS * LANES
            if column_divisor != NULL:
                column_divisor += MAX_VECTORS * LANES
        else:
            reduce_vectors(op, 1, h + done, offset, taps, divisor, column_divisor, count - done, y + done)
            done += LANES
            if column_divisor != NULL:
                column_divisor += LANES


cdef inline bint pool_square(
    const int op, const int kernel, const int stride, const PoolSizes* s, void* const* arrays, const Chunk* chunk,
    const real* x, real* y,
) noexcept nogil:
    """Both passes in one, in registers; whether LARGEST has met a NaN."""
    cdef int64_t done = 0, at, stored = min(LANES, chunk.columns)
    cdef const real* y_end = y + chunk.rows * s.out_columns if s.chunks_across == 1 else y
    cdef const real* next_rows = x + ((chunk.row + chunk.rows) * stride - s.pad_row) * s.x_row
    cdef const real* ahead
    cdef const real* row_divisor = NULL
    cdef vec column_divisor = vset1(0)
    cdef bint nan = False
    cdef int64_t reach = (kernel - 1) * s.dilation_column
    if op == LARGEST and stride == 1 and reach > chunk.columns:
        return True
    while True:
        if op == SUM:
            row_divisor = <const real*> arrays[5] + chunk.row
            column_divisor = vmul(
                vset1((<const real*> arrays[4])[chunk.depth]), vload(<const real*> arrays[6] + chunk.column + done)
            )
        at = (chunk.column + done) * stride - s.pad_column
        ahead = next_rows + done * chunk.rows * stride * stride
        if at + LANES >= s.in_columns and (stride > 1 or s.dilation_column == 1):
            nan |= square_strip(
                op, kernel, stride, ENDING, s, x, at, chunk, row_divisor, column_divisor, stored, y + done, y_end,
                ahead,
            )
        elif at >= 0 and at + reach + stride * LANES <= s.in_columns:
            nan |= square_strip(
                op, kernel, stride, INSIDE, s, x, at, chunk, row_divisor, column_divisor, stored, y + done, y_end,
                ahead,
            )
        else:
            nan |= square_strip(
                op, kernel, stride, MASKED, s, x, at, chunk, row_divisor, column_divisor, stored, y + done, y_end,
                ahead,
            )
        if done + LANES >= chunk.columns:
            return nan
        done = min(done + LANES, chunk.columns - LANES)


cdef inline bint pool_chunk(
    const int op, const PoolSizes* s, void* const* arrays, const Chunk* chunk, real* h
) noexcept nogil:
    """Whether LARGEST has met a NaN; the result is void then."""
    cdef const real* x = <const real*> arrays[1] + chunk.image * s.x_image + chunk.channel * s.x_channel
    cdef const int64_t* offset = <const int64_t*> arrays[2]
    cdef int64_t i
    cdef real divisor = 1
    cdef const real* column_divisor = NULL
    cdef real* y = (
        <real*> arrays[0] + chunk.image * s.y_image + chunk.channel * s.y_channel
        + (chunk.depth * s.out_rows + chunk.row) * s.out_columns + chunk.column
    )
    if s.square:
        x += chunk.depth * s.stride_depth * s.x_depth
        if s.square == 2 and s.stride_row == 2:
            return pool_square(op, 2, 2, s, arrays, chunk, x, y)
        if s.square == 2:
            return pool_square(op, 2, 1, s, arrays, chunk, x, y)
        if s.square == 5:
            return pool_square(op, 5, 1, s, arrays, chunk, x, y)
        if s.stride_row == 2:
            return pool_square(op, 3, 2, s, arrays, chunk, x, y)
        return pool_square(op, 3, 1, s, arrays, chunk, x, y)
    if reduce_rows(op, s, x, <const int64_t*> arrays[3], chunk, h):
        return True
    if op == SUM:
        divisor = (<const real*> arrays[4])[chunk.depth] * (<const real*> arrays[5])[chunk.row]
        column_divisor = <const real*> arrays[6] + chunk.column
        if s.one_divisor:
            divisor *= column_divisor[0]
            column_divisor = NULL
    if s.chunks_across == 1 and column_divisor == NULL:
        reduce_columns(op, h, offset, s.taps, divisor, column_divisor, chunk.rows * chunk.columns, y)
        return False
    for i in range(chunk.rows):
        if column_divisor != NULL:
            divisor = (<const real*> arrays[4])[chunk.depth] * (<const real*> arrays[5])[chunk.row + i]
        reduce_columns(
            op, h + i * s.line, offset, s.taps, divisor, column_divisor, chunk.columns, y + i * s.out_columns
        )
    return False


cdef void max_pool(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, offset of each tap of the second pass, (row phase, its reach) of each phase."""
    cdef const PoolSizes* s = <const PoolSizes*> sizes
    cdef real* h = <real*> (scratch + TAG_BYTES)
    cdef Chunk chunk = chunk_of(s, first)
    cdef int64_t _task
    for _task in range(first, last):
        if pool_chunk(LARGEST, s, arrays, &chunk, h):
            pool_chunk(LARGEST_OR_NAN, s, arrays, &chunk, h)
        next_chunk(s, &chunk)


cdef void average_pool(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: as above, then the divisors by depth, row and column; a window divides by their product."""
    cdef const PoolSizes* s = <const PoolSizes*> sizes
    cdef Chunk chunk = chunk_of(s, first)
    cdef int64_t _task
    for _task in range(first, last):
        pool_chunk(SUM, s, arrays, &chunk, <real*> (scratch + TAG_BYTES))
        next_chunk(s, &chunk)


def pool_sizes(dict fields):
    cdef PoolSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "max_pool": (PyCapsule_New(<void*> max_pool, b"fastconv kernel", NULL), pool_sizes),
    "average_pool": (PyCapsule_New(<void*> average_pool, b"fastconv kernel", NULL), pool_sizes),
}
SLOTS = LANES       # elements that are written or read behind a row
