"""Element-wise functions of one array, in the memory of their input where nothing else reads it."""

from __future__ import annotations

from math import inf, isnan

import numpy as np

from fastconv.graph.activations import ACTIVATIONS, activation_of
from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.lowerings.arithmetic import arithmetic
from fastconv.graph.memory import Tensor
from fastconv.ops.elementwise import ELEMENTWISE, ElementwiseSpec

__all__ = ["clamp", "elementwise"]


def elementwise(build: Builder, x: Tensor, activation: str, parameters: tuple[float, ...] = ()):
    if x.dtype not in FLOATS:
        return None
    spec = ElementwiseSpec(activation, x.size, x.dtype.name, parameters)
    step = build.kernel(ELEMENTWISE, spec)
    order = None if x.is_contiguous else x.dense_order()
    x = x.turned(order) if order else build.contiguous(x)
    (y,) = build.emit(step, [build.result_over(x)], [x], "direct", (ELEMENTWISE, spec))
    return [y.turned_back(order) if order else y]


def clamp(build: Builder, x: Tensor, low: float, high: float):
    """`x` itself where the limits are infinite."""
    if (low, high) == (-inf, inf):
        return [x]
    return elementwise(build, x, "relu") if (low, high) == (0, inf) else elementwise(build, x, "hardtanh", (low, high))


@lowering(*ACTIVATIONS, "Gelu", "Softplus", "Swish", "ThresholdedRelu")
def activation(build: Builder, node, x):
    found = activation_of(node)
    return found and elementwise(build, x, *found)


@lowering("HardSigmoid")
def hard_sigmoid(build: Builder, node, x):
    if activation_of(node):
        return activation(build, node, x)
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    scaled = arithmetic(build, "mul", x, np.array(alpha, x.dtype)) if x.dtype in FLOATS else None
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
