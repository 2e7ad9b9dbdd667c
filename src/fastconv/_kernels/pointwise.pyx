"""Direct convolution whose lanes are pixels, where several filters share what is loaded.

Decisions
---------
a. Made for few taps: 1×1 convolutions of few channels, the first layers of networks, groups of a few channels.  There
   turning the results, which `conv.pyx` has to do, takes as long as the products.  Here they leave the registers as they are.
b. Where neighbouring output pixels read neighbours, none of them in the padding, the input is read where it lies; else
   a chunk of it is packed (`chunk.pxd`), and also where many filters would read rows far apart in tiles that are too
   narrow to hide the way of the next.
c. All filters see a chunk of pixels, which stays in the second-level cache, before the next chunk is read.
d. Where the input lies, the next tile's pixels and what is added to the results are fetched ahead: no hardware follows
   rows that are pages apart.
e. **No masks.**  The last register of a row ends with the row, and computes some pixels of the register before it again: the
   same numbers in the same order.  Only rows that are shorter than a register are masked.

Packed filters as in `conv.pyx`, with panels of up to TILE_FILTERS.
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of, pack_chunk
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport (
    LANES, MAX_VECTORS, Clamp, clamp, finish, vadd, vec, vload, vload_first, vmuladd, vset1, vstore, vstore_first,
)

cdef extern from "simd.h" nogil:
    vec vkeep(vec)
    void prefetch(const void*)
    const int TILE_FILTERS
    const int ROW_VECTORS

cdef enum:
    MAX_FILTERS = 6
    TAG_BYTES = 64      # head of the scratch: the chunk that lies packed behind it
    BAND_BYTES = 1 << 14    # results that are in the first-level cache when they are activated


cdef inline void store_row(
    const int f, const int filters, const int vectors, const bint narrow, vec (*total)[MAX_VECTORS], const Clamp* limits,
    const real* residual, real* y, int64_t y_filter, int64_t pixels,
) noexcept nogil:
    """The results of filter `f`, if there is one; spelled out, because the sums would leave their registers for a loop."""
    cdef int64_t shift
    cdef vec value
    cdef int v
    if f >= filters:
        return
    for v in range(vectors):
        shift = f * y_filter + (pixels - LANES if v == vectors - 1 and not narrow else v * LANES)
        value = total[f][v]
        if narrow:
            if residual:
                value = vadd(value, vload_first(residual + shift, <int> pixels))
            vstore_first(y + shift, clamp(value, limits), <int> pixels)
        else:
            if residual:
                value = vadd(value, vload(residual + shift))
            vstore(y + shift, clamp(value, limits))


cdef inline void tile_in_place(
    const int filters, const int vectors, const bint narrow, const bint fetches, const real* x, const int64_t* offset,
    int64_t taps, const real* w, const real* bias, const Clamp* limits, const real* residual, real* y, int64_t y_filter,
    int64_t pixels,
) noexcept nogil:
    """y[filter][pixel] = bias + Σ x[pixel + offset] · w[tap][filter] + residual.

    `narrow`: fewer pixels than lanes; `fetches`: the next tile's pixels.
    """
    cdef vec total[MAX_FILTERS][MAX_VECTORS]
    cdef vec value[MAX_VECTORS]
    cdef vec weight
    cdef int64_t k
    cdef int64_t last = 0 if narrow else pixels - LANES     # where the last register begins
    cdef const real* at
    cdef int f, v
    if residual:
        for f in range(filters):
            for v in range(vectors):
                prefetch(residual + f * y_filter + v * LANES)
    for f in range(filters):
        weight = vset1(bias[f])
        for v in range(vectors):
            total[f][v] = weight
    for k in range(taps):
        at = x + offset[k]
        if fetches:
            for v in range(vectors):
                prefetch(at + (vectors + v) * LANES)
        for v in range(vectors - 1):
            value[v] = vkeep(vload(at + v * LANES))
        value[vectors - 1] = vkeep(vload_first(at, <int> pixels) if narrow else vload(at + last))
        for f in range(filters):
            weight = vset1(w[f])
            for v in range(vectors):
                total[f][v] = vmuladd(total[f][v], weight, value[v])
        w += filters
    store_row(0, filters, vectors, narrow, total, limits, residual, y, y_filter, pixels)
    store_row(1, filters, vectors, narrow, total, limits, residual, y, y_filter, pixels)
    store_row(2, filters, vectors, narrow, total, limits, residual, y, y_filter, pixels)
    store_row(3, filters, vectors, narrow, total, limits, residual, y, y_filter, pixels)
    store_row(4, filters, vectors, narrow, total, limits, residual, y, y_filter, pixels)
    store_row(5, filters, vectors, narrow, total, limits, residual, y, y_filter, pixels)


cdef inline void filters_in_place(
    int64_t filters, const int vectors, const bint narrow, const bint fetches, const real* x, const int64_t* offset,
    int64_t taps, const real* w, const real* bias, const Clamp* limits, const real* residual, real* y, int64_t y_filter,
    int64_t pixels,
) noexcept nogil:
    if filters == 1:
        tile_in_place(1, vectors, narrow, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)
    elif filters == 2:
        tile_in_place(2, vectors, narrow, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)
    elif filters == 3:
        tile_in_place(3, vectors, narrow, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)
    elif filters == 4:
        tile_in_place(4, vectors, narrow, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)
    elif filters == 5 and TILE_FILTERS >= 5:
        tile_in_place(5, vectors, narrow, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)
    elif TILE_FILTERS >= 6:
        tile_in_place(6, vectors, narrow, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)


cdef inline void row_of_pixels(
    const bint fetches, int64_t pixels, int64_t filters, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, const real* residual, real* y, int64_t y_filter,
) noexcept nogil:
    """One output row of each filter of a panel, in tiles of as equal a number of registers as possible."""
    cdef int64_t vectors = (pixels + LANES - 1) // LANES
    cdef int64_t tiles = (vectors + ROW_VECTORS - 1) // ROW_VECTORS
    cdef int64_t tile, width, part
    if pixels < LANES:
        filters_in_place(filters, 1, True, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, pixels)
        return
    for tile in range(tiles):
        width = (vectors + tiles - tile - 1) // (tiles - tile)
        vectors -= width
        part = min(width * LANES, pixels)
        if width == 1:
            filters_in_place(filters, 1, False, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, part)
        elif width == 2 and ROW_VECTORS >= 2:
            filters_in_place(filters, 2, False, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, part)
        elif width == 3 and ROW_VECTORS >= 3:
            filters_in_place(filters, 3, False, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, part)
        elif ROW_VECTORS >= 4:
            filters_in_place(filters, 4, False, fetches, x, offset, taps, w, bias, limits, residual, y, y_filter, part)
        x, y, pixels = x + part, y + part, pixels - part
        if residual:
            residual += part


# A function for each: GCC leaves sums in memory where one function holds all of them.
cdef void row_in_place(
    int64_t pixels, int64_t filters, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, const real* residual, real* y, int64_t y_filter,
) noexcept nogil:
    row_of_pixels(True, pixels, filters, x, offset, taps, w, bias, limits, residual, y, y_filter)


cdef void row_of_packed(
    int64_t pixels, int64_t filters, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, const Clamp* limits, const real* residual, real* y, int64_t y_filter,
) noexcept nogil:
    row_of_pixels(False, pixels, filters, x, offset, taps, w, bias, limits, residual, y, y_filter)


cdef void pointwise(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, packed filters, bias, [residual,] offset of each tap, row phases, column phases."""
    cdef const ConvSizes* s = <const ConvSizes*> sizes
    cdef void* const* tables = arrays + 4 + s.has_residual
    cdef const int64_t* offset = <const int64_t*> tables[0]
    cdef int64_t* tag = <int64_t*> scratch
    cdef real* packed = <real*> (scratch + TAG_BYTES)
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t task, panel, first_panel, width, filter, row, pitch, corner, to
    cdef bint filled
    cdef const real* image
    cdef const real* x
    cdef const real* residual
    cdef real* y
    cdef Chunk chunk, band
    cdef Clamp limits
    limits.low, limits.high = vset1(<real> s.low), vset1(<real> s.high)
    for task in range(first, last):
        chunk = chunk_of(s, task // s.chunk_tasks)
        image = <const real*> arrays[1] + chunk.image * s.x_image + chunk.group * s.channels * s.x_channel
        if s.packed:
            if tag[0] != task // s.chunk_tasks + 1:
                pack_chunk(s, image, <const int64_t*> tables[1], <const int64_t*> tables[2], &chunk, packed)
                tag[0] = task // s.chunk_tasks + 1
            x, pitch = packed, s.pitch
        else:
            pitch = s.stride_row * s.x_row
            x = image + chunk.depth * s.stride_depth * s.x_depth + chunk.row * pitch + chunk.column
        corner = (
            chunk.image * s.y_image + chunk.group * s.filters * s.y_channel + chunk.depth * s.y_depth
            + chunk.row * s.y_row + chunk.column
        )
        first_panel = task % s.chunk_tasks * s.task_panels
        for panel in range(first_panel, min(first_panel + s.task_panels, panels)):
            width = s.panel if panel < panels - 1 else s.last_panel
            filter = chunk.group * s.filters + panel * s.panel
            band = chunk
            band.rows = 0
            for row in range(chunk.rows):
                to = corner + panel * s.panel * s.y_channel + row * s.y_row
                y = <real*> arrays[0] + to
                residual = <const real*> arrays[4] + to if s.has_residual else NULL
                if s.packed:
                    row_of_packed(
                        chunk.columns, width, x + row * pitch, offset, s.taps, <const real*> arrays[2] + filter * s.taps,
                        <const real*> arrays[3] + filter, &limits, residual, y, s.y_channel,
                    )
                else:
                    row_in_place(
                        chunk.columns, width, x + row * pitch, offset, s.taps, <const real*> arrays[2] + filter * s.taps,
                        <const real*> arrays[3] + filter, &limits, residual, y, s.y_channel,
                    )
                band.rows += 1
                filled = band.rows * chunk.columns * width * <int64_t> sizeof(real) >= BAND_BYTES
                if s.activation and (filled or row == chunk.rows - 1):
                    finish(s, &band, width, NULL, y - (band.rows - 1) * s.y_row)
                    band.rows = 0


def conv_sizes(dict fields):
    cdef ConvSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"pointwise": (PyCapsule_New(<void*> pointwise, b"fastconv kernel", NULL), conv_sizes)}
TILE = {"lanes": LANES, "filters": TILE_FILTERS, "vectors": ROW_VECTORS}
