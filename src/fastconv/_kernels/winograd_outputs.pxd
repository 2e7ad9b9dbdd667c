"""The output transform of Winograd convolution: lanes are filters; `winograd.pyx` draws the products."""

from libc.stdint cimport int64_t

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, finish, store_panel, vadd, vec, vload, vstore
from fastconv._kernels.winograd_transforms cimport (
    MAX_SIDE, Used, WinogradSizes, first_pixel, is_left_out, output_transform, used_tiles,
)  # fmt: skip
from fastconv._kernels.winograd_transposed cimport inverse_transposed

cdef struct Places:
    # Products of LANES filters: of all points but the last of an axis, of the last columns of points, rows, and both.
    const real* products
    const real* last_column
    const real* last_row
    const real* last
    int64_t point_step, step            # elements from point to point, and from tile to tile
    int64_t used_across                 # tiles to a row that have products at the last columns of points
    int64_t rows, columns               # of points that come before the last


cdef inline void rows_of_outputs(
    const int down, const int height, const int across, const int width, const int first, const Places* at,
    int64_t tile, int64_t last_tile, vec bias, int64_t rows, int64_t columns, int64_t spread, real* panel, int64_t pitch,
) noexcept nogil:
    """Every second row of outputs of a tile, of which `rows` × `columns` exist: so few that all stay in registers."""
    cdef vec column[MAX_SIDE]
    cdef vec row[3][MAX_SIDE]
    cdef const real* products
    cdef bint left_out
    cdef int i, j
    for j in range(across):
        left_out = is_left_out(across, j, at.columns)
        for i in range(down):
            if is_left_out(down, i, at.rows):
                products = at.last + last_tile if left_out else at.last_row + tile
            else:
                products = at.last_column + last_tile if left_out else at.products + tile
            column[i] = vload(products + (i * across + j) * at.point_step)
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


cdef inline void inverse_along(
    const int points, const int outputs, const WinogradSizes* s, const Places* at, vec bias, int64_t tiles_down,
    int64_t tiles_across, int64_t rows, int64_t columns, real* panel,
) noexcept nogil:
    """A form along both axes, or along the one that has points."""
    if s.points_down == s.points_across:
        inverse_tiles(
            points, outputs, points, outputs, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel
        )
    elif s.points_down == points:
        inverse_tiles(points, outputs, 1, 1, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    else:
        inverse_tiles(1, 1, points, outputs, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)


cdef inline void inverse_by_form(
    const WinogradSizes* s, const Places* at, vec bias, int64_t tiles_down, int64_t tiles_across, int64_t rows,
    int64_t columns, real* panel,
) noexcept nogil:
    cdef int64_t points = max(s.points_down, s.points_across), m = max(s.tile_rows, s.tile_columns)
    if points == 5 and m == 2:
        inverse_tiles(5, 2, 5, 2, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif points == 5:
        inverse_along(5, 3, s, at, bias, tiles_down, tiles_across, rows, columns, panel)
    elif points == 7:
        inverse_along(7, 4, s, at, bias, tiles_down, tiles_across, rows, columns, panel)
    elif points == 9:
        inverse_tiles(9, 4, 9, 4, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif points == 6 and m == 4:
        inverse_along(6, 4, s, at, bias, tiles_down, tiles_across, rows, columns, panel)
    elif points == 6:
        inverse_tiles(6, 2, 6, 2, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif m == 4:
        inverse_along(8, 4, s, at, bias, tiles_down, tiles_across, rows, columns, panel)
    elif m == 6:
        inverse_tiles(8, 6, 8, 6, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
    elif s.points_down == 8:
        inverse_tiles(8, 2, 1, 1, at, bias, tiles_down, tiles_across, s.spread_columns, rows, columns, panel)
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
    at.rows, at.columns = used.down, used.across
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
            if s.transposed:
                inverse_transposed(
                    s.transposed, at.products, at.point_step, at.step, vload(bias + lane), rows, chunk.columns, pixels.rows,
                    pixels.columns, panel,
                )
            else:
                inverse_by_form(
                    s, &at, vload(bias + lane), rows, chunk.columns, pixels.rows, pixels.columns, panel
                )
            shift = lane * c.y_channel + (first - first_pixel(s.tile_rows, s.spread_rows, chunk.row)) * s.y_row
            store_panel(c, panel, LANES, &pixels, min(filters - lane, LANES), y + shift)
            if c.has_residual or c.activation:
                finish(c, &pixels, min(filters - lane, LANES), residual + shift, y + shift)
            row += rows
        lane += LANES
