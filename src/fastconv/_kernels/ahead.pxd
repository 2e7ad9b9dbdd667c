"""Memory that later steps read, fetched while this one multiplies: products leave the memory idle."""

from libc.stdint cimport int16_t, int64_t

cdef enum:
    AHEAD_PLACE = 32    # in the head of a thread's scratch; all zeros where there is nothing to fetch
    FETCH_UNIT = 8      # bytes of which every step is a multiple, as those of elements are

cdef struct Span:
    const char* start
    int64_t bytes

cdef struct Ahead:
    const char* at          # what comes next, and the bytes that are left of this thread's part of the span
    int64_t left
    const Span* spans       # those that follow
    int16_t count
    int16_t thread, threads
    int16_t step            # bytes to fetch for each tap of a tile

cdef struct Fetch:
    const char* at
    int64_t step            # bytes


cdef inline bint has_more(const Ahead* ahead) noexcept nogil:
    return ahead.left > 0 or ahead.count > 0


cdef inline Fetch next_fetch(Ahead* ahead, int64_t taps, const void* none) noexcept nogil:
    """What to fetch with so many taps of a tile; at the end `none`, which is in the cache, each time."""
    cdef Fetch fetch
    cdef int64_t start
    fetch.at, fetch.step = <const char*> none, 0
    if ahead.left <= 0:
        if ahead.count <= 0:
            return fetch
        start = ahead.spans.bytes * ahead.thread // ahead.threads
        ahead.at = ahead.spans.start + start
        ahead.left = ahead.spans.bytes * (ahead.thread + 1) // ahead.threads - start
        ahead.spans += 1
        ahead.count -= 1
    fetch.at = ahead.at
    fetch.step = min(<int64_t> ahead.step, ahead.left // max(taps, 1) + 1)
    fetch.step = (fetch.step + FETCH_UNIT - 1) // FETCH_UNIT * FETCH_UNIT
    ahead.at += taps * fetch.step
    ahead.left -= taps * fetch.step
    return fetch
