"""The input transform of Winograd convolution with tiles in the lanes; `winograd.pyx` draws the packed channel and V."""

from libc.stdint cimport int64_t

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport pack_row, real, split_phases, veven, vinside, vload_inside, vmask, vodd
from fastconv._kernels.tile cimport LANES, MAX_LANES, vec, vload, vset1, vstore
from fastconv._kernels.winograd_transforms cimport (
    MAX_COLUMNS, MAX_POINTS, MAX_REACH, MAX_TILE, WinogradSizes, first_pixel, input_of_blocks,
)  # fmt: skip

cdef extern from "simd.h" nogil:
    ctypedef int real_bits
    vec vshift(vec, vec)
    vec vpicked(vec, vec, const real_bits*)
    bint vis_all(vmask)
    void prefetch(const void*)


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
    if m == 3:
        for j in range(3):
            half[j] = third_of(value, thirds + j * 3 * LANES)
        for j in range(3):
            value[j] = half[j]
    elif m < 6 and spread == 1:
        split_phases(m, 1, value)
    elif m < 6:
        split_phases(m, 2, value)
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
            input_of_blocks(down, d + j, across)
        for i in range(rows):
            input_of_blocks(across, d + i * across, 1)
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
    if m == 3 or m == 6:
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


cdef inline void transform_along(
    const int points, const int outputs, const WinogradSizes* s, const Chunk* chunk, int64_t images, int64_t first,
    int64_t last, const real* x, const int64_t* rows, real* packed, real* line, real* transformed,
) noexcept nogil:
    """A form along both axes, or along the one that has points."""
    if s.points_down == s.points_across:
        transform_channels(
            points, outputs, points, outputs, s, chunk, images, first, last, x, rows, packed, line, transformed
        )
    elif s.points_down == points:
        transform_channels(points, outputs, 1, 1, s, chunk, images, first, last, x, rows, packed, line, transformed)
    else:
        transform_channels(1, 1, points, outputs, s, chunk, images, first, last, x, rows, packed, line, transformed)


cdef inline void transform_by_form(
    const WinogradSizes* s, const Chunk* chunk, int64_t images, int64_t first, int64_t last, const real* x,
    const int64_t* rows, real* packed, real* transformed,
) noexcept nogil:
    cdef real* line = packed + s.line_scratch
    cdef int64_t points = max(s.points_down, s.points_across), m = max(s.tile_rows, s.tile_columns)
    if points == 5:
        transform_along(5, 3, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif points == 7:
        transform_along(7, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif points == 6 and m == 4:
        transform_along(6, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif points == 6:
        transform_channels(6, 2, 6, 2, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif m == 4:
        transform_along(8, 4, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif m == 6:
        transform_channels(8, 6, 8, 6, s, chunk, images, first, last, x, rows, packed, line, transformed)
    elif s.points_down == 8:
        transform_channels(8, 2, 1, 1, s, chunk, images, first, last, x, rows, packed, line, transformed)
    else:
        transform_channels(1, 1, 8, 2, s, chunk, images, first, last, x, rows, packed, line, transformed)
