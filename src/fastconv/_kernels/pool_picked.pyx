"""Max and average pooling of planes (NCHW) with the usual windows, where any lanes of two registers can be picked at once.

Decisions
---------
a. **Picks.**  One or two loads hold all that a vector of output columns needs of an input row; each tap is a pick of their
   lanes.  The border costs nothing: a maximum picks a neighbouring tap again, a sum picks a lane that was not loaded.
b. **Strips** walk down the rows with the reduced rows of the window in registers, as in pool.pyx, which says why rows are
   reduced first.  Rows outside the input are skipped.
c. **Pairs.**  Where two output rows of stride 2 fit into a vector, it holds both: its loads are two input rows, a stride
   apart, and the row that two vectors share is put together from their halves.
d. Few things wait for one another: a mask of what is ordered stays in registers, and is looked at once for many planes.

Picks of a strip: for each tap a vector of lanes; behind them, for pairs, `join` and `both` of a block.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.pool_chunks cimport Chunk, PoolSizes, chunk_of, next_chunk
from fastconv._kernels.reduction cimport LANES, LARGEST, LARGEST_OR_NAN, SUM, mean, real, reduced, vec, vset1

cdef extern from "simd.h" nogil:
    ctypedef int vmask
    void prefetch(const void*)
    vec vload(const real*)
    vec vload_inside(const real*, vmask)
    vec vlanes(vec, vec)
    vec vlanes_of_two(vec, vec, vec)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vmul(vec, vec)
    vmask vall()
    bint vis_all(vmask)
    vmask vinside(int64_t, int64_t)
    vmask vno_nan(vmask, vec, vec)

cdef enum:
    MAX_SQUARE = 5
    BLOCK = 32          # narrow planes, or parts of them, that are done again where there is a NaN

cdef enum:
    NARROW, WIDE, PAIRED    # one load of a row, two, and one of each of two rows

cdef struct Strip:
    int64_t start           # input column of the first load
    int64_t low, high       # lanes of the two loads that are inside
    int64_t column, lanes   # of the output


cdef struct Block:
    vec pick[MAX_SQUARE]
    vec join, both          # the last row of a pair and the first of the next one; the first row of two
    vmask low, high
    vec filling


cdef inline vec reduced_picks(
    const int op, const int kernel, const int form, vec a, vec b, const Block* block, vmask* ordered
) noexcept nogil:
    cdef vec best, value
    cdef int k
    if op == LARGEST:
        ordered[0] = vno_nan(ordered[0], a, b)
    best = vlanes(a, block.pick[0]) if form == NARROW else vlanes_of_two(a, b, block.pick[0])
    for k in range(1, kernel):
        value = vlanes(a, block.pick[k]) if form == NARROW else vlanes_of_two(a, b, block.pick[k])
        best = reduced(op, best, value)
    return best


cdef inline vec picked_row(
    const int op, const int kernel, const int form, const real* x, int64_t x_row, int64_t row, int64_t rows,
    const Block* block, vmask* ordered,
) noexcept nogil:
    """Of one input row, NARROW or WIDE."""
    cdef vec a
    if <uint64_t> row >= <uint64_t> rows:
        return block.filling
    x += row * x_row
    a = vload_inside(x, block.low)
    return reduced_picks(op, kernel, form, a, vload_inside(x + LANES, block.high) if form == WIDE else a, block, ordered)


cdef inline vec picked_pair(
    const int op, const int kernel, const bint inside, const real* x, int64_t x_row, int64_t row, int64_t step,
    int64_t rows, const Block* block, vmask* ordered,
) noexcept nogil:
    """Of two input rows, `step` apart, which are both `inside` or perhaps not."""
    cdef vec a = block.filling, b = block.filling
    if inside or <uint64_t> row < <uint64_t> rows:
        a = vload_inside(x + row * x_row, block.low)
    row += step
    if inside or <uint64_t> row < <uint64_t> rows:
        b = vload_inside(x + row * x_row, block.low)
    return reduced_picks(op, kernel, PAIRED, a, b, block, ordered)


cdef inline vec pooled_pair(
    const int op, const int kernel, const int stride, const bint inside, const real* x, int64_t x_row, int64_t r,
    int64_t rows, const Block* block, vec* last, vmask* ordered,
) noexcept nogil:
    """Two output rows, whose windows begin at row r; the last rows of their windows are the first of the next ones'."""
    cdef vec first = last[0], middle
    if kernel == 2:
        first = picked_pair(op, 2, inside, x, x_row, r, stride, rows, block, ordered)
    middle = picked_pair(op, kernel, inside, x, x_row, r + 1, stride, rows, block, ordered)
    if kernel == 2:
        return reduced(op, first, middle)
    last[0] = picked_pair(op, kernel, inside, x, x_row, r + 2 * stride, stride, rows, block, ordered)
    return reduced(op, reduced(op, first, middle), vlanes_of_two(first, last[0], block.join))


cdef inline void store(real* y, vec value, int64_t lanes, const real* y_end) noexcept nogil:
    if y + LANES <= y_end:
        vstore(y, value)
    else:
        vstore_first(y, value, <int> lanes)


cdef inline vmask walk_rows(
    const int op, const int kernel, const int stride, const int form, const PoolSizes* s, const Block* block,
    const Chunk* chunk, const real* x, const real* row_divisor, vec divisor, int64_t lanes, real* y, const real* y_end,
    const real* ahead,
) noexcept nogil:
    """A strip down a chunk; which lanes have met no NaN."""
    cdef vec row[MAX_SQUARE]
    cdef vec best
    cdef vmask ordered = vall()
    cdef int64_t x_row = s.x_row, in_rows = s.in_rows, y_row = s.out_columns, rows = chunk.rows, o
    cdef int64_t r = chunk.row * stride - s.pad_row
    cdef bint one_divisor = s.one_divisor, jumps = s.strips > 1
    cdef int k
    for k in range(stride, kernel):
        row[k] = picked_row(op, kernel, form, x, x_row, r + k - stride, in_rows, block, &ordered)
    r += kernel - stride
    for o in range(rows):
        for k in range(stride, kernel):
            row[k - stride] = row[k]
        for k in range(stride):
            row[kernel - stride + k] = picked_row(op, kernel, form, x, x_row, r + k, in_rows, block, &ordered)
        r += stride
        if form == WIDE and jumps:
            for k in range(stride * stride):
                prefetch(ahead + k * LANES)
            ahead += stride * stride * LANES
        best = row[0]
        for k in range(1, kernel):
            best = reduced(op, best, row[k])
        if op == SUM:
            best = mean(best, divisor if one_divisor else vmul(vset1(row_divisor[o]), divisor))
        store(y, best, lanes, y_end)
        y += y_row
    return ordered


cdef inline vmask walk_pairs(
    const int op, const int kernel, const int stride, const PoolSizes* s, const Block* block, const Chunk* chunk,
    const real* x, const real* row_divisor, vec divisor, real* y, const real* y_end,
) noexcept nogil:
    """The same, two output rows at a time; windows of two or three rows."""
    cdef vec last = block.filling, best
    cdef vmask ordered = vall()
    cdef int64_t x_row = s.x_row, in_rows = s.in_rows, y_row = s.out_columns, rows = chunk.rows, o = 0
    cdef int64_t r = chunk.row * stride - s.pad_row
    cdef bint one_divisor = s.one_divisor
    if kernel == 3:
        last = picked_pair(op, kernel, False, x, x_row, r, stride, in_rows, block, &ordered)
    while o < rows:
        if r >= 0 and r + 3 * stride < in_rows:
            best = pooled_pair(op, kernel, stride, True, x, x_row, r, in_rows, block, &last, &ordered)
        else:
            best = pooled_pair(op, kernel, stride, False, x, x_row, r, in_rows, block, &last, &ordered)
        r += 2 * stride
        if op == SUM and one_divisor:
            best = mean(best, divisor)
        elif op == SUM:
            best = mean(best, vmul(vlanes_of_two(vset1(row_divisor[o]), vset1(row_divisor[o + 1]), block.both), divisor))
        store(y, best, min(rows - o, 2) * y_row, y_end)
        y += 2 * y_row
        o += 2
    return ordered


cdef inline const real* plane_of(const PoolSizes* s, void* const* arrays, const Chunk* chunk) noexcept nogil:
    return (
        <const real*> arrays[1] + chunk.image * s.x_image + chunk.channel * s.x_channel
        + chunk.depth * s.stride_depth * s.x_depth
    )


cdef inline real* result_of(const PoolSizes* s, void* const* arrays, const Chunk* chunk) noexcept nogil:
    return (
        <real*> arrays[0] + chunk.image * s.y_image + chunk.channel * s.y_channel
        + (chunk.depth * s.out_rows + chunk.row) * s.out_columns
    )


cdef inline bint pool_block(
    const int op, const int kernel, const int stride, const int form, const PoolSizes* s, void* const* arrays,
    const Chunk* begin, int64_t count, const real* y_end,
) noexcept nogil:
    """All strips of `count` chunks from `begin`, of one chunk if there are several strips; whether LARGEST met a NaN."""
    cdef const Strip* strip = <const Strip*> arrays[2]
    cdef const real* pick = <const real*> arrays[3]
    cdef const real* row_divisor = NULL
    cdef const real* x
    cdef const real* ahead
    cdef real* y
    cdef vec divisor = vset1(1)
    cdef vmask ordered = vall()
    cdef Block block
    cdef Chunk chunk
    cdef int64_t _strip, i
    cdef int k
    block.filling = vset1(0 if op == SUM else -INFINITY)
    for _strip in range(s.strips):
        block.low, block.high = vinside(0, strip.low), vinside(0, strip.high)
        for k in range(kernel):
            block.pick[k] = vload(pick + k * LANES)
        pick += kernel * LANES
        if form == PAIRED:
            block.join, block.both = vload(pick), vload(pick + LANES)
        chunk = begin[0]
        for i in range(count):
            y = result_of(s, arrays, &chunk) + strip.column
            if op == SUM:
                row_divisor = <const real*> arrays[5] + chunk.row
                divisor = vload(<const real*> arrays[6] + strip.column)
                if form == PAIRED:
                    divisor = vlanes_of_two(divisor, divisor, block.both)
                divisor = vmul(vset1((<const real*> arrays[4])[chunk.depth]), divisor)
                if s.one_divisor:
                    divisor = vmul(divisor, vset1(row_divisor[0]))
            x = plane_of(s, arrays, &chunk)
            ahead = x + ((chunk.row + chunk.rows) * stride - s.pad_row) * s.x_row
            if form == PAIRED:
                ordered &= walk_pairs(
                    op, kernel, stride, s, &block, &chunk, x, row_divisor, divisor, y, y_end
                )
            else:
                ordered &= walk_rows(
                    op, kernel, stride, form, s, &block, &chunk, x + strip.start, row_divisor,
                    divisor, strip.lanes, y, y_end, ahead + _strip * chunk.rows * stride * stride * LANES,
                )
            if i + 1 < count:
                next_chunk(s, &chunk)
        strip += 1
    return op == LARGEST and not vis_all(ordered)


cdef bint pool_square(
    const int op, const PoolSizes* s, void* const* arrays, const Chunk* begin, int64_t count, const real* y_end
) noexcept nogil:
    if s.square == 2:
        if s.paired:
            return pool_block(op, 2, 2, PAIRED, s, arrays, begin, count, y_end)
        return pool_block(op, 2, 2, WIDE, s, arrays, begin, count, y_end)
    if s.square == 5:
        return pool_block(op, 5, 1, NARROW, s, arrays, begin, count, y_end)
    if s.stride_row == 2:
        if s.paired:
            return pool_block(op, 3, 2, PAIRED, s, arrays, begin, count, y_end)
        return pool_block(op, 3, 2, WIDE, s, arrays, begin, count, y_end)
    return pool_block(op, 3, 1, NARROW, s, arrays, begin, count, y_end)


cdef inline void pool(
    const int op, const PoolSizes* s, void* const* arrays, int64_t first, int64_t last
) noexcept nogil:
    cdef Chunk chunk = chunk_of(s, first)
    cdef Chunk begin
    cdef const real* y_end
    cdef int64_t count, _chunk
    while first < last:
        begin = chunk
        count = min(last - first, BLOCK) if s.strips == 1 else 1
        for _chunk in range(count - 1):
            next_chunk(s, &chunk)
        y_end = result_of(s, arrays, &chunk)
        if s.strips == 1:       # what follows a vector is written after it
            y_end += chunk.rows * s.out_columns
        next_chunk(s, &chunk)
        if op == SUM:
            pool_square(SUM, s, arrays, &begin, count, y_end)
        elif pool_square(LARGEST, s, arrays, &begin, count, y_end):
            pool_square(LARGEST_OR_NAN, s, arrays, &begin, count, y_end)
        first += count


cdef void max_pool(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """A task is a chunk.  arrays: y, x, strips, picks."""
    pool(LARGEST, <const PoolSizes*> sizes, arrays, first, last)


cdef void average_pool(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: as above, then the divisors by depth, row and column; a window divides by their product."""
    pool(SUM, <const PoolSizes*> sizes, arrays, first, last)


def pool_sizes(dict fields):
    cdef PoolSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "max_pool": (PyCapsule_New(<void*> max_pool, b"fastconv kernel", NULL), pool_sizes),
    "average_pool": (PyCapsule_New(<void*> average_pool, b"fastconv kernel", NULL), pool_sizes),
}
SLOTS = LANES       # elements that are read behind the divisors of a row
