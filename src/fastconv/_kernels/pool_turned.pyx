"""Max and average pooling with one channel in each lane: any windows, of planes (NCHW) and of pixels (NHWC).

LANES channels at a time are gathered as pixels: those of planes are turned, and their results turned back.

Decisions
---------
a. A vector of a narrow row is mostly empty, and a stride or an uneven window takes its lanes from all over the place.
   With one channel in each lane every lane works, and the window may be any: sliding with any stride and dilation,
   adaptive, or the whole plane.  Turning costs log2(LANES) shuffles for each vector of the input and of the result.
b. Rows are reduced first and then columns, which keeps the order of the definition (see pool.pyx), and makes the cost
   of a window its height and width, not its area.
c. What is turned is looked through for a NaN; only where there is one is the slower maximum taken that minds it.
d. A task is a block of output rows, so that what it turns stays in the cache.

Scratch of one thread; an entry is a vector with one channel in each lane:

    [TAG_BYTES][input row][column]  [input row][output column]  [output row][output column]

and behind it, where the places of the largest values are wanted, the last two again with places.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.reduction cimport (
    LANES, LARGEST, LARGEST_OR_NAN, MAX_LANES, PLACES, SUM, mean, real, reduced, store_indices, vec, vset1,
)  # fmt: skip

cdef extern from "simd.h" nogil:
    ctypedef int vmask
    vec vload(const real*)
    vec vload_mask(const real*, vmask, vec)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vmask vall()
    bint vis_all(vmask)
    vmask vinside(int64_t, int64_t)
    vmask vno_nan(vmask, vec, vec)
    void vtranspose(vec*)
    vec vplace(int64_t)
    void vmax_place(vec*, vec*, vec, vec)

cdef enum:
    TAG_BYTES = 64

cdef struct TurnedSizes:
    int64_t channels, groups                    # groups of LANES channels
    int64_t x_image, x_channel, x_row           # strides, in elements; that of a plane's columns is 1
    int64_t in_rows, in_columns, out_rows, out_columns
    int64_t pixels                              # stride of the columns where channels lie side by side; 0 for planes
    int64_t step_row, step_column               # from tap to tap
    int64_t block_rows, blocks                  # output rows of a task, and tasks of a group
    int64_t h, y                                # where reduced rows and results begin in the scratch, in elements
    int64_t places                              # and how far behind them their places


cdef inline bint turn_in(const real* const* planes, int64_t count, real* to) noexcept nogil:
    """`count` neighbours of every plane; whether none of them is NaN."""
    cdef vec square[MAX_LANES]
    cdef vmask ordered = vall(), inside = vinside(0, count)
    cdef int64_t at = 0
    cdef int i
    while at < count:
        if count >= LANES:
            at = min(at, count - LANES)         # the last vector may turn some again
            for i in range(LANES):
                square[i] = vload(planes[i] + at)
        else:
            for i in range(LANES):
                square[i] = vload_mask(planes[i], inside, vset1(0))
        for i in range((LANES + 1) // 2):
            ordered = vno_nan(ordered, square[2 * i], square[min(2 * i + 1, LANES - 1)])
        vtranspose(square)
        for i in range(LANES):
            vstore(to + (at + i) * LANES, square[i])
        at += LANES
    return vis_all(ordered)


cdef inline bint gather(const TurnedSizes* s, const real* x, int64_t count, int64_t channels, real* to) noexcept nogil:
    """The same for `channels` of `count` pixels."""
    cdef vmask ordered = vall(), inside = vinside(0, channels)
    cdef int64_t at
    cdef vec pixel
    for at in range(count):
        pixel = vload(x) if channels == LANES else vload_mask(x, inside, vset1(0))
        ordered = vno_nan(ordered, pixel, pixel)
        vstore(to + at * LANES, pixel)
        x += s.pixels
    return vis_all(ordered)


cdef inline void scatter(
    const real* pixels, int64_t count, int64_t channels, int64_t y_column, real* y
) noexcept nogil:
    cdef int64_t at
    for at in range(count):
        if channels == LANES:
            vstore(y + at * y_column, vload(pixels + at * LANES))
        else:
            vstore_first(y + at * y_column, vload(pixels + at * LANES), <int> channels)


cdef inline void turn_out(const real* pixels, int64_t count, int64_t channels, int64_t y_channel, real* y) noexcept nogil:
    """`count` neighbours in each of `channels` planes."""
    cdef vec square[MAX_LANES]
    cdef int64_t at = 0
    cdef int i
    if y_channel == 1:
        vstore_first(y, vload(pixels), <int> channels)
        return
    while at < count:
        if count >= LANES:
            at = min(at, count - LANES)
        for i in range(LANES):
            square[i] = vload(pixels + (at + i) * LANES)
        vtranspose(square)
        for i in range(<int> channels):
            if count >= LANES:
                vstore(y + i * y_channel + at, square[i])
            else:
                vstore_first(y + i * y_channel, square[i], <int> count)
        at += LANES


cdef inline vec reduced_taps(const int op, const real* x, int64_t taps, int64_t step) noexcept nogil:
    cdef vec best
    cdef int64_t _tap
    if taps == 0:
        return vset1(0 if op == SUM else -INFINITY)
    best = vload(x)
    for _tap in range(1, taps):
        x += step
        best = reduced(op, best, vload(x))
    return best


cdef inline void reduce_block(
    const int op, const TurnedSizes* s, void* const* inputs, const real* x, int64_t start, int64_t x_rows,
    int64_t first, int64_t rows, real* h, real* y,
) noexcept nogil:
    """Output rows from `first`, out of gathered input rows from `start`."""
    cdef const int64_t* down = <const int64_t*> inputs[1]
    cdef const int64_t* across = <const int64_t*> inputs[2]
    cdef const real* by_row = <const real*> inputs[3] if op == SUM else NULL
    cdef const real* by_column = <const real*> inputs[4] if op == SUM else NULL
    cdef int64_t in_columns = s.in_columns, columns = s.out_columns, step = s.step_column * LANES
    cdef int64_t row, column, taps
    cdef const real* line
    cdef vec best
    for row in range(x_rows):
        for column in range(columns):
            line = x + (row * in_columns + across[2 * column]) * LANES
            vstore(h + (row * columns + column) * LANES, reduced_taps(op, line, across[2 * column + 1], step))
    step = s.step_row * columns * LANES
    for row in range(first, first + rows):
        line = h + (down[2 * row] - start) * columns * LANES
        taps = down[2 * row + 1]
        for column in range(columns):
            best = reduced_taps(op, line + column * LANES, taps, step)
            if op == SUM:
                best = mean(best, vset1(by_row[row] * by_column[column]))
            vstore(y + column * LANES, best)
        y += columns * LANES


cdef inline vec placed_taps(const real* x, int64_t taps, int64_t step, const real* places, vec* place) noexcept nogil:
    cdef vec best
    cdef int64_t tap
    place[0] = vplace(-1)
    if taps == 0:
        return vset1(-INFINITY)
    best = vload(x)
    place[0] = vload(places)
    for tap in range(1, taps):
        vmax_place(&best, place, vload(x + tap * step), vload(places + tap * step))
    return best


cdef inline void place_block(
    const TurnedSizes* s, void* const* inputs, const real* x, int64_t start, int64_t x_rows, int64_t first, int64_t rows,
    real* h, real* y,
) noexcept nogil:
    """The same for the largest values and their places in the plane."""
    cdef const int64_t* down = <const int64_t*> inputs[1]
    cdef const int64_t* across = <const int64_t*> inputs[2]
    cdef int64_t columns = s.out_columns, row, column, at, tap, line
    cdef vec best, place
    for row in range(x_rows):
        for column in range(columns):
            at = row * s.in_columns + across[2 * column]
            best = vset1(-INFINITY)
            place = vplace(-1)
            for tap in range(across[2 * column + 1]):
                if tap == 0:
                    best = vload(x + at * LANES)
                    place = vplace(start * s.in_columns + at)
                else:
                    vmax_place(&best, &place, vload(x + at * LANES), vplace(start * s.in_columns + at))
                at += s.step_column
            at = (row * columns + column) * LANES
            vstore(h + at, best)
            vstore(h + s.places + at, place)
    for row in range(first, first + rows):
        line = (down[2 * row] - start) * columns * LANES
        for column in range(columns):
            at = line + column * LANES
            best = placed_taps(
                h + at, down[2 * row + 1], s.step_row * columns * LANES, h + s.places + at, &place
            )
            vstore(y, best)
            vstore(y + s.places, place)
            y += LANES


cdef inline void scatter_indices(
    const real* pixels, int64_t count, int64_t channels, int64_t y_column, int64_t* y
) noexcept nogil:
    cdef int64_t at
    for at in range(count):
        store_indices(vload(pixels + at * LANES), channels, y + at * y_column)


cdef inline void turn_indices_out(
    const real* pixels, int64_t count, int64_t channels, int64_t y_channel, int64_t* y
) noexcept nogil:
    cdef vec square[MAX_LANES]
    cdef int64_t at = 0
    cdef int i
    while at < count:
        at = max(min(at, count - LANES), 0)
        for i in range(LANES):
            square[i] = vload(pixels + (at + i) * LANES)
        vtranspose(square)
        for i in range(<int> channels):
            store_indices(square[i], min(count, LANES), y + i * y_channel + at)
        at += LANES


cdef inline void pool_block(
    const int op, const TurnedSizes* s, void* const* arrays, int64_t task, real* scratch
) noexcept nogil:
    cdef void* const* inputs = arrays + (2 if op == PLACES else 1)
    cdef const int64_t* down = <const int64_t*> inputs[1]
    cdef const real* planes[MAX_LANES]
    cdef int64_t first = task % s.blocks * s.block_rows, rows = min(s.block_rows, s.out_rows - first)
    cdef int64_t plane = task // s.blocks, group = plane % s.groups * LANES, image = plane // s.groups
    cdef int64_t channels = min(s.channels - group, LANES), y_channel = s.out_rows * s.out_columns
    cdef int64_t start = s.in_rows, end = 0, row, lines
    cdef const real* x
    cdef real* y = <real*> arrays[0]
    cdef bint ordered = True
    cdef int i
    for row in range(first, first + rows):
        if down[2 * row + 1]:
            start = min(start, down[2 * row])
            end = max(end, down[2 * row] + (down[2 * row + 1] - 1) * s.step_row + 1)
    start = min(start, end)
    x = <const real*> inputs[0] + image * s.x_image + start * s.x_row
    if s.pixels:
        for row in range(end - start):
            ordered &= gather(
                s, x + row * s.x_row + group, s.in_columns, channels, scratch + row * s.in_columns * LANES
            )
    else:
        lines = 1 if s.x_row == s.in_columns or end == start else end - start
        for i in range(LANES):
            planes[i] = x + min(group + i, s.channels - 1) * s.x_channel
        for row in range(lines):
            ordered &= turn_in(
                planes, (end - start) // lines * s.in_columns, scratch + row * s.in_columns * LANES
            )
            for i in range(LANES):
                planes[i] += s.x_row
    if op == PLACES:
        place_block(s, inputs, scratch, start, end - start, first, rows, scratch + s.h, scratch + s.y)
    elif op == SUM:
        reduce_block(SUM, s, inputs, scratch, start, end - start, first, rows, scratch + s.h, scratch + s.y)
    elif ordered:
        reduce_block(LARGEST, s, inputs, scratch, start, end - start, first, rows, scratch + s.h, scratch + s.y)
    else:
        reduce_block(LARGEST_OR_NAN, s, inputs, scratch, start, end - start, first, rows, scratch + s.h, scratch + s.y)
    row = image * s.channels * y_channel    # where the block's results begin
    row += first * s.out_columns * s.channels + group if s.pixels else group * y_channel + first * s.out_columns
    if s.pixels:
        scatter(scratch + s.y, rows * s.out_columns, channels, s.channels, y + row)
    else:
        turn_out(scratch + s.y, rows * s.out_columns, channels, y_channel, y + row)
    if op == PLACES and s.pixels:
        scatter_indices(
            scratch + s.y + s.places, rows * s.out_columns, channels, s.channels, <int64_t*> arrays[1] + row
        )
    elif op == PLACES:
        turn_indices_out(
            scratch + s.y + s.places, rows * s.out_columns, channels, y_channel, <int64_t*> arrays[1] + row
        )


cdef void max_pool_turned(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, (first position, taps) of every window by row and by column."""
    cdef int64_t task
    for task in range(first, last):
        pool_block(LARGEST, <const TurnedSizes*> sizes, arrays, task, <real*> (scratch + TAG_BYTES))


cdef void average_pool_turned(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: as above, then the divisors by row and by column; a window divides by their product."""
    cdef int64_t task
    for task in range(first, last):
        pool_block(SUM, <const TurnedSizes*> sizes, arrays, task, <real*> (scratch + TAG_BYTES))


cdef void max_pool_places(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, places in the flattened plane, x, windows as above; a plane has less than 2^31 positions."""
    cdef int64_t task
    for task in range(first, last):
        pool_block(PLACES, <const TurnedSizes*> sizes, arrays, task, <real*> (scratch + TAG_BYTES))


def turned_sizes(dict fields):
    cdef TurnedSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "max_pool": (PyCapsule_New(<void*> max_pool_turned, b"fastconv kernel", NULL), turned_sizes),
    "max_pool_places": (PyCapsule_New(<void*> max_pool_places, b"fastconv kernel", NULL), turned_sizes),
    "average_pool": (PyCapsule_New(<void*> average_pool_turned, b"fastconv kernel", NULL), turned_sizes),
}
GROUP = LANES       # channels that are pooled at a time
