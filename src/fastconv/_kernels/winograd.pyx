"""Winograd convolution F(m×m, r×r) with m + r = 7, that is F(4×4, 3×3) and F(2×2, 5×5), fused per chunk of tiles.

Decisions
---------
a. Points 0, ±√½, ±√2, ∞.  The textbook's 0, ±1, ±2, ∞ lose four times as much accuracy; the transforms cost the same.
   Both sizes have the same six points, hence the same input transform.
b. A chunk of tiles goes through all stages while it is in the second-level cache: input transform, 36 matrix products,
   output transform.  Whole-image stages would carry 36 / 16 of the input and of the output through memory twice.
c. The input is packed as for a direct convolution with a 6×6 kernel and stride m (`chunk.pxd`): phases put the same
   element of neighbouring tiles side by side, so that lanes are tiles and no shuffle is needed.
d. The products use the direct convolution's tile: tiles take the place of pixels, lanes are filters.
e. Scaling is kept in the filter transform, which is done once, in float64.

    V[point][channel][tile]     transformed input; rows are written one register too far, the next row mends it
    U[group][panel][point][channel][F]      transformed filters
    M[point][tile][F]           products, of one panel

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; points after Barabasz et al., Error
Analysis and Improving the Accuracy of Winograd Convolution, 2018.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of, pack_chunk
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, add_residual, row_of_filter_lanes, store_panel, vec, vload, vmuladd, vset1, vstore

cdef extern from "simd.h" nogil:
    vec vadd(vec, vec)
    vec vsub(vec, vec)
    vec vmul(vec, vec)
    vec vload_first(const real*, int)
    void vtranspose(vec*)
    ctypedef double dvec
    const int DOUBLE_LANES
    dvec dload(const real*)
    void dstore(real*, dvec)

cdef enum:
    SIDE = 6                # points of one dimension
    POINTS = SIDE * SIDE
    TAG_BYTES = 64          # head of the scratch: the chunk whose transform lies behind it
    MAX_PANEL = 64
    MAX_LANES = 16
    MAX_SIDE_TAPS = 5

cdef double ROOT = 1.4142135623730951

cdef struct WinogradSizes:
    ConvSizes chunks                    # of tiles: kernel 6×6, stride m
    int64_t tile                        # m: output pixels along one side of a tile
    int64_t y_rows, y_columns           # output pixels
    int64_t chunk_tiles, v_plane        # tiles of a full chunk; elements of one point of V
    int64_t v_scratch, m_scratch        # element of the scratch where they start


cdef inline void input_transform(vec* d, const int stride) noexcept nogil:
    """Six values, `stride` apart, by the rows of Bᵀ: the polynomial's values at the points."""
    cdef vec half_root = vset1(<real> (0.5 * ROOT))
    cdef vec root = vset1(<real> ROOT)
    cdef vec d0 = d[0]
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d5 = d[5 * stride]
    cdef vec even, odd
    d[0] = vmuladd(vadd(d0, d4), vset1(-2.5), d2)
    even = vmuladd(d4, vset1(-2), d2)
    odd = vmuladd(vmul(half_root, d3), vset1(<real> -ROOT), d1)
    d[stride] = vadd(even, odd)
    d[2 * stride] = vsub(even, odd)
    even = vmuladd(d4, vset1(-0.5), d2)
    odd = vmuladd(vmul(root, d3), vset1(<real> (-0.5 * ROOT)), d1)
    d[3 * stride] = vadd(even, odd)
    d[4 * stride] = vsub(even, odd)
    d[5 * stride] = vmuladd(vadd(d1, d5), vset1(-2.5), d3)


cdef inline void output_transform(vec* p, const int stride, const int outputs) noexcept nogil:
    """Six products, `stride` apart, by the rows of Aᵀ, into the first `outputs` of them."""
    cdef vec root = vset1(<real> ROOT)
    cdef vec half_root = vset1(<real> (0.5 * ROOT))
    cdef vec low_even = vadd(p[stride], p[2 * stride])
    cdef vec low_odd = vsub(p[stride], p[2 * stride])
    cdef vec high_even = vadd(p[3 * stride], p[4 * stride])
    cdef vec high_odd = vsub(p[3 * stride], p[4 * stride])
    cdef vec last = p[5 * stride]
    p[0] = vadd(vadd(p[0], low_even), high_even)
    p[stride] = vmuladd(vmul(half_root, low_odd), root, high_odd)
    if outputs == 2:
        p[stride] = vadd(p[stride], last)
        return
    p[2 * stride] = vmuladd(vmul(vset1(0.5), low_even), vset1(2), high_even)
    p[3 * stride] = vmuladd(
        vmuladd(last, vset1(<real> (0.25 * ROOT)), low_odd), vset1(<real> (2 * ROOT)), high_odd
    )


cdef void transform_chunk(
    const WinogradSizes* s, const Chunk* chunk, const real* packed, real* transformed
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef vec d[POINTS]
    cdef int64_t channel, row, tile
    cdef const real* corner
    cdef real* to
    cdef int i, j
    for channel in range(c.channels):
        for row in range(chunk.rows):
            tile = 0
            while tile < chunk.columns:
                for i in range(SIDE):
                    corner = (
                        packed + channel * c.plane + (i % s.tile * c.row_slots + row + i // s.tile) * c.pitch + tile
                    )
                    for j in range(SIDE):
                        d[i * SIDE + j] = vload(corner + j % s.tile * c.column_slots + j // s.tile)
                for j in range(SIDE):
                    input_transform(d + j, SIDE)
                for i in range(SIDE):
                    input_transform(d + i * SIDE, 1)
                to = transformed + channel * s.chunk_tiles + row * chunk.columns + tile
                for i in range(POINTS):
                    vstore(to + i * s.v_plane, d[i])
                tile += LANES


cdef inline void inverse_tiles(
    const WinogradSizes* s, const int outputs, const Chunk* chunk, const real* products, int64_t width, const real* bias,
    int64_t rows, int64_t columns, real* panel,
) noexcept nogil:
    """From [point][tile][width] to [pixel][width] of the chunk, `rows` × `columns` pixels."""
    cdef vec p[POINTS]
    cdef vec shift
    cdef int64_t tile, point_step = s.chunk_tiles * width, lane, row, column, down, across
    cdef int i
    for tile in range(chunk.rows * chunk.columns):
        row, column = tile // chunk.columns * outputs, tile % chunk.columns * outputs
        lane = 0
        while lane < width:
            for i in range(POINTS):
                p[i] = vload(products + i * point_step + tile * width + lane)
            for i in range(SIDE):
                output_transform(p + i, SIDE, outputs)
            for i in range(outputs):
                output_transform(p + i * SIDE, 1, outputs)
            shift = vload(bias + lane)
            for down in range(min(outputs, rows - row)):
                for across in range(min(outputs, columns - column)):
                    vstore(
                        panel + ((row + down) * columns + column + across) * width + lane,
                        vadd(p[down * SIDE + across], shift),
                    )
            lane += LANES


cdef void winograd(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, transformed filters, bias padded to panels, [residual,] offset of each channel in V, row phases,
    column phases."""
    cdef const WinogradSizes* s = <const WinogradSizes*> sizes
    cdef const ConvSizes* c = &s.chunks
    cdef void* const* tables = arrays + 4 + c.has_residual
    cdef int64_t* tag = <int64_t*> scratch
    cdef real* packed = <real*> (scratch + TAG_BYTES)
    cdef real* transformed = packed + s.v_scratch
    cdef real* products = packed + s.m_scratch
    cdef real* result = packed + c.panel_scratch
    cdef int64_t panels = (c.filters + c.panel - 1) // c.panel
    cdef int64_t group_filters = (panels - 1) * c.panel + c.last_panel
    cdef int64_t task, first_panel, panel, filter, width, point, tiles
    cdef real zeros[MAX_PANEL]
    cdef const real* w
    cdef const real* bias
    cdef real* y
    cdef Chunk chunk, pixels
    memset(zeros, 0, sizeof(zeros))
    for task in range(first, last):
        chunk = chunk_of(c, task // c.chunk_tasks)
        tiles = chunk.rows * chunk.columns
        if tag[0] != task // c.chunk_tasks + 1:
            pack_chunk(
                c, <const real*> arrays[1] + chunk.image * c.x_image + chunk.group * c.channels * c.x_channel,
                <const int64_t*> tables[1], <const int64_t*> tables[2], &chunk, packed,
            )
            transform_chunk(s, &chunk, packed, transformed)
            tag[0] = task // c.chunk_tasks + 1
        pixels = chunk
        pixels.rows = min(chunk.rows * s.tile, s.y_rows - chunk.row * s.tile)
        pixels.columns = min(chunk.columns * s.tile, s.y_columns - chunk.column * s.tile)
        y = (
            <real*> arrays[0] + chunk.image * c.y_image + chunk.group * c.filters * c.y_channel
            + chunk.row * s.tile * c.y_row + chunk.column * s.tile * c.y_column
        )
        first_panel = task % c.chunk_tasks * c.task_panels
        for panel in range(first_panel, min(first_panel + c.task_panels, panels)):
            filter = panel * c.panel
            width = c.panel if panel < panels - 1 else c.last_panel
            w = <const real*> arrays[2] + (chunk.group * group_filters + filter) * POINTS * c.channels
            for point in range(POINTS):
                row_of_filter_lanes(
                    tiles, width, transformed + point * s.v_plane, <const int64_t*> tables[0], c.channels,
                    w + point * c.channels * width, zeros, products + point * s.chunk_tiles * width,
                )
            bias = <const real*> arrays[3] + chunk.group * group_filters + filter
            if s.tile == 4:
                inverse_tiles(s, 4, &chunk, products, width, bias, pixels.rows, pixels.columns, result)
            else:
                inverse_tiles(s, 2, &chunk, products, width, bias, pixels.rows, pixels.columns, result)
            store_panel(c, result, width, &pixels, min(c.panel, c.filters - filter), y + filter * c.y_channel)
            if c.has_residual:
                add_residual(
                    c, &pixels, min(c.panel, c.filters - filter),
                    <const real*> arrays[4] + (y - <real*> arrays[0]) + filter * c.y_channel, y + filter * c.y_channel,
                )


cdef struct TransformSizes:
    int64_t groups, channels, filters       # the last two per group
    int64_t panel, last_panel
    int64_t kernel                          # r: taps along one side


cdef inline void filters_to_lanes(
    const real* w, int64_t filter_step, int64_t filters, int64_t elements, int64_t width, real* to
) noexcept nogil:
    """From [filter][element] to [element][width]: squares turned in registers.  Missing filters repeat the last one."""
    cdef vec square[MAX_LANES]
    cdef int64_t lane = 0, element, left
    cdef int i
    while lane < width:
        element = 0
        while element < elements:
            left = min(elements - element, LANES)
            for i in range(LANES):
                if left == LANES:
                    square[i] = vload(w + min(lane + i, filters - 1) * filter_step + element)
                else:
                    square[i] = vload_first(w + min(lane + i, filters - 1) * filter_step + element, <int> left)
            vtranspose(square)
            for i in range(LANES):
                if i < left:
                    vstore(to + (element + i) * width + lane, square[i])
            element += LANES
        lane += LANES


cdef inline dvec even_terms(const int r, const double* g, const dvec* tap) noexcept nogil:
    """What the rows of G of the points p and -p have in common."""
    if r == 3:
        return g[0] * tap[0] + g[2] * tap[2]
    return g[0] * tap[0] + g[2] * tap[2] + g[4] * tap[4]


cdef inline dvec odd_terms(const int r, const double* g, const dvec* tap) noexcept nogil:
    """What they have with opposite signs."""
    if r == 3:
        return g[1] * tap[1]
    return g[1] * tap[1] + g[3] * tap[3]


cdef inline void filter_row(const int r, const double* g, const dvec* tap, real* to, int64_t step) noexcept nogil:
    """All points of one row."""
    cdef dvec even, odd
    dstore(to, g[0] * tap[0])
    even, odd = even_terms(r, g + r, tap), odd_terms(r, g + r, tap)
    dstore(to + step, even + odd)
    dstore(to + 2 * step, even - odd)
    even, odd = even_terms(r, g + 3 * r, tap), odd_terms(r, g + 3 * r, tap)
    dstore(to + 3 * step, even + odd)
    dstore(to + 4 * step, even - odd)
    dstore(to + 5 * step, g[6 * r - 1] * tap[r - 1])


cdef inline void filter_rows(
    const int r, const int row, const double* g, const real* taps, int64_t channels, int64_t width, real* to, int64_t step
) noexcept nogil:
    """Row 0 or 5 of the points, or the pair 1 and 2 or 3 and 4, for some channels, in float64."""
    cdef dvec tap[MAX_SIDE_TAPS]
    cdef dvec first[MAX_SIDE_TAPS]
    cdef dvec second[MAX_SIDE_TAPS]
    cdef dvec even, odd
    cdef int64_t _channel, lane
    cdef int i, j
    to += row * SIDE * step
    for _channel in range(channels):
        lane = 0
        while lane < width:
            for j in range(r):
                for i in range(r):
                    tap[i] = dload(taps + (i * r + j) * width + lane)
                if row == 0:
                    first[j] = g[0] * tap[0]
                elif row == 5:
                    first[j] = g[6 * r - 1] * tap[r - 1]
                else:
                    even, odd = even_terms(r, g + row * r, tap), odd_terms(r, g + row * r, tap)
                    first[j], second[j] = even + odd, even - odd
            filter_row(r, g, first, to + lane, step)
            if row == 1 or row == 3:
                filter_row(r, g, second, to + SIDE * step + lane, step)
            lane += DOUBLE_LANES
        taps += r * r * width
        to += width


cdef inline void filter_block(
    const int r, const double* g, const real* taps, int64_t channels, int64_t width, real* to, int64_t step
) noexcept nogil:
    """Few rows of points at a time: 36 streams, often a power of two apart, would push each other out of the cache."""
    filter_rows(r, 0, g, taps, channels, width, to, step)
    filter_rows(r, 1, g, taps, channels, width, to, step)
    filter_rows(r, 3, g, taps, channels, width, to, step)
    filter_rows(r, 5, g, taps, channels, width, to, step)


cdef void transform_filters(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: U, w[filter][channel][row][column], G[point][tap] in float64.  A task is LANES channels of one panel."""
    cdef const TransformSizes* s = <const TransformSizes*> sizes
    cdef const double* g = <const double*> arrays[2]
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel
    cdef int64_t square = s.kernel * s.kernel, blocks = (s.channels + LANES - 1) // LANES
    cdef int64_t task, group, first_filter, width, channel, channels
    cdef real* taps = <real*> scratch
    cdef const real* w
    cdef real* to
    for task in range(first, last):
        group, first_filter = task // blocks // panels, task // blocks % panels * s.panel
        channel = task % blocks * LANES
        channels = min(s.channels - channel, LANES)
        width = s.panel if first_filter + s.panel < s.filters else s.last_panel
        w = <const real*> arrays[1] + ((group * s.filters + first_filter) * s.channels + channel) * square
        to = <real*> arrays[0] + (group * group_filters + first_filter) * POINTS * s.channels + channel * width
        filters_to_lanes(
            w, s.channels * square, min(s.panel, s.filters - first_filter), channels * square, width, taps
        )
        if s.kernel == 3:
            filter_block(3, g, taps, channels, width, to, s.channels * width)
        else:
            filter_block(5, g, taps, channels, width, to, s.channels * width)


def winograd_sizes(dict fields):
    cdef WinogradSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def transform_sizes(dict fields):
    cdef TransformSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "winograd": (PyCapsule_New(<void*> winograd, b"fastconv kernel", NULL), winograd_sizes),
    "transform_filters": (PyCapsule_New(<void*> transform_filters, b"fastconv kernel", NULL), transform_sizes),
}
