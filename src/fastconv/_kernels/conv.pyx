"""Direct convolution: one register tile, fed by a list of offsets.

Decisions
---------
a. **One micro-kernel for every convolution.**  An output pixel is a sum over taps k of x[pixel + offset[k]] · w[k].  The
   offsets are computed once per plan, so rank, kernel size, dilation and channel count are data, not code.  Separate
   loops over channels, rows and columns were the alternative: more code, and index arithmetic in the hottest loop.
b. **Packing removes the stride.**  A chunk of the input is copied to the thread's scratch, padded with zeros and split
   into stride phases (below), so that neighbouring output pixels read neighbouring positions whatever the stride was.
   The distance between them is then a compile-time constant, which the compiler needs to keep the tile in registers.
   The copy costs one pass over an input chunk that fits the second-level cache; borders cost nothing afterwards.  Where no
   window reaches the padding and few filters would read the copy, a tile with the distance as a variable does without.
c. **Lanes are filters**, and each pixel is broadcast (`tile.pxd`).  With few filters to a group the lanes would stay empty:
   `depthwise.pyx` reads the same packed input with pixels as lanes.
d. The order in which a pixel's taps are summed is the plan's and the same for every tile size: the value does not depend
   on the tile, the chunk or the thread that computed it.
e. **Rows by taps.**  Where weights take longer to come than a row of a small map to be multiplied, all rows of a chunk
   meet some taps before the next, and sums wait in the first-level cache.  The weights that follow are fetched ahead.

Packed filters, in panels of F; the last panel of a group may be narrower, its missing filters are zeros:

    [group][panel][tap][F]
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of, pack_chunk
from fastconv._kernels.packing cimport real
from fastconv._kernels.panels cimport fill_panel
from fastconv._kernels.tile cimport (
    LANES, TILE_PIXELS, TILE_VECTORS, finish, rows_by_taps, store_panel, trimmed_row_of_filter_lanes,
)

cdef enum:
    TAG_BYTES = 64      # head of the scratch: the chunk that lies packed behind it


cdef void direct(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, packed filters, bias padded to panels, [residual,] offset of each tap, row phases, column phases."""
    cdef const ConvSizes* s = <const ConvSizes*> sizes
    cdef void* const* tables = arrays + 4 + s.has_residual
    cdef const int64_t* offset = <const int64_t*> tables[0]
    cdef int64_t* tag = <int64_t*> scratch
    cdef real* packed = <real*> (scratch + TAG_BYTES)
    cdef real* result = packed + s.panel_scratch
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel
    cdef int64_t task, first_panel, panel, pitch, apart, filter, width, filters, row, i
    cdef const real* image
    cdef const real* x
    cdef const real* w
    cdef const real* bias
    cdef real* y
    cdef real* to
    cdef Chunk chunk, part
    for task in range(first, last):
        chunk = part = chunk_of(s, task // s.chunk_tasks)
        image = <const real*> arrays[1] + chunk.image * s.x_image + chunk.group * s.channels * s.x_channel
        if s.packed:
            if tag[0] != task // s.chunk_tasks + 1:
                pack_chunk(s, image, <const int64_t*> tables[1], <const int64_t*> tables[2], &chunk, packed)
                tag[0] = task // s.chunk_tasks + 1
            x, pitch, apart = packed, s.pitch, 1
        else:
            pitch, apart = s.stride_row * s.x_row, s.stride_column * s.x_column
            x = image + chunk.depth * s.stride_depth * s.x_depth + chunk.row * pitch + chunk.column * apart
        w = <const real*> arrays[2] + chunk.image * s.w_image + chunk.group * group_filters * s.taps
        bias = <const real*> arrays[3] + chunk.group * group_filters
        y = (
            <real*> arrays[0] + chunk.image * s.y_image + chunk.group * s.filters * s.y_channel
            + chunk.depth * s.y_depth + chunk.row * s.y_row + chunk.column * s.y_column
        )
        first_panel = task % s.chunk_tasks * s.task_panels
        for panel in range(first_panel, min(first_panel + s.task_panels, panels)):
            filter = panel * s.panel
            filters = min(s.panel, s.filters - filter)
            width = s.panel if panel < panels - 1 else s.last_panel
            row = 0
            while row < chunk.rows:
                part.rows = min(s.store_rows, chunk.rows - row)
                if not s.tap_block:
                    for i in range(part.rows):
                        trimmed_row_of_filter_lanes(
                            s, chunk.row + row + i, chunk.column, chunk.columns, width, x + (row + i) * pitch, offset,
                            w + filter * s.taps, bias + filter, result + i * chunk.columns * width,
                        )
                elif apart != 1:
                    rows_by_taps(
                        s, chunk.row + row, chunk.column, part.rows, chunk.columns, width, x + row * pitch, pitch, apart,
                        offset, w + filter * s.taps, bias + filter, result,
                    )
                else:
                    rows_by_taps(
                        s, chunk.row + row, chunk.column, part.rows, chunk.columns, width, x + row * pitch, pitch, 1,
                        offset, w + filter * s.taps, bias + filter, result,
                    )
                to = y + filter * s.y_channel + row * s.y_row
                store_panel(s, result, width, &part, filters, to)
                if s.has_residual or s.activation:
                    finish(s, &part, filters, <const real*> arrays[4] + (to - <real*> arrays[0]), to)
                row += part.rows


cdef struct FilterSizes:
    int64_t groups, filters, taps       # filters per group
    int64_t panel, last_panel
    bint scaled


cdef void pack_filters(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: packed filters, w[filter][tap], [scale of each filter in float64,] place of each tap.  A task is a panel."""
    cdef const FilterSizes* s = <const FilterSizes*> sizes
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel
    cdef const int64_t* place = <const int64_t*> arrays[2 + s.scaled]
    cdef int64_t task, group, panel, filter
    for task in range(first, last):
        group, panel = task // panels, task % panels
        filter = group * s.filters + panel * s.panel
        fill_panel(
            <const real*> arrays[1] + filter * s.taps, min(s.panel, s.filters - panel * s.panel), s.taps,
            <const double*> arrays[2] + filter if s.scaled else NULL, place,
            s.panel if panel < panels - 1 else s.last_panel,
            <real*> arrays[0] + (group * group_filters + panel * s.panel) * s.taps,
        )


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
