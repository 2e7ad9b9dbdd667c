"""Element-wise functions of one array, in the memory of their input where nothing else reads it."""

from __future__ import annotations

from math import inf, isclose, isnan

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.lowerings.arithmetic import arithmetic
from fastconv.graph.memory import Tensor
from fastconv.ops.elementwise import ELEMENTWISE, ElementwiseSpec

__all__ = ["clamp", "elementwise"]

# operator → activation, and ONNX's attributes with their defaults as its parameters
ACTIVATIONS = {
    "Celu": ("celu", (("alpha", 1.0),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSwish": ("hardswish", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Mish": ("mish", ()),
    "Relu": ("relu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
}


def elementwise(build: Builder, x: Tensor, activation: str, parameters: tuple[float, ...] = ()):
    if x.dtype not in FLOATS:
        return None
    spec = ElementwiseSpec(activation, x.size, x.dtype.name, parameters)
    step = build.kernel(ELEMENTWISE, spec)
    x = build.contiguous(x)
    return build.emit(step, [build.result_over(x)], [x], "direct", (ELEMENTWISE, spec))


def clamp(build: Builder, x: Tensor, low: float, high: float):
    """`x` itself where the limits are infinite."""
    if (low, high) == (-inf, inf):
        return [x]
    return elementwise(build, x, "relu") if (low, high) == (0, inf) else elementwise(build, x, "hardtanh", (low, high))


@lowering(*ACTIVATIONS)
def activation(build: Builder, node, x):
    name, parameters = ACTIVATIONS[node.op_type]
    return elementwise(build, x, name, tuple(float(node.attributes.get(key, default)) for key, default in parameters))


@lowering("Gelu")
def gelu(build: Builder, node, x):
    return elementwise(build, x, "gelu_tanh" if node.attributes.get("approximate", "none") == "tanh" else "gelu")


@lowering("Swish")
def swish(build: Builder, node, x):
    return elementwise(build, x, "silu") if node.attributes.get("alpha", 1.0) == 1.0 else None


@lowering("Softplus")
def softplus(build: Builder, node, x):
    return elementwise(build, x, "softplus", (1.0, inf))


@lowering("ThresholdedRelu")
def thresholded_relu(build: Builder, node, x):
    return elementwise(build, x, "threshold", (node.attributes.get("alpha", 1.0), 0.0))


@lowering("HardSigmoid")
def hard_sigmoid(build: Builder, node, x):
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    if x.dtype not in FLOATS:
        return None
    if isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return elementwise(build, x, "hardsigmoid")
    scaled = arithmetic(build, "mul", x, np.array(alpha, x.dtype))
    return scaled and arithmetic(build, "add", scaled[0], np.array(beta, x.dtype), 0.0, 1.0)


@lowering("Clip")
def clip(build: Builder, node, x, low=None, high=None):
    ends = []
    for value, name, default in ((low, "min", -inf), (high, "max", inf)):
        end = node.attributes.get(name, default) if value is None else value
        if isinstance(end, Tensor) or np.size(end) != 1 or isnan(np.reshape(end, ())):
            return None
        ends.append(float(np.reshape(end, ())))
    return clamp(build, x, *ends) if isinstance(x, Tensor) else None
