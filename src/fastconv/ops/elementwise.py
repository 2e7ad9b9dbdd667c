"""Element-wise activations: their spec, and the algorithms that compute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastconv import reference
from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.vectorised import MemorySpec, NumpyReference, Vectorised, thread_limit
from fastconv.reference.activation import SELU_ALPHA, SELU_SCALE

__all__ = ["ACTIVATIONS", "ELEMENTWISE", "ElementwiseSpec", "elementwise", "in_memory_order", "operation_parameters"]

CHUNK_ELEMENTS = 8192  # of one task: 32 KiB of float32


class Activation(NamedTuple):
    """How an activation is computed: by the reference, and by which operation of the kernel with which a, b and c."""

    reference: Callable
    kernel: str
    parameters: Callable[..., tuple[float, ...]]
    cost: int  # time of an element in the cache, in that of its memory traffic


def _none():
    return ()


def _same(*parameters):
    return parameters


ACTIVATIONS = {
    "relu": Activation(reference.relu, "relu", _none, 1),
    "relu6": Activation(reference.relu6, "clip", lambda: (0.0, 6.0), 1),
    "hardtanh": Activation(reference.hardtanh, "clip", _same, 1),
    "threshold": Activation(reference.threshold, "threshold", _same, 1),
    "leaky_relu": Activation(reference.leaky_relu, "leaky_relu", _same, 1),
    "elu": Activation(reference.elu, "exponential_linear", lambda alpha: (1.0, alpha, 1.0), 3),
    "selu": Activation(reference.selu, "exponential_linear", lambda: (SELU_SCALE, SELU_SCALE * SELU_ALPHA, 1.0), 3),
    "celu": Activation(reference.celu, "exponential_linear", lambda alpha: (1.0, alpha, 1 / alpha), 3),
    "sigmoid": Activation(reference.sigmoid, "sigmoid", _none, 3),
    "logsigmoid": Activation(reference.log_sigmoid, "log_sigmoid", _none, 5),
    "silu": Activation(reference.silu, "silu", _none, 3),
    "tanh": Activation(reference.tanh, "tanh", _none, 3),
    "mish": Activation(reference.mish, "mish", _none, 3),
    "gelu": Activation(reference.gelu, "gelu", _none, 5),
    "gelu_tanh": Activation(lambda x: reference.gelu(x, "tanh"), "gelu_tanh", _none, 3),
    "hardsigmoid": Activation(reference.hardsigmoid, "hardsigmoid", _none, 1),
    "hardswish": Activation(reference.hardswish, "hardswish", _none, 1),
    "softplus": Activation(reference.softplus, "softplus", lambda beta, limit: (beta, limit, 1 / beta), 5),
    "softsign": Activation(reference.softsign, "softsign", _none, 1),
    "hardshrink": Activation(reference.hardshrink, "hardshrink", _same, 1),
    "softshrink": Activation(reference.softshrink, "softshrink", _same, 1),
    "tanhshrink": Activation(reference.tanhshrink, "tanhshrink", _none, 3),
}


def operation_parameters(activation: str, parameters: tuple[float, ...] = ()) -> dict[str, float]:
    """a, b and c of the kernel's operation."""
    values = ACTIVATIONS[activation].parameters(*parameters)
    return dict(zip("abc", (*values, 0.0, 0.0, 0.0), strict=False))


@dataclass(frozen=True)
class ElementwiseSpec(MemorySpec):
    """An activation of so many elements."""

    activation: str
    elements: int
    dtype: str
    parameters: tuple[float, ...] = ()


class OnePass(Vectorised):
    """Reads, computes and writes a vector at a time; `y` may be `x`."""

    def step(self, spec):
        activation = ACTIVATIONS[spec.activation]
        kernels = family("elementwise", spec.dtype)
        return Step(
            kernels.KERNELS["map"],
            {
                "operation": kernels.OPERATIONS[activation.kernel],
                "elements": spec.elements,
                "chunk": CHUNK_ELEMENTS,
                "parameters": operation_parameters(spec.activation, spec.parameters),
            },
            tasks=-(-spec.elements // CHUNK_ELEMENTS),
            threads=thread_limit(spec, activation.cost),
        )

    def roundings(self, spec):
        return 1 if ACTIVATIONS[spec.activation].cost == 1 else 8


ELEMENTWISE = Op(
    "element-wise activation",
    (OnePass(), NumpyReference(lambda spec, x: ACTIVATIONS[spec.activation].reference(x, *spec.parameters))),
)


def elementwise(
    activation: str, x: np.ndarray, parameters: tuple[float, ...] = (), inplace: bool = False
) -> np.ndarray:
    """The activation of `x`, in the memory order of `x`; in `x` itself where that is asked for and `x` is writable."""
    plan = _plan(activation, x.size, x.dtype.char, parameters)
    inplace = inplace and x.flags.writeable
    if x.flags.c_contiguous:
        y = x if inplace else np.empty(x.shape, x.dtype)
        plan(y, x)
        return y
    dense = in_memory_order(x)
    y = dense if inplace else np.empty_like(dense)
    plan(y, dense)
    if inplace and dense is not x:
        x[...] = y
    return x if inplace else y


def in_memory_order(x: np.ndarray) -> np.ndarray:
    """`x` where its elements lie side by side in some order of its axes, as channels-last arrays do; else a copy."""
    order = sorted(range(x.ndim), key=x.strides.__getitem__, reverse=True)
    return x if x.transpose(order).flags.c_contiguous else x.copy(order="K")


@plan_cache
def _plan(activation: str, elements: int, char: str, parameters: tuple[float, ...]):
    spec = ElementwiseSpec(activation, elements, np.dtype(char).name, parameters)
    return ELEMENTWISE.choose(spec).plan(spec)
