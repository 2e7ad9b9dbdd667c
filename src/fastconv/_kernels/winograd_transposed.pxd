"""Winograd's transforms for a transposed convolution with a stride of 2: lanes are channels, then filters.

Every second row and column of the output, a phase, is a convolution of its own, with every second tap.  A tile has PHASE
outputs of each phase along an axis, neighbours in the output; its points are those of the first phase and then those of the
second, which read the same values, the second perhaps from the next value on.  A phase of two taps has F(4, 2), at ±½,
±5/4 and ∞; one of a single tap takes its values as they are.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, vadd, vec, vload, vstore
from fastconv._kernels.winograd_channels cimport Ring, turn_rows
from fastconv._kernels.winograd_transforms cimport (
    WinogradSizes, input_at_5_points_of_stride_1, output_of_5_points_of_stride_1,
)  # fmt: skip

cdef enum:
    PHASE = 4               # outputs
    PHASE_POINTS = 5        # of two taps, and values that they come from; PHASE of one tap
    MAX_VALUES = 6          # of an axis of a tile

cdef enum Layout:           # of the points of an axis: `ops/winograd_forms.py` has the same numbers
    NOT_TRANSPOSED
    PAIRS_APART             # both phases have two taps, the second begins one value later
    PAIRS                   # or at the same value
    SINGLE_FIRST            # the first phase has a single tap


cdef inline void input_of_phase(const int points, const vec* d, vec* v) noexcept nogil:
    """Values to points."""
    cdef int i
    for i in range(points):
        v[i] = d[i]
    if points == PHASE_POINTS:
        input_at_5_points_of_stride_1(v, 1)


cdef inline void output_of_phase(const int points, vec* p) noexcept nogil:
    """Products at the points to PHASE outputs, in their place."""
    if points == PHASE_POINTS:
        output_of_5_points_of_stride_1(p, 1, PHASE)


cdef inline void rows_of_phase(
    const int points, const int first, const int count, const int left, const int right, const int apart,
    const real* const* row, real* v, int64_t v_plane,
) noexcept nogil:
    """`count` rows of the points of a phase of rows; so few that all stay in registers.

    The phases of columns have `left` and `right` points, the second `apart` values later.
    """
    cdef vec column[PHASE_POINTS]
    cdef vec transformed[PHASE_POINTS]
    cdef vec values[2][MAX_VALUES]
    cdef int i, j, wide = max(left, right + apart)
    for j in range(wide):
        for i in range(points):
            column[i] = vload(row[i] + j * LANES)
        input_of_phase(points, column, transformed)
        for i in range(count):
            values[i][j] = transformed[first + i]
    for i in range(count):
        input_of_phase(left, values[i], transformed)
        for j in range(left):
            vstore(v + ((first + i) * (left + right) + j) * v_plane, transformed[j])
        input_of_phase(right, values[i] + apart, transformed)
        for j in range(right):
            vstore(v + ((first + i) * (left + right) + left + j) * v_plane, transformed[j])


cdef inline void points_of_phase(
    const int points, const int left, const int right, const int apart, const real* const* row, real* v, int64_t v_plane
) noexcept nogil:
    rows_of_phase(points, 0, 2, left, right, apart, row, v, v_plane)
    rows_of_phase(points, 2, 2, left, right, apart, row, v, v_plane)
    if points == PHASE_POINTS:
        rows_of_phase(points, 4, 1, left, right, apart, row, v, v_plane)


cdef inline void transform_image(
    const int left, const int right, const int apart, const WinogradSizes* s, const Chunk* chunk, int64_t image,
    int64_t channels, const real* x, Ring* ring, real* transformed,
) noexcept nogil:
    """LANES channels of all tiles of an image; rows have the same phases as columns."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t top = chunk.row * PHASE - c.pad_row, first_column = chunk.column * PHASE - c.pad_column
    cdef int64_t tile_row, _tile_column, done = 0
    cdef const real* row[MAX_VALUES]
    cdef real* to = transformed + image * chunk.rows * chunk.columns * LANES
    cdef int i, high = max(left, right + apart)
    for tile_row in range(chunk.rows):
        turn_rows(c, top, first_column, done, tile_row * PHASE + high, channels, x, ring)
        done = tile_row * PHASE + high
        for i in range(high):
            row[i] = ring.pixels + (tile_row * PHASE + i) % high * ring.pitch
        for _tile_column in range(chunk.columns):
            points_of_phase(left, left, right, apart, row, to, s.v_plane)
            points_of_phase(
                right, left, right, apart, row + apart, to + left * (left + right) * s.v_plane, s.v_plane
            )
            to += LANES
            for i in range(high):
                row[i] += PHASE * LANES


cdef inline void transform_images(
    const int left, const int right, const int apart, const WinogradSizes* s, const Chunk* chunk, int64_t images,
    int64_t first, int64_t last, const real* x, const int64_t* rows, real* pixels, real* transformed,
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t high = max(left, right + apart), columns = (chunk.columns - 1) * PHASE + high
    cdef int64_t first_column = chunk.column * PHASE - c.pad_column, image, channel = first
    cdef Ring ring
    ring.pixels, ring.rows, ring.pitch = pixels, high, columns * LANES
    ring.first_column, ring.last_column = max(0, -first_column), min(columns, c.in_columns - first_column)
    memset(pixels, 0, high * columns * LANES * sizeof(real))
    while channel < last:
        for image in range(images):
            transform_image(
                left, right, apart, s, chunk, image, min(last - channel, LANES),
                x + channel * c.x_channel + image * c.x_image, &ring, transformed + rows[channel],
            )
        channel += LANES


cdef inline void transform_transposed(
    const WinogradSizes* s, const Chunk* chunk, int64_t images, int64_t first, int64_t last, const real* x,
    const int64_t* rows, real* pixels, real* transformed,
) noexcept nogil:
    """Some channels of a chunk to V."""
    if s.transposed == PAIRS_APART:
        transform_images(PHASE_POINTS, PHASE_POINTS, 1, s, chunk, images, first, last, x, rows, pixels, transformed)
    elif s.transposed == PAIRS:
        transform_images(PHASE_POINTS, PHASE_POINTS, 0, s, chunk, images, first, last, x, rows, pixels, transformed)
    else:
        transform_images(PHASE, PHASE_POINTS, 0, s, chunk, images, first, last, x, rows, pixels, transformed)


cdef inline void outputs_of_phases(
    const int points, const int wide, const real* products, int64_t row_step, int64_t point_step, vec bias, int64_t rows,
    int64_t columns, real* panel, int64_t pitch,
) noexcept nogil:
    """The outputs of one phase of rows and one of columns: every second one of each, of which `rows` × `columns` exist."""
    cdef vec column[PHASE_POINTS]
    cdef vec row[PHASE][PHASE_POINTS]
    cdef int i, j
    for j in range(wide):
        for i in range(points):
            column[i] = vload(products + i * row_step + j * point_step)
        output_of_phase(points, column)
        for i in range(PHASE):
            row[i][j] = column[i]
    for i in range(PHASE):
        if 2 * i >= rows:
            break
        output_of_phase(wide, row[i])
        for j in range(PHASE):
            if 2 * j >= columns:
                break
            vstore(panel + 2 * i * pitch + 2 * j * LANES, vadd(row[i][j], bias))


cdef inline void inverse_of_phases(
    const int left, const int right, const real* products, int64_t point_step, int64_t step, vec bias, int64_t tiles_down,
    int64_t tiles_across, int64_t rows, int64_t columns, real* panel,
) noexcept nogil:
    cdef int64_t y, x, below, beside, pitch = columns * LANES, row_step = (left + right) * point_step
    cdef real* to
    for y in range(tiles_down):
        for x in range(tiles_across):
            below, beside = rows - y * 2 * PHASE, columns - x * 2 * PHASE
            to = panel + (y * columns + x) * 2 * PHASE * LANES
            outputs_of_phases(left, left, products, row_step, point_step, bias, below, beside, to, pitch)
            outputs_of_phases(
                left, right, products + left * point_step, row_step, point_step, bias, below, beside - 1, to + LANES, pitch
            )
            outputs_of_phases(
                right, left, products + left * row_step, row_step, point_step, bias, below - 1, beside, to + pitch, pitch
            )
            outputs_of_phases(
                right, right, products + left * (row_step + point_step), row_step, point_step, bias, below - 1, beside - 1,
                to + pitch + LANES, pitch,
            )
            products += step


cdef inline void inverse_transposed(
    int64_t layout, const real* products, int64_t point_step, int64_t step, vec bias, int64_t tiles_down,
    int64_t tiles_across, int64_t rows, int64_t columns, real* panel,
) noexcept nogil:
    """LANES filters, from [point][tile][panel width] to [pixel][LANES], `rows` × `columns` pixels."""
    if layout == PAIRS_APART or layout == PAIRS:
        inverse_of_phases(
            PHASE_POINTS, PHASE_POINTS, products, point_step, step, bias, tiles_down, tiles_across, rows, columns, panel
        )
    else:
        inverse_of_phases(
            PHASE, PHASE_POINTS, products, point_step, step, bias, tiles_down, tiles_across, rows, columns, panel
        )
