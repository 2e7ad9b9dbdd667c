"""The register tile whose lanes are filters, and the way of its results to the output."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from fastconv._kernels.activation cimport activate
from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport real, strides_in

cdef extern from "simd.h" nogil:
    ctypedef float vec
    const int LANES
    const int TILE_PIXELS
    const int TILE_VECTORS
    vec vload(const real*)
    vec vload_first(const real*, int)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    void vstore_spread(real*, vec, int)
    vec vset1(real)
    vec vadd(vec, vec)
    vec vmax(vec, vec)
    vec vmin(vec, vec)
    vec vmuladd(vec, vec, vec)
    void vtranspose(vec*)
    void prefetch_to_second(const void*)

cdef struct Clamp:
    vec low, high

cdef enum:
    MAX_PIXELS = 14
    MAX_VECTORS = 4
    MAX_LANES = 16


cdef inline void tile_filters(
    const int pixels, const int vectors, const real* x, int64_t apart, const int64_t* offset, int64_t taps,
    const real* w, const real* start, int64_t start_pixel, real* y, const bint streams, const real* ahead, int64_t step,
) noexcept nogil:
    """y[pixel][filter] = start[pixel][filter] + Σ x[pixel · apart + offset] · w[tap][filter]; lanes are filters.

    `start` is the bias, with a step of 0 between pixels, or the sum of other taps.  With `streams`, memory from `ahead` on
    is fetched into the second-level cache on the way, `step` elements for each register of `w`: the first has no room for it.
    """
    cdef vec total[MAX_PIXELS][MAX_VECTORS]
    cdef vec weight[MAX_VECTORS]
    cdef vec value
    cdef int64_t k
    cdef const real* at
    cdef int i, j
    for i in range(pixels):
        for j in range(vectors):
            total[i][j] = vload(start + i * start_pixel + j * LANES)
    for k in range(taps):
        at = x + offset[k]
        for j in range(vectors):
            weight[j] = vload(w + j * LANES)
            if streams:
                prefetch_to_second(ahead + j * step)
        w += vectors * LANES
        if streams:
            ahead += vectors * step
        for i in range(pixels):
            value = vset1(at[i * apart])
            for j in range(vectors):
                total[i][j] = vmuladd(total[i][j], value, weight[j])
    for i in range(pixels):
        for j in range(vectors):
            vstore(y + (i * vectors + j) * LANES, total[i][j])


cdef inline void filters_by_pixels(
    int pixels, const int vectors, const real* x, int64_t apart, const int64_t* offset, int64_t taps,
    const real* w, const real* start, int64_t start_pixel, real* y, const bint streams, const real* ahead, int64_t step,
) noexcept nogil:
    """The tile with `pixels` as the constant it has to be; those beyond TILE_PIXELS vanish at compile time."""
    if pixels == 1:
        tile_filters(1, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 2 and TILE_PIXELS >= 2:
        tile_filters(2, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 3 and TILE_PIXELS >= 3:
        tile_filters(3, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 4 and TILE_PIXELS >= 4:
        tile_filters(4, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 5 and TILE_PIXELS >= 5:
        tile_filters(5, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 6 and TILE_PIXELS >= 6:
        tile_filters(6, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 7 and TILE_PIXELS >= 7:
        tile_filters(7, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 8 and TILE_PIXELS >= 8:
        tile_filters(8, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 9 and TILE_PIXELS >= 9:
        tile_filters(9, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 10 and TILE_PIXELS >= 10:
        tile_filters(10, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 11 and TILE_PIXELS >= 11:
        tile_filters(11, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 12 and TILE_PIXELS >= 12:
        tile_filters(12, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif pixels == 13 and TILE_PIXELS >= 13:
        tile_filters(13, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)
    elif TILE_PIXELS >= 14:
        tile_filters(14, vectors, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step)


cdef inline void tile_of_panel(
    int64_t pixels, int64_t panel, const real* x, int64_t apart, const int64_t* offset, int64_t taps,
    const real* w, const real* start, int64_t start_pixel, real* y, const bint streams, const real* ahead, int64_t step,
) noexcept nogil:
    """A panel is all vectors of a tile wide, or half of them."""
    if panel == TILE_VECTORS * LANES:
        filters_by_pixels(
            <int> pixels, TILE_VECTORS, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step
        )
    else:
        filters_by_pixels(
            <int> pixels, (TILE_VECTORS + 1) // 2, x, apart, offset, taps, w, start, start_pixel, y, streams, ahead, step
        )


cdef inline const real* row_of_tiles(
    int64_t pixels, int64_t panel, const real* x, int64_t apart, const int64_t* offset, int64_t taps, const real* w,
    const real* start, int64_t start_pixel, real* y, const bint streams, const real* ahead, int64_t rows,
) noexcept nogil:
    """One output row into [pixel][panel], in tiles as equal as possible: 30 pixels are 3 × 10, never 14 + 14 + 2.

    With `streams`, so many such rows fetch as much from `ahead` on as they read of `w`; where the next begins is returned.
    """
    cdef int64_t tiles = (pixels + TILE_PIXELS - 1) // TILE_PIXELS
    cdef int64_t step = (LANES + tiles * rows - 1) // (tiles * rows) if streams else 0
    cdef int64_t tile, width, done = 0
    for tile in range(tiles):
        width = (pixels - done + tiles - tile - 1) // (tiles - tile)
        tile_of_panel(
            width, panel, x + done * apart, apart, offset, taps, w, start + done * start_pixel, start_pixel,
            y + done * panel, streams, ahead, step,
        )
        if streams:
            ahead += taps * panel // LANES * step
        done += width
    return ahead


cdef inline void row_of_filter_lanes(
    int64_t pixels, int64_t panel, const real* x, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y,
) noexcept nogil:
    """One output row into [pixel][panel]."""
    row_of_tiles(pixels, panel, x, 1, offset, taps, w, bias, 0, y, False, w, 1)


cdef inline void row_of_streamed_filters(
    int64_t pixels, int64_t panel, const real* x, int64_t apart, const int64_t* offset, int64_t taps,
    const real* w, const real* bias, real* y, const real* ahead,
) noexcept nogil:
    """The same of pixels `apart`, where `ahead` is what comes after w, to be fetched evenly on the way."""
    row_of_tiles(pixels, panel, x, apart, offset, taps, w, bias, 0, y, True, ahead, 1)


cdef inline void rows_by_taps(
    const ConvSizes* s, int64_t row, int64_t column, int64_t rows, int64_t columns, int64_t panel, const real* x,
    int64_t pitch, int64_t apart, const int64_t* offset, const real* w, const real* bias, real* y,
) noexcept nogil:
    """Output rows into [row][pixel][panel], `tap_block` taps at a time for all of them, while the next weights are fetched.

    Trimmed, whose taps come in the order row, column, channel, a tap meets only the outputs that find it in the input.
    """
    cdef int64_t positions = s.kernel_rows * s.kernel_columns if s.trimmed else 1
    cdef int64_t taps = s.taps // positions
    cdef int64_t position, done, count, i, top = 0, bottom = rows, left = 0, right = columns, start_pixel = 0
    cdef const real* start = bias
    cdef const real* ahead
    cdef real* to
    if s.trimmed or not taps:
        for i in range(rows * columns * panel // LANES):
            vstore(y + i * LANES, vload(bias + i * LANES % panel))
        start_pixel = panel
    for position in range(positions):
        if s.trimmed:
            outputs_inside(
                row * s.stride_row - s.pad_row + position // s.kernel_columns * s.dilation_row, s.stride_row, s.in_rows,
                rows, &top, &bottom,
            )
            outputs_inside(
                column * s.stride_column - s.pad_column + position % s.kernel_columns * s.dilation_column,
                s.stride_column, s.in_columns, columns, &left, &right,
            )
        done = 0
        while done < taps:
            count = min(s.tap_block, taps - done)
            ahead = w + (done + count) * panel
            for i in range(top, bottom if left < right else top):
                to = y + (i * columns + left) * panel
                if start_pixel:
                    start = to
                ahead = row_of_tiles(
                    right - left, panel, x + i * pitch + left * apart, apart, offset + done, count, w + done * panel,
                    start, start_pixel, to, True, ahead, bottom - top,
                )
            start_pixel = panel
            done += count
        offset += taps
        w += taps * panel


cdef inline void outputs_inside(
    int64_t start, int64_t stride, int64_t size, int64_t outputs, int64_t* begin, int64_t* end
) noexcept nogil:
    """The outputs o for which start + o · stride lies in [0, size)."""
    begin[0] = min(strides_in(-start, stride), outputs) if start < 0 else 0
    end[0] = min(strides_in(size - start, stride), outputs) if start < size else 0


cdef inline void taps_inside(
    int64_t first, int64_t last, int64_t kernel, int64_t dilation, int64_t size, int64_t* begin, int64_t* end
) noexcept nogil:
    """The taps k for which some position from `first` to `last`, plus k · dilation, lies in [0, size)."""
    begin[0], end[0] = 0, kernel
    while begin[0] < kernel and last + begin[0] * dilation < 0:
        begin[0] += 1
    while end[0] > begin[0] and first + (end[0] - 1) * dilation >= size:
        end[0] -= 1


cdef inline void trimmed_row_of_filter_lanes(
    const ConvSizes* s, int64_t row, int64_t column, int64_t pixels, int64_t panel, const real* x,
    const int64_t* offset, const real* w, const real* bias, real* y,
) noexcept nogil:
    """`row_of_filter_lanes` without the taps that lie in the padding; taps come in the order row, column, channel."""
    cdef int64_t tiles = (pixels + TILE_PIXELS - 1) // TILE_PIXELS
    cdef int64_t taps = s.taps // (s.kernel_rows * s.kernel_columns)     # of one row and column
    cdef int64_t first_row = row * s.stride_row - s.pad_row
    cdef int64_t tile, width, done = 0, top, bottom, left, right, first, begin, count, start_pixel
    cdef const real* start
    taps_inside(first_row, first_row, s.kernel_rows, s.dilation_row, s.in_rows, &top, &bottom)
    for tile in range(tiles):
        width = (pixels - done + tiles - tile - 1) // (tiles - tile)
        first = (column + done) * s.stride_column - s.pad_column
        taps_inside(
            first, first + (width - 1) * s.stride_column, s.kernel_columns, s.dilation_column, s.in_columns, &left, &right
        )
        start, start_pixel, row = bias, 0, top
        while True:
            begin = (row * s.kernel_columns + left) * taps
            count = (right - left) * taps if row < bottom else 0
            if right - left == s.kernel_columns:    # then the rows that are left follow each other
                count *= bottom - row
                row = bottom
            tile_of_panel(
                width, panel, x + done, 1, offset + begin, count, w + begin * panel, start, start_pixel, y + done * panel,
                False, w, 0,
            )
            row += 1
            if row >= bottom:
                break
            start, start_pixel = y + done * panel, panel
        done += width


cdef inline vec clamp(vec v, const Clamp* limits) noexcept nogil:
    """NaN and -0.0 stay as they are."""
    return vmin(limits.high, vmax(limits.low, v))


cdef inline Clamp limits_of(const ConvSizes* s) noexcept nogil:
    """A residual is added before the clamp, hence after the results are stored (`add_residual`)."""
    cdef Clamp limits
    limits.low = vset1(<real> (-INFINITY if s.has_residual else s.low))
    limits.high = vset1(<real> (INFINITY if s.has_residual else s.high))
    return limits


cdef inline void panel_to_planes(
    const real* panel, int64_t width, int64_t pixels, int64_t filters, const Clamp* limits, real* y, int64_t y_filter,
    const bint spread,
) noexcept nogil:
    """[pixel][width] to [filter][pixel], for the first `filters`: squares of LANES × LANES turned in registers.

    With `spread`, neighbouring pixels are two elements apart.
    """
    cdef vec square[MAX_LANES]
    cdef int64_t pixel = 0, filter, rows, columns
    cdef int i
    while pixel < pixels:
        rows = min(pixels - pixel, LANES)
        filter = 0
        while filter < filters:
            columns = min(filters - filter, LANES)
            for i in range(LANES):
                square[i] = clamp(vload(panel + (pixel + min(i, rows - 1)) * width + filter), limits)
            vtranspose(square)
            for i in range(LANES):
                if i >= columns:
                    break
                if spread:
                    vstore_spread(y + (filter + i) * y_filter + 2 * pixel, square[i], <int> rows)
                elif rows == LANES:
                    vstore(y + (filter + i) * y_filter + pixel, square[i])
                else:
                    vstore_first(y + (filter + i) * y_filter + pixel, square[i], <int> rows)
            filter += LANES
        pixel += LANES


cdef inline void store_panel(
    const ConvSizes* s, const real* panel, int64_t width, const Chunk* chunk, int64_t filters, real* y
) noexcept nogil:
    cdef int64_t _row, column, filter, left
    cdef int64_t rows = chunk.rows, columns = chunk.columns
    cdef Clamp limits = limits_of(s)
    cdef real lanes[MAX_LANES]
    cdef vec v
    if s.y_column == 1 and s.y_row == columns:
        columns, rows = rows * columns, 1
    for _row in range(rows):
        if s.y_column == 1:
            panel_to_planes(panel, width, columns, filters, &limits, y, s.y_channel, False)
        elif s.y_column == 2:
            panel_to_planes(panel, width, columns, filters, &limits, y, s.y_channel, True)
        else:
            for column in range(columns):
                filter = 0
                while filter < filters:
                    v = clamp(vload(panel + column * width + filter), &limits)
                    if s.y_channel == 1 and filters - filter >= LANES:
                        vstore(y + filter + column * s.y_column, v)
                    else:
                        vstore(lanes, v)
                        for left in range(min(LANES, filters - filter)):
                            y[(filter + left) * s.y_channel + column * s.y_column] = lanes[left]
                    filter += LANES
        panel += columns * width
        y += s.y_row


cdef inline void finish(
    const ConvSizes* s, const Chunk* chunk, int64_t filters, const real* residual, real* y
) noexcept nogil:
    """Residual and activation for the results just stored, which are still in the cache; columns are contiguous.

    Rows that follow on one another are one run of elements, and so are such filters: a call for each row of a small map
    would take longer than its elements.  `residual` is NULL where it has been added.
    """
    cdef int64_t filter, row, rows = chunk.rows, columns = chunk.columns
    if rows == 1 or s.y_row == columns:
        rows, columns = 1, rows * columns
        if s.y_channel == columns:
            filters, columns = 1, filters * columns
    for filter in range(filters):
        for row in range(rows):
            if s.has_residual and residual:
                add_residual(
                    s, columns, residual + filter * s.y_channel + row * s.y_row, y + filter * s.y_channel + row * s.y_row
                )
            if s.activation:
                activate(
                    s.activation, &s.parameters, y + filter * s.y_channel + row * s.y_row,
                    y + filter * s.y_channel + row * s.y_row, columns,
                )


cdef inline void add_residual(const ConvSizes* s, int64_t columns, const real* residual, real* y) noexcept nogil:
    """y = clamp(y + residual)."""
    cdef int64_t column = 0
    cdef vec v
    cdef Clamp limits
    limits.low, limits.high = vset1(<real> s.low), vset1(<real> s.high)
    while column + LANES <= columns:
        vstore(y + column, clamp(vadd(vload(y + column), vload(residual + column)), &limits))
        column += LANES
    if column < columns:
        v = vadd(vload_first(y + column, <int> (columns - column)), vload_first(residual + column, <int> (columns - column)))
        vstore_first(y + column, clamp(v, &limits), <int> (columns - column))
