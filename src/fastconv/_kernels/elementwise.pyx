"""Activations: y[i] = f(x[i]) at memory speed (`activation.pxd`).

y may be x: every element is read before it is written, by the thread that writes it.
"""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.activation cimport (
    CLIP, EXPONENTIAL_LINEAR, GELU, GELU_TANH, HARDSHRINK, HARDSIGMOID, HARDSWISH, LEAKY_RELU, LOG_SIGMOID, MISH, RELU,
    SIGMOID, SILU, SOFTPLUS, SOFTSHRINK, SOFTSIGN, TANH, TANHSHRINK, THRESHOLD, Parameters, activate, real,
)  # fmt: skip

cdef struct MapSizes:
    int64_t operation, elements
    int64_t chunk               # elements of one task
    Parameters parameters


cdef void map_elements(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x.  A task is a chunk of elements."""
    cdef const MapSizes* s = <const MapSizes*> sizes
    cdef int64_t start = first * s.chunk
    cdef int64_t elements = min(last * s.chunk, s.elements) - start
    cdef const real* x = <const real*> arrays[1] + start
    cdef real* y = <real*> arrays[0] + start
    activate(s.operation, &s.parameters, x, y, elements)


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
