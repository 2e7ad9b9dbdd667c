"""Direct convolution: one register tile, fed by a list of offsets.

Decisions
---------
a. **One micro-kernel for every convolution.**  An output pixel is a sum over taps k of x[pixel + offset[k]] · w[k].  The
   offsets are computed once per plan, so rank, kernel size, dilation and channel count are data, not code.  Separate
   loops over channels, rows and columns were the alternative: more code, and index arithmetic in the hottest loop.
b. **Packing removes the stride.**  A chunk of the input is copied to the thread's scratch, padded with zeros and split
   into stride phases (below), so that neighbouring output pixels read neighbouring positions whatever the stride was.
   The distance between them is then a compile-time constant, which the compiler needs to keep the tile in registers.
   The copy costs one pass over an input chunk that fits the second-level cache; borders cost nothing afterwards.
c. **Two tiles.**  With enough filters, lanes are filters and each pixel is broadcast (`tile_filters`); with few (depthwise
   and narrow groups) lanes are pixels and each weight is broadcast (`tile_pixels`).  Both read the same packed input.
d. With one filter to a group, taps one above the other share the input rows that they load (`add_column`): unaligned
   loads are what depthwise convolution waits for.
e. The order in which a pixel's taps are summed is the plan's and the same for every tile size: the value does not depend
   on the tile, the chunk or the thread that computed it.

Packed filters, in panels of F; the last panel of a group may be narrower, its missing filters are zeros:

    [group][panel][tap][F]
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of, pack_chunk
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport (
    LANES, MAX_VECTORS, TILE_PIXELS, TILE_VECTORS, Clamp, add_residual, clamp, limits_of, row_of_filter_lanes,
    store_panel, vec, vload, vmuladd, vset1, vstore, vstore_first,
)

cdef extern from "simd.h" nogil:
    vec vkeep(vec)
    const int TILE_FILTERS
    const int ROW_VECTORS

cdef enum:
    MAX_FILTERS = 6
    MAX_ROWS = 4
    MAX_COLUMN = 5
    TAG_BYTES = 64      # head of the scratch: the chunk that lies packed behind it


cdef inline void tile_pixels(
    const int filters, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, real* y, int64_t y_filter, int64_t pixels,
) noexcept nogil:
    """y[filter][pixel] = bias + Σ x[pixel + offset] · w[tap][filter]; lanes are pixels, the first `pixels` are stored."""
    cdef vec total[MAX_FILTERS][MAX_VECTORS]
    cdef vec value[MAX_VECTORS]
    cdef vec weight
    cdef int64_t k, left
    cdef const real* at
    cdef int f, v
    for f in range(filters):
        weight = vset1(bias[f])
        for v in range(vectors):
            total[f][v] = weight
    for k in range(taps):
        at = x + offset[k]
        for v in range(vectors):
            value[v] = vkeep(vload(at + v * LANES))
        for f in range(filters):
            weight = vset1(w[f])
            for v in range(vectors):
                total[f][v] = vmuladd(total[f][v], weight, value[v])
        w += filters
    for v in range(vectors):
        left = pixels - v * LANES
        for f in range(filters):
            if left >= LANES:
                vstore(y + f * y_filter + v * LANES, clamp(total[f][v], limits))
            elif left > 0:
                vstore_first(y + f * y_filter + v * LANES, clamp(total[f][v], limits), <int> left)


cdef inline void pixels_by_filters(
    int64_t filters, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, real* y, int64_t y_filter, int64_t pixels,
) noexcept nogil:
    if filters == 1:
        tile_pixels(1, vectors, x, offset, taps, w, bias, limits, y, y_filter, pixels)
    elif filters == 2:
        tile_pixels(2, vectors, x, offset, taps, w, bias, limits, y, y_filter, pixels)
    elif filters == 3:
        tile_pixels(3, vectors, x, offset, taps, w, bias, limits, y, y_filter, pixels)
    elif filters == 4:
        tile_pixels(4, vectors, x, offset, taps, w, bias, limits, y, y_filter, pixels)
    elif filters == 5 and TILE_FILTERS >= 5:
        tile_pixels(5, vectors, x, offset, taps, w, bias, limits, y, y_filter, pixels)
    elif TILE_FILTERS >= 6:
        tile_pixels(6, vectors, x, offset, taps, w, bias, limits, y, y_filter, pixels)


cdef inline void add_column(
    const int taps, const int rows, const int vectors, const real* x, int64_t pitch, const real* w,
    vec (*total)[MAX_VECTORS],
) noexcept nogil:
    """Taps one above the other: each input row is loaded once for all the output rows that it belongs to."""
    cdef vec value[MAX_VECTORS]
    cdef vec weight
    cdef int i, r, v
    for i in range(rows + taps - 1):
        for v in range(vectors):
            value[v] = vkeep(vload(x + v * LANES))
        for r in range(rows):
            if i - r >= 0 and i - r < taps:
                weight = vset1(w[i - r])
                for v in range(vectors):
                    total[r][v] = vmuladd(total[r][v], weight, value[v])
        x += pitch


cdef inline void tile_rows(
    const int rows, const int vectors, const real* x, int64_t pitch, const int64_t* offset, const int64_t* column,
    const real* w, real bias, const Clamp* limits, real* y, int64_t y_row, int64_t pixels,
) noexcept nogil:
    """One filter over several output rows; lanes are pixels.  `column` holds the lengths of the columns of taps, then 0."""
    cdef vec total[MAX_ROWS][MAX_VECTORS]
    cdef int64_t left
    cdef const real* at
    cdef int r, v
    for r in range(rows):
        for v in range(vectors):
            total[r][v] = vset1(bias)
    while column[0]:
        at = x + offset[0]
        if column[0] == 1:
            add_column(1, rows, vectors, at, pitch, w, total)
        elif column[0] == 2:
            add_column(2, rows, vectors, at, pitch, w, total)
        elif column[0] == 3:
            add_column(3, rows, vectors, at, pitch, w, total)
        elif column[0] == 4:
            add_column(4, rows, vectors, at, pitch, w, total)
        else:
            add_column(MAX_COLUMN, rows, vectors, at, pitch, w, total)
        offset += column[0]
        w += column[0]
        column += 1
    for v in range(vectors):
        left = pixels - v * LANES
        for r in range(rows):
            if left >= LANES:
                vstore(y + r * y_row + v * LANES, clamp(total[r][v], limits))
            elif left > 0:
                vstore_first(y + r * y_row + v * LANES, clamp(total[r][v], limits), <int> left)


cdef inline void strip_of_rows(
    int64_t rows, const int vectors, const real* x, int64_t pitch, const int64_t* offset, const int64_t* column,
    const real* w, real bias, const Clamp* limits, real* y, int64_t y_row, int64_t pixels,
) noexcept nogil:
    """All rows of a strip `vectors` registers wide."""
    cdef int64_t row = 0
    while row < rows:
        if rows - row >= 4:
            tile_rows(4, vectors, x, pitch, offset, column, w, bias, limits, y, y_row, pixels)
            row, x, y = row + 4, x + 4 * pitch, y + 4 * y_row
        elif rows - row >= 2:
            tile_rows(2, vectors, x, pitch, offset, column, w, bias, limits, y, y_row, pixels)
            row, x, y = row + 2, x + 2 * pitch, y + 2 * y_row
        else:
            tile_rows(1, vectors, x, pitch, offset, column, w, bias, limits, y, y_row, pixels)
            row += 1


cdef void row_of_pixel_lanes(
    int64_t pixels, int64_t filters, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, real* y, int64_t y_filter,
) noexcept nogil:
    """One output row of each filter, in tiles of as equal a number of registers as possible."""
    cdef int64_t vectors = (pixels + LANES - 1) // LANES
    cdef int64_t tiles = (vectors + ROW_VECTORS - 1) // ROW_VECTORS
    cdef int64_t tile, width, done = 0
    for tile in range(tiles):
        width = (vectors + tiles - tile - 1) // (tiles - tile)
        vectors -= width
        if width == 1:
            pixels_by_filters(filters, 1, x + done, offset, taps, w, bias, limits, y + done, y_filter, pixels - done)
        elif width == 2 and ROW_VECTORS >= 2:
            pixels_by_filters(filters, 2, x + done, offset, taps, w, bias, limits, y + done, y_filter, pixels - done)
        elif width == 3 and ROW_VECTORS >= 3:
            pixels_by_filters(filters, 3, x + done, offset, taps, w, bias, limits, y + done, y_filter, pixels - done)
        elif ROW_VECTORS >= 4:
            pixels_by_filters(filters, 4, x + done, offset, taps, w, bias, limits, y + done, y_filter, pixels - done)
        done += width * LANES


cdef void rows_of_one_filter(
    int64_t rows, int64_t pixels, const real* x, int64_t pitch, const int64_t* offset, const int64_t* column,
    const real* w, real bias, const Clamp* limits, real* y, int64_t y_row,
) noexcept nogil:
    cdef int64_t vectors = (pixels + LANES - 1) // LANES
    cdef int64_t strips = (vectors + ROW_VECTORS - 1) // ROW_VECTORS
    cdef int64_t strip, width, done = 0
    for strip in range(strips):
        width = (vectors + strips - strip - 1) // (strips - strip)
        vectors -= width
        if width == 1:
            strip_of_rows(rows, 1, x + done, pitch, offset, column, w, bias, limits, y + done, y_row, pixels - done)
        elif width == 2 and ROW_VECTORS >= 2:
            strip_of_rows(rows, 2, x + done, pitch, offset, column, w, bias, limits, y + done, y_row, pixels - done)
        elif width == 3 and ROW_VECTORS >= 3:
            strip_of_rows(rows, 3, x + done, pitch, offset, column, w, bias, limits, y + done, y_row, pixels - done)
        elif ROW_VECTORS >= 4:
            strip_of_rows(rows, 4, x + done, pitch, offset, column, w, bias, limits, y + done, y_row, pixels - done)
        done += width * LANES


cdef void convolve_panel(
    const ConvSizes* s, const real* x, int64_t pitch, const int64_t* offset, const int64_t* column, const real* w,
    const real* bias, int64_t width, int64_t filters, const Chunk* chunk, real* panel, real* y,
) noexcept nogil:
    """All pixels of a chunk for one panel of filters."""
    cdef int64_t row
    cdef Clamp limits
    if s.lanes_are_filters:
        for row in range(chunk.rows):
            row_of_filter_lanes(
                chunk.columns, width, x + row * pitch, offset, s.taps, w, bias, panel + row * chunk.columns * width
            )
        store_panel(s, panel, width, chunk, filters, y)
        return
    limits = limits_of(s)
    if s.panel == 1:
        rows_of_one_filter(
            chunk.rows, chunk.columns, x, pitch, offset, column, w, bias[0], &limits, y, s.y_row
        )
    else:
        for row in range(chunk.rows):
            row_of_pixel_lanes(
                chunk.columns, width, x + row * pitch, offset, s.taps, w, bias, &limits, y + row * s.y_row, s.y_channel
            )


cdef void direct(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, packed filters, bias padded to panels, [residual,] offset of each tap, row phases,
    column phases, columns of taps."""
    cdef const ConvSizes* s = <const ConvSizes*> sizes
    cdef void* const* tables = arrays + 4 + s.has_residual
    cdef const int64_t* offset = <const int64_t*> tables[0]
    cdef int64_t* tag = <int64_t*> scratch
    cdef real* packed = <real*> (scratch + TAG_BYTES)
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel
    cdef int64_t task, first_panel, panel, pitch, filter
    cdef const real* image
    cdef const real* x
    cdef const real* w
    cdef const real* bias
    cdef real* y
    cdef Chunk chunk
    for task in range(first, last):
        chunk = chunk_of(s, task // s.chunk_tasks)
        image = <const real*> arrays[1] + chunk.image * s.x_image + chunk.group * s.channels * s.x_channel
        if s.packed:
            if tag[0] != task // s.chunk_tasks + 1:
                pack_chunk(s, image, <const int64_t*> tables[1], <const int64_t*> tables[2], &chunk, packed)
                tag[0] = task // s.chunk_tasks + 1
            x, pitch = packed, s.pitch
        else:
            x = image + chunk.depth * s.stride_depth * s.x_depth + chunk.row * s.stride_row * s.x_row + chunk.column
            pitch = s.stride_row * s.x_row
        w = <const real*> arrays[2] + chunk.group * group_filters * s.taps
        bias = <const real*> arrays[3] + chunk.group * group_filters
        y = (
            <real*> arrays[0] + chunk.image * s.y_image + chunk.group * s.filters * s.y_channel
            + chunk.depth * s.y_depth + chunk.row * s.y_row + chunk.column * s.y_column
        )
        first_panel = task % s.chunk_tasks * s.task_panels
        for panel in range(first_panel, min(first_panel + s.task_panels, panels)):
            filter = panel * s.panel
            convolve_panel(
                s, x, pitch, offset, <const int64_t*> tables[3], w + filter * s.taps, bias + filter,
                s.panel if panel < panels - 1 else s.last_panel, min(s.panel, s.filters - filter),
                &chunk, packed + s.panel_scratch, y + filter * s.y_channel,
            )
            if s.has_residual:
                add_residual(
                    s, &chunk, min(s.panel, s.filters - filter),
                    <const real*> arrays[4] + (y - <real*> arrays[0]) + filter * s.y_channel, y + filter * s.y_channel,
                )


cdef struct FilterSizes:
    int64_t groups, filters, taps       # filters per group
    int64_t panel, last_panel


cdef void pack_filters(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: packed filters, w[filter][tap].  A task is one panel."""
    cdef const FilterSizes* s = <const FilterSizes*> sizes
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel
    cdef int64_t task, group, panel, width, filters, f, k
    cdef const real* w
    cdef real* packed
    for task in range(first, last):
        group, panel = task // panels, task % panels
        width = s.panel if panel < panels - 1 else s.last_panel
        filters = min(s.panel, s.filters - panel * s.panel)
        w = <const real*> arrays[1] + (group * s.filters + panel * s.panel) * s.taps
        packed = <real*> arrays[0] + (group * group_filters + panel * s.panel) * s.taps
        for k in range(s.taps):
            for f in range(filters):
                packed[f] = w[f * s.taps + k]
            for f in range(filters, width):
                packed[f] = 0
            packed += width


def conv_sizes(dict fields):
    cdef ConvSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def filter_sizes(dict fields):
    cdef FilterSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "direct": (PyCapsule_New(<void*> direct, b"fastconv kernel", NULL), conv_sizes),
    "pack_filters": (PyCapsule_New(<void*> pack_filters, b"fastconv kernel", NULL), filter_sizes),
}
TILE = {
    "lanes": LANES,
    "pixels": TILE_PIXELS,
    "filters": TILE_VECTORS * LANES,
    "half_panel": (TILE_VECTORS + 1) // 2 * LANES,
    "row_filters": TILE_FILTERS,
    "row_vectors": ROW_VECTORS,
    "column_taps": MAX_COLUMN,
}
