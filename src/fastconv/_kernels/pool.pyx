"""Max and average pooling with sliding windows: rows first, then columns.

Decisions
---------
a. **Separable.**  A window is reduced along its row, and the results of its rows along the column.  Windows that overlap
   share the rows.  Rows come first because then the order of the taps is that of the definition (depth, row, column): of
   equal maxima the first wins and of several NaN the last, so that even the sign of a zero is the reference's.
b. The reduced rows of a chunk of the output lie in the thread's scratch, in the first-level cache, sorted by stride phase
   (below).  An output row reads its taps at fixed distances, so the second pass runs over a whole chunk as one long row,
   however narrow the rows are.
c. Padding is never stored.  Vectors that touch a border load through a mask; rows outside are filled.
d. A NaN makes a maximum three instructions instead of one.  The first pass looks for NaN while it computes without them,
   and a chunk that has one is computed again.
e. Channels-last memory: a pixel is `unit` values side by side.  Columns are then at distance `unit`, the rest is the same.

Reduced rows of one chunk; phases and slots are those some tap needs:

    [depth tap][row phase][row slot][column · unit]

    row p of the padded input = slot · stride + phase        tap k of output row o reads slot o + k·dilation // stride
                                                             of phase k·dilation % stride
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.packing cimport pack_row
from fastconv._kernels.reduction cimport LANES, LARGEST, LARGEST_OR_NAN, SUM, real, reduced, vadd, vec

cdef extern from "simd.h" nogil:
    vec vload(const real*)
    vec vload_first(const real*, int)
    vec vload_inside(const real*, int64_t, int64_t, vec)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vset1(real)
    vec vdiv(vec, vec)
    vec vmul(vec, vec)
    vec veven(vec, vec)
    vec vodd(vec, vec)
    bint vany_nan(vec, vec)

cdef enum:
    MAX_VECTORS = 4
    TAG_BYTES = 64

cdef enum Load:
    WHOLE       # every lane is inside
    INSIDE      # lanes outside [0, size) are the filling
    FIRST       # the first `size` lanes count

cdef struct PoolSizes:
    int64_t unit                                        # values of a pixel: the channels of NHWC memory, else 1
    int64_t channels                                    # planes of an image; 1 where the channels are the unit
    int64_t x_image, x_channel, x_depth, x_row, x_column            # strides, in elements
    int64_t y_image, y_channel                          # inside a plane y is contiguous
    int64_t in_depth, in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t pad_depth, pad_row, pad_column              # positions before
    int64_t stride_depth, stride_row, stride_column
    int64_t kernel_depth, dilation_depth, kernel_column, dilation_column
    int64_t row_phases, row_reach                       # slots beyond the output rows
    int64_t line, phase, plane                          # elements of a reduced row, of a row phase, of a depth tap
    int64_t taps                                        # of the second pass: depth × rows
    int64_t chunk_rows, chunk_columns, chunks_down, chunks_across   # in output positions
    int64_t gathered                                    # element of the scratch where a strided row is gathered
    int64_t one_divisor                                 # all windows divide by the same number

cdef struct Chunk:
    int64_t image, channel, depth, down, across


cdef inline vec load(const Load how, const real* x, int64_t at, int64_t size, vec filling) noexcept nogil:
    if how == WHOLE:
        return vload(x + at)
    if how == INSIDE:
        return vload_inside(x, at, size, filling)
    return vload_first(x + at, <int> size)


cdef inline bint reduce_taps(
    const int op, const int vectors, const Load how, const real* x, int64_t at, int64_t size, int64_t taps, int64_t step,
    vec filling, real* h,
) noexcept nogil:
    """h[i] = the reduction of x[at + i + tap·step] over the taps; whether LARGEST has met a NaN."""
    cdef vec best[MAX_VECTORS]
    cdef vec value
    cdef bint nan = False
    cdef int64_t tap
    cdef int v
    for v in range(vectors):
        best[v] = load(how, x, at + v * LANES, size, filling)
        if op == LARGEST and taps == 1:
            nan |= vany_nan(best[v], best[v])
    for tap in range(1, taps):
        at += step
        for v in range(vectors):
            value = load(how, x, at + v * LANES, size, filling)
            if op == LARGEST:
                nan |= vany_nan(best[v], value)
            best[v] = reduced(op, best[v], value)
    for v in range(vectors):
        vstore(h + v * LANES, best[v])
    return nan


cdef inline bint reduce_taps_by_two(
    const int op, const int vectors, const Load how, const real* x, int64_t at, int64_t size, int64_t taps, int64_t step,
    vec filling, real* h,
) noexcept nogil:
    """h[i] = the reduction of x[at + 2·i + tap·step]; of two neighbouring taps both come from the same loads."""
    cdef vec best[MAX_VECTORS]
    cdef vec low, high
    cdef bint nan = False
    cdef int64_t tap = 0
    cdef int v
    while tap < taps:
        for v in range(vectors):
            low = load(how, x, at + (2 * v) * LANES, size, filling)
            high = load(how, x, at + (2 * v + 1) * LANES, size, filling)
            if op == LARGEST:
                nan |= vany_nan(low, high)
            best[v] = veven(low, high) if tap == 0 else reduced(op, best[v], veven(low, high))
            if step == 1 and tap + 1 < taps:
                best[v] = reduced(op, best[v], vodd(low, high))
        if step == 1 and tap + 1 < taps:
            tap += 1
            at += step
        tap += 1
        at += step
    for v in range(vectors):
        vstore(h + v * LANES, best[v])
    return nan


cdef inline bint reduce_line(
    const int op, const int stride, const real* x, int64_t at, int64_t size, int64_t taps, int64_t step, vec filling,
    int64_t count, real* h,
) noexcept nogil:
    """`count` neighbouring outputs of one row; up to a vector is written behind them."""
    cdef int64_t reach = (taps - 1) * step
    cdef int64_t done = 0
    cdef bint nan = False
    while done < count:
        if at >= 0 and done + 3 * LANES < count and at + reach + 4 * stride * LANES <= size:
            if stride == 1:
                nan |= reduce_taps(op, 4, WHOLE, x, at, size, taps, step, filling, h + done)
            else:
                nan |= reduce_taps_by_two(op, 4, WHOLE, x, at, size, taps, step, filling, h + done)
            done += 4 * LANES
            at += 4 * stride * LANES
            continue
        if at >= 0 and at + reach + stride * LANES <= size:
            if stride == 1:
                nan |= reduce_taps(op, 1, WHOLE, x, at, size, taps, step, filling, h + done)
            else:
                nan |= reduce_taps_by_two(op, 1, WHOLE, x, at, size, taps, step, filling, h + done)
        elif stride == 1:
            nan |= reduce_taps(op, 1, INSIDE, x, at, size, taps, step, filling, h + done)
        else:
            nan |= reduce_taps_by_two(op, 1, INSIDE, x, at, size, taps, step, filling, h + done)
        done += LANES
        at += stride * LANES
    return nan


cdef inline bint reduce_strided(
    const int op, const real* x, int64_t at, int64_t stride, int64_t size, int64_t taps, int64_t step, real filling,
    int64_t count, real* h,
) noexcept nogil:
    """The same for any stride, one output at a time."""
    cdef int64_t i, first, last, tap
    cdef real best, value
    cdef bint nan = False
    for i in range(count):
        first, last = taps_inside(at, step, size, taps)
        best = x[at + first * step] if first < last else filling
        for tap in range(first + 1, last):
            value = x[at + tap * step]
            if op == SUM:
                best += value
            elif value > best or value != value:
                best = value
        nan |= best != best
        h[i] = best
        at += stride
    return nan


cdef inline (int64_t, int64_t) taps_inside(int64_t at, int64_t step, int64_t size, int64_t taps) noexcept nogil:
    """The range of taps with 0 <= at + tap·step < size."""
    cdef int64_t first = 0, last = taps
    if at < 0:
        first = (-at + step - 1) // step
    if at + (taps - 1) * step >= size:
        last = (size - at + step - 1) // step if at < size else 0
    return first, last


cdef inline bint reduce_pixels(
    const int op, const PoolSizes* s, const real* x, int64_t at, int64_t count, vec filling, real* h
) noexcept nogil:
    """`count` pixels of `unit` values; up to a vector is written behind them."""
    cdef int64_t pixel, first, last, done, step = s.dilation_column * s.x_column
    cdef const real* from_
    cdef bint nan = False
    for pixel in range(count):
        first, last = taps_inside(at, s.dilation_column, s.in_columns, s.kernel_column)
        if first >= last:
            fill(h, s.unit, filling)
        else:
            from_ = x + (at + first * s.dilation_column) * s.x_column
            done = 0
            while done < s.unit:
                if s.unit - done >= 4 * LANES:
                    nan |= reduce_taps(op, 4, WHOLE, from_, done, 0, last - first, step, filling, h + done)
                    done += 4 * LANES
                    continue
                if s.unit < LANES:
                    nan |= reduce_taps(op, 1, FIRST, from_, 0, s.unit, last - first, step, filling, h)
                else:
                    done = min(done, s.unit - LANES)
                    nan |= reduce_taps(op, 1, WHOLE, from_, done, 0, last - first, step, filling, h + done)
                done += LANES
        at += s.stride_column
        h += s.unit
    return nan


cdef inline void fill(real* h, int64_t count, vec filling) noexcept nogil:
    cdef int64_t i = 0
    while i < count:
        vstore(h + i, filling)
        i += LANES


cdef inline bint reduce_row(
    const int op, const PoolSizes* s, const real* x, int64_t column, int64_t columns, real* gathered, real* h
) noexcept nogil:
    """One input row at output columns from `column` on."""
    cdef real filling = 0 if op == SUM else -INFINITY
    cdef int64_t at = column * s.stride_column - s.pad_column
    cdef int64_t size = s.in_columns, first, reach = (s.kernel_column - 1) * s.dilation_column
    if s.unit > 1:
        if s.stride_column > 1 or s.x_column != s.unit:
            return reduce_pixels(op, s, x, at, columns, vset1(filling), h)
        return reduce_line(
            op, 1, x, at * s.unit, size * s.unit, s.kernel_column, s.dilation_column * s.unit, vset1(filling),
            columns * s.unit, h,
        )
    if s.x_column != 1:
        first = max(at, 0)
        size = max(first, min(size, at + (columns - 1) * s.stride_column + reach + 1))
        pack_row(x, s.x_column, first, 1, size, size - first, gathered)
        x = gathered - first
    if s.stride_column == 1:
        return reduce_line(op, 1, x, at, size, s.kernel_column, s.dilation_column, vset1(filling), columns, h)
    if s.stride_column == 2:
        return reduce_line(op, 2, x, at, size, s.kernel_column, s.dilation_column, vset1(filling), columns, h)
    return reduce_strided(op, x, at, s.stride_column, size, s.kernel_column, s.dilation_column, filling, columns, h)


cdef inline bint reduce_rows(
    const int op, const PoolSizes* s, const real* x, const int64_t* row_phase, const Chunk* chunk, int64_t rows,
    int64_t columns, real* reduced_rows,
) noexcept nogil:
    """The first pass: every row that the chunk needs, in memory order; whether LARGEST has met a NaN."""
    cdef vec filling = vset1(0 if op == SUM else -INFINITY)
    cdef int64_t tap, slot, phase, depth, row
    cdef real* h
    for tap in range(s.kernel_depth):
        depth = chunk.depth * s.stride_depth - s.pad_depth + tap * s.dilation_depth
        for slot in range(rows + s.row_reach):
            for phase in range(s.row_phases):
                if slot >= rows + row_phase[2 * phase + 1]:
                    continue
                h = reduced_rows + tap * s.plane + phase * s.phase + slot * s.line
                row = (chunk.down * s.chunk_rows + slot) * s.stride_row + row_phase[2 * phase] - s.pad_row
                if depth < 0 or depth >= s.in_depth or row < 0 or row >= s.in_rows:
                    fill(h, columns * s.unit, filling)
                elif reduce_row(
                    op, s, x + depth * s.x_depth + row * s.x_row, chunk.across * s.chunk_columns, columns,
                    reduced_rows + s.gathered, h,
                ):
                    return True
    return False


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
            best[v] = vdiv(vadd(best[v], vset1(0)), by)     # a sum starts at +0: zeros of either sign give +0
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
        if count - done >= 4 * LANES:
            reduce_vectors(
                op, 4, h + done, offset, taps, divisor, column_divisor + done if column_divisor != NULL else NULL,
                count - done, y + done,
            )
            done += 4 * LANES
        else:
            reduce_vectors(
                op, 1, h + done, offset, taps, divisor, column_divisor + done if column_divisor != NULL else NULL,
                count - done, y + done,
            )
            done += LANES


cdef inline void pool_chunk(
    const int op, const PoolSizes* s, void* const* arrays, const Chunk* chunk, real* reduced_rows
) noexcept nogil:
    """arrays: y, x, offset of each tap, [row phase, its reach], and of a mean the divisors by depth, row and column."""
    cdef const real* x = <const real*> arrays[1] + chunk.image * s.x_image + chunk.channel * s.x_channel
    cdef const int64_t* offset = <const int64_t*> arrays[2]
    cdef const int64_t* row_phase = <const int64_t*> arrays[3]
    cdef int64_t row = chunk.down * s.chunk_rows, column = chunk.across * s.chunk_columns
    cdef int64_t rows = min(s.chunk_rows, s.out_rows - row), columns = min(s.chunk_columns, s.out_columns - column)
    cdef int64_t i
    cdef real divisor = 1
    cdef const real* column_divisor = NULL
    cdef real* y = (
        <real*> arrays[0] + chunk.image * s.y_image + chunk.channel * s.y_channel
        + ((chunk.depth * s.out_rows + row) * s.out_columns + column) * s.unit
    )
    if op == SUM:
        divisor = (<const real*> arrays[4])[chunk.depth] * (<const real*> arrays[5])[row]
        column_divisor = <const real*> arrays[6] + column * s.unit
        if s.one_divisor:
            divisor *= column_divisor[0]
            column_divisor = NULL
    if reduce_rows(op, s, x, row_phase, chunk, rows, columns, reduced_rows):
        pool_chunk(LARGEST_OR_NAN, s, arrays, chunk, reduced_rows)
        return
    if s.chunks_across == 1 and column_divisor == NULL:
        reduce_columns(op, reduced_rows, offset, s.taps, divisor, column_divisor, rows * columns * s.unit, y)
        return
    for i in range(rows):
        if column_divisor != NULL:
            divisor = (<const real*> arrays[4])[chunk.depth] * (<const real*> arrays[5])[row + i]
        reduce_columns(
            op, reduced_rows + i * s.line, offset, s.taps, divisor, column_divisor, columns * s.unit,
            y + i * s.out_columns * s.unit,
        )
