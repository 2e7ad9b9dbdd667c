"""Matrix times few vectors: a fully connected layer on a batch too small to be a matrix product.

Decisions
---------
a. The weights are read once, in the order in which they lie, and nothing is packed: the layer is bound by the memory that
   holds them.  A packed copy would double it.
b. Lanes run along the inputs; ROWS outputs are computed together, so that as many streams of weights are under way, for
   up to MAX_IMAGES images that share each loaded weight.  Further images find these weights in the cache.
c. Several images are copied side by side first, register by register: rows a power of two apart would push each other
   out of the first-level cache.
d. Each dot product is summed lane by lane and then across the lanes, in an order that depends on its length alone.
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    vec vload(const real*)
    vec vload_first(const real*, int)
    void vstore(real*, vec)
    vec vset1(real)
    vec vkeep(vec)
    vec vmuladd(vec, vec, vec)
    real vsum(vec)

cdef enum:
    ROWS = 4
    MAX_IMAGES = 4
    TAG_BYTES = 64      # head of the scratch: whether the images lie behind it

cdef struct LinearSizes:
    int64_t images, inputs, outputs
    int64_t task_outputs


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


def linear_sizes(dict fields):
    cdef LinearSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"few_images": (PyCapsule_New(<void*> few_images, b"fastconv kernel", NULL), linear_sizes)}
