"""Arithmetic of two arrays that broadcast, in the memory of one of them where nothing else reads it."""

from __future__ import annotations

from math import inf

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.memory import Tensor, compact_strides
from fastconv.ops.binary import BINARY, BinarySpec

__all__ = ["arithmetic"]

OPERATIONS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min", "Sum": "add"}


def arithmetic(build: Builder, operation: str, a, b, low: float = -inf, high: float = inf, kept=()):
    """``clamp(a ∘ b)``; either may be a constant array.  The node goes on to read those that are `kept`.

    None, before anything is emitted, for other types than floats.
    """
    if a.dtype not in FLOATS or b.dtype != a.dtype:
        return None
    shape = np.broadcast_shapes(a.shape, b.shape)
    operands = a, b
    a, b = (_with_axes(value, len(shape)) for value in operands)
    order = next((order for order in _orders(a, b, shape) if _is_direct(operation, a, b, order)), None)
    if order is None:
        order = tuple(range(len(shape)))
        copies = _copied(operation, a, b)
        operands = (_contiguous(build, value) if copy else value for value, copy in zip(operands, copies, strict=True))
        a, b = (_with_axes(value, len(shape)) for value in operands)
    a, b = (_turned(value, order) for value in (a, b))
    spec = BinarySpec.of(operation, (a.shape, a.strides), (b.shape, b.strides), a.dtype, low, high)
    row = BINARY.choose(spec)
    shape = tuple(shape[axis] for axis in order)
    for operand, other in ((a, b), (b, a)):
        if isinstance(operand, Tensor) and operand.shape == shape and build.may_overwrite(operand, other, kept=kept):
            y = operand.reshaped(shape)
            break
    else:
        y = build.tensor(shape, a.dtype)
    (y,) = build.emit(row.plan(spec), [y], [a, b], row.name, (BINARY, spec))
    return [y.turned_back(order)]


def _with_axes(value, rank: int):
    """With so many axes, those in front of one position."""
    shape = (1,) * (rank - len(value.shape)) + tuple(value.shape)
    if isinstance(value, np.ndarray):
        return value.reshape(shape)
    return Tensor(shape, value.dtype, value.buffer, (0,) * (rank - len(value.shape)) + value.strides)


def _turned(value, order):
    return value.transpose(order) if isinstance(value, np.ndarray) else value.turned(order)


def _orders(a, b, shape):
    """Of the axes: as they come, then as the values of an operand lie that is as large as the result."""
    yield tuple(range(len(shape)))
    for value in (a, b):
        if isinstance(value, Tensor) and value.shape == shape:
            yield tuple(sorted(range(len(shape)), key=lambda axis: -value.strides[axis]))


def _is_direct(operation: str, a, b, order) -> bool:
    a, b = (_turned(value, order) for value in (a, b))
    spec = BinarySpec.of(operation, (a.shape, a.strides), (b.shape, b.strides), a.dtype)
    return BINARY.choose(spec).name == "direct"


def _copied(operation: str, a, b) -> tuple[bool, bool]:
    """Whether `a` and `b` are to be copied: as little as lets the kernel do it."""
    compact = [(value.shape, compact_strides(value.shape, value.dtype.itemsize)) for value in (a, b)]
    as_is = [(value.shape, value.strides) for value in (a, b)]
    for choice in sorted(((False, True), (True, False)), key=lambda c: c[0] * a.size + c[1] * b.size):
        operands = [compact[i] if choice[i] else as_is[i] for i in range(2)]
        if BINARY.choose(BinarySpec.of(operation, *operands, a.dtype)).name == "direct":
            return choice
    return True, True


def _contiguous(build: Builder, value):
    return build.contiguous(value) if isinstance(value, Tensor) else np.ascontiguousarray(value)


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
