"""Normalisation: by given statistics per channel, by the statistics of rows, and over neighbouring channels.

Decisions
---------
a. Batch norm computes (x - mean) · scale + bias, not x · scale + shift: one subtraction more, free at memory speed, and
   no cancellation where the mean is large.  The scales weight / √(variance + eps) are computed once by each thread.
b. PReLU reads one number per channel in the same way, and shares the loop.
c. Variances are sums of squared differences from the mean, in a second pass over what the cache still holds: the
   difference of the mean square and the squared mean loses every digit where the mean is large.
d. Sums are formed in blocks of `SUM_BLOCK` values, then over the blocks: the error grows with the root of the count.
e. Columns, whose values lie a row apart, are normalised as many at a time as a few registers hold: all channels of such
   a strip stay in the cache for the three passes, and nothing is turned.
f. Local response norm adds up its window afresh for every channel.  Adding the channel that enters and subtracting the
   one that leaves is cheaper for large windows, and never forgets an infinity.
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.vector_math cimport (
    LANES, load_left, real, store_left, sum_of_lanes, vec, vexp, vfirst, vload, vload_first, vlog, vmax, vmuladd,
    vselect_greater, vset1, vsqrt, vstore,
)  # fmt: skip

cdef enum:
    TAG_BYTES = 64
    SUM_BLOCK = 4096
    STRIP = 256
    COLUMN_VECTORS = 4

cdef enum Operation:
    NORMALISE, NORMALISE_RELU, PRELU

cdef struct ChannelSizes:
    int64_t operation
    int64_t outer, channels, inner  # [outer][channels][inner]; a row is one channel of one outer index
    int64_t chunk, chunks           # elements of one task, tasks of one row; with inner = 1 the rows of one task
    double eps


cdef inline vec apply(const Operation operation, vec x, vec mean, vec scale, vec bias) noexcept nogil:
    if operation == PRELU:
        return vselect_greater(x, vset1(0), x, x * scale)
    x = vmuladd(bias, x - mean, scale)
    return vmax(vset1(0), x) if operation == NORMALISE_RELU else x


cdef inline void one_channel(
    const Operation operation, const real* x, real* y, int64_t elements, vec mean, vec scale, vec bias
) noexcept nogil:
    cdef int64_t i = 0
    while i < elements:
        store_left(y + i, apply(operation, load_left(x + i, elements - i), mean, scale, bias), elements - i)
        i += LANES


cdef inline void all_channels(
    const Operation operation, const real* x, real* y, int64_t channels, const real* mean, const real* scale,
    const real* bias,
) noexcept nogil:
    """One position with its channels side by side."""
    cdef int64_t c = 0, left
    cdef vec result
    while c < channels:
        left = channels - c
        result = apply(
            operation, load_left(x + c, left), load_left(mean + c, left), load_left(scale + c, left),
            load_left(bias + c, left),
        )
        store_left(y + c, result, left)
        c += LANES


cdef inline void channelwise(
    const Operation operation, const ChannelSizes* s, void* const* arrays, int64_t first, int64_t last,
    const real* mean, const real* scale, const real* bias,
) noexcept nogil:
    cdef const real* x = <const real*> arrays[1]
    cdef real* y = <real*> arrays[0]
    cdef int64_t task, row, channel, start
    if s.inner == 1:
        for row in range(first * s.chunk, min(last * s.chunk, s.outer)):
            start = row * s.channels
            all_channels(operation, x + start, y + start, s.channels, mean, scale, bias)
        return
    for task in range(first, last):
        row = task // s.chunks
        channel = row % s.channels
        start = task % s.chunks * s.chunk
        one_channel(
            operation, x + row * s.inner + start, y + row * s.inner + start, min(s.chunk, s.inner - start),
            vset1(mean[channel]), vset1(scale[channel]), vset1(bias[channel]),
        )


cdef void per_channel(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, then mean, variance, weight, bias; or for PReLU the slopes alone."""
    cdef const ChannelSizes* s = <const ChannelSizes*> sizes
    cdef int64_t* tag = <int64_t*> scratch
    cdef real* scale = <real*> (scratch + TAG_BYTES)
    cdef const real* mean = <const real*> arrays[2]
    cdef const real* variance = <const real*> arrays[3]
    cdef const real* weight = <const real*> arrays[4]
    cdef const real* bias = <const real*> arrays[5]
    cdef int64_t c = 0, left
    cdef vec root
    if s.operation == PRELU:
        channelwise(PRELU, s, arrays, first, last, mean, mean, mean)
        return
    if not tag[0]:
        while c < s.channels:
            left = s.channels - c
            root = vsqrt(load_left(variance + c, left) + vset1(s.eps))
            store_left(scale + c, load_left(weight + c, left) / root, left)
            c += LANES
        tag[0] = 1
    if s.operation == NORMALISE:
        channelwise(NORMALISE, s, arrays, first, last, mean, scale, bias)
    else:
        channelwise(NORMALISE_RELU, s, arrays, first, last, mean, scale, bias)


cdef struct MomentSizes:
    int64_t images, channels, inner         # [images][channels][inner]


cdef inline vec added(const bint squared, const real* x, int64_t elements, vec mean, vec total) noexcept nogil:
    """total + Σ x, or + Σ (x - mean)²."""
    cdef int64_t i = 0
    cdef vec d
    while i + LANES <= elements:
        d = vload(x + i) - mean
        total = vmuladd(total, d, d) if squared else total + vload(x + i)
        i += LANES
    if i < elements:
        d = vload_first(x + i, <int> (elements - i))
        if squared:
            d = vfirst(d - mean, <int> (elements - i), vset1(0))
            return vmuladd(total, d, d)
        return total + d
    return total


cdef inline vec sum_of_row(const bint squared, const real* x, int64_t elements, vec mean) noexcept nogil:
    cdef vec total = vset1(0)
    cdef int64_t i = 0
    while i < elements:
        total = total + added(squared, x + i, min(elements - i, SUM_BLOCK), mean, vset1(0))
        i += SUM_BLOCK
    return total


cdef void moments(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: mean, biased variance, x.  A task is one channel."""
    cdef const MomentSizes* s = <const MomentSizes*> sizes
    cdef real count = <real> (s.images * s.inner)
    cdef int64_t task, image
    cdef const real* x
    cdef vec total
    cdef real mean
    for task in range(first, last):
        x = <const real*> arrays[2] + task * s.inner
        total = vset1(0)
        for image in range(s.images):
            total = total + sum_of_row(False, x + image * s.channels * s.inner, s.inner, vset1(0))
        mean = sum_of_lanes(total) / count
        total = vset1(0)
        for image in range(s.images):
            total = total + sum_of_row(True, x + image * s.channels * s.inner, s.inner, vset1(mean))
        (<real*> arrays[0])[task] = mean
        (<real*> arrays[1])[task] = sum_of_lanes(total) / count


cdef struct RowSizes:
    int64_t groups, channels, inner         # a row is [channels][inner] of one group
    int64_t centred                         # 0: divided by the root of the mean square, the mean not subtracted
    double eps


cdef void normalise_rows(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, weight and bias of [groups][channels].  A task is one row."""
    cdef const RowSizes* s = <const RowSizes*> sizes
    cdef int64_t length = s.channels * s.inner
    cdef int64_t task, c, i, left
    cdef const real* x
    cdef const real* weight
    cdef const real* bias
    cdef real* y
    cdef vec mean, scale, value
    for task in range(first, last):
        x = <const real*> arrays[1] + task * length
        y = <real*> arrays[0] + task * length
        weight = <const real*> arrays[2] + task % s.groups * s.channels
        bias = <const real*> arrays[3] + task % s.groups * s.channels
        mean = vset1(0)
        if s.centred:
            mean = vset1(sum_of_lanes(sum_of_row(False, x, length, mean)) / <real> length)
        scale = vset1(sum_of_lanes(sum_of_row(True, x, length, mean)) / <real> length)
        scale = vset1(1) / vsqrt(scale + vset1(s.eps))
        if s.inner == 1:
            i = 0
            while i < length:
                left = length - i
                value = (load_left(x + i, left) - mean) * scale
                store_left(y + i, vmuladd(load_left(bias + i, left), value, load_left(weight + i, left)), left)
                i += LANES
            continue
        for c in range(s.channels):
            one_channel(
                NORMALISE, x + c * s.inner, y + c * s.inner, s.inner, mean, scale * vset1(weight[c]), vset1(bias[c])
            )


cdef struct ColumnSizes:
    int64_t channels, inner, strips         # [outer][channels][inner]; strips of one outer index
    double eps


cdef inline vec column_at(const bint whole, const real* x, int vector, int64_t width) noexcept nogil:
    return vload(x + vector * LANES) if whole else load_left(x + vector * LANES, width - vector * LANES)


cdef inline void column_strip(
    const int vectors, const bint whole, const ColumnSizes* s, const real* x, real* y, const real* weight, const real* bias,
    int64_t width,
) noexcept nogil:
    """`width` positions, which fill so many vectors; only the last may have empty lanes, and none where they are `whole`."""
    cdef vec[COLUMN_VECTORS] mean, scale
    cdef vec d
    cdef real count = <real> s.channels
    cdef int64_t c
    cdef int v
    for v in range(vectors):
        mean[v] = vset1(0)
        scale[v] = vset1(0)
    for c in range(s.channels):
        for v in range(vectors):
            mean[v] = mean[v] + column_at(whole, x + c * s.inner, v, width)
    for v in range(vectors):
        mean[v] = mean[v] / vset1(count)
    for c in range(s.channels):
        for v in range(vectors):
            d = column_at(whole, x + c * s.inner, v, width) - mean[v]
            scale[v] = vmuladd(scale[v], d, d)
    for v in range(vectors):
        scale[v] = vset1(1) / vsqrt(scale[v] / vset1(count) + vset1(s.eps))
    for c in range(s.channels):
        for v in range(vectors):
            d = (column_at(whole, x + c * s.inner, v, width) - mean[v]) * scale[v]
            d = vmuladd(vset1(bias[c]), d, vset1(weight[c]))
            if whole:
                vstore(y + c * s.inner + v * LANES, d)
            else:
                store_left(y + c * s.inner + v * LANES, d, width - v * LANES)


cdef void normalise_columns(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, weight and bias of [channels].  A task is a strip of positions of one outer index."""
    cdef const ColumnSizes* s = <const ColumnSizes*> sizes
    cdef const real* weight = <const real*> arrays[2]
    cdef const real* bias = <const real*> arrays[3]
    cdef int64_t task, at, width
    cdef const real* x
    cdef real* y
    for task in range(first, last):
        at = task % s.strips * (COLUMN_VECTORS * LANES)
        width = s.inner - at
        at += task // s.strips * s.channels * s.inner
        x = <const real*> arrays[1] + at
        y = <real*> arrays[0] + at
        if width >= COLUMN_VECTORS * LANES:
            column_strip(COLUMN_VECTORS, True, s, x, y, weight, bias, COLUMN_VECTORS * LANES)
        elif width > 3 * LANES:
            column_strip(4, False, s, x, y, weight, bias, width)
        elif width > 2 * LANES:
            column_strip(3, False, s, x, y, weight, bias, width)
        elif width > LANES:
            column_strip(2, False, s, x, y, weight, bias, width)
        else:
            column_strip(1, False, s, x, y, weight, bias, width)


cdef enum Power:
    GENERAL, THREE_QUARTERS, HALF, ONE

cdef struct ResponseSizes:
    int64_t channels, inner, strips
    int64_t before, after           # channels of the window beside its own
    int64_t power
    double alpha, beta, k           # alpha: divided by the window's size already


cdef inline vec raised(const Power power, vec d, vec beta) noexcept nogil:
    """d^beta; exact to rounding where it is made of roots."""
    if power == ONE:
        return d
    elif power == HALF:
        return vsqrt(d)
    elif power == THREE_QUARTERS:
        d = vsqrt(d)
        return d * vsqrt(d)
    return vexp(beta * vlog(d))


cdef inline void response_strip(
    const Power power, const ResponseSizes* s, const real* x, real* y, int64_t width
) noexcept nogil:
    cdef int64_t channel, other, i
    cdef vec total, value
    for channel in range(s.channels):
        i = 0
        while i < width:
            total = vset1(0)
            for other in range(max(channel - s.before, 0), min(channel + s.after + 1, s.channels)):
                value = load_left(x + other * s.inner + i, width - i)
                total = vmuladd(total, value, value)
            total = vmuladd(vset1(s.k), vset1(s.alpha), total)
            value = load_left(x + channel * s.inner + i, width - i)
            store_left(y + channel * s.inner + i, value / raised(power, total, vset1(s.beta)), width - i)
            i += LANES


cdef void local_response(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x.  A task is a strip of positions of one image, with all channels."""
    cdef const ResponseSizes* s = <const ResponseSizes*> sizes
    cdef int64_t task, at, width
    cdef const real* x
    cdef real* y
    for task in range(first, last):
        at = task % s.strips * STRIP
        width = min(s.inner - at, STRIP)
        at += task // s.strips * s.channels * s.inner
        x = <const real*> arrays[1] + at
        y = <real*> arrays[0] + at
        if s.power == THREE_QUARTERS:
            response_strip(THREE_QUARTERS, s, x, y, width)
        elif s.power == HALF:
            response_strip(HALF, s, x, y, width)
        elif s.power == ONE:
            response_strip(ONE, s, x, y, width)
        else:
            response_strip(GENERAL, s, x, y, width)


def channel_sizes(dict fields):
    cdef ChannelSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def moment_sizes(dict fields):
    cdef MomentSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def row_sizes(dict fields):
    cdef RowSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def column_sizes(dict fields):
    cdef ColumnSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def response_sizes(dict fields):
    cdef ResponseSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "per_channel": (PyCapsule_New(<void*> per_channel, b"fastconv kernel", NULL), channel_sizes),
    "moments": (PyCapsule_New(<void*> moments, b"fastconv kernel", NULL), moment_sizes),
    "normalise_rows": (PyCapsule_New(<void*> normalise_rows, b"fastconv kernel", NULL), row_sizes),
    "normalise_columns": (PyCapsule_New(<void*> normalise_columns, b"fastconv kernel", NULL), column_sizes),
    "local_response": (PyCapsule_New(<void*> local_response, b"fastconv kernel", NULL), response_sizes),
}
OPERATIONS = {"normalise": NORMALISE, "normalise_relu": NORMALISE_RELU, "prelu": PRELU}
POWERS = {0.75: THREE_QUARTERS, 0.5: HALF, 1.0: ONE}
GENERAL_POWER = GENERAL
STRIP_ELEMENTS = STRIP
COLUMN_STRIP = COLUMN_VECTORS * LANES
