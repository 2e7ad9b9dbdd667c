"""Max and average pooling of planes (NCHW) with the usual windows, where any lanes of two registers can be picked at once.

Decisions
---------
a. **Columns first.**  The rows of a window are reduced lane by lane, and then the taps of a vector of output columns are
   picked out of what is left: half as many picks as rows first would take.  A sum does not mind; a maximum could find
   another zero of several, or lose a NaN.  A chunk is looked through for both, and where there is one it is done again,
   rows first.  Of -0 only reduced columns are asked: if a window meets zeros of both signs, the first of each order are
   the first zeros of their columns.
b. **Picks.**  One or two loads hold all that a vector of output columns needs of an input row.  The border costs nothing: a
   maximum picks a neighbouring tap again, a sum picks a lane that was not loaded.  Windows that move by one leave the tap
   in the middle in its lane.
c. **Strips** walk down the rows with the input rows of the window in registers.  Rows outside the input are skipped.
d. **Pairs.**  Two output rows of stride 2 share a vector where they fit into it; each has a load of its own.
e. Few things wait for one another: notes of NaN and -0 stay in registers, and are looked at once for many planes.

Picks of a strip: for each tap a vector of lanes; behind them, for pairs, `both` of a block.
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
    vec vload_mask(const real*, vmask, vec)
    vec vlanes(vec, vec)
    vec vlanes_of_two(vec, vec, vec)
    void vstore_mask(real*, vmask, vec)
    vec vmul(vec, vec)
    vmask vall()
    bint vis_all(vmask)
    vmask vinside(int64_t, int64_t)
    vmask vno_nan(vmask, vec, vec)
    vec vleast(vec, vec)
    bint vleast_is_zero(vec)

cdef enum:
    MAX_SQUARE = 5
    MAX_ROWS = 5            # of the windows of a vector

cdef enum:
    NARROW, WIDE, PAIRED    # a row in one load or in two, or one load for each of two rows

cdef struct Strip:
    int64_t start           # input column of the first load
    int64_t low, high       # lanes of the two loads that are inside
    int64_t column          # of the output, in the first lane
    int64_t first, last     # lanes that are stored

cdef struct Block:
    vec pick[MAX_SQUARE]
    vec both                # the first row of two
    vmask low, high, stored
    vec filling

cdef struct Note:
    vmask ordered           # lanes that have met no NaN
    vec least               # of reduced columns, to find -0


cdef inline vec picked(const int form, vec a, vec b, vec pick) noexcept nogil:
    return vlanes(a, pick) if form == NARROW else vlanes_of_two(a, b, pick)


cdef inline vec reduced_taps(
    const int op, const int kernel, const int form, vec a, vec b, const Block* block
) noexcept nogil:
    cdef vec best
    cdef int k
    if op != LARGEST_OR_NAN and form == NARROW:
        best = a
        for k in range(kernel):
            if k != kernel // 2:
                best = reduced(op, best, vlanes(a, block.pick[k]))
        return best
    best = picked(form, a, b, block.pick[0])
    for k in range(1, kernel):
        best = reduced(op, best, picked(form, a, b, block.pick[k]))
    return best


cdef inline vec pooled(
    const int op, const int kernel, const int stride, const int form, const vec* a, const vec* b, const Block* block,
    Note* note,
) noexcept nogil:
    """Out of the input rows of a window, or of two."""
    cdef vec best = a[0], second = b[0]
    cdef const vec* other = a + stride if form == PAIRED else b
    cdef int k
    if op == LARGEST_OR_NAN:
        best = reduced_taps(op, kernel, form, a[0], other[0], block)
        for k in range(1, kernel):
            best = reduced(op, best, reduced_taps(op, kernel, form, a[k], other[k], block))
        return best
    second = other[0]
    for k in range(1, kernel):
        best = reduced(op, best, a[k])
        if form != NARROW:
            second = reduced(op, second, other[k])
    if op == LARGEST:
        note.least = vleast(note.least, best)
        if form != NARROW:
            note.least = vleast(note.least, second)
    return reduced_taps(op, kernel, form, best, second, block)


cdef inline void load_rows(
    const int op, const int form, const int count, const bint inside, const real* x, int64_t x_row, int64_t row,
    int64_t rows, const Block* block, vec* a, vec* b, Note* note,
) noexcept nogil:
    """`count` input rows, which are all `inside` or perhaps not."""
    cdef int k
    for k in range(count):
        a[k] = b[k] = block.filling
        if inside or <uint64_t> (row + k) < <uint64_t> rows:
            a[k] = vload_inside(x + (row + k) * x_row, block.low)
            if form == WIDE:
                b[k] = vload_inside(x + (row + k) * x_row + LANES, block.high)
    if op == LARGEST and form == WIDE:
        for k in range(count):
            note.ordered = vno_nan(note.ordered, a[k], b[k])
    elif op == LARGEST:
        for k in range((count + 1) // 2):
            note.ordered = vno_nan(note.ordered, a[2 * k], a[min(2 * k + 1, count - 1)])


cdef inline void walk(
    const int op, const int kernel, const int stride, const int form, const int outs, const int kept, const int fresh,
    const PoolSizes* s, const Block* block, const Chunk* chunk, const real* x, const real* row_divisor, vec divisor,
    real* y, const real* ahead, Note* note,
) noexcept nogil:
    """A strip down a chunk, with so many output rows, input rows that are kept and input rows that are loaded at a time."""
    cdef vec a[MAX_ROWS]
    cdef vec b[MAX_ROWS]
    cdef vec best
    cdef int64_t x_row = s.x_row, in_rows = s.in_rows, y_row = s.out_columns, rows = chunk.rows, o = 0
    cdef int64_t r = chunk.row * stride - s.pad_row
    cdef bint one_divisor = s.one_divisor, jumps = s.strips > 1
    cdef vmask stored = block.stored
    cdef int k
    b[0] = block.filling
    load_rows(op, form, kept, False, x, x_row, r, in_rows, block, a + fresh, b + fresh, note)
    r += kept
    while o < rows:
        for k in range(kept):
            a[k], b[k] = a[k + fresh], b[k + fresh]
        if op != LARGEST_OR_NAN and r >= 0 and r + fresh <= in_rows:
            load_rows(op, form, fresh, True, x, x_row, r, in_rows, block, a + kept, b + kept, note)
        else:
            load_rows(op, form, fresh, False, x, x_row, r, in_rows, block, a + kept, b + kept, note)
        r += fresh
        if form == WIDE and jumps:
            for k in range(stride * stride):
                prefetch(ahead + k * LANES)
            ahead += stride * stride * LANES
        best = pooled(op, kernel, stride, form, a, b, block, note)
        if op == SUM and one_divisor:
            best = mean(best, divisor)
        elif op == SUM and form == PAIRED:
            best = mean(best, vmul(vlanes_of_two(vset1(row_divisor[o]), vset1(row_divisor[o + 1]), block.both), divisor))
        elif op == SUM:
            best = mean(best, vmul(vset1(row_divisor[o]), divisor))
        if form == PAIRED and o + 1 == rows:
            stored &= vinside(0, y_row)
        vstore_mask(y, stored, best)
        y += outs * y_row
        o += outs


cdef inline bint pool_block(
    const int op, const int kernel, const int stride, const int form, const PoolSizes* s, void* const* arrays,
    const Chunk* chunk, int64_t count,
) noexcept nogil:
    """All strips of a chunk, of `count` planes that follow one another; whether the result of LARGEST is void."""
    cdef const Strip* strip = <const Strip*> arrays[2]
    cdef const real* pick = <const real*> arrays[3]
    cdef const real* planes = (
        <const real*> arrays[1] + chunk.image * s.x_image + chunk.channel * s.x_channel
        + chunk.depth * s.stride_depth * s.x_depth
    )
    cdef real* results = (
        <real*> arrays[0] + chunk.image * s.y_image + chunk.channel * s.y_channel
        + (chunk.depth * s.out_rows + chunk.row) * s.out_columns
    )
    cdef const real* row_divisor = NULL
    cdef const real* x
    cdef real* y
    cdef int64_t x_channel = s.x_channel, y_channel = s.y_channel
    cdef int64_t ahead = ((chunk.row + chunk.rows) * stride - s.pad_row) * s.x_row, _strip, _plane
    cdef vec divisor = vset1(1)
    cdef Block block
    cdef Note note
    cdef int k
    note.ordered, note.least = vall(), vset1(0)
    block.filling = vset1(0 if op == SUM else -INFINITY)
    for _strip in range(s.strips):
        block.low, block.high = vinside(0, strip.low), vinside(0, strip.high)
        block.stored = vinside(-strip.first, strip.last - strip.first)
        for k in range(kernel):
            block.pick[k] = vload(pick + k * LANES)
        pick += kernel * LANES
        if form == PAIRED:
            block.both = vload(pick)
        if op == SUM:
            row_divisor = <const real*> arrays[5] + chunk.row
            divisor = divisor_of(form, s, arrays, chunk, strip, &block)
        x, y = planes + strip.start, results + strip.column
        for _plane in range(count):
            walk(
                op, kernel, stride, form, 2 if form == PAIRED else 1, kernel - stride,
                2 * stride if form == PAIRED else stride, s, &block, chunk, x, row_divisor, divisor, y, planes + ahead,
                &note,
            )
            x += x_channel
            y += y_channel
        ahead += chunk.rows * stride * stride * LANES
        strip += 1
    return op == LARGEST and (not vis_all(note.ordered) or vleast_is_zero(note.least))


cdef inline vec divisor_of(
    const int form, const PoolSizes* s, void* const* arrays, const Chunk* chunk, const Strip* strip, const Block* block
) noexcept nogil:
    """What divides a vector, but for its row where not all have one divisor."""
    cdef const real* by_column = <const real*> arrays[6]
    cdef vec divisor = vset1((<const real*> arrays[4])[chunk.depth])
    if form == PAIRED:
        divisor = vmul(divisor, vlanes_of_two(vload(by_column), vload(by_column), block.both))
    else:
        divisor = vmul(divisor, vload_mask(by_column + strip.column, block.stored, vset1(1)))
    return vmul(divisor, vset1((<const real*> arrays[5])[0])) if s.one_divisor else divisor


cdef inline bint pool_square(
    const int op, const PoolSizes* s, void* const* arrays, const Chunk* chunk, int64_t count
) noexcept nogil:
    if s.square == 2:
        if s.paired:
            return pool_block(op, 2, 2, PAIRED, s, arrays, chunk, count)
        return pool_block(op, 2, 2, WIDE, s, arrays, chunk, count)
    if s.square == 5:
        return pool_block(op, 5, 1, NARROW, s, arrays, chunk, count)
    if s.stride_row == 2:
        if s.paired:
            return pool_block(op, 3, 2, PAIRED, s, arrays, chunk, count)
        return pool_block(op, 3, 2, WIDE, s, arrays, chunk, count)
    return pool_block(op, 3, 1, NARROW, s, arrays, chunk, count)


cdef inline void pool(
    const int op, const PoolSizes* s, void* const* arrays, int64_t first, int64_t last
) noexcept nogil:
    cdef Chunk chunk = chunk_of(s, first)
    cdef int64_t count
    while first < last:
        count = min(min(last - first, s.block), s.channels - chunk.channel)
        if op == SUM:
            pool_square(SUM, s, arrays, &chunk, count)
        elif pool_square(LARGEST, s, arrays, &chunk, count):
            pool_square(LARGEST_OR_NAN, s, arrays, &chunk, count)
        first += count
        chunk.channel += count - 1
        next_chunk(s, &chunk)


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
