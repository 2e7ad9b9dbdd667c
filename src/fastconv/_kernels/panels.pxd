"""Filters side by side in panels: the form in which the tile whose lanes are filters reads them."""

from libc.stdint cimport int64_t

from fastconv._kernels.packing cimport real

cdef extern from "simd.h" nogil:
    ctypedef float vec
    ctypedef double dvec
    const int LANES
    const int DOUBLE_LANES
    vec vload(const real*)
    vec vload_first(const real*, int)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vset1(real)
    void vtranspose(vec*)
    dvec dload(const real*)
    void dstore(real*, dvec)

cdef enum:
    MAX_LANES = 16


cdef inline vec times(vec row, double factor) noexcept nogil:
    """Multiplied in float64, and rounded once."""
    cdef real elements[MAX_LANES]
    cdef int i = 0
    vstore(elements, row)
    while i < LANES:
        dstore(elements + i, dload(elements + i) * factor)
        i += DOUBLE_LANES
    return vload(elements)


cdef inline void turn_square(
    const bint whole, const real* w, int64_t step, int64_t filters, int taps, const double* scale, const int64_t* place,
    int64_t width, int lanes, real* panel,
) noexcept nogil:
    """Up to LANES filters and taps of a panel, of which `lanes` lanes are stored; `whole`: as many as that."""
    cdef vec square[MAX_LANES]
    cdef int i
    for i in range(LANES):
        if whole:
            square[i] = vload(w + i * step)
        elif i < filters:
            square[i] = vload_first(w + i * step, taps) if taps < LANES else vload(w + i * step)
        else:
            square[i] = vset1(0)
    if scale != NULL:
        for i in range(LANES):
            if whole or i < filters:
                square[i] = times(square[i], scale[i])
    vtranspose(square)
    for i in range(LANES):
        if whole:
            vstore(panel + place[i] * width, square[i])
        elif i < taps and lanes == LANES:
            vstore(panel + place[i] * width, square[i])
        elif i < taps:
            vstore_first(panel + place[i] * width, square[i], lanes)


cdef inline void fill_panel(
    const real* w, int64_t filters, int64_t taps, const double* scale, const int64_t* place, int64_t width, real* panel,
) noexcept nogil:
    """panel[place[tap]][filter] = w[filter][tap], times scale[filter] unless that is NULL; zeros for missing filters.

    Squares are turned in registers.
    """
    cdef int64_t lane = 0, tap, left
    cdef const double* factors = scale
    cdef int lanes
    if width == 1:
        for tap in range(taps):
            panel[place[tap]] = w[tap] if scale == NULL else <real> (w[tap] * scale[0])
        return
    while lane < width:
        lanes, left = <int> min(width - lane, LANES), filters - lane
        tap = 0
        if left >= LANES:
            while tap + LANES <= taps:
                turn_square(
                    True, w + tap, taps, LANES, LANES, factors, place + tap, width, LANES, panel + lane
                )
                tap += LANES
        while tap < taps:
            turn_square(
                False, w + tap, taps, left, <int> min(taps - tap, LANES), factors, place + tap, width, lanes, panel + lane
            )
            tap += LANES
        w += LANES * taps
        lane += LANES
        if scale != NULL:
            factors = scale + lane
