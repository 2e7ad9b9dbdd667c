"""Max and average pooling over boxes: windows that are listed per axis, as first position and number of taps.

For windows that do not slide evenly (adaptive pooling), for large ones (global pooling), and for channels-last memory.

Decisions
---------
a. **Planes** (NCHW): lanes run along the rows of a box; a box that takes whole rows is one long row.  A result is then
   the reduction of a vector's lanes.  LANES results are reduced together: two vectors become one by reducing the halves
   of their interleaving, until the last holds a result in each lane.  That is two shuffles for each.  Whole planes, as
   global pooling takes them, are lines of equal length and need no tables; they are looked through for a NaN like the
   chunks of pool.pyx.
b. The lanes of a box meet out of order.  That shows in one place, the sign of a largest zero; there the first zero of
   the box is looked up.
c. **Pixels** (NHWC): lanes are channels, and every tap is read where it lies.  Reducing rows first would save two
   thirds of the loads of a 3×3 window, but windows with stride 1, which would gain most, are planes to the sliding
   kernel: neighbouring pixels are then a dilation apart.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.pool_box cimport Box, BoxSizes, Place, box_of, divisor_of, next_place, place_of, plane_of, row_of
from fastconv._kernels.reduction cimport (
    LANES, LARGEST, LARGEST_OR_NAN, MAX_LANES, PLACES, SUM, mean, real, reduced, store_indices, vec, vset1,
)  # fmt: skip

cdef extern from "simd.h" nogil:
    ctypedef int vmask
    void prefetch(const void*)
    vec vload(const real*)
    vec vload_mask(const real*, vmask, vec)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vmask vall()
    bint vis_all(vmask)
    vmask vinside(int64_t, int64_t)
    vmask vno_nan(vmask, vec, vec)
    vec vmul(vec, vec)
    vec vlow(vec, vec)
    vec vhigh(vec, vec)
    vec vplace(int64_t)
    void vmax_place(vec*, vec*, vec, vec)

cdef enum:
    MAX_VECTORS = 4
    WIDE_VECTORS = 8    # of a pixel: its memory is read in pieces that are worth fetching ahead
    AHEAD = 512         # elements: where the boxes are smaller, the next ones are on their way


cdef inline vec reduced_line(const int op, vec best, const real* x, int64_t count, vec filling) noexcept nogil:
    """`best` and the first `count` values of x, lane by lane; long lines keep several vectors in flight."""
    cdef vec part[MAX_VECTORS]
    cdef int64_t done = 0
    cdef int v
    if count >= 2 * MAX_VECTORS * LANES:
        for v in range(MAX_VECTORS):
            part[v] = vload(x + v * LANES)
        done = MAX_VECTORS * LANES
        while done + MAX_VECTORS * LANES <= count:
            for v in range(MAX_VECTORS):
                part[v] = reduced(op, part[v], vload(x + done + v * LANES))
            done += MAX_VECTORS * LANES
        for v in range(MAX_VECTORS):
            best = reduced(op, best, part[v])
    while done + LANES <= count:
        prefetch(x + done + AHEAD)
        best = reduced(op, best, vload(x + done))
        done += LANES
    if done < count:
        best = reduced(op, best, vload_mask(x + done, vinside(done, count), filling))
    return best


cdef inline vec reduced_box(const int op, const BoxSizes* s, const Box* box, const real* x, vec filling) noexcept nogil:
    cdef bint one_line = box.columns == s.in_columns == s.x_row and s.step_row == 1
    cdef int64_t lines = 1 if one_line else box.rows, depth, row
    cdef vec best = filling
    for depth in range(box.depths):
        for row in range(lines):
            best = reduced_line(
                op, best, row_of(s, box, x, depth, row), box.columns * (box.rows if one_line else 1), filling
            )
    return best


cdef real first_zero(const BoxSizes* s, void* const* arrays, int64_t index) noexcept nogil:
    """The first zero of a box whose largest value is zero, with its sign."""
    cdef Place place = place_of(s, index)
    cdef Box box = box_of(arrays, &place)
    cdef int64_t depth, row, column
    cdef const real* line
    for depth in range(box.depths):
        for row in range(box.rows):
            line = row_of(s, &box, plane_of(s, arrays, &place), depth, row)
            for column in range(box.columns):
                if line[column] == 0:
                    return line[column]
    return 0


cdef inline void pool_boxes(
    const int op, const BoxSizes* s, void* const* arrays, int64_t first, int64_t last
) noexcept nogil:
    """Outputs from `first` to `last`, LANES at most, counted through the contiguous result."""
    cdef vec square[MAX_LANES]
    cdef real divisors[MAX_LANES]
    cdef vec filling = vset1(0 if op == SUM else -INFINITY)
    cdef real* y = <real*> arrays[0] + first
    cdef Place place = place_of(s, first)
    cdef Box box = box_of(arrays, &place)
    cdef bint one_box = s.out_depth * s.out_rows * s.out_columns == 1
    cdef int64_t i
    for i in range(LANES):
        square[i] = filling
        divisors[i] = 1
    for i in range(last - first):
        square[i] = reduced_box(op, s, &box, plane_of(s, arrays, &place), filling)
        if op == SUM and not one_box:
            divisors[i] = divisor_of(arrays, &place)
        next_place(s, &place)
        if not one_box and i < last - first - 1:
            box = box_of(arrays, &place)
    square[0] = reduced_lanes(op, square)
    if op == SUM and one_box:
        square[0] = mean(square[0], vset1(divisor_of(arrays, &place)))
    elif op == SUM:
        square[0] = mean(square[0], vload(divisors))
    vstore_first(y, square[0], <int> (last - first))
    if op != SUM:
        settle_zeros(s, arrays, first, last)


cdef inline void halve(const int op, const int left, vec* square) noexcept nogil:
    cdef int i
    for i in range(left):
        square[i] = reduced(op, vlow(square[i], square[i + left]), vhigh(square[i], square[i + left]))


cdef inline vec reduced_lanes(const int op, vec* square) noexcept nogil:
    """LANES results: lane i is the reduction of all lanes of square[i], which is overwritten.

    Written out, because with a variable width the vectors would go through memory.
    """
    if LANES > 8:
        halve(op, 8, square)
    if LANES > 4:
        halve(op, 4, square)
    if LANES > 2:
        halve(op, 2, square)
    if LANES > 1:
        halve(op, 1, square)
    return square[0]


cdef inline void settle_zeros(const BoxSizes* s, void* const* arrays, int64_t first, int64_t last) noexcept nogil:
    cdef real* y = <real*> arrays[0]
    cdef int64_t i
    for i in range(first, last):
        if y[i] == 0:
            y[i] = first_zero(s, arrays, i)


cdef inline vec reduced_plane(
    const int op, const real* x, int64_t vectors, bint rest, vmask inside, vec filling, vmask* ordered
) noexcept nogil:
    """So many vectors and, with `rest`, what lies `inside` one more; LARGEST notes where it meets a NaN."""
    cdef vec best = filling, second = filling, one, two
    cdef int64_t _pair
    for _pair in range(vectors // 2):
        one, two = vload(x), vload(x + LANES)
        if op == LARGEST:
            ordered[0] = vno_nan(ordered[0], one, two)
        best, second = reduced(op, best, one), reduced(op, second, two)
        x += 2 * LANES
    one = two = filling
    if vectors % 2:
        one = vload(x)
        x += LANES
    if rest:
        two = vload_mask(x, inside, filling)
    if op == LARGEST:
        ordered[0] = vno_nan(ordered[0], one, two)
    return reduced(op, reduced(op, best, one), reduced(op, second, two))


cdef inline bint pool_planes(
    const int op, const BoxSizes* s, void* const* arrays, int64_t first, int64_t last
) noexcept nogil:
    """`pool_boxes` for whole planes; whether LARGEST has met a NaN."""
    cdef vec square[MAX_LANES]
    cdef vec filling = vset1(0 if op == SUM else -INFINITY), zero
    cdef vmask ordered = vall(), inside = vinside(0, s.line % LANES)
    cdef int64_t vectors = s.line // LANES, i
    cdef bint rest = s.line % LANES > 0
    cdef const real* x = <const real*> arrays[1] + first * s.x_channel
    cdef real* y = <real*> arrays[0] + first
    for i in range(LANES):
        square[i] = filling
        if i < last - first:
            square[i] = reduced_plane(op, x, vectors, rest, inside, filling, &ordered)
            x += s.x_channel
    square[0] = reduced_lanes(op, square)
    if op == SUM:
        square[0] = mean(square[0], vset1((
            (<const real*> arrays[5])[0] * (<const real*> arrays[6])[0] * (<const real*> arrays[7])[0]
        )))
    vstore_first(y, square[0], <int> (last - first))
    if op != SUM:
        zero = vmul(square[0], vset1(INFINITY))        # zero times infinity is NaN
        if not vis_all(vno_nan(vall(), zero, zero)):
            settle_zeros(s, arrays, first, last)
    return op == LARGEST and not vis_all(ordered)


cdef inline void reduce_pixels(
    const int op, const int vectors, const BoxSizes* s, const Box* box, const real* x, real divisor, int64_t count,
    real* y,
) noexcept nogil:
    """The first `count` channels of a box, `vectors` whole vectors or less than one."""
    cdef vec best[WIDE_VECTORS]
    cdef vec filling = vset1(0 if op == SUM else -INFINITY)
    cdef vmask mask = vinside(0, count)
    cdef int64_t depth, row, _column
    cdef const real* pixel
    cdef int v
    for v in range(vectors):
        best[v] = filling
    for depth in range(box.depths):
        for row in range(box.rows):
            pixel = row_of(s, box, x, depth, row)
            for _column in range(box.columns):
                if count < LANES:
                    best[0] = reduced(op, best[0], vload_mask(pixel, mask, filling))
                else:
                    for v in range(vectors):
                        best[v] = reduced(op, best[v], vload(pixel + v * LANES))
                pixel += s.step_column * s.x_column
    for v in range(vectors):
        if op == SUM:
            best[v] = mean(best[v], vset1(divisor))
        if count < LANES:
            vstore_first(y, best[0], <int> count)
        else:
            vstore(y + v * LANES, best[v])


cdef inline void place_pixels(
    const int vectors, const BoxSizes* s, const Box* box, const real* x, int64_t count, real* y, int64_t* indices
) noexcept nogil:
    """The same for the largest values and their places in the plane."""
    cdef vec best[MAX_VECTORS]
    cdef vec place[MAX_VECTORS]
    cdef vec value, here
    cdef vmask mask = vinside(0, count)
    cdef int64_t depth, row, at, _column
    cdef bint found = False
    cdef const real* pixel
    cdef int v
    for v in range(vectors):
        best[v], place[v] = vset1(-INFINITY), vplace(-1)
    for depth in range(box.depths):
        for row in range(box.rows):
            pixel = row_of(s, box, x, depth, row)
            at = (box.depth + depth * s.step_depth) * s.in_rows + box.row + row * s.step_row
            at = at * s.in_columns + box.column
            for _column in range(box.columns):
                here = vplace(at)
                for v in range(vectors):
                    value = vload(pixel + v * LANES) if count >= LANES else vload_mask(pixel, mask, vset1(0))
                    if found:
                        vmax_place(&best[v], &place[v], value, here)
                    else:
                        best[v], place[v] = value, here
                found = True
                pixel += s.step_column * s.x_column
                at += s.step_column
    for v in range(vectors):
        if count < LANES:
            vstore_first(y, best[0], <int> count)
        else:
            vstore(y + v * LANES, best[v])
        store_indices(place[v], min(count, LANES), indices + v * LANES)


cdef inline void pool_pixels(const int op, const BoxSizes* s, void* const* arrays, int64_t row) noexcept nogil:
    """One row of output pixels."""
    cdef void* const* inputs = arrays + (1 if op == PLACES else 0)
    cdef int64_t at = row * s.out_columns * s.unit
    cdef real* y = <real*> arrays[0] + at
    cdef int64_t* indices = <int64_t*> arrays[1] + at
    cdef Place place = place_of(s, row * s.out_columns)
    cdef const real* x = plane_of(s, inputs, &place)
    cdef int64_t done, _column
    cdef real divisor = 1
    cdef Box box
    for _column in range(s.out_columns):
        box = box_of(inputs, &place)
        if op == SUM:
            divisor = divisor_of(inputs, &place)
        done = 0
        while op != PLACES and s.unit - done >= WIDE_VECTORS * LANES:
            reduce_pixels(op, WIDE_VECTORS, s, &box, x + done, divisor, WIDE_VECTORS * LANES, y + done)
            done += WIDE_VECTORS * LANES
        while s.unit - done >= MAX_VECTORS * LANES:
            if op == PLACES:
                place_pixels(MAX_VECTORS, s, &box, x + done, MAX_VECTORS * LANES, y + done, indices + done)
            else:
                reduce_pixels(op, MAX_VECTORS, s, &box, x + done, divisor, MAX_VECTORS * LANES, y + done)
            done += MAX_VECTORS * LANES
        while done < s.unit:
            if s.unit >= LANES:
                done = min(done, s.unit - LANES)    # the last vector may do some channels again
            if op == PLACES:
                place_pixels(1, s, &box, x + done, min(s.unit, LANES), y + done, indices + done)
            else:
                reduce_pixels(op, 1, s, &box, x + done, divisor, min(s.unit, LANES), y + done)
            done += LANES
        y += s.unit
        indices += s.unit
        place.column += 1


cdef inline void pool_outputs(
    const int op, const BoxSizes* s, void* const* arrays, int64_t first, int64_t last
) noexcept nogil:
    """Tasks of LANES neighbouring outputs."""
    cdef int64_t total = s.images * s.channels * s.out_depth * s.out_rows * s.out_columns
    cdef int64_t task, at, end
    for task in range(first, last):
        at, end = task * LANES, min((task + 1) * LANES, total)
        if not s.line:
            pool_boxes(LARGEST_OR_NAN if op == LARGEST else op, s, arrays, at, end)
        elif pool_planes(op, s, arrays, at, end):
            pool_planes(LARGEST_OR_NAN, s, arrays, at, end)


cdef void max_pool_boxes(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, windows by depth, row and column."""
    pool_outputs(LARGEST, <const BoxSizes*> sizes, arrays, first, last)


cdef void average_pool_boxes(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: as above, then divisors by depth, row and column."""
    pool_outputs(SUM, <const BoxSizes*> sizes, arrays, first, last)


cdef void max_pool_pixels(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """A task is a row of output pixels; arrays as of boxes."""
    cdef int64_t task
    for task in range(first, last):
        pool_pixels(LARGEST_OR_NAN, <const BoxSizes*> sizes, arrays, task)


cdef void average_pool_pixels(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    cdef int64_t task
    for task in range(first, last):
        pool_pixels(SUM, <const BoxSizes*> sizes, arrays, task)


cdef void max_pool_pixel_places(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, places in the flattened plane, x, windows; the positions of a plane fit into a lane."""
    cdef int64_t task
    for task in range(first, last):
        pool_pixels(PLACES, <const BoxSizes*> sizes, arrays, task)


def box_sizes(dict fields):
    cdef BoxSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "max_pool_boxes": (PyCapsule_New(<void*> max_pool_boxes, b"fastconv kernel", NULL), box_sizes),
    "average_pool_boxes": (PyCapsule_New(<void*> average_pool_boxes, b"fastconv kernel", NULL), box_sizes),
    "max_pool_pixels": (PyCapsule_New(<void*> max_pool_pixels, b"fastconv kernel", NULL), box_sizes),
    "max_pool_pixel_places": (PyCapsule_New(<void*> max_pool_pixel_places, b"fastconv kernel", NULL), box_sizes),
    "average_pool_pixels": (PyCapsule_New(<void*> average_pool_pixels, b"fastconv kernel", NULL), box_sizes),
}
BOXES_PER_TASK = LANES
