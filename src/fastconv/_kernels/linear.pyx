"""Matrix times few vectors: a fully connected layer on a batch too small to be a matrix product.

Decisions
---------
a. The weights are read once, in the order in which they lie, and nothing is packed: the layer is bound by the memory that
   holds them.  A packed copy would double it.
b. Lanes run along the inputs; ROWS outputs are computed together, so that as many streams of weights are under way, for
   up to MAX_IMAGES images that share each loaded weight.
c. Each dot product is summed lane by lane and then across the lanes, in an order that depends on its length alone.
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
    vec vset1(real)
    vec vmuladd(vec, vec, vec)
    real vsum(vec)

cdef enum:
    ROWS = 4
    MAX_IMAGES = 4

cdef struct LinearSizes:
    int64_t images, inputs, outputs
    int64_t task_outputs


cdef inline void dot_products(
    const int rows, const int images, const real* x, const real* w, const real* bias, int64_t inputs, int64_t outputs,
    real* y,
) noexcept nogil:
    """y[image][row] = bias[row] + Σ x[image][k] · w[row][k]."""
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
            value[i] = vload(x + i * inputs + k)
        for r in range(rows):
            weight = vload(w + r * inputs + k)
            for i in range(images):
                total[r][i] = vmuladd(total[r][i], value[i], weight)
        k += LANES
    left = <int> (inputs - k)
    if left:
        for i in range(images):
            value[i] = vload_first(x + i * inputs + k, left)
        for r in range(rows):
            weight = vload_first(w + r * inputs + k, left)
            for i in range(images):
                total[r][i] = vmuladd(total[r][i], value[i], weight)
    for r in range(rows):
        for i in range(images):
            y[i * outputs + r] = bias[r] + vsum(total[r][i])


cdef inline void block(
    const int images, const real* x, const real* w, const real* bias, int64_t inputs, int64_t outputs, int64_t rows, real* y
) noexcept nogil:
    cdef int64_t row = 0
    while row + ROWS <= rows:
        dot_products(ROWS, images, x, w + row * inputs, bias + row, inputs, outputs, y + row)
        row += ROWS
    while row < rows:
        dot_products(1, images, x, w + row * inputs, bias + row, inputs, outputs, y + row)
        row += 1


cdef void few_images(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y[image][output], x[image][input], w[output][input], bias.  A task is some outputs for all images."""
    cdef const LinearSizes* s = <const LinearSizes*> sizes
    cdef int64_t begin = first * s.task_outputs
    cdef int64_t rows = min(last * s.task_outputs, s.outputs) - begin
    cdef int64_t image = 0
    cdef const real* x
    cdef const real* w = <const real*> arrays[2] + begin * s.inputs
    cdef const real* bias = <const real*> arrays[3] + begin
    cdef real* y
    while image < s.images:
        x = <const real*> arrays[1] + image * s.inputs
        y = <real*> arrays[0] + image * s.outputs + begin
        if s.images - image >= 4:
            block(4, x, w, bias, s.inputs, s.outputs, rows, y)
            image += 4
        elif s.images - image >= 2:
            block(2, x, w, bias, s.inputs, s.outputs, rows, y)
            image += 2
        else:
            block(1, x, w, bias, s.inputs, s.outputs, rows, y)
            image += 1


def linear_sizes(dict fields):
    cdef LinearSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"few_images": (PyCapsule_New(<void*> few_images, b"fastconv kernel", NULL), linear_sizes)}
