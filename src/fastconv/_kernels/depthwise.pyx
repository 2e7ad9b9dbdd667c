"""Direct convolution with few filters to a group: lanes are pixels.

Decisions
---------
a. Each weight is broadcast, and a register holds neighbouring pixels of one row of one filter.  With a filter or two to a
   group, filters as lanes (`conv.pyx`) would leave most of a register empty.
b. With one filter to a group, taps one above the other share the input rows that they load (`depthwise_rows.pxd`): loads
   that cross a cache line are what depthwise convolution waits for.
c. With one filter, and columns that are 1 or 2 apart, the input is read where it lies, and masks stand for the padding: a
   copy would cost more than the products.  With a stride of 2, the even lanes of two registers belong to one column of the
   kernel and the odd ones to the next; shuffles within 128 bits are cheaper, so sums are put in order when they are stored.
   Wider strides (and 2, where masked loads go lane by lane), several filters and depth go through the packed chunk
   (`chunk.pxd`), and small maps through packed planes (`depthwise_planes.pyx`).
d. The inputs of several groups are packed before the first of them is read: a load that spans two fresh stores has to wait
   for both.
e. Where rows are contiguous and a single strip wide, a row's last register is stored whole: what it writes too much is the
   beginning of rows that are stored after it.

Packed filters as in `conv.pyx`, with panels of up to TILE_FILTERS.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of, pack_chunk
from fastconv._kernels.depthwise_rows cimport (
    MAX_APART, MAX_COLUMN, MAX_KERNEL, WIDEST_STRIDE, Edges, rows_of_one_filter,
)
from fastconv._kernels.depthwise_taps cimport STRIP, Run, store_pixels
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport (
    LANES, MAX_LANES, MAX_VECTORS, Clamp, clamp, finish, limits_of, vec, vload, vmuladd, vset1, vstore,
)

cdef extern from "simd.h" nogil:
    vec vkeep(vec)
    void vstore_spread(real*, vec, int)
    const int MASKED_LOADS
    const int TILE_FILTERS
    const int ROW_VECTORS

cdef enum:
    MAX_FILTERS = 6
    TAG_BYTES = 64      # head of the scratch: the chunk that lies packed behind it


cdef inline void store_apart(real* y, int64_t y_column, vec value, int64_t pixels) noexcept nogil:
    """The first `pixels` lanes, `y_column` elements apart."""
    cdef real lanes[MAX_LANES]
    cdef int64_t i
    if y_column == 1:
        store_pixels(y, value, pixels)
    elif pixels <= 0:
        return
    elif y_column == 2:
        vstore_spread(y, value, <int> min(pixels, LANES))
    else:
        vstore(lanes, value)
        for i in range(min(pixels, LANES)):
            y[i * y_column] = lanes[i]


cdef inline void tile_pixels(
    const int filters, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, real* y, int64_t y_filter, int64_t y_column, int64_t pixels,
) noexcept nogil:
    """y[filter][pixel] = bias + Σ x[pixel + offset] · w[tap][filter], of which the first `pixels` are stored."""
    cdef vec total[MAX_FILTERS][MAX_VECTORS]
    cdef vec value[MAX_VECTORS]
    cdef vec weight
    cdef int64_t k
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
    for f in range(filters):
        for v in range(vectors):
            store_apart(
                y + f * y_filter + v * LANES * y_column, y_column, clamp(total[f][v], limits), pixels - v * LANES
            )


cdef inline void pixels_by_filters(
    int64_t filters, const int vectors, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, real* y, int64_t y_filter, int64_t y_column, int64_t pixels,
) noexcept nogil:
    if filters == 1:
        tile_pixels(1, vectors, x, offset, taps, w, bias, limits, y, y_filter, y_column, pixels)
    elif filters == 2:
        tile_pixels(2, vectors, x, offset, taps, w, bias, limits, y, y_filter, y_column, pixels)
    elif filters == 3:
        tile_pixels(3, vectors, x, offset, taps, w, bias, limits, y, y_filter, y_column, pixels)
    elif filters == 4:
        tile_pixels(4, vectors, x, offset, taps, w, bias, limits, y, y_filter, y_column, pixels)
    elif filters == 5 and TILE_FILTERS >= 5:
        tile_pixels(5, vectors, x, offset, taps, w, bias, limits, y, y_filter, y_column, pixels)
    elif TILE_FILTERS >= 6:
        tile_pixels(6, vectors, x, offset, taps, w, bias, limits, y, y_filter, y_column, pixels)


# A function for each: GCC leaves sums in memory where one function holds all of them.
cdef void rows_in_place(
    const Chunk* chunk, const real* x, int64_t pitch, Edges* edges, const int64_t* offset, const Run* run,
    const real* w, real bias, const Clamp* limits, real* y, int64_t y_row, int64_t whole,
) noexcept nogil:
    rows_of_one_filter(1, chunk, x, pitch, edges, offset, run, w, bias, limits, y, y_row, whole)


cdef void rows_apart(
    const Chunk* chunk, const real* x, int64_t pitch, Edges* edges, const int64_t* offset, const Run* run,
    const real* w, real bias, const Clamp* limits, real* y, int64_t y_row, int64_t whole,
) noexcept nogil:
    rows_of_one_filter(2, chunk, x, pitch, edges, offset, run, w, bias, limits, y, y_row, whole)


cdef void rows_of_packed(
    const Chunk* chunk, const real* x, int64_t pitch, Edges* edges, const int64_t* offset, const Run* run,
    const real* w, real bias, const Clamp* limits, real* y, int64_t y_row, int64_t whole,
) noexcept nogil:
    rows_of_one_filter(0, chunk, x, pitch, edges, offset, run, w, bias, limits, y, y_row, whole)


ctypedef void (*Rows)(
    const Chunk*, const real*, int64_t, Edges*, const int64_t*, const Run*, const real*, real, const Clamp*, real*, int64_t,
    int64_t,
) noexcept nogil


cdef void row_of_filters(
    int64_t pixels, int64_t filters, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, real* y, int64_t y_filter, int64_t y_column,
) noexcept nogil:
    """One output row of each filter, in tiles of as equal a number of registers as possible."""
    cdef int64_t vectors = (pixels + LANES - 1) // LANES
    cdef int64_t tiles = (vectors + ROW_VECTORS - 1) // ROW_VECTORS
    cdef int64_t tile, width, done = 0
    for tile in range(tiles):
        width = (vectors + tiles - tile - 1) // (tiles - tile)
        vectors -= width
        if width == 1:
            pixels_by_filters(
                filters, 1, x + done, offset, taps, w, bias, limits, y + done * y_column, y_filter,
                y_column, pixels - done,
            )
        elif width == 2 and ROW_VECTORS >= 2:
            pixels_by_filters(
                filters, 2, x + done, offset, taps, w, bias, limits, y + done * y_column, y_filter,
                y_column, pixels - done,
            )
        elif width == 3 and ROW_VECTORS >= 3:
            pixels_by_filters(
                filters, 3, x + done, offset, taps, w, bias, limits, y + done * y_column, y_filter,
                y_column, pixels - done,
            )
        elif ROW_VECTORS >= 4:
            pixels_by_filters(
                filters, 4, x + done, offset, taps, w, bias, limits, y + done * y_column, y_filter,
                y_column, pixels - done,
            )
        done += width * LANES


cdef void depthwise(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, packed filters, bias, [residual,] offset of each tap, row phases, column phases, runs of taps."""
    cdef const ConvSizes* s = <const ConvSizes*> sizes
    cdef void* const* tables = arrays + 4 + s.has_residual
    cdef const int64_t* offset = <const int64_t*> tables[0]
    cdef const Run* run = <const Run*> tables[3]
    cdef int64_t* tag = <int64_t*> scratch
    cdef real* packed = <real*> (scratch + TAG_BYTES)
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t task, first_panel, last_panel, panel, width, filter, group, row, y_first, whole
    cdef const real* x
    cdef const real* image
    cdef const real* w
    cdef const real* bias
    cdef real* y
    cdef Chunk chunk
    cdef Edges edges
    cdef Rows rows
    cdef real zeros[MAX_VECTORS * MAX_LANES]
    cdef Clamp limits = limits_of(s)
    memset(zeros, 0, sizeof(zeros))
    edges.zeros = zeros
    edges.rows, edges.columns, edges.row_stride, edges.strip = s.in_rows, s.in_columns, s.stride_row, -1
    edges.taps, edges.first, edges.dilation = s.kernel_columns, -s.pad_column, s.dilation_column
    for task in range(first, last):
        chunk = chunk_of(s, task // s.chunk_tasks)
        image = <const real*> arrays[1] + chunk.image * s.x_image + chunk.group * s.channels * s.x_channel
        if s.packed and tag[0] != task // s.chunk_tasks + 1:
            for group in range(chunk.groups):
                pack_chunk(
                    s, image + group * s.channels * s.x_channel, <const int64_t*> tables[1],
                    <const int64_t*> tables[2], &chunk, packed + group * s.group_packed,
                )
            tag[0] = task // s.chunk_tasks + 1
        first_panel = task % s.chunk_tasks * s.task_panels
        last_panel = min(first_panel + s.task_panels, panels)
        y_first = chunk.image * s.y_image + chunk.depth * s.y_depth + chunk.row * s.y_row + chunk.column * s.y_column
        whole = 0
        if s.y_column == 1 and s.y_row == chunk.columns and chunk.columns <= STRIP * LANES:
            whole = chunk.rows - ((chunk.columns + LANES - 1) // LANES * LANES - 1) // chunk.columns
        for group in range(chunk.groups):
            for panel in range(first_panel, last_panel):
                filter = (chunk.group + group) * s.filters + panel * s.panel
                width = s.panel if panel < panels - 1 else s.last_panel
                w = <const real*> arrays[2] + filter * s.taps
                bias = <const real*> arrays[3] + filter
                y = <real*> arrays[0] + y_first + filter * s.y_channel
                x = packed + group * s.group_packed
                if not s.packed:
                    x = (
                        image + group * s.channels * s.x_channel + chunk.depth * s.stride_depth * s.x_depth
                        + chunk.row * s.stride_row * s.x_row + chunk.column * s.stride_column
                    )
                    rows = rows_in_place if s.stride_column == 1 else rows_apart
                    rows(
                        &chunk, x, s.stride_row * s.x_row, &edges, offset, run, w, bias[0], &limits, y, s.y_row, whole
                    )
                elif s.panel == 1 and s.y_column == 1:
                    rows_of_packed(&chunk, x, s.pitch, &edges, offset, run, w, bias[0], &limits, y, s.y_row, whole)
                else:
                    for row in range(chunk.rows):
                        row_of_filters(
                            chunk.columns, width, x + row * s.pitch, offset, s.taps, w, bias, &limits,
                            y + row * s.y_row, s.y_channel, s.y_column,
                        )
                if s.has_residual or s.activation:
                    finish(s, &chunk, width, <const real*> arrays[4] + (y - <real*> arrays[0]), y)


def conv_sizes(dict fields):
    cdef ConvSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"depthwise": (PyCapsule_New(<void*> depthwise, b"fastconv kernel", NULL), conv_sizes)}
TILE = {
    "kernel": MAX_KERNEL,
    "stride": WIDEST_STRIDE if MASKED_LOADS else 1,
    "lanes": LANES,
    "filters": TILE_FILTERS,
    "vectors": ROW_VECTORS,
    "runs": (MAX_COLUMN, 5),
    "runs_apart": (MAX_APART, MAX_APART),
}
