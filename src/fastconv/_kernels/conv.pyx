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
d. Sums run over taps in the order channel, depth, row, column for every tile size: the value of a pixel does not depend
   on the tile, the chunk or the thread that computed it.

Packed input of one chunk, per input channel c and depth tap kd (both phases and slots are those some tap needs):

    [kd][c][row phase][row slot][column phase][column slot]      pitch = one row of slots, plane = one (kd, c)

    position p of the padded input = slot · stride + phase       tap k of output o reads slot o + k·dilation // stride
                                                                 of phase k·dilation % stride

Packed filters, in panels of F; the last panel of a group may be narrower, its missing filters are zeros:

    [group][panel][tap][F]
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.packing cimport pack_row, real

cdef extern from "simd.h" nogil:
    ctypedef float vec
    const int LANES
    const int TILE_PIXELS
    const int TILE_VECTORS
    vec vload(const real*)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vset1(real)
    vec vmuladd(vec, vec, vec)
    void vtranspose(vec*)

cdef enum:
    MAX_PIXELS = 14
    MAX_VECTORS = 4
    MAX_LANES = 16
    TAG_BYTES = 64          # head of the scratch: the chunk that lies packed behind it

cdef struct ConvSizes:
    int64_t groups, channels, filters                   # the last two per group
    int64_t x_image, x_channel, x_depth, x_row, x_column            # strides, in elements
    int64_t y_image, y_channel, y_depth, y_row, y_column
    int64_t in_depth, in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t pad_depth, pad_row, pad_column              # zeros before
    int64_t stride_depth, stride_row, stride_column
    int64_t kernel_depth, dilation_depth, taps          # taps: channels × kernel
    int64_t packed                                      # 0: x is read where it lies
    int64_t row_phases, row_slots, column_phases, column_slots, pitch, plane
    int64_t chunk_rows, chunk_columns, chunks_down, chunks_across   # in output positions
    int64_t task_panels, chunk_tasks                    # panels of filters to a task, tasks to a chunk
    int64_t panel, last_panel                           # filters in one, and in the last of a group
    int64_t panel_scratch                               # element of the scratch where a panel's result starts
    int64_t lanes_are_filters


cdef struct Chunk:
    int64_t image, group, depth, row, column            # of its first output position
    int64_t rows, columns


cdef inline void tile_filters(
    const int pixels, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y, int64_t y_pixel,
) noexcept nogil:
    """y[pixel][filter] = bias + Σ x[pixel + offset] · w[tap][filter]; lanes are filters."""
    cdef vec total[MAX_PIXELS][MAX_VECTORS]
    cdef vec weight[MAX_VECTORS]
    cdef vec value
    cdef int64_t k
    cdef const real* at
    cdef int i, j
    for j in range(vectors):
        value = vload(bias + j * LANES)
        for i in range(pixels):
            total[i][j] = value
    for k in range(taps):
        at = x + offset[k]
        for j in range(vectors):
            weight[j] = vload(w + j * LANES)
        w += vectors * LANES
        for i in range(pixels):
            value = vset1(at[i])
            for j in range(vectors):
                total[i][j] = vmuladd(total[i][j], value, weight[j])
    for i in range(pixels):
        for j in range(vectors):
            vstore(y + i * y_pixel + j * LANES, total[i][j])


cdef inline void tile_pixels(
    const int filters, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y, int64_t y_filter, int64_t pixels,
) noexcept nogil:
    """y[filter][pixel] = bias + Σ x[pixel + offset] · w[tap][filter]; lanes are pixels, the first `pixels` are stored."""
    cdef vec total[MAX_VECTORS][MAX_VECTORS]
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
            value[v] = vload(at + v * LANES)
        for f in range(filters):
            weight = vset1(w[f])
            for v in range(vectors):
                total[f][v] = vmuladd(total[f][v], weight, value[v])
        w += filters
    for v in range(vectors):
        left = pixels - v * LANES
        for f in range(filters):
            if left >= LANES:
                vstore(y + f * y_filter + v * LANES, total[f][v])
            elif left > 0:
                vstore_first(y + f * y_filter + v * LANES, total[f][v], <int> left)


cdef inline void filters_by_pixels(
    int pixels, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y, int64_t y_pixel,
) noexcept nogil:
    """The tile with `pixels` as the constant it has to be; those beyond TILE_PIXELS vanish at compile time."""
    if pixels == 1:
        tile_filters(1, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 2 and TILE_PIXELS >= 2:
        tile_filters(2, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 3 and TILE_PIXELS >= 3:
        tile_filters(3, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 4 and TILE_PIXELS >= 4:
        tile_filters(4, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 5 and TILE_PIXELS >= 5:
        tile_filters(5, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 6 and TILE_PIXELS >= 6:
        tile_filters(6, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 7 and TILE_PIXELS >= 7:
        tile_filters(7, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 8 and TILE_PIXELS >= 8:
        tile_filters(8, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 9 and TILE_PIXELS >= 9:
        tile_filters(9, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 10 and TILE_PIXELS >= 10:
        tile_filters(10, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 11 and TILE_PIXELS >= 11:
        tile_filters(11, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 12 and TILE_PIXELS >= 12:
        tile_filters(12, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif pixels == 13 and TILE_PIXELS >= 13:
        tile_filters(13, vectors, x, offset, taps, w, bias, y, y_pixel)
    elif TILE_PIXELS >= 14:
        tile_filters(14, vectors, x, offset, taps, w, bias, y, y_pixel)


cdef inline void pixels_by_filters(
    int64_t filters, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y, int64_t y_filter, int64_t pixels,
) noexcept nogil:
    if filters == 1:
        tile_pixels(1, vectors, x, offset, taps, w, bias, y, y_filter, pixels)
    elif filters == 2:
        tile_pixels(2, vectors, x, offset, taps, w, bias, y, y_filter, pixels)
    elif filters == 3:
        tile_pixels(3, vectors, x, offset, taps, w, bias, y, y_filter, pixels)
    else:
        tile_pixels(4, vectors, x, offset, taps, w, bias, y, y_filter, pixels)


cdef void row_of_filter_lanes(
    int64_t pixels, int64_t panel, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y,
) noexcept nogil:
    """One output row into [pixel][panel], in tiles as equal as possible: 30 pixels are 3 × 10, never 14 + 14 + 2."""
    cdef int64_t tiles = (pixels + TILE_PIXELS - 1) // TILE_PIXELS
    cdef int64_t tile, width, done = 0
    for tile in range(tiles):
        width = (pixels - done + tiles - tile - 1) // (tiles - tile)
        if panel == TILE_VECTORS * LANES:
            filters_by_pixels(<int> width, TILE_VECTORS, x + done, offset, taps, w, bias, y + done * panel, panel)
        else:
            filters_by_pixels(
                <int> width, (TILE_VECTORS + 1) // 2, x + done, offset, taps, w, bias, y + done * panel, panel
            )
        done += width


cdef void row_of_pixel_lanes(
    int64_t pixels, int64_t filters, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y, int64_t y_filter,
) noexcept nogil:
    cdef int64_t done = 0
    while done < pixels:
        if filters <= 2 and pixels - done > 2 * LANES:
            pixels_by_filters(filters, 4, x + done, offset, taps, w, bias, y + done, y_filter, pixels - done)
            done += 4 * LANES
        elif pixels - done > LANES:
            pixels_by_filters(filters, 2, x + done, offset, taps, w, bias, y + done, y_filter, pixels - done)
            done += 2 * LANES
        else:
            pixels_by_filters(filters, 1, x + done, offset, taps, w, bias, y + done, y_filter, pixels - done)
            done += LANES


cdef void panel_to_planes(
    const real* panel, int64_t width, int64_t pixels, int64_t filters, real* y, int64_t y_filter
) noexcept nogil:
    """[pixel][width] to [filter][pixel], for the first `filters`: squares of LANES × LANES turned in registers."""
    cdef vec square[MAX_LANES]
    cdef int64_t pixel = 0, filter, rows, columns
    cdef int i
    while pixel < pixels:
        rows = min(pixels - pixel, LANES)
        filter = 0
        while filter < filters:
            columns = min(filters - filter, LANES)
            for i in range(LANES):
                square[i] = vload(panel + (pixel + min(i, rows - 1)) * width + filter)
            vtranspose(square)
            for i in range(LANES):
                if i >= columns:
                    break
                if rows == LANES:
                    vstore(y + (filter + i) * y_filter + pixel, square[i])
                else:
                    vstore_first(y + (filter + i) * y_filter + pixel, square[i], <int> rows)
            filter += LANES
        pixel += LANES


cdef void store_panel(
    const ConvSizes* s, const real* panel, int64_t width, const Chunk* chunk, int64_t filters, real* y
) noexcept nogil:
    cdef int64_t row, pixel
    if s.y_channel == 1:
        for row in range(chunk.rows):
            for pixel in range(chunk.columns):
                memcpy(y + row * s.y_row + pixel * s.y_column, panel, filters * sizeof(real))
                panel += width
    elif chunk.columns == s.y_row:
        panel_to_planes(panel, width, chunk.rows * chunk.columns, filters, y, s.y_channel)
    else:
        for row in range(chunk.rows):
            panel_to_planes(
                panel + row * chunk.columns * width, width, chunk.columns, filters, y + row * s.y_row, s.y_channel
            )


cdef void pack_chunk(
    const ConvSizes* s, const real* x, const int64_t* row_phase, const int64_t* column_phase, const Chunk* chunk,
    real* packed,
) noexcept nogil:
    cdef int64_t rows = s.row_slots - s.chunk_rows + chunk.rows
    cdef int64_t columns = s.column_slots - s.chunk_columns + chunk.columns
    cdef int64_t tap, channel, phase, slot, side, depth, row
    cdef const real* plane
    cdef real* line
    for tap in range(s.kernel_depth):
        depth = chunk.depth * s.stride_depth - s.pad_depth + tap * s.dilation_depth
        for channel in range(s.channels):
            plane = x + channel * s.x_channel + depth * s.x_depth
            for phase in range(s.row_phases):
                for slot in range(rows):
                    row = (chunk.row + slot) * s.stride_row + row_phase[phase] - s.pad_row
                    line = packed + (tap * s.channels + channel) * s.plane + (phase * s.row_slots + slot) * s.pitch
                    if depth < 0 or depth >= s.in_depth or row < 0 or row >= s.in_rows:
                        memset(line, 0, s.column_phases * s.column_slots * sizeof(real))
                        continue
                    for side in range(s.column_phases):
                        pack_row(
                            plane + row * s.x_row, s.x_column,
                            chunk.column * s.stride_column + column_phase[side] - s.pad_column, s.stride_column,
                            s.in_columns, columns, line + side * s.column_slots,
                        )


cdef Chunk chunk_of(const ConvSizes* s, int64_t index) noexcept nogil:
    cdef Chunk chunk
    chunk.column = index % s.chunks_across * s.chunk_columns
    index //= s.chunks_across
    chunk.row = index % s.chunks_down * s.chunk_rows
    index //= s.chunks_down
    chunk.depth = index % s.out_depth
    index //= s.out_depth
    chunk.group = index % s.groups
    chunk.image = index // s.groups
    chunk.rows = min(s.chunk_rows, s.out_rows - chunk.row)
    chunk.columns = min(s.chunk_columns, s.out_columns - chunk.column)
    return chunk


cdef void convolve_panel(
    const ConvSizes* s, const real* x, int64_t pitch, const int64_t* offset, const real* w, const real* bias,
    int64_t width, int64_t filters, const Chunk* chunk, real* panel, real* y,
) noexcept nogil:
    """All pixels of a chunk for one panel of filters."""
    cdef int64_t row
    if s.lanes_are_filters:
        for row in range(chunk.rows):
            row_of_filter_lanes(
                chunk.columns, width, x + row * pitch, offset, s.taps, w, bias, panel + row * chunk.columns * width
            )
        store_panel(s, panel, width, chunk, filters, y)
    else:
        for row in range(chunk.rows):
            row_of_pixel_lanes(
                chunk.columns, width, x + row * pitch, offset, s.taps, w, bias, y + row * s.y_row, s.y_channel
            )


cdef void direct(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, packed filters, bias padded to panels, offset of each tap, row phases, column phases."""
    cdef const ConvSizes* s = <const ConvSizes*> sizes
    cdef const int64_t* offset = <const int64_t*> arrays[4]
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
                pack_chunk(s, image, <const int64_t*> arrays[5], <const int64_t*> arrays[6], &chunk, packed)
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
                s, x, pitch, offset, w + filter * s.taps, bias + filter,
                s.panel if panel < panels - 1 else s.last_panel, min(s.panel, s.filters - filter),
                &chunk, packed + s.panel_scratch, y + filter * s.y_channel,
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
}
