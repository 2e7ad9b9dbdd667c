"""Winograd's filter transform, done once for a layer's weights, in float64."""

from libc.stdint cimport int64_t

from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, MAX_LANES, vec, vload, vload_first, vstore, vtranspose

cdef extern from "simd.h" nogil:
    ctypedef double dvec
    const int DOUBLE_LANES
    dvec dload(const real*)
    void dstore(real*, dvec)

cdef enum:
    MAX_SIDE_TAPS = 7

cdef struct TransformSizes:
    int64_t groups, channels, filters       # the last two per group
    int64_t panel, last_panel
    int64_t kernel_rows, kernel_columns     # taps
    int64_t points_down, points_across
    int64_t strided                         # bool: the rows of G have no order


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
    cdef dvec total = g[0] * tap[0]
    cdef int k
    for k in range(2, r, 2):
        total = total + g[k] * tap[k]
    return total


cdef inline dvec odd_terms(const int r, const double* g, const dvec* tap) noexcept nogil:
    """What they have with opposite signs."""
    cdef dvec total = g[1] * tap[1]
    cdef int k
    for k in range(3, r, 2):
        total = total + g[k] * tap[k]
    return total


cdef inline dvec all_terms(const int r, const double* g, const dvec* tap) noexcept nogil:
    cdef dvec total = g[0] * tap[0]
    cdef int k
    for k in range(1, r):
        total = total + g[k] * tap[k]
    return total


cdef inline void filter_row(
    const int r, int64_t points, bint strided, const double* g, const dvec* tap, real* to, int64_t step
) noexcept nogil:
    """All points of one row."""
    cdef dvec even, odd
    cdef int64_t point
    if strided:
        for point in range(points):
            dstore(to + point * step, all_terms(r, g + point * r, tap))
        return
    dstore(to, g[0] * tap[0])
    for point in range(1, points - 1, 2):
        even, odd = even_terms(r, g + point * r, tap), odd_terms(r, g + point * r, tap)
        dstore(to + point * step, even + odd)
        dstore(to + (point + 1) * step, even - odd)
    if points > 1:
        dstore(to + (points - 1) * step, g[points * r - 1] * tap[r - 1])


cdef inline void filter_rows(
    const int rows, const int columns, const TransformSizes* s, int64_t row, const double* down, const double* across,
    const real* taps, int64_t channels, int64_t width, real* to, int64_t step,
) noexcept nogil:
    """The first or the last row of the points, or a pair in between, for some channels, in float64."""
    cdef dvec tap[MAX_SIDE_TAPS]
    cdef dvec first[MAX_SIDE_TAPS]
    cdef dvec second[MAX_SIDE_TAPS]
    cdef dvec even, odd
    cdef int64_t _channel, lane
    cdef bint paired = 0 < row < s.points_down - 1 and not s.strided
    cdef int i, j
    to += row * s.points_across * step
    down += row * rows
    for _channel in range(channels):
        lane = 0
        while lane < width:
            for j in range(columns):
                for i in range(rows):
                    tap[i] = dload(taps + (i * columns + j) * width + lane)
                if s.strided:
                    first[j] = all_terms(rows, down, tap)
                elif row == 0:
                    first[j] = down[0] * tap[0]
                elif paired:
                    even, odd = even_terms(rows, down, tap), odd_terms(rows, down, tap)
                    first[j], second[j] = even + odd, even - odd
                else:
                    first[j] = down[rows - 1] * tap[rows - 1]
            filter_row(columns, s.points_across, s.strided, across, first, to + lane, step)
            if paired:
                filter_row(columns, s.points_across, s.strided, across, second, to + s.points_across * step + lane, step)
            lane += DOUBLE_LANES
        taps += rows * columns * width
        to += width


cdef inline void filter_block(
    const int rows, const int columns, const TransformSizes* s, const double* down, const double* across,
    const real* taps, int64_t channels, int64_t width, real* to,
) noexcept nogil:
    """Few rows of points at a time: all streams, often a power of two apart, would push each other out of the cache."""
    cdef int64_t row = 0
    while row < s.points_down:
        filter_rows(rows, columns, s, row, down, across, taps, channels, width, to, s.channels * width)
        row += 2 if 0 < row < s.points_down - 1 and not s.strided else 1


cdef inline void transform_block(
    const TransformSizes* s, int64_t index, const real* w, const double* down, const double* across, real* transformed,
    real* taps,
) noexcept nogil:
    """LANES channels of one panel."""
    cdef int64_t panels = (s.filters + s.panel - 1) // s.panel
    cdef int64_t group_filters = (panels - 1) * s.panel + s.last_panel, points = s.points_down * s.points_across
    cdef int64_t elements = s.kernel_rows * s.kernel_columns, blocks = (s.channels + LANES - 1) // LANES
    cdef int64_t group = index // blocks // panels, first_filter = index // blocks % panels * s.panel
    cdef int64_t channel = index % blocks * LANES, channels = min(s.channels - channel, LANES)
    cdef int64_t width = s.panel if first_filter + s.panel < s.filters else s.last_panel
    w += ((group * s.filters + first_filter) * s.channels + channel) * elements
    transformed += (group * group_filters + first_filter) * points * s.channels + channel * width
    filters_to_lanes(
        w, s.channels * elements, min(s.panel, s.filters - first_filter), channels * elements, width, taps
    )
    if s.kernel_rows == 3 and s.kernel_columns == 3:
        filter_block(3, 3, s, down, across, taps, channels, width, transformed)
    else:
        filter_block(
            <int> s.kernel_rows, <int> s.kernel_columns, s, down, across, taps, channels, width, transformed
        )
