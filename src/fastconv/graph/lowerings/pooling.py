"""Pooling over windows and over whole planes."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.geometry import Window
from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.lowerings.arithmetic import arithmetic
from fastconv.graph.memory import Tensor
from fastconv.ops.pool import AVERAGE_POOL, MAX_POOL
from fastconv.ops.pool_plans import CopyPlan, VectorPlan
from fastconv.ops.pool_spec import AveragePoolSpec, MaxPoolSpec
from fastconv.reference.precision import silent


def _window(node, x: Tensor) -> Window | None:
    at = node.attributes
    if x.dtype not in FLOATS or not 3 <= len(x.shape) <= 5 or at.get("storage_order", 0):
        return None
    rank = len(x.shape) - 2
    word = at.get("auto_pad", "NOTSET")
    pads = at.get("pads") or (0,) * (2 * rank)
    padding = tuple(zip(pads[:rank], pads[rank:], strict=True))
    return Window.of(
        x.shape[2:],
        at["kernel_shape"],
        at.get("strides") or 1,
        {"SAME_UPPER": word, "SAME_LOWER": word, "VALID": "valid"}.get(word, padding),
        at.get("dilations") or 1,
        bool(at.get("ceil_mode", 0)),
    )


def _pool(build: Builder, op, spec_type, x: Tensor, window: Window, *more):
    spec = spec_type(*x.shape[:2], window, x.dtype.name, x.strides, *more)
    if not spec.is_compact or spec.channels_last:
        x = build.contiguous(x)
        spec = spec_type(*x.shape[:2], window, x.dtype.name, x.strides, *more)
    y = build.tensor(spec.y_shape, x.dtype)  # before the plan, whose tables grow with it
    plan = build.kernel(op, spec)
    work = plan.step if isinstance(plan, (CopyPlan, VectorPlan)) else lambda y, x: np.copyto(y, plan(x))
    return build.emit(work, [y], [x], "direct", (op, spec))


@lowering("MaxPool")
def max_pool(build: Builder, node, x):
    window = _window(node, x)
    if window is None or len([name for name in node.outputs if name]) != 1:
        return None
    return _pool(build, MAX_POOL, MaxPoolSpec, x, window)


@lowering("AveragePool")
def average_pool(build: Builder, node, x):
    window = _window(node, x)
    return window and _pool(
        build, AVERAGE_POOL, AveragePoolSpec, x, window, bool(node.attributes.get("count_include_pad", 0))
    )


@lowering("GlobalAveragePool", "GlobalMaxPool")
def global_pool(build: Builder, node, x):
    if len(x.shape) < 3:
        return None
    return _over_trailing(build, x, 2, node.op_type == "GlobalAveragePool", keep=True)


@lowering("ReduceMean", "ReduceMax")
def reduce(build: Builder, node, x, axes=None):
    return _over_axes(build, node, x, axes, node.op_type == "ReduceMean")


@lowering("ReduceL2")
def norm(build: Builder, node, x, axes=None):
    """By the mean of the squares; only the roots, of which there are few, are NumPy's."""
    if not isinstance(x, Tensor) or x.dtype not in FLOATS or 0 in x.shape:
        return None
    if _reduced_axes(node, x, axes) is None:
        return None
    (squares,) = arithmetic(build, "mul", x, x)
    (means,) = _over_axes(build, node, squares, axes, average=True)
    count = x.size // means.size

    @silent
    def roots(y, means):
        np.multiply(means, means.dtype.type(count), out=y)
        np.sqrt(y, out=y)

    return build.emit(roots, [build.tensor(means.shape, x.dtype)], [means], "numpy")


def _reduced_axes(node, x: Tensor, axes) -> set[int] | None:
    """Those over which an operator reduces; None where a run decides, where there are none, or not these."""
    axes = node.attributes.get("axes") if axes is None else axes
    if isinstance(axes, Tensor) or not x.shape:
        return None
    rank = len(x.shape)
    if axes is None or not len(axes):
        if node.attributes.get("noop_with_empty_axes", 0):
            return None
        axes = range(rank)
    if any(not -rank <= axis < rank for axis in axes):
        return None
    return {int(axis) % rank for axis in axes}


def _over_axes(build: Builder, node, x, axes, average: bool):
    """The mean or the largest over some axes, which are turned to the end, or over all."""
    reduced = _reduced_axes(node, x, axes) if isinstance(x, Tensor) else None
    if reduced is None:
        return None
    kept = [axis for axis in range(len(x.shape)) if axis not in reduced]
    y = _over_trailing(build, x.turned([*kept, *sorted(reduced)]), len(kept), average, keep=False)
    if y and node.attributes.get("keepdims", 1):
        return [y[0].reshaped([1 if axis in reduced else size for axis, size in enumerate(x.shape)])]
    return y


def _over_trailing(build: Builder, x: Tensor, first: int, average: bool, keep: bool):
    """The mean or the largest of the axes from `first` on, which stay as axes of size 1 or vanish."""
    if x.dtype not in FLOATS or 0 in x.shape:
        return None
    x = build.contiguous(x)
    plane = (prod(x.shape[first:]),)
    rows = x.reshaped((1, prod(x.shape[:first]), *plane))
    op, spec_type = (AVERAGE_POOL, AveragePoolSpec) if average else (MAX_POOL, MaxPoolSpec)
    (y,) = _pool(build, op, spec_type, rows, Window.of(plane, plane))
    return [y.reshaped(x.shape[:first] + (1,) * (len(x.shape) - first) * keep)]
