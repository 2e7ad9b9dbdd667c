"""Winograd convolution F(m×m, r×r) with m + r = 7, that is F(4×4, 3×3) and F(2×2, 5×5), fused per chunk of tiles.

Decisions
---------
a. Points 0, ±√½, ±√2, ∞.  The textbook's 0, ±1, ±2, ∞ lose four times as much accuracy; the transforms cost the same.
   Both sizes have the same six points, hence the same input transform.
b. A chunk of tiles goes through all stages while it is in the second-level cache: input transform, 36 matrix products,
   output transform.  Whole-image stages would carry 36 / 16 of the input and of the output through memory twice.
c. Lanes are tiles in the input transform.  One channel at a time is packed so that the same element of all tiles of a
   chunk lies side by side, row after row without a gap (below): a map of 4×4 tiles fills one register, not a quarter
   of four.
d. The products use the direct convolution's tile: tiles take the place of pixels, lanes are filters.  Filters that are
   needed next are fetched meanwhile, because with few tiles they come from memory no faster than they are used.
e. Scaling is kept in the filter transform, which is done once, in float64.
f. Images whose maps have few tiles share a chunk: each chunk reads all filters of its panels again.
g. A kernel with depth has the taps of its depth as further channels.  V is a ring of as many input planes, each with a
   tag that says which one it is, and neighbouring outputs in depth are neighbouring tasks: a plane is transformed once for
   all outputs that it belongs to.  Taps in the padding are left out, hence they come before the channels in U.

    packed[column of the tile][row phase][row slot][tile across]    one channel of one image, phase = row % m
    V[point][slot of the ring][channel][tile]       transformed input; rows are written up to a register too far: the
                                                    next row mends it, a slot ends with room
    U[group][panel][point][depth tap][channel][F]   transformed filters
    M[point][tile][F]           products, of one panel

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; points after Barabasz et al., Error
Analysis and Improving the Accuracy of Winograd Convolution, 2018.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of
from fastconv._kernels.packing cimport pack_row, real, veven, vinside, vload_inside, vmask, vodd
from fastconv._kernels.tile cimport (
    LANES, MAX_LANES, finish, row_of_streamed_filters, store_panel, taps_inside, vadd, vec, vload, vload_first, vmuladd,
    vset1, vstore, vtranspose,
)

cdef extern from "simd.h" nogil:
    ctypedef double dvec
    const int DOUBLE_LANES
    dvec dload(const real*)
    void dstore(real*, dvec)
    vec vsub(vec, vec)
    vec vmul(vec, vec)
    vec vshift(vec, vec)
    bint vis_all(vmask)
    void prefetch(const void*)

cdef enum:
    SIDE = 6                # points of one dimension
    POINTS = SIDE * SIDE
    TAG_BYTES = 64          # head of the scratch: for each slot of the ring, which plane of which chunk it holds
    MAX_PANEL = 64
    MAX_SIDE_TAPS = 5
    MAX_COLUMNS = 32        # tiles across a chunk
    MAX_REACH = 2           # tiles that a tile's columns reach beyond it

cdef double ROOT = 1.4142135623730951

cdef struct WinogradSizes:
    ConvSizes chunks                    # of tiles: kernel 6×6, stride m; its images are blocks of `chunk_images`
    int64_t tile                        # m: output pixels along one side of a tile
    int64_t y_rows, y_columns           # output pixels
    int64_t images, chunk_images
    int64_t strip                       # elements of one column and row phase of the packed channel
    int64_t chunk_tiles                 # of all images of a full chunk
    int64_t v_row, v_slot, v_plane      # elements of one channel, one slot of the ring and one point of V
    int64_t result_rows                 # rows of tiles whose results are made, and stored, at a time
    int64_t line_scratch, v_scratch, m_scratch      # elements of the scratch where they start


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


cdef inline void pack_register(
    const int m, const real* x, const vmask* inside, int64_t tile, int64_t step, real* packed
) noexcept nogil:
    """One row of up to LANES tiles, from `tile` on: their six columns, `step` apart."""
    cdef vec value[4]
    cdef vec half[4]
    cdef int j, shift
    for j in range(m):
        if vis_all(inside[j]):
            value[j] = vload(x + j * LANES)
        else:
            value[j] = vload_inside(x + j * LANES, inside[j])
    if m == 2:
        half[0], half[1] = veven(value[0], value[1]), vodd(value[0], value[1])
        value[0], value[1] = half[0], half[1]
    else:
        half[0], half[1] = veven(value[0], value[1]), veven(value[2], value[3])
        half[2], half[3] = vodd(value[0], value[1]), vodd(value[2], value[3])
        value[0], value[2] = veven(half[0], half[1]), vodd(half[0], half[1])
        value[1], value[3] = veven(half[2], half[3]), vodd(half[2], half[3])
    for j in range(m):
        vstore(packed + j * step + tile, value[j])
    for j in range(m, SIDE):        # what is the next tile's column j - m: a register's own, moved down
        shift = j // m
        if tile >= shift:
            vstore(packed + j * step + tile - shift, value[j % m])
        elif tile == 0:
            half[0] = vshift(value[j % m], value[j % m])
            if shift == 2:
                half[0] = vshift(half[0], half[0])
            vstore(packed + j * step, half[0])


cdef inline void pack_channel(
    const int m, const WinogradSizes* s, const Chunk* chunk, const real* x, const vmask* inside, real* line, real* packed
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t top = chunk.row * m - c.pad_row, left = chunk.column * m - c.pad_column
    cdef int64_t row, tile, slots = chunk.columns + (SIDE - 1) // m
    cdef const real* at
    cdef real* to
    cdef int j
    for row in range(chunk.rows * m + SIDE - m):
        to = packed + row % m * s.strip + row // m * chunk.columns
        if top + row < 0 or top + row >= c.in_rows:
            tile = 0
            while tile < chunk.columns:
                for j in range(SIDE):
                    vstore(to + j * m * s.strip + tile, vset1(0))
                tile += LANES
            continue
        at = x + (top + row) * c.x_row
        if c.x_column == 1:
            at += left
        else:
            pack_row(at, c.x_column, left, 1, c.in_columns, slots * m, line)
            at = line
        tile = 0
        while tile < slots:
            for j in range(m):
                prefetch(at + tile * m + j * LANES + 2 * c.x_channel)
            pack_register(m, at + tile * m, inside + tile // LANES * m, tile, m * s.strip, to)
            tile += LANES


cdef inline void transform_channel(
    const int m, const WinogradSizes* s, const Chunk* chunk, const real* packed, real* transformed
) noexcept nogil:
    cdef vec d[POINTS]
    cdef int64_t tile = 0
    cdef int i, j
    while tile < chunk.rows * chunk.columns:
        for i in range(SIDE):
            for j in range(SIDE):
                d[i * SIDE + j] = vload(packed + (j * m + i % m) * s.strip + i // m * chunk.columns + tile)
        for j in range(SIDE):
            input_transform(d + j, SIDE)
        for i in range(SIDE):
            input_transform(d + i * SIDE, 1)
        for i in range(POINTS):
            vstore(transformed + i * s.v_plane + tile, d[i])
        tile += LANES


cdef inline void transform_chunk(
    const int m, const WinogradSizes* s, const Chunk* chunk, int64_t images, const real* x, real* packed, real* line,
    real* transformed,
) noexcept nogil:
    """The next channel is packed before one is transformed: what has just been stored in pieces is slow to load."""
    cdef const ConvSizes* c = &s.chunks
    cdef vmask inside[4 * (MAX_COLUMNS + MAX_REACH + 1)]
    cdef int64_t tile = 0, index, buffer = SIDE * m * s.strip
    cdef int64_t left = chunk.column * m - c.pad_column, size = c.in_columns
    cdef int j
    if c.x_column != 1:
        left, size = 0, (chunk.columns + MAX_REACH + LANES) * m
    while tile < chunk.columns + (SIDE - 1) // m:
        for j in range(m):
            inside[tile // LANES * m + j] = vinside(left + tile * m + j * LANES, size)
        tile += LANES
    pack_channel(m, s, chunk, x, inside, line, packed)
    for index in range(c.channels * images):
        if index + 1 < c.channels * images:
            pack_channel(
                m, s, chunk, x + (index + 1) // images * c.x_channel + (index + 1) % images * c.x_image, inside, line,
                packed + (index + 1) % 2 * buffer,
            )
        transform_channel(
            m, s, chunk, packed + index % 2 * buffer,
            transformed + index // images * s.v_row + index % images * chunk.rows * chunk.columns,
        )


cdef inline void inverse_tiles(
    const int m, const real* products, int64_t point_step, int64_t width, vec bias, int64_t tiles_down,
    int64_t tiles_across, int64_t rows, int64_t columns, real* panel,
) noexcept nogil:
    """LANES filters, from [point][tile][width] to [pixel][LANES], `rows` × `columns` pixels."""
    cdef vec p[POINTS]
    cdef int64_t tile, row, column, down, across
    cdef int i
    for tile in range(tiles_down * tiles_across):
        row, column = tile // tiles_across * m, tile % tiles_across * m
        for i in range(POINTS):
            p[i] = vload(products + i * point_step + tile * width)
        for i in range(SIDE):
            output_transform(p + i, SIDE, m)
        for i in range(m):
            output_transform(p + i * SIDE, 1, m)
        for down in range(min(m, rows - row)):
            for across in range(min(m, columns - column)):
                vstore(
                    panel + ((row + down) * columns + column + across) * LANES, vadd(p[down * SIDE + across], bias)
                )


cdef inline void store_tiles(
    const int m, const WinogradSizes* s, const Chunk* chunk, const real* products, int64_t width, const real* bias,
    int64_t filters, real* panel, real* y, const real* residual,
) noexcept nogil:
    """Results of one image for one panel, a few rows and LANES filters at a time while they are near."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t lane = 0, row, rows, shift
    cdef Chunk pixels = chunk[0]
    pixels.columns = min(chunk.columns * m, s.y_columns - chunk.column * m)
    while lane < filters:
        row = 0
        while row < chunk.rows:
            rows = min(s.result_rows, chunk.rows - row)
            pixels.rows = min(rows * m, s.y_rows - (chunk.row + row) * m)
            inverse_tiles(
                m, products + row * chunk.columns * width + lane, s.chunk_tiles * width, width, vload(bias + lane),
                rows, chunk.columns, pixels.rows, pixels.columns, panel,
            )
            shift = lane * c.y_channel + row * m * c.y_row
            store_panel(c, panel, LANES, &pixels, min(filters - lane, LANES), y + shift)
            if c.has_residual or c.activation:
                finish(c, &pixels, min(filters - lane, LANES), residual + shift, y + shift)
            row += rows
        lane += LANES


cdef void winograd(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, transformed filters, bias padded to panels, [residual,] offset of each row of V, all twice."""
    if (<const WinogradSizes*> sizes).tile == 4:
        winograd_tasks(4, <const WinogradSizes*> sizes, arrays, first, last, scratch)
    else:
        winograd_tasks(2, <const WinogradSizes*> sizes, arrays, first, last, scratch)


cdef inline Chunk chunk_at(const WinogradSizes* s, int64_t index) noexcept nogil:
    """With depth innermost; the first of its images."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t depth = index % c.out_depth, place = index // c.out_depth, places = c.chunks_down * c.chunks_across
    cdef Chunk chunk = chunk_of(c, (place // places * c.out_depth + depth) * places + place % places)
    chunk.image *= s.chunk_images
    return chunk


cdef inline void winograd_tasks(
    const int m, const WinogradSizes* s, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef const int64_t* row = <const int64_t*> arrays[4 + c.has_residual]
    cdef const int64_t* rows
    cdef int64_t* tags = <int64_t*> scratch
    cdef real* packed = <real*> (scratch + TAG_BYTES)
    cdef real* transformed = packed + s.v_scratch
    cdef real* products = packed + s.m_scratch
    cdef int64_t panels = (c.filters + c.panel - 1) // c.panel
    cdef int64_t group_filters = (panels - 1) * c.panel + c.last_panel
    cdef int64_t task, first_panel, panel, filter, width, point, tiles, image, images, start
    cdef int64_t depth, turn, tap, begin, end, plane, slot, tag, point_rows = c.kernel_depth * c.channels
    cdef real zeros[MAX_PANEL]
    cdef const real* w
    cdef Chunk chunk
    memset(zeros, 0, sizeof(zeros))
    for task in range(first, last):
        chunk = chunk_at(s, task // c.chunk_tasks)
        images = min(s.chunk_images, s.images - chunk.image)
        tiles = chunk.rows * chunk.columns
        depth = chunk.depth * c.stride_depth - c.pad_depth
        turn = chunk.depth * c.stride_depth // c.dilation_depth     # a plane has the same slot for every output
        taps_inside(depth, depth, c.kernel_depth, c.dilation_depth, c.in_depth, &begin, &end)
        for tap in range(begin, end):
            plane, slot = depth + tap * c.dilation_depth, (turn + tap) % c.kernel_depth
            tag = task // c.chunk_tasks // c.out_depth * c.in_depth + plane + 1
            if tags[slot] != tag:
                transform_chunk(
                    m, s, &chunk, images,
                    <const real*> arrays[1] + chunk.image * c.x_image + chunk.group * c.channels * c.x_channel
                    + plane * c.x_depth,
                    packed, packed + s.line_scratch, transformed + slot * s.v_slot,
                )
                tags[slot] = tag
        rows = row + (turn + begin) % c.kernel_depth * c.channels
        first_panel = task % c.chunk_tasks * c.task_panels
        for panel in range(first_panel, min(first_panel + c.task_panels, panels)):
            filter = panel * c.panel
            width = c.panel if panel < panels - 1 else c.last_panel
            w = <const real*> arrays[2] + (chunk.group * group_filters + filter) * POINTS * point_rows
            w += begin * c.channels * width
            for point in range(POINTS):
                row_of_streamed_filters(
                    images * tiles, width, transformed + point * s.v_plane, rows, (end - begin) * c.channels,
                    w + point * point_rows * width, zeros, products + point * s.chunk_tiles * width,
                    w + (point + 1) * point_rows * width,
                )
            for image in range(images):
                start = (
                    (chunk.image + image) * c.y_image + (chunk.group * c.filters + filter) * c.y_channel
                    + chunk.depth * c.y_depth + chunk.row * m * c.y_row + chunk.column * m * c.y_column
                )
                store_tiles(
                    m, s, &chunk, products + image * tiles * width, width,
                    <const real*> arrays[3] + chunk.group * group_filters + filter, min(c.panel, c.filters - filter),
                    packed + c.panel_scratch, <real*> arrays[0] + start,
                    (<const real*> arrays[4] if c.has_residual else <const real*> arrays[0]) + start,
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
