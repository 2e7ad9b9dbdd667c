"""Activations of a vector, and of a run of elements; shared by the kernels that apply them.

Decisions
---------
a. One loop, with the operation as a constant argument: the compiler makes a loop for each, the text has one.
b. Divisions by constants are products with the reciprocal: a division costs as much as the rest of hardswish together.
c. exp and its relatives are polynomials on whole vectors (`vector_math.pxd`).  A table is the alternative: its gathers
   are slower than five multiply-adds.
d. sigmoid goes through exp(-abs(x)), and mish through a quotient in exp(x) with x capped where the quotient has reached
   1: nothing overflows, and both keep their relative accuracy where they are tiny.
"""

from libc.stdint cimport int64_t

from fastconv._kernels.vector_math cimport (
    LANES, TANH_HIGHEST, real, vabs, vec, verfc_positive, vexp, vexp_falling, vexpm1, vload, vload_first, vlog1p_fraction, vmax,
    vmin, vmuladd, vselect_greater, vselect_number, vset1, vstore, vstore_first, vtanh,
)  # fmt: skip

cdef enum Operation:
    NO_OPERATION, RELU, CLIP, THRESHOLD, LEAKY_RELU, EXPONENTIAL_LINEAR, SIGMOID, LOG_SIGMOID, SILU, TANH, MISH, GELU, GELU_TANH
    HARDSIGMOID, HARDSWISH, SOFTPLUS, SOFTSIGN, HARDSHRINK, SOFTSHRINK, TANHSHRINK

cdef struct Parameters:
    double a, b, c


cdef inline vec sigmoid(vec x) noexcept nogil:
    cdef vec e = vexp_falling(-vabs(x))
    return vselect_greater(vset1(0), x, e, vset1(1)) / (vset1(1) + e)


cdef inline vec silu(vec x) noexcept nogil:
    cdef vec e = vexp_falling(-vabs(x))
    return vselect_greater(vset1(0), x, x * e, x) / (vset1(1) + e)


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
        return silu(x)
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
    const Operation operation, const Parameters* parameters, const real* x, real* y, int64_t elements
) noexcept nogil:
    cdef vec a = vset1(<real> parameters.a), b = vset1(<real> parameters.b), c = vset1(<real> parameters.c)
    cdef int64_t i = 0
    while i + LANES <= elements:
        vstore(y + i, apply(operation, vload(x + i), a, b, c))
        i += LANES
    if i < elements:
        vstore_first(
            y + i, apply(operation, vload_first(x + i, <int> (elements - i)), a, b, c), <int> (elements - i)
        )


cdef inline void activate(int64_t operation, const Parameters* p, const real* x, real* y, int64_t elements) noexcept nogil:
    """y[i] = f(x[i]); y may be x."""
    if operation == RELU:
        run(RELU, p, x, y, elements)
    elif operation == CLIP:
        run(CLIP, p, x, y, elements)
    elif operation == THRESHOLD:
        run(THRESHOLD, p, x, y, elements)
    elif operation == LEAKY_RELU:
        run(LEAKY_RELU, p, x, y, elements)
    elif operation == EXPONENTIAL_LINEAR:
        run(EXPONENTIAL_LINEAR, p, x, y, elements)
    elif operation == SIGMOID:
        run(SIGMOID, p, x, y, elements)
    elif operation == LOG_SIGMOID:
        run(LOG_SIGMOID, p, x, y, elements)
    elif operation == SILU:
        run(SILU, p, x, y, elements)
    elif operation == TANH:
        run(TANH, p, x, y, elements)
    elif operation == MISH:
        run(MISH, p, x, y, elements)
    elif operation == GELU:
        run(GELU, p, x, y, elements)
    elif operation == GELU_TANH:
        run(GELU_TANH, p, x, y, elements)
    elif operation == HARDSIGMOID:
        run(HARDSIGMOID, p, x, y, elements)
    elif operation == HARDSWISH:
        run(HARDSWISH, p, x, y, elements)
    elif operation == SOFTPLUS:
        run(SOFTPLUS, p, x, y, elements)
    elif operation == SOFTSIGN:
        run(SOFTSIGN, p, x, y, elements)
    elif operation == HARDSHRINK:
        run(HARDSHRINK, p, x, y, elements)
    elif operation == SOFTSHRINK:
        run(SOFTSHRINK, p, x, y, elements)
    else:
        run(TANHSHRINK, p, x, y, elements)
