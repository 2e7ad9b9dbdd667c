"""The input transform of Winograd convolution with channels in the lanes; `winograd.pyx` draws V.

LANES channels of the map are turned, a few rows at a time, into a ring of rows:

    pixels[row of the padded chunk % points of a column][column of it][LANES]
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, MAX_LANES, vec, vload, vload_first, vset1, vstore, vtranspose
from fastconv._kernels.winograd_transforms cimport (
    MAX_SIDE, Used, WinogradSizes, input_transform, is_left_out, is_strided, used_tiles,
)  # fmt: skip

cdef struct Ring:
    real* pixels
    int64_t rows, pitch                 # how many rows, and elements of one
    int64_t slot, column                # where the next pixel goes
    int64_t first_column, last_column   # of a row that lie in the map; the others stay zero


cdef inline void advance(Ring* ring) noexcept nogil:
    """To the next pixel of the map."""
    ring.column += 1
    if ring.column == ring.last_column:
        ring.column = ring.first_column
        ring.slot = ring.slot + 1 if ring.slot + 1 < ring.rows else 0


cdef inline void turn_pixels(
    const real* x, int64_t x_channel, int64_t channels, int64_t count, Ring* ring
) noexcept nogil:
    """Neighbouring pixels of some channels, in squares of LANES × LANES."""
    cdef vec square[MAX_LANES]
    cdef int64_t pixel = 0, left
    cdef int i
    while pixel < count:
        left = min(count - pixel, LANES)
        for i in range(LANES):
            if left == LANES:
                square[i] = vload(x + min(i, channels - 1) * x_channel + pixel)
            else:
                square[i] = vload_first(x + min(i, channels - 1) * x_channel + pixel, <int> left)
        vtranspose(square)
        for i in range(LANES):
            if i >= left:
                break
            vstore(ring.pixels + ring.slot * ring.pitch + ring.column * LANES, square[i])
            advance(ring)
        pixel += LANES


cdef inline void gather_pixels(
    const real* x, int64_t x_channel, int64_t x_column, int64_t channels, int64_t count, Ring* ring
) noexcept nogil:
    """The same where channels, or neither channels nor pixels, are neighbours in memory."""
    cdef int64_t _pixel, channel
    cdef real* to
    for _pixel in range(count):
        to = ring.pixels + ring.slot * ring.pitch + ring.column * LANES
        if x_channel == 1:
            vstore(to, vload(x) if channels == LANES else vload_first(x, <int> channels))
        else:
            for channel in range(channels):
                to[channel] = x[channel * x_channel]
        advance(ring)
        x += x_column


cdef inline void turn_rows(
    const ConvSizes* c, int64_t top, int64_t left, int64_t first, int64_t last, int64_t channels, const real* x, Ring* ring
) noexcept nogil:
    """Rows of the padded chunk, whose first pixel is (top, left) of the map."""
    cdef int64_t row = first, columns = ring.last_column - ring.first_column, column, run
    while row < last:
        ring.slot, ring.column = row % ring.rows, ring.first_column
        if top + row < 0 or top + row >= c.in_rows or columns <= 0:
            for column in range(ring.pitch // LANES):
                vstore(ring.pixels + ring.slot * ring.pitch + column * LANES, vset1(0))
            row += 1
            continue
        run = 1
        if c.x_row == columns * c.x_column:
            run = min(last, c.in_rows - top) - row
        if c.x_column == 1:
            turn_pixels(
                x + (top + row) * c.x_row + left + ring.first_column, c.x_channel, channels, run * columns, ring
            )
        else:
            gather_pixels(
                x + (top + row) * c.x_row + (left + ring.first_column) * c.x_column, c.x_channel, c.x_column, channels,
                run * columns, ring,
            )
        row += run


cdef inline void rows_of_points(
    const int down, const int across, const int first, const int count, const real* const* row, int64_t used, real* v,
    real* v_last, int64_t v_plane,
) noexcept nogil:
    """`count` rows of the points of a tile; so few that all stay in registers, what they do not need is never computed.

    `v_last` is for the columns of the points from `used` on.
    """
    cdef vec column[MAX_SIDE]
    cdef vec points[2][MAX_SIDE]
    cdef int i, j
    for j in range(across):
        for i in range(down):
            column[i] = vload(row[i] + j * LANES)
        input_transform(down, column, 1)
        for i in range(count):
            points[i][j] = column[first + i]
    for i in range(count):
        input_transform(across, points[i], 1)
        for j in range(across):
            vstore(
                (v_last if is_left_out(across, j, used) else v) + ((first + i) * across + j) * v_plane, points[i][j]
            )


cdef inline void transform_lanes(
    const int down, const int height, const int across, const int width, const WinogradSizes* s, const Chunk* chunk,
    const Used* used, int64_t image, int64_t channels, const real* x, Ring* ring, real* transformed,
) noexcept nogil:
    """LANES channels of all tiles of an image.

    A tile whose last outputs lie outside has no product at the last points: its place is the next one's, or behind all.
    """
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t top = chunk.row * height - c.pad_row, left = chunk.column * width - c.pad_column
    cdef int64_t tile_row, _tile_column, done = 0, tile, last, unused = image * (chunk.rows - used.rows) * LANES
    cdef const real* row[MAX_SIDE]
    cdef real* to
    cdef real* to_last
    cdef int i, plain = down // 2, after        # which point is the first that takes odd rows as they are
    for tile_row in range(chunk.rows):
        turn_rows(c, top, left, done, tile_row * height + down, channels, x, ring)
        done = tile_row * height + down
        for i in range(down):
            row[i] = ring.pixels + (tile_row * height + i) % down * ring.pitch
        tile = (image * chunk.rows + tile_row) * chunk.columns * LANES
        last = (image * chunk.rows + tile_row) * used.columns * LANES
        for _tile_column in range(chunk.columns):
            to, to_last = transformed + tile, transformed + last
            if is_strided(down):
                rows_of_points(down, across, 0, 2, row, used.across, to, to_last, s.v_plane)
                if down == 9:
                    rows_of_points(down, across, 2, 2, row, used.across, to, to_last, s.v_plane)
                for i in range(s.tile_rows):
                    after = (plain + i) * across
                    if plain + i == used.down and tile_row == used.rows:
                        break
                    if plain + i == used.down:
                        to, to_last = to - unused * chunk.columns, to_last - unused * used.columns
                    rows_of_points(
                        1, across, 0, 1, row + 2 * i + 1, used.across, to + after * s.v_plane, to_last + after * s.v_plane,
                        s.v_plane,
                    )
            elif down > 1:
                rows_of_points(down, across, 0, 1, row, used.across, to, to_last, s.v_plane)
                rows_of_points(down, across, 1, 2, row, used.across, to, to_last, s.v_plane)
                rows_of_points(down, across, 3, 2, row, used.across, to, to_last, s.v_plane)
            if down == 8:
                rows_of_points(down, across, 5, 2, row, used.across, to, to_last, s.v_plane)
            if tile_row < used.rows:
                if not is_strided(down):
                    to, to_last = to - unused * chunk.columns, to_last - unused * used.columns
                rows_of_points(down, across, down - 1, 1, row, used.across, to, to_last, s.v_plane)
            tile += LANES
            last += LANES
            for i in range(down):
                row[i] += width * LANES


cdef inline void transform_channels_in_lanes(
    const int down, const int height, const int across, const int width, const WinogradSizes* s, const Chunk* chunk,
    int64_t images, int64_t first, int64_t last, const real* x, const int64_t* rows, real* pixels, real* transformed,
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t left = chunk.column * width - c.pad_column, columns = chunk.columns * width + across - width
    cdef int64_t image, channel = first
    cdef Used used = used_tiles(s, chunk)
    cdef Ring ring
    ring.pixels, ring.rows, ring.pitch = pixels, down, columns * LANES
    ring.first_column, ring.last_column = max(0, -left), min(columns, c.in_columns - left)
    memset(pixels, 0, down * columns * LANES * sizeof(real))
    while channel < last:
        for image in range(images):
            transform_lanes(
                down, height, across, width, s, chunk, &used, image, min(last - channel, LANES),
                x + channel * c.x_channel + image * c.x_image, &ring, transformed + rows[channel],
            )
        channel += LANES


cdef inline void transform_lanes_by_form(
    const WinogradSizes* s, const Chunk* chunk, int64_t images, int64_t first, int64_t last, const real* x,
    const int64_t* rows, real* pixels, real* transformed,
) noexcept nogil:
    cdef int64_t down = s.points_down, across = s.points_across, m = s.tile_columns
    if down == 5:
        transform_channels_in_lanes(5, 4, 5, 4, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 9:
        transform_channels_in_lanes(9, 8, 9, 8, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 6 and across == 6 and m == 4:
        transform_channels_in_lanes(6, 4, 6, 4, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 6 and across == 6:
        transform_channels_in_lanes(6, 2, 6, 2, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 8 and across == 8 and m == 4:
        transform_channels_in_lanes(8, 4, 8, 4, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 8 and across == 8:
        transform_channels_in_lanes(8, 6, 8, 6, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 6:
        transform_channels_in_lanes(6, 4, 1, 1, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif down == 8:
        transform_channels_in_lanes(
            8, <int> s.tile_rows, 1, 1, s, chunk, images, first, last, x, rows, pixels, transformed
        )
    elif across == 6:
        transform_channels_in_lanes(1, 1, 6, 4, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif m == 4:
        transform_channels_in_lanes(1, 1, 8, 4, s, chunk, images, first, last, x, rows, pixels, transformed)
    else:
        transform_channels_in_lanes(1, 1, 8, 2, s, chunk, images, first, last, x, rows, pixels, transformed)
