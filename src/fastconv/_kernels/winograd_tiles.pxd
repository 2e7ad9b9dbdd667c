"""The input and output transforms of Winograd convolution for a chunk of tiles; `winograd.pyx` draws the arrays."""

from libc.math cimport M_SQRT2
from libc.stdint cimport int64_t

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport pack_row, real, split_phases, veven, vinside, vload_inside, vmask, vodd
from fastconv._kernels.tile cimport LANES, MAX_LANES, finish, store_panel, vadd, vec, vload, vmuladd, vset1, vstore

cdef extern from "simd.h" nogil:
    vec vsub(vec, vec)
    vec vmul(vec, vec)
    vec vshift(vec, vec)
    vec veven_pairs(vec, vec)
    vec vodd_pairs(vec, vec)
    ctypedef int real_bits
    vec vpicked(vec, vec, const real_bits*)
    bint vis_all(vmask)
    void prefetch(const void*)

cdef enum:
    MAX_SIDE = 8            # points of one axis
    MAX_POINTS = MAX_SIDE * MAX_SIDE
    MAX_TILE = 6            # outputs of one axis
    MAX_COLUMNS = 32        # tiles across a chunk
    MAX_REACH = 3           # tiles that a tile's columns reach beyond it

cdef struct WinogradSizes:
    ConvSizes chunks                    # of tiles: kernels of as many taps as points; its images are blocks of `chunk_images`
    int64_t points_down, points_across  # of the form of each axis, 1: not transformed
    int64_t tile_rows, tile_columns     # output pixels of a tile
    int64_t spread_rows, spread_columns     # dilation: pixels from one row or column of a tile to the next
    int64_t y_rows, y_columns           # output pixels
    int64_t y_row                       # elements from one to the next; that of `chunks` is for the rows of a tile
    int64_t images, chunk_images
    int64_t strip                       # elements of one column and row phase of the packed channel
    int64_t chunk_tiles                 # of all images of a full chunk
    int64_t v_plane, v_chunk            # elements of one point of V, and of all
    int64_t whole_chunks, task_chunks   # chunks that are not cut, and how many make a task
    int64_t cut_chunks                  # those that come after them
    int64_t pieces, piece_channels      # in which all threads transform a cut chunk's channels; 0: each its own tiles
    int64_t whole_panels                # panels of shared inputs that are a task each; the others are cut
    int64_t bands, bands_across         # parts of the tiles, and whether they are columns of a chunk, not rows
    int64_t channel_lanes               # lanes of the input transform are channels, not tiles
    int64_t result_rows                 # rows of tiles whose results are made, and stored, at a time
    int64_t line_scratch, v_scratch, m_scratch      # elements of the scratch where they start

cdef struct Used:
    int64_t rows, columns               # of the chunk's tiles that have products at the last points


cdef struct Places:
    # Products of LANES filters: of all points but the last of an axis, of the last column of points, row, and both.
    const real* products
    const real* last_column
    const real* last_row
    const real* last
    int64_t point_step, step            # elements from point to point, and from tile to tile
    int64_t used_across                 # tiles to a row that have products at the last column of points


cdef inline Used used_tiles(const WinogradSizes* s, const Chunk* chunk) noexcept nogil:
    """The last point of an axis, infinity, contributes to the last output of a tile alone."""
    cdef Used used
    used.rows, used.columns = chunk.rows, chunk.columns
    if s.channel_lanes:
        used.rows -= (chunk.row + chunk.rows) * s.tile_rows > s.y_rows
        used.columns -= (chunk.column + chunk.columns) * s.tile_columns > s.y_columns
    return used


cdef inline void input_transform(const int points, vec* d, const int stride) noexcept nogil:
    """As many values as points, `stride` apart, by the rows of Bᵀ: the polynomial's values at the points."""
    if points == 6:
        input_at_6_points(d, stride)
    elif points == 8:
        input_at_8_points(d, stride)


cdef inline void output_transform(const int points, const int outputs, vec* p, const int stride) noexcept nogil:
    """Products at all points, `stride` apart, by the rows of Aᵀ, into the first `outputs` of them."""
    if points == 6:
        output_of_6_points(p, stride, outputs)
    elif points == 8:
        output_of_8_points(p, stride, outputs)


cdef inline void input_at_6_points(vec* d, const int stride) noexcept nogil:
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


cdef inline void input_at_8_points(vec* d, const int stride) noexcept nogil:
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d5 = d[5 * stride]
    cdef vec d6 = d[6 * stride]
    cdef vec even, odd
    d[0] = vmuladd(vsub(d6, d[0]), vset1(5.25), vsub(d2, d4))
    d[7 * stride] = vmuladd(vsub(d[7 * stride], d1), vset1(5.25), vsub(d3, d5))
    even = vmuladd(vmuladd(d6, vset1(4), d2), vset1(-5), d4)
    odd = vmuladd(vmuladd(vmul(vset1(0.5), d5), vset1(2), d1), vset1(-2.5), d3)
    d[stride] = vadd(even, odd)
    d[2 * stride] = vsub(even, odd)
    even = vmuladd(vadd(d2, d6), vset1(-4.25), d4)
    odd = vmuladd(vadd(d1, d5), vset1(-4.25), d3)
    d[3 * stride] = vadd(even, odd)
    d[4 * stride] = vsub(even, odd)
    even = vmuladd(vmuladd(d6, vset1(0.25), d2), vset1(-1.25), d4)
    odd = vmuladd(vmuladd(vmul(vset1(0.5), d1), vset1(2), d5), vset1(-2.5), d3)
    d[5 * stride] = vadd(even, odd)
    d[6 * stride] = vsub(even, odd)


cdef inline void output_of_6_points(vec* p, const int stride, const int outputs) noexcept nogil:
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


cdef inline void output_of_8_points(vec* p, const int stride, const int outputs) noexcept nogil:
    cdef vec low_even = vadd(p[stride], p[2 * stride])
    cdef vec low_odd = vsub(p[stride], p[2 * stride])
    cdef vec one_even = vadd(p[3 * stride], p[4 * stride])
    cdef vec one_odd = vsub(p[3 * stride], p[4 * stride])
    cdef vec high_even = vadd(p[5 * stride], p[6 * stride])
    cdef vec high_odd = vsub(p[5 * stride], p[6 * stride])
    cdef vec last = p[7 * stride]
    cdef int i
    p[0] = vadd(vadd(p[0], low_even), vadd(one_even, high_even))
    for i in range(1, outputs):
        if i == outputs - 1:
            one_odd = vadd(one_odd, last)
        if i % 2:
            p[i * stride] = vmuladd(vmuladd(one_odd, vset1(1.0 / (1 << i)), low_odd), vset1(1 << i), high_odd)
        else:
            p[i * stride] = vmuladd(vmuladd(one_even, vset1(1.0 / (1 << i)), low_even), vset1(1 << i), high_even)


cdef inline int64_t first_pixel(int64_t m, int64_t spread, int64_t tile) noexcept nogil:
    """Where a tile begins: so many tiles interleave as their pixels are apart, and m times as many pixels are theirs."""
    return tile * m if spread == 1 else tile // spread * m * spread + tile % spread


cdef inline void pack_register(
    const int points, const int m, int64_t spread, const real* x, const vmask* inside, const real_bits* thirds, int64_t tile,
    int64_t step, real* packed,
) noexcept nogil:
    """One row of up to LANES tiles, from `tile` on: their columns, one for each point, `step` apart."""
    cdef vec value[MAX_TILE]
    cdef vec half[MAX_TILE]
    cdef int j, shift, _lane
    for j in range(m):
        if vis_all(inside[j]):
            value[j] = vload(x + j * LANES)
        else:
            value[j] = vload_inside(x + j * LANES, inside[j])
    if m < 6 and spread == 1:
        split_phases(m, value)
    elif m < 6:
        split_pairs(m, value)
    else:
        for j in range(3):
            half[j], half[j + 3] = veven(value[2 * j], value[2 * j + 1]), vodd(value[2 * j], value[2 * j + 1])
        for j in range(3):
            value[2 * j] = third_of(half, thirds + j * 3 * LANES)
            value[2 * j + 1] = third_of(half + 3, thirds + j * 3 * LANES)
    for j in range(m):
        vstore(packed + j * step + tile, value[j])
    for j in range(m, points):      # what is the next tile's column j - m: a register's own, moved down
        shift = j // m * <int> spread
        if tile >= shift:
            vstore(packed + j * step + tile - shift, value[j % m])
        else:
            half[0] = value[j % m]
            for _lane in range(shift - <int> tile):
                half[0] = vshift(half[0], half[0])
            vstore(packed + j * step, half[0])


cdef inline void split_pairs(const int m, vec* value) noexcept nogil:
    """Neighbouring pairs of lanes to registers of every m-th pair."""
    cdef vec half[4]
    if m == 2:
        half[0], half[1] = veven_pairs(value[0], value[1]), vodd_pairs(value[0], value[1])
        value[0], value[1] = half[0], half[1]
    elif m == 4:
        half[0], half[1] = veven_pairs(value[0], value[1]), veven_pairs(value[2], value[3])
        half[2], half[3] = vodd_pairs(value[0], value[1]), vodd_pairs(value[2], value[3])
        value[0], value[2] = veven_pairs(half[0], half[1]), vodd_pairs(half[0], half[1])
        value[1], value[3] = veven_pairs(half[2], half[3]), vodd_pairs(half[2], half[3])


cdef inline vec third_of(const vec* value, const real_bits* pick) noexcept nogil:
    """One of every three elements of three registers."""
    return vpicked(vpicked(vpicked(value[0], value[0], pick), value[1], pick + LANES), value[2], pick + 2 * LANES)


cdef inline void find_thirds(real_bits* pick) noexcept nogil:
    """What `vpicked` takes from each of three registers [first][register][lane], for elements first + 3 · lane of all."""
    cdef int first, register, lane, at
    for first in range(3):
        for register in range(3):
            for lane in range(LANES):
                at = first + 3 * lane - register * LANES
                pick[lane] = lane
                if 0 <= at < LANES:
                    pick[lane] = <real_bits> (-1 << 30) * 2 | (at + LANES)
            pick += LANES


cdef inline void pack_channel(
    const int down, const int height, const int points, const int m, const WinogradSizes* s, const Chunk* chunk,
    const real* x, const vmask* inside, const real_bits* thirds, real* line, real* packed,
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t lag = row_lag(s, chunk), slot, row, phase, phases = height
    for slot in range(chunk.rows + lag * ((down - 1) // height)):
        if slot < chunk.rows:
            row = first_pixel(height, s.spread_rows, chunk.row + slot)
        else:       # what tiles reach beyond them
            row = (slot - chunk.rows) // lag + 1
            phases = min(height, down - row * height)
            row = row * height * s.spread_rows + first_pixel(
                height, s.spread_rows, chunk.row + chunk.rows - lag + (slot - chunk.rows) % lag
            )
        for phase in range(phases):
            pack_tiles(
                points, m, s, chunk, x, row + phase * s.spread_rows - c.pad_row, inside, thirds, line, height * s.strip,
                packed + phase * s.strip + slot * chunk.columns,
            )


cdef inline int64_t row_lag(const WinogradSizes* s, const Chunk* chunk) noexcept nogil:
    """Tiles down to the one that begins where a tile of the chunk's ends."""
    return min(s.spread_rows, chunk.rows)


cdef inline void pack_tiles(
    const int points, const int m, const WinogradSizes* s, const Chunk* chunk, const real* x, int64_t row,
    const vmask* inside, const real_bits* thirds, real* line, int64_t step, real* packed,
) noexcept nogil:
    """One row of the input, which may be padding, for one row of tiles."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t left = chunk.column * m - c.pad_column, tile = 0, lane, spread = s.spread_columns
    cdef int64_t slots = chunk.columns + (points - 1) // m * spread
    cdef int j
    if row < 0 or row >= c.in_rows:
        while tile < chunk.columns:
            for j in range(points):
                vstore(packed + j * step + tile, vset1(0))
            tile += LANES
        return
    x += row * c.x_row
    if spread > 2 or spread == 2 and (m > 4 or LANES == 2):
        pack_row(x, c.x_column, left, 1, c.in_columns, (slots + spread) * m, line)
        while tile < chunk.columns:
            for j in range(points):
                lane = 0
                while lane < spread:
                    vstore(packed + j * step + tile + lane, vload(line + tile * m + j * spread + lane))
                    lane += LANES
            tile += spread
        return
    if c.x_column == 1:
        x += left
    else:
        pack_row(x, c.x_column, left, 1, c.in_columns, slots * m, line)
        x = line
    while tile < slots:
        for j in range(m):
            prefetch(x + tile * m + j * LANES + 2 * c.x_channel)
        pack_register(points, m, spread, x + tile * m, inside + tile // LANES * m, thirds, tile, step, packed)
        tile += LANES


cdef inline int loops_of(const int count, const int points, int64_t hidden) noexcept nogil:
    """As many loops, unknown to the compiler where it would unroll too much: at so many points of a tile."""
    return <int> hidden if points == MAX_POINTS else count


cdef inline void transform_channel(
    const int down, const int height, const int across, const WinogradSizes* s, const Chunk* chunk, const real* packed,
    real* transformed,
) noexcept nogil:
    cdef vec d[MAX_POINTS]
    cdef int64_t tile = 0
    cdef int rows = loops_of(down, down * across, s.points_down)
    cdef int columns = loops_of(across, down * across, s.points_across)
    cdef int64_t lag = row_lag(s, chunk) * chunk.columns
    cdef int i, j
    while tile < chunk.rows * chunk.columns:
        for i in range(rows):
            for j in range(columns):
                d[i * across + j] = vload(
                    packed + (j * height + i % height) * s.strip + i // height * lag + tile
                )
        for j in range(columns):
            input_transform(down, d + j, across)
        for i in range(rows):
            input_transform(across, d + i * across, 1)
        for i in range(rows * columns):
            vstore(transformed + i * s.v_plane + tile, d[i])
        tile += LANES


cdef inline void transform_channels(
    const int down, const int height, const int across, const int m, const WinogradSizes* s, const Chunk* chunk, int64_t images,
    int64_t first, int64_t last, const real* x, const int64_t* rows, real* packed, real* line, real* transformed,
) noexcept nogil:
    """The next channel is packed before one is transformed: what has just been stored in pieces is slow to load."""
    cdef const ConvSizes* c = &s.chunks
    cdef vmask inside[MAX_TILE * (MAX_COLUMNS + MAX_REACH + 1)]
    cdef real_bits thirds[9 * MAX_LANES]
    cdef int64_t tile = 0, channel = first, image = 0
    cdef real* other = packed + across * height * s.strip
    cdef real* to = NULL
    cdef bint more
    cdef int64_t left = chunk.column * m - c.pad_column, size = c.in_columns
    cdef int i
    if m == 6:
        find_thirds(thirds)
    if c.x_column != 1:
        left, size = 0, (chunk.columns + 2 * MAX_REACH + LANES) * m
    while s.spread_columns <= 2 and tile < chunk.columns + (across - 1) // m * s.spread_columns:
        for i in range(m):
            inside[tile // LANES * m + i] = vinside(left + tile * m + i * LANES, size)
        tile += LANES
    while True:
        more = channel < last
        if more:
            pack_channel(
                down, height, across, m, s, chunk, x + channel * c.x_channel + image * c.x_image, inside, thirds, line, packed
            )
        if to:
            transform_channel(down, height, across, s, chunk, other, to)
        if not more:
            return
        to = transformed + rows[channel] + image * chunk.rows * chunk.columns
        packed, other = other, packed
        image += 1
        if image == images:
            image = 0
            channel += 1


cdef inline void transform_by_form(
    const WinogradSizes* s, const Chunk* chunk, int64_t images, int64_t first, int64_t last, const real* x,
    const int64_t* rows, real* packed, real* transformed,
) noexcept nogil:
    cdef real* line = packed + s.line_scratch
    cdef int64_t down = s.points_down, across = s.points_across, m = s.tile_columns
    if down == 6 and across == 6 and m == 4:
        transform_channels(6, 4, 6, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif down == 6 and across == 6:
        transform_channels(6, 2, 6, 2, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif down == 8 and across == 8 and m == 4:
        transform_channels(8, 4, 8, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif down == 8 and across == 8:
        transform_channels(8, 6, 8, 6, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif down == 6:
        transform_channels(6, 4, 1, 1, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif down == 8 and s.tile_rows == 4:
        transform_channels(8, 4, 1, 1, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif down == 8:
        transform_channels(8, 2, 1, 1, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif across == 6:
        transform_channels(1, 1, 6, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif m == 4:
        transform_channels(1, 1, 8, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    else:
        transform_channels(1, 1, 8, 2, s, chunk, images, first, last, x, rows, packed, line, transformed)


cdef inline void rows_of_outputs(
    const int down, const int height, const int across, const int width, const int first, const Places* at,
    int64_t tile, int64_t last_tile, vec bias, int64_t rows, int64_t columns, int64_t spread, real* panel, int64_t pitch,
) noexcept nogil:
    """Every second row of outputs of a tile, of which `rows` × `columns` exist: so few that all stay in registers."""
    cdef vec column[MAX_SIDE]
    cdef vec row[3][MAX_SIDE]
    cdef const real* products
    cdef int i, j
    for j in range(across):
        products = at.products + tile if j < across - 1 else at.last_column + last_tile
        for i in range(down - 1):
            column[i] = vload(products + (i * across + j) * at.point_step)
        products = at.last_row + tile if j < across - 1 else at.last + last_tile
        column[down - 1] = vload(products + ((down - 1) * across + j) * at.point_step)
        output_transform(down, height, column, 1)
        for i in range((height - first + 1) // 2):
            row[i][j] = column[first + 2 * i]
    for i in range((height - first + 1) // 2):
        if first + 2 * i >= rows:
            break
        output_transform(across, width, row[i], 1)
        for j in range(width):
            if j * spread >= columns:
                break
            vstore(panel + (first + 2 * i) * pitch + j * spread * LANES, vadd(row[i][j], bias))


cdef inline void inverse_tiles(
    const int down, const int height, const int across, const int width, const Places* at, vec bias, int64_t tiles_down,
    int64_t tiles_across, int64_t spread, int64_t rows, int64_t columns, real* panel,
) noexcept nogil:
    """LANES filters, from [point][tile][panel width] to [pixel][LANES], `rows` × `columns` pixels."""
    cdef int64_t y, x, tile, last_tile, left, pitch = columns * LANES
    cdef real* to
    for y in range(tiles_down):
        for x in range(tiles_across):
            tile, last_tile = (y * tiles_across + x) * at.step, (y * at.used_across + x) * at.step
            left = first_pixel(width, spread, x)
            to = panel + (y * height * columns + left) * LANES
            rows_of_outputs(
                down, height, across, width, 0, at, tile, last_tile, bias, rows - y * height, columns - left, spread, to, pitch
            )
            if height > 1:
                rows_of_outputs(
                    down, height, across, width, 1, at, tile, last_tile, bias, rows - y * height, columns - left, spread, to,
                    pitch,
                )


cdef inline void inverse_by_form(
    const WinogradSizes* s, const Places* at, vec bias, int64_t tiles_down, int64_t tiles_across, int64_t rows,
    int64_t columns, real* panel,
) noexcept nogil:
    cdef int64_t down = s.points_down, across = s.points_across
    if down == 6 and across == 6 and s.tile_rows == 4:
        inverse_tiles(6, 4, 6, 4, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif down == 6 and across == 6:
        inverse_tiles(6, 2, 6, 2, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif down == 8 and across == 8 and s.tile_rows == 4:
        inverse_tiles(8, 4, 8, 4, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif down == 8 and across == 8:
        inverse_tiles(8, 6, 8, 6, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif down == 6:
        inverse_tiles(6, 4, 1, 1, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif down == 8 and s.tile_rows == 4:
        inverse_tiles(8, 4, 1, 1, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif down == 8:
        inverse_tiles(8, 2, 1, 1, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif across == 6:
        inverse_tiles(1, 1, 6, 4, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif s.tile_columns == 4:
        inverse_tiles(1, 1, 8, 4, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    else:
        inverse_tiles(1, 1, 8, 2, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)


cdef inline void store_tiles(
    const WinogradSizes* s, const Chunk* chunk, int64_t image, const real* products, int64_t width, const real* bias,
    int64_t filters, real* panel, real* y, const real* residual,
) noexcept nogil:
    """Results of one image for one panel, a few rows and LANES filters at a time while they are near."""
    cdef const ConvSizes* c = &s.chunks
    cdef Used used = used_tiles(s, chunk)
    cdef Places at
    cdef int64_t lane = 0, row, rows, first, shift
    cdef Chunk pixels = chunk[0]
    pixels.columns = min(chunk.columns * s.tile_columns, s.y_columns - chunk.column * s.tile_columns)
    at.point_step, at.step, at.used_across = s.chunk_tiles * width, width, used.columns
    while lane < filters:
        row = 0
        while row < chunk.rows:
            rows = min(s.result_rows, chunk.rows - row)
            first = first_pixel(s.tile_rows, s.spread_rows, chunk.row + row)
            pixels.rows = min(rows * s.tile_rows, (s.y_rows - first + s.spread_rows - 1) // s.spread_rows)
            at.products = products + (image * chunk.rows + row) * chunk.columns * width + lane
            at.last_column = products + (image * chunk.rows + row) * used.columns * width + lane
            at.last_row = products + (image * used.rows + row) * chunk.columns * width + lane
            at.last = products + (image * used.rows + row) * used.columns * width + lane
            inverse_by_form(
                s, &at, vload(bias + lane), rows, chunk.columns, pixels.rows, pixels.columns, panel
            )
            shift = lane * c.y_channel + (first - first_pixel(s.tile_rows, s.spread_rows, chunk.row)) * s.y_row
            store_panel(c, panel, LANES, &pixels, min(filters - lane, LANES), y + shift)
            if c.has_residual or c.activation:
                finish(c, &pixels, min(filters - lane, LANES), residual + shift, y + shift)
            row += rows
        lane += LANES
