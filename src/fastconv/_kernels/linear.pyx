"""Matrix times few vectors: a fully connected layer on a batch too small to be a matrix product.

Two kernels, both bound by the cache or memory that holds the weights.

`few_images` reads the weights where they lie
---------------------------------------------
a. Nothing is packed: for a function, whose weights belong to the caller, a copy would take longer than the product.
b. Lanes run along the inputs; ROWS outputs are computed together, so that as many streams of weights are under way, for
   up to MAX_IMAGES images that share each loaded weight.  Further images find these weights in the cache.
c. Several images are copied side by side first, register by register: rows a power of two apart would push each other
   out of the first-level cache.
d. Each dot product is summed lane by lane and then across the lanes, in an order that depends on its length alone.

`panels` reads those of the direct convolution
----------------------------------------------
a. Lanes are outputs, so that no sum goes across them.  One image takes several panels together: the chains of one would
   wait for each other's results, and several streams are read faster than one.  It is as fast as a loop that only reads.
b. An output is the bias plus its products in the order of the inputs: the bits of the convolution's tile.
c. Weights may be stored as float16.  They are widened on their way into the registers, exactly, so the bits are those of
   the widened weights, and half the bytes are read.

    w    [panel][input][output of the panel]
    bias [panel][output of the panel]           the last panel is narrower, filled up with zeros
"""

from libc.stdint cimport int64_t, uint16_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    const int TILE_VECTORS
    const bint WIDENS
    vec vload(const real*)
    vec vload_first(const real*, int)
    vec vload_half(const uint16_t*)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vset1(real)
    vec vkeep(vec)
    vec vmuladd(vec, vec, vec)
    real vsum(vec)

cdef enum:
    ROWS = 4
    MAX_IMAGES = 4
    TAG_BYTES = 64      # head of the scratch: whether the images lie behind it
    CHAINS = 8          # sums that are under way together
    MAX_PANELS = 8
    MAX_VECTORS = 4

cdef struct LinearSizes:
    int64_t images, inputs, outputs
    int64_t task_outputs

cdef struct PanelSizes:
    int64_t images, inputs, outputs
    int64_t half            # whether the weights are float16


cdef inline void dot_products(
    const int rows, const int images, const real* x, const real* w, const real* bias, int64_t inputs, int64_t outputs,
    real* y,
) noexcept nogil:
    """y[image][row] = bias[row] + Σ x[k // LANES][image][k % LANES] · w[row][k]."""
    cdef vec total[ROWS][MAX_IMAGES]
    cdef vec value[MAX_IMAGES]
    cdef vec weight
    cdef int64_t k = 0
    cdef int i, r, left
    for r in range(rows):
        for i in range(images):
            total[r][i] = vset1(0)
    while k + LANES <= inputs:
        for i in range(images):
            value[i] = vkeep(vload(x + i * LANES))
        for r in range(rows):
            weight = vkeep(vload(w + r * inputs + k))
            for i in range(images):
                total[r][i] = vmuladd(total[r][i], value[i], weight)
        k += LANES
        x += images * LANES
    left = <int> (inputs - k)
    if left:
        for i in range(images):
            value[i] = vload_first(x + i * LANES, left)
        for r in range(rows):
            weight = vload_first(w + r * inputs + k, left)
            for i in range(images):
                total[r][i] = vmuladd(total[r][i], value[i], weight)
    for r in range(rows):
        for i in range(images):
            y[i * outputs + r] = bias[r] + vsum(total[r][i])


cdef inline int64_t together(int64_t images) noexcept nogil:
    """How many of the images that are left share a loaded weight."""
    return min(images, MAX_IMAGES)


cdef inline void side_by_side(const LinearSizes* s, const real* x, int64_t step, real* to) noexcept nogil:
    """Images that are computed together, register by register; `step` elements for each image."""
    cdef int64_t first = 0, images, image, k
    while first < s.images:
        images = together(s.images - first)
        for image in range(images):
            k = 0
            while k + LANES <= s.inputs:
                vstore(to + first * step + k * images + image * LANES, vload(x + (first + image) * s.inputs + k))
                k += LANES
            if k < s.inputs:
                vstore(
                    to + first * step + k * images + image * LANES,
                    vload_first(x + (first + image) * s.inputs + k, <int> (s.inputs - k)),
                )
        first += images


cdef inline void all_images(
    const int rows, const LinearSizes* s, const real* x, int64_t step, const real* w, const real* bias, real* y
) noexcept nogil:
    cdef int64_t first = 0, images
    while first < s.images:
        images = together(s.images - first)
        if images == 4:
            dot_products(rows, 4, x + first * step, w, bias, s.inputs, s.outputs, y + first * s.outputs)
        elif images == 3:
            dot_products(rows, 3, x + first * step, w, bias, s.inputs, s.outputs, y + first * s.outputs)
        elif images == 2:
            dot_products(rows, 2, x + first * step, w, bias, s.inputs, s.outputs, y + first * s.outputs)
        else:
            dot_products(rows, 1, x + first * step, w, bias, s.inputs, s.outputs, y + first * s.outputs)
        first += images


cdef void few_images(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y[image][output], x[image][input], w[output][input], bias.  A task is some outputs for all images."""
    cdef const LinearSizes* s = <const LinearSizes*> sizes
    cdef int64_t row = first * s.task_outputs
    cdef int64_t end = min(last * s.task_outputs, s.outputs)
    cdef int64_t step = (s.inputs + LANES - 1) // LANES * LANES
    cdef int64_t* tag = <int64_t*> scratch
    cdef const real* x = <const real*> arrays[1]
    cdef const real* w = <const real*> arrays[2]
    cdef const real* bias = <const real*> arrays[3]
    cdef real* y = <real*> arrays[0]
    if s.images > 1:
        if not tag[0]:
            side_by_side(s, x, step, <real*> (scratch + TAG_BYTES))
            tag[0] = 1
        x = <const real*> (scratch + TAG_BYTES)
    while row + ROWS <= end:
        all_images(ROWS, s, x, step, w + row * s.inputs, bias + row, y + row)
        row += ROWS
    while row < end:
        all_images(1, s, x, step, w + row * s.inputs, bias + row, y + row)
        row += 1


cdef inline vec weight_at(const bint half, const void* w, int64_t at) noexcept nogil:
    if half:
        return vload_half(<const uint16_t*> w + at)
    return vload(<const real*> w + at)


cdef inline void sums(
    const bint half, const int panels, const int vectors, const int images, const PanelSizes* s, const real* x,
    const void* w, const real* bias, int64_t outputs, real* y,
) noexcept nogil:
    """y[image][output] = bias[output] + Σ x[image][k] · w[k][output], for neighbouring panels of which `outputs` are stored."""
    cdef vec total[MAX_PANELS][MAX_VECTORS][MAX_IMAGES]
    cdef vec value[MAX_IMAGES]
    cdef vec weight
    cdef int64_t k, left, step = s.inputs * vectors * LANES
    cdef int p, v, i
    for p in range(panels):
        for v in range(vectors):
            for i in range(images):
                total[p][v][i] = vload(bias + (p * vectors + v) * LANES)
    for k in range(s.inputs):
        for i in range(images):
            value[i] = vkeep(vset1(x[i * s.inputs + k]))
        for p in range(panels):
            for v in range(vectors):
                weight = weight_at(half, w, p * step + (k * vectors + v) * LANES)
                if images > 1:
                    weight = vkeep(weight)
                for i in range(images):
                    total[p][v][i] = vmuladd(total[p][v][i], value[i], weight)
    for p in range(panels):
        for v in range(vectors):
            left = min(outputs - (p * vectors + v) * LANES, LANES)
            for i in range(images if left > 0 else 0):
                vstore_first(y + i * s.outputs + (p * vectors + v) * LANES, total[p][v][i], <int> left)


cdef inline void images_of_panels(
    const bint half, const int panels, const int vectors, const PanelSizes* s, const real* x, const void* w,
    const real* bias, int64_t outputs, real* y,
) noexcept nogil:
    """All images, as many at a time as there are chains for."""
    cdef int64_t image = 0
    while image < s.images:
        if panels * vectors * 4 <= CHAINS and s.images - image >= 4:
            sums(half, panels, vectors, 4, s, x, w, bias, outputs, y)
            image, x, y = image + 4, x + 4 * s.inputs, y + 4 * s.outputs
        elif panels * vectors * 2 <= CHAINS and s.images - image >= 2:
            sums(half, panels, vectors, 2, s, x, w, bias, outputs, y)
            image, x, y = image + 2, x + 2 * s.inputs, y + 2 * s.outputs
        else:
            sums(half, panels, vectors, 1, s, x, w, bias, outputs, y)
            image, x, y = image + 1, x + s.inputs, y + s.outputs


cdef inline void range_of_panels(
    const bint half, const PanelSizes* s, const real* x, const char* w, const real* bias, int64_t output, int64_t end, real* y
) noexcept nogil:
    """The outputs from `output`, the first of a panel, up to `end`."""
    cdef int64_t panel = TILE_VECTORS * LANES
    cdef int64_t together = CHAINS // TILE_VECTORS * panel
    cdef int64_t size = sizeof(uint16_t) if half else sizeof(real)
    while output < end:
        if s.images == 1 and s.outputs - output >= together and end - output >= together:
            sums(
                half, CHAINS // TILE_VECTORS, TILE_VECTORS, 1, s, x, w + output * s.inputs * size, bias + output, together,
                y + output,
            )
            output += together
        elif s.outputs - output > (TILE_VECTORS + 1) // 2 * LANES:
            images_of_panels(
                half, 1, TILE_VECTORS, s, x, w + output * s.inputs * size, bias + output, s.outputs - output, y + output
            )
            output += panel
        else:
            images_of_panels(
                half, 1, (TILE_VECTORS + 1) // 2, s, x, w + output * s.inputs * size, bias + output, s.outputs - output,
                y + output,
            )
            output += panel


cdef void panels(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y[image][output], x[image][input], w, bias.  A task is as many panels as one image takes together."""
    cdef const PanelSizes* s = <const PanelSizes*> sizes
    cdef const real* x = <const real*> arrays[1]
    cdef const char* w = <const char*> arrays[2]
    cdef const real* bias = <const real*> arrays[3]
    cdef real* y = <real*> arrays[0]
    cdef int64_t end = min(last * CHAINS * LANES, s.outputs)
    if s.half and WIDENS:
        range_of_panels(True, s, x, w, bias, first * CHAINS * LANES, end, y)
    else:
        range_of_panels(False, s, x, w, bias, first * CHAINS * LANES, end, y)


def linear_sizes(dict fields):
    cdef LinearSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def panel_sizes(dict fields):
    cdef PanelSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "few_images": (PyCapsule_New(<void*> few_images, b"fastconv kernel", NULL), linear_sizes),
    "panels": (PyCapsule_New(<void*> panels, b"fastconv kernel", NULL), panel_sizes),
}
TASK_OUTPUTS = CHAINS * LANES   # of a task of `panels`
READS_HALF = bool(WIDENS)       # whether `panels` takes float16 weights
