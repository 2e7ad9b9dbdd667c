"""F(4×4, 3×3) for few filters to a group: lanes are tiles from the input to the output; `winograd.pyx` has the source.

A register holds the tiles of `store_rows` rows of tiles, 1, 2 or 4, side by side: narrow maps fill it, too.  Nothing is
packed and nothing turned: the columns of the tiles are every fourth element of the loads, and their results are shuffled back.

    V[row of points][channel][point][tile]      transformed input of one register of tiles
    M[row of points][filter][output][tile]      products of some filters, of which each row of points has been transformed
"""

from libc.stdint cimport int64_t

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of
from fastconv._kernels.packing cimport real, veven, vinside, vload_inside, vmask, vodd
from fastconv._kernels.tile cimport (
    LANES, MAX_LANES, TILE_PIXELS, TILE_VECTORS, Clamp, clamp, finish, limits_of, vadd, vec, vload, vmuladd, vset1, vstore,
    vstore_first,
)
from fastconv._kernels.winograd_transforms cimport input_transform, output_transform

cdef extern from "simd.h" nogil:
    ctypedef int real_bits
    vec vkeep(vec)
    vec vlow(vec, vec)
    vec vhigh(vec, vec)
    vec vpicked(vec, vec, const real_bits*)
    void prefetch(const void*)

cdef enum:
    SIDE = 6                # points of one axis
    POINTS = SIDE * SIDE
    SQUARE = 4              # outputs along one side of a tile, and loads that hold a row of a register's tiles
    LEAST_LANES = 8
    LANE_FILTERS = 4        # that are multiplied at a time; half as many where registers are few

cdef struct Lanes:          # of each load: where it lies in the input and in the output, and what of it exists there
    int64_t x[SQUARE]
    int64_t y[SQUARE]
    int64_t row[SQUARE]             # of the input
    int64_t column                  # of the input, of the first load
    int64_t rows[SQUARE]            # of the output
    int64_t columns[SQUARE]
    vmask inside[SIDE][SQUARE]      # for each row of the tiles
    real_bits next[MAX_LANES]       # the pick of the next tile, which begins with the columns that a tile ends with
    bint apart                      # those of the last tile of a row exist, and are in no lane
    vec beyond[SIDE][2]             # they, transformed, and zero in all other lanes


cdef inline void place_lanes(const ConvSizes* s, const Chunk* chunk, Lanes* lanes) noexcept nogil:
    cdef int64_t across = SQUARE // s.store_rows, tiles = LANES // s.store_rows
    cdef int64_t first = chunk.column - s.pad_column, row, column
    cdef int i, j
    lanes.column = first
    for j in range(SQUARE):
        row, column = chunk.row + j // across * SQUARE, j % across * LANES
        lanes.y[j] = row * s.y_row + chunk.column + column
        lanes.rows[j], lanes.columns[j] = s.out_rows - row, chunk.columns - column
        row, column = row - s.pad_row, column + first
        lanes.row[j], lanes.x[j] = row, row * s.x_row + column
        for i in range(SIDE):
            lanes.inside[i][j] = vinside(column, s.in_columns if 0 <= row + i < s.in_rows else -LANES)
    for i in range(LANES):
        lanes.next[i] = i if (i + 1) % tiles == 0 else (<real_bits> 1 << 8 * sizeof(real) - 1) + LANES + i + 1
    for i in range(SIDE):
        lanes.beyond[i][0] = lanes.beyond[i][1] = vset1(0)
    lanes.apart = chunk.columns + SIDE - SQUARE > tiles * SQUARE and first + tiles * SQUARE < s.in_columns


cdef inline void load_beyond(const ConvSizes* s, Lanes* lanes, const real* x) noexcept nogil:
    """The columns behind the last tile of each row: few elements, and columns first, like `transform_lanes`."""
    cdef int64_t tiles = LANES // s.store_rows, part, last, row, column
    cdef real* to = <real*> lanes.beyond
    cdef int i, j
    for part in range(s.store_rows):
        last = (part + 1) * tiles - 1
        for i in range(SIDE):
            row = lanes.row[part * (SQUARE // s.store_rows)] + i
            for j in range(2):
                column = lanes.column + tiles * SQUARE + j
                to[(2 * i + j) * LANES + last] = (
                    x[row * s.x_row + column] if 0 <= row < s.in_rows and 0 <= column < s.in_columns else 0
                )
    input_transform(SIDE, <vec*> lanes.beyond, 2)
    input_transform(SIDE, <vec*> lanes.beyond + 1, 2)


cdef inline void load_row(
    const int i, const ConvSizes* s, const Lanes* lanes, const real* x, vec* d
) noexcept nogil:
    """The first columns of the tiles, in one of their rows."""
    cdef vec value[SQUARE]
    cdef vec even[2]
    cdef vec odd[2]
    cdef int j
    x += i * s.x_row
    for j in range(SQUARE):
        value[j] = vload_inside(x + lanes.x[j], lanes.inside[i][j])
        prefetch(x + lanes.x[j] + s.x_channel)
    even[0], even[1] = veven(value[0], value[1]), veven(value[2], value[3])
    odd[0], odd[1] = vodd(value[0], value[1]), vodd(value[2], value[3])
    d[0], d[1], d[2], d[3] = veven(even[0], even[1]), veven(odd[0], odd[1]), vodd(even[0], even[1]), vodd(odd[0], odd[1])


cdef inline void store_points(
    const int i, const ConvSizes* s, const Lanes* lanes, const vec* column, real* transformed
) noexcept nogil:
    """A row of points, whose last columns are the next tile's first."""
    cdef vec d[SIDE]
    cdef int j
    for j in range(SQUARE):
        d[j] = column[j]
    for j in range(2):
        d[SQUARE + j] = vpicked(lanes.beyond[i][j], d[j], lanes.next)
    input_transform(SIDE, d, 1)
    for j in range(SIDE):
        vstore(transformed + (i * s.channels * SIDE + j) * LANES, d[j])


cdef inline void transform_lanes(const ConvSizes* s, Lanes* lanes, const real* x, real* transformed) noexcept nogil:
    """One channel of one register of tiles, to all points of V; columns first, so that most of it stays in registers."""
    cdef vec d[SIDE * SQUARE]
    if lanes.apart:
        load_beyond(s, lanes, x)
    load_row(0, s, lanes, x, d)
    load_row(1, s, lanes, x, d + SQUARE)
    load_row(2, s, lanes, x, d + 2 * SQUARE)
    load_row(3, s, lanes, x, d + 3 * SQUARE)
    load_row(4, s, lanes, x, d + 4 * SQUARE)
    load_row(5, s, lanes, x, d + 5 * SQUARE)
    input_transform(SIDE, d, SQUARE)
    input_transform(SIDE, d + 1, SQUARE)
    input_transform(SIDE, d + 2, SQUARE)
    input_transform(SIDE, d + 3, SQUARE)
    store_points(0, s, lanes, d, transformed)
    store_points(1, s, lanes, d + SQUARE, transformed)
    store_points(2, s, lanes, d + 2 * SQUARE, transformed)
    store_points(3, s, lanes, d + 3 * SQUARE, transformed)
    store_points(4, s, lanes, d + 4 * SQUARE, transformed)
    store_points(5, s, lanes, d + 5 * SQUARE, transformed)


cdef inline void multiply_lanes(
    const int filters, const real* transformed, const real* w, int64_t channels, real* products
) noexcept nogil:
    """All products of some filters, to M."""
    cdef vec total[LANE_FILTERS][SIDE]
    cdef vec value
    cdef int64_t _channel, _row
    cdef int f, j
    for _row in range(SIDE):
        for f in range(filters):
            for j in range(SIDE):
                total[f][j] = vset1(0)
        for _channel in range(channels):
            for j in range(SIDE):
                value = vkeep(vload(transformed + j * LANES))
                for f in range(filters):
                    total[f][j] = vmuladd(total[f][j], vset1(w[j * filters + f]), value)
            transformed += SIDE * LANES
            w += SIDE * filters
        for f in range(filters):
            output_transform(SIDE, SQUARE, total[f], 1)
            for j in range(SQUARE):
                vstore(products + (f * SQUARE + j) * LANES, total[f][j])
        products += filters * SQUARE * LANES


cdef inline void results_of_column(const real* products, int64_t step, vec* p) noexcept nogil:
    cdef vec d[SIDE]
    cdef int i
    for i in range(SIDE):
        d[i] = vload(products + i * step)
    output_transform(SIDE, SQUARE, d, 1)
    for i in range(SQUARE):
        p[i * SQUARE] = d[i]


cdef inline void store_results(
    const int i, const Lanes* lanes, const vec* p, vec bias, const Clamp* limits, real* y
) noexcept nogil:
    """A row of the tiles' results, which are every fourth pixel."""
    cdef vec v[SQUARE]
    cdef vec pair[SQUARE]
    cdef int j
    for j in range(SQUARE):
        v[j] = clamp(vadd(p[j], bias), limits)
    pair[0], pair[1] = vlow(v[0], v[2]), vlow(v[1], v[3])
    pair[2], pair[3] = vhigh(v[0], v[2]), vhigh(v[1], v[3])
    v[0], v[1], v[2], v[3] = vlow(pair[0], pair[1]), vhigh(pair[0], pair[1]), vlow(pair[2], pair[3]), vhigh(pair[2], pair[3])
    for j in range(SQUARE):
        if i < lanes.rows[j] and lanes.columns[j] > 0:
            if lanes.columns[j] >= LANES:
                vstore(y + lanes.y[j], v[j])
            else:
                vstore_first(y + lanes.y[j], v[j], <int> lanes.columns[j])


cdef inline void store_lanes(
    const ConvSizes* s, const Lanes* lanes, const real* products, int64_t step, real bias, const Clamp* limits, real* y
) noexcept nogil:
    """Results of one filter; `step` elements lie between its rows of points."""
    cdef vec p[SQUARE * SQUARE]
    results_of_column(products, step, p)
    results_of_column(products + LANES, step, p + 1)
    results_of_column(products + 2 * LANES, step, p + 2)
    results_of_column(products + 3 * LANES, step, p + 3)
    store_results(0, lanes, p, vset1(bias), limits, y)
    store_results(1, lanes, p + SQUARE, vset1(bias), limits, y + s.y_row)
    store_results(2, lanes, p + 2 * SQUARE, vset1(bias), limits, y + 2 * s.y_row)
    store_results(3, lanes, p + 3 * SQUARE, vset1(bias), limits, y + 3 * s.y_row)


cdef inline void filters_of_lanes(
    const int filters, const ConvSizes* s, const Lanes* lanes, const real* transformed, const real* w, const real* bias,
    const Clamp* limits, real* products, real* y, int64_t first, int64_t last,
) noexcept nogil:
    """Some filters of a group for one register of tiles, so many at a time."""
    cdef int64_t filter = first, f
    while filter < last:
        multiply_lanes(filters, transformed, w + filter * POINTS * s.channels, s.channels, products)
        for f in range(min(filters, last - filter)):
            store_lanes(
                s, lanes, products + f * SQUARE * LANES, filters * SQUARE * LANES, bias[filter + f], limits,
                y + (filter + f) * s.y_channel,
            )
        filter += filters


cdef inline void winograd_of_lanes(
    const ConvSizes* s, void* const* arrays, int64_t first, int64_t last, real* transformed
) noexcept nogil:
    """A task is one register of tiles of one group, or some of the filters, for which each transforms the input anew."""
    cdef int64_t group_filters = (s.filters + s.panel - 1) // s.panel * s.panel
    cdef int64_t index, channel, first_filter, last_filter
    cdef Clamp limits = limits_of(s)
    cdef Chunk chunk
    cdef Lanes lanes
    cdef const real* x
    cdef const real* w
    cdef const real* bias
    cdef real* y
    cdef real* products = transformed + s.panel_scratch
    for index in range(first, last):
        chunk = chunk_of(s, index // s.chunk_tasks)
        first_filter = index % s.chunk_tasks * s.task_panels * s.panel
        last_filter = min(first_filter + s.task_panels * s.panel, s.filters)
        place_lanes(s, &chunk, &lanes)
        x = <const real*> arrays[1] + chunk.image * s.x_image + chunk.group * s.channels * s.x_channel
        w = <const real*> arrays[2] + chunk.group * group_filters * POINTS * s.channels
        bias = <const real*> arrays[3] + chunk.group * group_filters
        y = <real*> arrays[0] + chunk.image * s.y_image + chunk.group * s.filters * s.y_channel
        for channel in range(s.channels):
            transform_lanes(s, &lanes, x + channel * s.x_channel, transformed + channel * SIDE * LANES)
        if TILE_PIXELS * TILE_VECTORS > LANE_FILTERS * SIDE:
            filters_of_lanes(
                LANE_FILTERS, s, &lanes, transformed, w, bias, &limits, products, y, first_filter, last_filter
            )
        else:
            filters_of_lanes(
                LANE_FILTERS // 2, s, &lanes, transformed, w, bias, &limits, products, y, first_filter, last_filter
            )
        if s.has_residual or s.activation:
            y += first_filter * s.y_channel + chunk.row * s.y_row + chunk.column
            finish(
                s, &chunk, last_filter - first_filter,
                (<const real*> arrays[4] if s.has_residual else <const real*> arrays[0]) + (y - <real*> arrays[0]), y,
            )
