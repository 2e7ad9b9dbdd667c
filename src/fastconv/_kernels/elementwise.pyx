"""Activations: y[i] = f(x[i]) at memory speed.

Decisions
---------
a. One loop, with the operation as a constant argument: the compiler makes a loop for each, the text has one.
b. Divisions by constants are products with the reciprocal: a division costs as much as the rest of hardswish together.
c. exp and its relatives are polynomials on whole vectors (`vector_math.pxd`).  A table is the alternative: its gathers
   are slower than five multiply-adds.
d. sigmoid goes through exp(-abs(x)), and mish through a quotient in exp(x) with x capped where the quotient has reached
   1: nothing overflows, and both keep their relative accuracy where they are tiny.

y may be x: every element is read before it is written, by the thread that writes it.
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.vector_math cimport (
    LANES, TANH_HIGHEST, real, vabs, vec, verfc_positive, vexp, vexpm1, vload, vload_first, vlog1p_fraction, vmax, vmin,
    vmuladd, vselect_greater, vselect_number, vset1, vstore, vstore_first, vtanh,
)  # fmt: skip

cdef enum Operation:
    RELU, CLIP, THRESHOLD, LEAKY_RELU, EXPONENTIAL_LINEAR, SIGMOID, LOG_SIGMOID, SILU, TANH, MISH, GELU, GELU_TANH
    HARDSIGMOID, HARDSWISH, SOFTPLUS, SOFTSIGN, HARDSHRINK, SOFTSHRINK, TANHSHRINK

cdef struct MapSizes:
    int64_t operation, elements
    int64_t chunk           # elements of one task
    double a, b, c          # the operation's parameters


cdef inline vec sigmoid(vec x) noexcept nogil:
    cdef vec e = vexp(-vabs(x))
    return vselect_greater(vset1(0), x, e, vset1(1)) / (vset1(1) + e)


cdef inline vec softplus(vec x) noexcept nogil:
    return vmax(vset1(0), x) + vlog1p_fraction(vexp(-vabs(x)))


cdef inline vec mish(vec x) noexcept nogil:
    """tanh(log(1 + e)) = (e² + 2 e) / (e² + 2 e + 2)."""
    cdef vec e = vexp(vmin(vset1(TANH_HIGHEST), x))
    e = e * (e + vset1(2))
    return x * (e / (e + vset1(2)))


cdef inline vec gelu(vec x) noexcept nogil:
    cdef vec tail = vset1(0.5) * verfc_positive(vabs(x) * vset1(0.70710678118654752440))
    return x * vselect_greater(vset1(0), x, tail, vset1(1) - tail)


cdef inline vec apply(const Operation operation, vec x, vec a, vec b, vec c) noexcept nogil:
    if operation == RELU:
        return vmax(vset1(0), x)
    elif operation == CLIP:
        return vmin(b, vmax(a, x))
    elif operation == THRESHOLD:
        return vselect_greater(x, a, x, vselect_number(x, b, x))
    elif operation == LEAKY_RELU:
        return vselect_greater(x, vset1(0), x, x * a)
    elif operation == EXPONENTIAL_LINEAR:
        return vselect_greater(vset1(0), x, b * vexpm1(c * x), a * x)
    elif operation == SIGMOID:
        return sigmoid(x)
    elif operation == LOG_SIGMOID:
        return -softplus(-x)
    elif operation == SILU:
        return x * sigmoid(x)
    elif operation == TANH:
        return vtanh(x)
    elif operation == MISH:
        return mish(x)
    elif operation == GELU:
        return gelu(x)
    elif operation == GELU_TANH:
        return x * sigmoid(x * vmuladd(vset1(1.5957691216057307117), vset1(0.071354816272600248776), x * x))
    elif operation == HARDSIGMOID:
        return vmin(vset1(6), vmax(vset1(0), x + vset1(3))) * vset1(1.0 / 6)
    elif operation == HARDSWISH:
        return x * (vmin(vset1(6), vmax(vset1(0), x + vset1(3))) * vset1(1.0 / 6))
    elif operation == SOFTPLUS:
        return vselect_greater(a * x, b, x, softplus(a * x) * c)
    elif operation == SOFTSIGN:
        return x / (vset1(1) + vabs(x))
    elif operation == HARDSHRINK:
        return vselect_greater(vabs(x), a, x, vselect_number(x, vset1(0), x))
    elif operation == SOFTSHRINK:
        return x - vmin(a, vmax(-a, x))
    else:
        return x - vtanh(x)


cdef inline void run(
    const Operation operation, const MapSizes* s, const real* x, real* y, int64_t elements
) noexcept nogil:
    cdef vec a = vset1(s.a), b = vset1(s.b), c = vset1(s.c)
    cdef int64_t i = 0
    while i + LANES <= elements:
        vstore(y + i, apply(operation, vload(x + i), a, b, c))
        i += LANES
    if i < elements:
        vstore_first(
            y + i, apply(operation, vload_first(x + i, <int> (elements - i)), a, b, c), <int> (elements - i)
        )


cdef void map_elements(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x.  A task is a chunk of elements."""
    cdef const MapSizes* s = <const MapSizes*> sizes
    cdef int64_t start = first * s.chunk
    cdef int64_t elements = min(last * s.chunk, s.elements) - start
    cdef const real* x = <const real*> arrays[1] + start
    cdef real* y = <real*> arrays[0] + start
    if s.operation == RELU:
        run(RELU, s, x, y, elements)
    elif s.operation == CLIP:
        run(CLIP, s, x, y, elements)
    elif s.operation == THRESHOLD:
        run(THRESHOLD, s, x, y, elements)
    elif s.operation == LEAKY_RELU:
        run(LEAKY_RELU, s, x, y, elements)
    elif s.operation == EXPONENTIAL_LINEAR:
        run(EXPONENTIAL_LINEAR, s, x, y, elements)
    elif s.operation == SIGMOID:
        run(SIGMOID, s, x, y, elements)
    elif s.operation == LOG_SIGMOID:
        run(LOG_SIGMOID, s, x, y, elements)
    elif s.operation == SILU:
        run(SILU, s, x, y, elements)
    elif s.operation == TANH:
        run(TANH, s, x, y, elements)
    elif s.operation == MISH:
        run(MISH, s, x, y, elements)
    elif s.operation == GELU:
        run(GELU, s, x, y, elements)
    elif s.operation == GELU_TANH:
        run(GELU_TANH, s, x, y, elements)
    elif s.operation == HARDSIGMOID:
        run(HARDSIGMOID, s, x, y, elements)
    elif s.operation == HARDSWISH:
        run(HARDSWISH, s, x, y, elements)
    elif s.operation == SOFTPLUS:
        run(SOFTPLUS, s, x, y, elements)
    elif s.operation == SOFTSIGN:
        run(SOFTSIGN, s, x, y, elements)
    elif s.operation == HARDSHRINK:
        run(HARDSHRINK, s, x, y, elements)
    elif s.operation == SOFTSHRINK:
        run(SOFTSHRINK, s, x, y, elements)
    else:
        run(TANHSHRINK, s, x, y, elements)


def map_sizes(dict fields):
    cdef MapSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"map": (PyCapsule_New(<void*> map_elements, b"fastconv kernel", NULL), map_sizes)}
OPERATIONS = {
    "relu": RELU,
    "clip": CLIP,
    "threshold": THRESHOLD,
    "leaky_relu": LEAKY_RELU,
    "exponential_linear": EXPONENTIAL_LINEAR,
    "sigmoid": SIGMOID,
    "log_sigmoid": LOG_SIGMOID,
    "silu": SILU,
    "tanh": TANH,
    "mish": MISH,
    "gelu": GELU,
    "gelu_tanh": GELU_TANH,
    "hardsigmoid": HARDSIGMOID,
    "hardswish": HARDSWISH,
    "softplus": SOFTPLUS,
    "softsign": SOFTSIGN,
    "hardshrink": HARDSHRINK,
    "softshrink": SOFTSHRINK,
    "tanhshrink": TANHSHRINK,
}
