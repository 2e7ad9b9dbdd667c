"""Direct convolution of small maps with one filter to a tile: whole planes are packed, and lanes are pixels.

Decisions
---------
a. Lines of a packed plane have a length that the compiler knows (LINE), and zeros stand around the map: all addresses of a
   tile are one pointer and constants, and no load has a mask.  On a small map, masks and addresses would take longer than
   the products (`depthwise.pyx`, which packs nothing, is for the others).
b. A tile is a register wide and as many rows high as divide the map evenly; every register that is loaded serves all rows
   that it belongs to.
c. The planes of several groups are packed before the first of them is read: a load that spans two fresh stores has to wait
   for both.  What lies around the maps is zeroed once, because packing leaves it as it is.
d. A function for each height: GCC leaves sums in memory where one function holds all of them.

Packed planes as in `chunk.pxd`, with pitch = LINE; packed filters as in `depthwise.pyx`, with panels of one.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of
from fastconv._kernels.depthwise_taps cimport STRIP, Run, add_taps, store_pixels
from fastconv._kernels.packing cimport real, strides_in
from fastconv._kernels.tile cimport LANES, Clamp, clamp, finish, limits_of, vec, vload, vset1, vstore

cdef extern from "simd.h" nogil:
    """
    #define FC_LINE (128 / REAL_BYTES)
    """
    ctypedef int vmask
    vec vkeep(vec)
    vec veven(vec, vec)
    vec vodd(vec, vec)
    vec vload_inside(const real*, vmask)
    vmask vinside(int64_t, int64_t)
    const int LINE "FC_LINE"    # elements of a line

cdef enum:
    MAX_ROWS = 8
    MAX_COLUMN = 7
    MAX_LOADS = 8       # registers of a line
    HEAD_BYTES = 64     # of the scratch

cdef struct Plane:      # what the tiles of a plane share
    const int64_t* offset
    const Run* run
    const real* w
    real bias
    Clamp limits
    int64_t y_row


cdef inline void add_row(
    const int i, const int taps, const int rows, const real* x, const real* w, vec (*total)[STRIP],
) noexcept nogil:
    """Row `i` of the lines that a column of taps reads."""
    cdef vec value[STRIP]
    if i < rows + taps - 1:
        value[0] = vkeep(vload(x + i * LINE))
        add_taps(i, taps, rows, 1, value, w, total)


cdef inline const Run* add_columns(
    const int taps, const int rows, const real* x, const int64_t** offset, const Run* run, const real** w,
    vec (*total)[STRIP],
) noexcept nogil:
    """All columns of so many taps, one above the other, that follow each other; the sums stay in their registers.

    The rows are spelled out, because compilers unroll a loop of this size only in part.
    """
    cdef const real* at
    while run.taps == taps:
        at = x + offset[0][0]
        add_row(0, taps, rows, at, w[0], total)
        add_row(1, taps, rows, at, w[0], total)
        add_row(2, taps, rows, at, w[0], total)
        add_row(3, taps, rows, at, w[0], total)
        add_row(4, taps, rows, at, w[0], total)
        add_row(5, taps, rows, at, w[0], total)
        add_row(6, taps, rows, at, w[0], total)
        add_row(7, taps, rows, at, w[0], total)
        add_row(8, taps, rows, at, w[0], total)
        add_row(9, taps, rows, at, w[0], total)
        add_row(10, taps, rows, at, w[0], total)
        add_row(11, taps, rows, at, w[0], total)
        add_row(12, taps, rows, at, w[0], total)
        add_row(13, taps, rows, at, w[0], total)
        offset[0] += taps
        w[0] += taps
        run += 1
    return run


cdef inline void tile_plane(
    const int rows, const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole,
) noexcept nogil:
    """Output rows a register wide, of which the first `whole` are stored in whole registers."""
    cdef vec total[MAX_ROWS][STRIP]
    cdef Clamp limits = plane.limits
    cdef const int64_t* offset = plane.offset
    cdef const real* w = plane.w
    cdef const Run* run = plane.run
    cdef int r
    for r in range(rows):
        total[r][0] = vset1(plane.bias)
    while run.taps:
        if run.taps == 1:
            run = add_columns(1, rows, x, &offset, run, &w, total)
        elif run.taps == 2:
            run = add_columns(2, rows, x, &offset, run, &w, total)
        elif run.taps == 3:
            run = add_columns(3, rows, x, &offset, run, &w, total)
        elif run.taps == 4:
            run = add_columns(4, rows, x, &offset, run, &w, total)
        elif run.taps == 5:
            run = add_columns(5, rows, x, &offset, run, &w, total)
        else:
            run = add_columns(MAX_COLUMN, rows, x, &offset, run, &w, total)
    if whole >= rows:
        for r in range(rows):
            vstore(y + r * plane.y_row, clamp(total[r][0], &limits))
    else:
        for r in range(rows):
            store_pixels(y + r * plane.y_row, clamp(total[r][0], &limits), LANES if r < whole else pixels)


ctypedef void (*Tile)(const Plane*, const real*, real*, int64_t, int64_t) noexcept nogil


cdef void tile_of_1(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(1, plane, x, y, pixels, whole)


cdef void tile_of_2(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(2, plane, x, y, pixels, whole)


cdef void tile_of_3(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(3, plane, x, y, pixels, whole)


cdef void tile_of_4(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(4, plane, x, y, pixels, whole)


cdef void tile_of_5(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(5, plane, x, y, pixels, whole)


cdef void tile_of_6(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(6, plane, x, y, pixels, whole)


cdef void tile_of_7(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(7, plane, x, y, pixels, whole)


cdef void tile_of_8(const Plane* plane, const real* x, real* y, int64_t pixels, int64_t whole) noexcept nogil:
    tile_plane(8, plane, x, y, pixels, whole)


cdef Tile[MAX_ROWS + 1] TILES
TILES[1], TILES[2], TILES[3], TILES[4], TILES[5], TILES[6], TILES[7], TILES[8] = (
    tile_of_1, tile_of_2, tile_of_3, tile_of_4, tile_of_5, tile_of_6, tile_of_7, tile_of_8
)


cdef inline void pack_rows(
    const int stride, int64_t loads, const real* x, int64_t x_step, int64_t rows, const vmask* inside, real* even, real* odd,
) noexcept nogil:
    """Rows of so many registers; with a stride of 2, even columns to one line and odd ones to another.

    Registers are stored whole, from the last to the first and the lower line first: their zeros go where zeros are, or
    where data are stored after them.
    """
    cdef vec low, high
    cdef int64_t v
    for _row in range(rows):
        v = loads
        while v > 0:
            v -= stride
            low = vload_inside(x + v * LANES, inside[v])
            if stride == 1:
                vstore(even + v * LANES, low)
                continue
            high = vload_inside(x + (v + 1) * LANES, inside[v + 1])
            if even < odd:
                vstore(even + v // 2 * LANES, veven(low, high))
                vstore(odd + v // 2 * LANES, vodd(low, high))
            else:
                vstore(odd + v // 2 * LANES, vodd(low, high))
                vstore(even + v // 2 * LANES, veven(low, high))
        x += x_step
        even += LINE
        odd += LINE


cdef inline void pack_planes(
    const ConvSizes* s, const real* x, const int64_t* row_phase, int64_t planes, real* packed
) noexcept nogil:
    """Of each plane the rows and columns that are read; what lies around them is zero, and stays so."""
    cdef vmask inside[MAX_LOADS + 1]
    cdef int64_t read = (s.out_columns - 1) * s.stride_column + (s.kernel_columns - 1) * s.dilation_column + 1
    cdef int64_t columns = min(read - s.pad_column, s.in_columns)
    cdef int64_t even = (s.pad_column + s.stride_column - 1) // s.stride_column
    cdef int64_t odd = s.column_slots + s.pad_column // 2
    cdef int64_t loads = (columns + LANES - 1) // LANES
    cdef int64_t x_step = s.stride_row * s.x_row
    cdef int64_t phase, before, after, row, v
    cdef const real* at
    cdef real* lines
    if columns <= 0:
        return
    if s.stride_column == 2:
        loads += loads % 2
        if s.pad_column % 2:   # even columns are of the odd phase then
            even, odd = odd, even
    for v in range(loads):
        inside[v] = vinside(v * LANES, columns)
    for phase in range(s.row_phases):
        row = row_phase[phase] - s.pad_row
        before = strides_in(-row, s.stride_row) if row < 0 else 0
        after = min(strides_in(s.in_rows - row, s.stride_row), s.row_slots) if row < s.in_rows else 0
        at = x + (row + before * s.stride_row) * s.x_row
        lines = packed + (phase * s.row_slots + before) * LINE
        for _plane in range(planes):
            if s.stride_column == 2:
                pack_rows(2, loads, at, x_step, after - before, inside, lines + even, lines + odd)
            elif loads == 1:
                pack_rows(1, 1, at, x_step, after - before, inside, lines + even, lines)
            else:
                pack_rows(1, loads, at, x_step, after - before, inside, lines + even, lines)
            at += s.x_channel
            lines += s.plane


cdef inline void compute_plane(
    const ConvSizes* s, const Plane* plane, const real* x, real* y, int64_t whole
) noexcept nogil:
    """Strips of tiles as equal in height as they can be."""
    cdef int64_t tiles = (s.out_rows + MAX_ROWS - 1) // MAX_ROWS
    cdef int64_t column = 0, row, height, left
    while column < s.out_columns:
        row, left = 0, tiles
        while left:
            height = (s.out_rows - row + left - 1) // left
            TILES[height](
                plane, x + row * LINE + column, y + row * s.y_row + column, s.out_columns - column, whole - row
            )
            row, left = row + height, left - 1
        column += LANES


cdef inline int64_t whole_rows(const ConvSizes* s, int64_t planes) noexcept nogil:
    """Rows of a plane whose last register may be stored whole.

    What it writes too much has to be stored after it: the rest of the plane, or `planes` that follow it at once.
    """
    cdef int64_t left = 0
    if s.y_row != s.out_columns or s.out_columns > LANES:
        return 0
    if s.y_channel == s.out_rows * s.out_columns:
        left = planes * s.y_channel
    if left >= LANES:
        return s.out_rows
    left += s.out_rows * s.out_columns - LANES
    return left // s.out_columns + 1 if left >= 0 else 0


cdef void depthwise_planes(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, packed filters, bias, [residual,] offset of each tap, row phases, column phases, runs of taps."""
    cdef const ConvSizes* s = <const ConvSizes*> sizes
    cdef void* const* tables = arrays + 4 + s.has_residual
    cdef real* packed = <real*> (scratch + HEAD_BYTES)
    cdef real* y
    cdef int64_t task, group, filter, planes
    cdef Chunk chunk
    cdef Plane plane
    plane.limits = limits_of(s)
    plane.offset, plane.run, plane.y_row = <const int64_t*> tables[0], <const Run*> tables[3], s.y_row
    if scratch[0] == 0:
        memset(packed, 0, s.panel_scratch * sizeof(real))
        scratch[0] = 1
    for task in range(first, last):
        chunk = chunk_of(s, task)
        pack_planes(
            s, <const real*> arrays[1] + chunk.image * s.x_image + chunk.group * s.channels * s.x_channel
            + chunk.depth * s.stride_depth * s.x_depth, <const int64_t*> tables[1], chunk.groups * s.channels, packed,
        )
        filter = chunk.group * s.filters
        plane.w = <const real*> arrays[2] + filter * s.taps
        y = <real*> arrays[0] + chunk.image * s.y_image + filter * s.y_channel + chunk.depth * s.y_depth
        planes = chunk.groups * s.filters
        for group in range(chunk.groups):
            for _filter in range(s.filters):
                planes -= 1
                plane.bias = (<const real*> arrays[3])[filter]
                compute_plane(s, &plane, packed + group * s.group_packed, y, whole_rows(s, planes))
                if s.has_residual or s.activation:
                    finish(s, &chunk, 1, <const real*> arrays[4] + (y - <real*> arrays[0]), y)
                filter += 1
                plane.w += s.taps
                y += s.y_channel


def conv_sizes(dict fields):
    cdef ConvSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"depthwise": (PyCapsule_New(<void*> depthwise_planes, b"fastconv kernel", NULL), conv_sizes)}
TILE = {"lanes": LANES, "line": LINE, "runs": (MAX_COLUMN, 5)}
