"""Arithmetic of two arrays that broadcast, in the memory of one of them where nothing else reads it."""

from __future__ import annotations

from math import inf

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.memory import Tensor
from fastconv.ops.binary import BINARY, BinarySpec

__all__ = ["arithmetic"]

OPERATIONS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min", "Sum": "add"}


def arithmetic(build: Builder, operation: str, a, b, low: float = -inf, high: float = inf, kept=()):
    """``clamp(a ∘ b)``; either may be a constant array.  The node goes on to read those that are `kept`.

    None, before anything is emitted, for other types than floats.
    """
    if a.dtype not in FLOATS or b.dtype != a.dtype:
        return None
    spec = BinarySpec.of(operation, (a.shape, a.strides), (b.shape, b.strides), a.dtype, low, high)
    row = BINARY.choose(spec)
    if row.name != "direct":
        a, b = (build.contiguous(v) if isinstance(v, Tensor) else np.ascontiguousarray(v) for v in (a, b))
        spec = BinarySpec.of(operation, (a.shape, a.strides), (b.shape, b.strides), a.dtype, low, high)
        row = BINARY.choose(spec)
    shape = np.broadcast_shapes(a.shape, b.shape)
    for operand, other in ((a, b), (b, a)):
        if isinstance(operand, Tensor) and operand.shape == shape and build.may_overwrite(operand, other, kept=kept):
            y = operand.reshaped(shape)
            break
    else:
        y = build.tensor(shape, a.dtype)
    return build.emit(row.plan(spec), [y], [a, b], row.name, (BINARY, spec))


def broadcast_at(build: Builder, a, b, axis: int | None):
    """`b` with its first axis at `axis` of `a`, as opsets before 7 ask."""
    if axis is None:
        return b
    shape = b.shape + (1,) * (len(a.shape) - axis % len(a.shape) - len(b.shape))
    return build.contiguous(b).reshaped(shape) if isinstance(b, Tensor) else b.reshape(shape)


@lowering("Add", "Sub", "Mul", "Div")
def broadcast(build: Builder, node, a, b):
    return arithmetic(build, OPERATIONS[node.op_type], a, broadcast_at(build, a, b, node.attributes.get("axis")))


@lowering("Add", "Sub", "Mul", "Div", domain="fastconv")
def clamped(build: Builder, node, a, b):
    return arithmetic(build, OPERATIONS[node.op_type], a, b, node.attributes["low"], node.attributes["high"])


@lowering("Sum", "Max", "Min")
def reduced(build: Builder, node, *inputs):
    if len(inputs) < 2 or any(value.dtype not in FLOATS or value.dtype != inputs[0].dtype for value in inputs):
        return None
    result = inputs[0]
    for i, value in enumerate(inputs[1:], 2):
        (result,) = arithmetic(build, OPERATIONS[node.op_type], result, value, kept=inputs[i:])
    return [result]


@lowering("Neg", "Reciprocal")
def unary(build: Builder, node, x):
    if x.dtype not in FLOATS:
        return None
    if node.op_type == "Neg":
        return arithmetic(build, "mul", x, np.array(-1, x.dtype))
    return arithmetic(build, "div", np.array(1, x.dtype), x)


@lowering("Pow")
def power(build: Builder, node, x, exponent):
    is_square = isinstance(exponent, np.ndarray) and exponent.size == 1 and exponent.reshape(()) == 2
    return arithmetic(build, "mul", x, x) if is_square and isinstance(x, Tensor) else None
