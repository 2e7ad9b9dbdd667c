"""The input and output transforms of Winograd convolution for a chunk of tiles; `winograd.pyx` draws the arrays."""

from libc.math cimport M_SQRT2
from libc.stdint cimport int64_t

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport pack_row, real, veven, vinside, vload_inside, vmask, vodd
from fastconv._kernels.tile cimport LANES, finish, store_panel, vadd, vec, vload, vmuladd, vset1, vstore

cdef extern from "simd.h" nogil:
    vec vsub(vec, vec)
    vec vmul(vec, vec)
    vec vshift(vec, vec)
    bint vis_all(vmask)
    void prefetch(const void*)

cdef enum:
    SIDE = 6                # points of one dimension
    POINTS = SIDE * SIDE
    MAX_COLUMNS = 32        # tiles across a chunk
    MAX_REACH = 2           # tiles that a tile's columns reach beyond it

cdef struct WinogradSizes:
    ConvSizes chunks                    # of tiles: kernel 6×6, stride m; its images are blocks of `chunk_images`
    int64_t tile                        # m: output pixels along one side of a tile
    int64_t y_rows, y_columns           # output pixels
    int64_t images, chunk_images
    int64_t strip                       # elements of one column and row phase of the packed channel
    int64_t chunk_tiles                 # of all images of a full chunk
    int64_t v_plane, v_chunk            # elements of one point of V, and of all
    int64_t whole_chunks, task_chunks   # chunks that are not cut, and how many make a task
    int64_t cut_chunks                  # those that come after them
    int64_t pieces, piece_channels      # in which all threads transform a cut chunk's channels; 0: each its own tiles
    int64_t whole_panels                # panels of shared inputs that are a task each; the others are cut
    int64_t bands, bands_across         # parts of the tiles, and whether they are columns of a chunk, not rows
    int64_t result_rows                 # rows of tiles whose results are made, and stored, at a time
    int64_t line_scratch, v_scratch, m_scratch      # elements of the scratch where they start


cdef inline void input_transform(vec* d, const int stride) noexcept nogil:
    """Six values, `stride` apart, by the rows of Bᵀ: the polynomial's values at the points."""
    cdef vec half_root = vset1(<real> (0.5 * M_SQRT2))
    cdef vec root = vset1(<real> M_SQRT2)
    cdef vec d0 = d[0]
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d5 = d[5 * stride]
    cdef vec even, odd
    d[0] = vmuladd(vadd(d0, d4), vset1(-2.5), d2)
    even = vmuladd(d4, vset1(-2), d2)
    odd = vmuladd(vmul(half_root, d3), vset1(<real> -M_SQRT2), d1)
    d[stride] = vadd(even, odd)
    d[2 * stride] = vsub(even, odd)
    even = vmuladd(d4, vset1(-0.5), d2)
    odd = vmuladd(vmul(root, d3), vset1(<real> (-0.5 * M_SQRT2)), d1)
    d[3 * stride] = vadd(even, odd)
    d[4 * stride] = vsub(even, odd)
    d[5 * stride] = vmuladd(vadd(d1, d5), vset1(-2.5), d3)


cdef inline void output_transform(vec* p, const int stride, const int outputs) noexcept nogil:
    """Six products, `stride` apart, by the rows of Aᵀ, into the first `outputs` of them."""
    cdef vec root = vset1(<real> M_SQRT2)
    cdef vec half_root = vset1(<real> (0.5 * M_SQRT2))
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
        vmuladd(last, vset1(<real> (0.25 * M_SQRT2)), low_odd), vset1(<real> (2 * M_SQRT2)), high_odd
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


cdef inline void transform_channels(
    const int m, const WinogradSizes* s, const Chunk* chunk, int64_t images, int64_t first, int64_t last, const real* x,
    const int64_t* rows, real* packed, real* line, real* transformed,
) noexcept nogil:
    """The next channel is packed before one is transformed: what has just been stored in pieces is slow to load."""
    cdef const ConvSizes* c = &s.chunks
    cdef vmask inside[4 * (MAX_COLUMNS + MAX_REACH + 1)]
    cdef int64_t tile = 0, index, next_index, buffer = SIDE * m * s.strip
    cdef int64_t left = chunk.column * m - c.pad_column, size = c.in_columns
    cdef int j
    if c.x_column != 1:
        left, size = 0, (chunk.columns + MAX_REACH + LANES) * m
    while tile < chunk.columns + (SIDE - 1) // m:
        for j in range(m):
            inside[tile // LANES * m + j] = vinside(left + tile * m + j * LANES, size)
        tile += LANES
    pack_channel(m, s, chunk, x + first * c.x_channel, inside, line, packed)
    for index in range(first * images, last * images):
        next_index = index + 1
        if next_index < last * images:
            pack_channel(
                m, s, chunk, x + next_index // images * c.x_channel + next_index % images * c.x_image, inside, line,
                packed + (next_index - first * images) % 2 * buffer,
            )
        transform_channel(
            m, s, chunk, packed + (index - first * images) % 2 * buffer,
            transformed + rows[index // images] + index % images * chunk.rows * chunk.columns,
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
