"""Normalisation: by given numbers per channel, by the statistics of rows, over neighbours; and softmax."""

from __future__ import annotations

from math import inf, prod

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.lowerings.activation import clamp
from fastconv.graph.memory import Tensor
from fastconv.ops.channelwise import BATCH_NORM, PRELU, ChannelSpec
from fastconv.ops.normalization import COLUMN_NORM, LOCAL_RESPONSE, ROW_NORM, ColumnSpec, ResponseSpec, RowSpec
from fastconv.ops.softmax import SOFTMAX, SoftmaxSpec


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], prod(x.shape[2:])


def _numbers(count: int, dtype, *arrays) -> list[np.ndarray] | None:
    """Constants as contiguous arrays of `count` values; None where one is computed, or of another type or size."""
    if any(not isinstance(a, np.ndarray) or a.dtype != dtype or a.size not in (1, count) for a in arrays):
        return None
    return [np.ascontiguousarray(np.broadcast_to(a.reshape(-1), (count,))) for a in arrays]


@lowering("Affine", domain="fastconv")
def affine(build: Builder, node, x, scale, shift):
    low, high = node.attributes["low"], node.attributes["high"]
    numbers = _numbers(x.shape[1], x.dtype, scale, shift) if x.dtype in FLOATS and len(x.shape) >= 2 else None
    if numbers is None:
        return None
    x = build.contiguous(x)
    spec = ChannelSpec(*_sizes(x), x.dtype.name, 0.0, (low, high) == (0, inf))
    zeros, ones = np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)
    step = build.kernel(BATCH_NORM, spec)
    y = build.emit(step, [build.result_over(x)], [x, zeros, ones, *numbers], "direct", (BATCH_NORM, spec))
    return y if spec.relu else clamp(build, y[0], low, high)


@lowering("BatchNormalization")
def batch_norm(build: Builder, node, x, scale, b, mean, var):
    at = node.attributes
    if at.get("training_mode", 0) or not at.get("spatial", 1) or len([name for name in node.outputs if name]) != 1:
        return None
    if not isinstance(x, Tensor) or x.dtype not in FLOATS or len(x.shape) < 2:
        return None
    numbers = (mean, var, scale, b)
    if any(a.shape != x.shape[1:2] or a.dtype != x.dtype for a in numbers):
        return None
    x = build.contiguous(x)
    spec = ChannelSpec(*_sizes(x), x.dtype.name, at.get("epsilon", 1e-5))
    numbers = [build.contiguous(a) if isinstance(a, Tensor) else np.ascontiguousarray(a) for a in numbers]
    y = build.result_over(x, *numbers)
    return build.emit(build.kernel(BATCH_NORM, spec), [y], [x, *numbers], "direct", (BATCH_NORM, spec))


@lowering("PRelu")
def prelu(build: Builder, node, x, slope):
    if not isinstance(x, Tensor) or not isinstance(slope, np.ndarray) or x.dtype not in FLOATS or len(x.shape) < 2:
        return None
    rank = len(x.shape)
    shape = slope.shape if node.opset >= 7 else slope.shape + (1,) * (rank - 2)
    shape = (1,) * (rank - len(shape)) + shape
    numbers = _numbers(x.shape[1], x.dtype, slope)
    if numbers is None or len(shape) > rank or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    x = build.contiguous(x)
    spec = ChannelSpec(*_sizes(x), x.dtype.name)
    return build.emit(build.kernel(PRELU, spec), [build.result_over(x)], [x, *numbers], "direct", (PRELU, spec))


def _row_norm(build: Builder, x: Tensor, outer: int, groups: int, channels: int, inner: int, eps: float, scale, b):
    """Rows (outer, groups) of (channels, inner), each with its own statistics."""
    count = groups * channels
    if x.dtype not in FLOATS or 0 in x.shape or np.shape(scale) != (count,):
        return None
    numbers = _numbers(count, x.dtype, scale, np.zeros(count, x.dtype) if b is None else b)
    if numbers is None:
        return None
    x = build.contiguous(x)
    spec = RowSpec(outer, groups, channels, inner, x.dtype.name, eps)
    return build.emit(build.kernel(ROW_NORM, spec), [build.result_over(x)], [x, *numbers], "direct", (ROW_NORM, spec))


def _column_norm(build: Builder, x: Tensor, axis: int, eps: float, scale, b):
    """Along one axis, which is not the last."""
    channels = x.shape[axis]
    if x.dtype not in FLOATS or 0 in x.shape:
        return None
    numbers = _numbers(channels, x.dtype, scale, np.zeros(channels, x.dtype) if b is None else b)
    if numbers is None:
        return None
    spec = ColumnSpec(prod(x.shape[:axis]), channels, prod(x.shape[axis + 1 :]), x.dtype.name, eps)
    return build.emit(
        build.kernel(COLUMN_NORM, spec), [build.result_over(x)], [x, *numbers], "direct", (COLUMN_NORM, spec)
    )


@lowering("LayerNormalization")
def layer_norm(build: Builder, node, x, scale, b=None):
    if len([name for name in node.outputs if name]) != 1 or not isinstance(x, Tensor) or not x.shape:
        return None
    axis = node.attributes.get("axis", -1) % len(x.shape)
    if np.shape(scale) != x.shape[axis:] or (b is not None and np.shape(b) != x.shape[axis:]):
        return None
    scale, b = (np.reshape(a, -1) if isinstance(a, np.ndarray) else a for a in (scale, b))
    order = x.dense_order() if axis == len(x.shape) - 1 and not x.is_contiguous else None
    if order and order[-1] != axis:
        y = _column_norm(build, x.turned(order), order.index(axis), node.attributes.get("epsilon", 1e-5), scale, b)
        return y and [y[0].turned_back(order)]
    sizes = (prod(x.shape[:axis]), 1, prod(x.shape[axis:]), 1)
    return _row_norm(build, x, *sizes, node.attributes.get("epsilon", 1e-5), scale, b)


@lowering("InstanceNormalization")
def instance_norm(build: Builder, node, x, scale, b):
    if not isinstance(x, Tensor) or len(x.shape) < 3:
        return None
    sizes = (x.shape[0], x.shape[1], 1, prod(x.shape[2:]))
    return _row_norm(build, x, *sizes, node.attributes.get("epsilon", 1e-5), scale, b)


@lowering("GroupNormalization")
def group_norm(build: Builder, node, x, scale, b):
    groups = node.attributes["num_groups"]
    if not isinstance(x, Tensor) or len(x.shape) < 2 or x.shape[1] % groups:
        return None
    channels = x.shape[1] // groups
    if node.opset < 21 and all(isinstance(a, np.ndarray) for a in (scale, b)):
        scale, b = np.repeat(scale, channels), np.repeat(b, channels)
    sizes = (x.shape[0], groups, channels, prod(x.shape[2:]))
    return _row_norm(build, x, *sizes, node.attributes.get("epsilon", 1e-5), scale, b)


@lowering("LRN")
def local_response(build: Builder, node, x):
    at = node.attributes
    if x.dtype not in FLOATS or at["size"] % 2 == 0 or len(x.shape) < 2:
        return None
    x = build.contiguous(x)
    constants = (at["size"], at.get("alpha", 1e-4), at.get("beta", 0.75), at.get("bias", 1.0))
    spec = ResponseSpec(*_sizes(x), *constants, x.dtype.name)
    step = build.kernel(LOCAL_RESPONSE, spec)
    return build.emit(step, [build.tensor(x.shape, x.dtype)], [x], "direct", (LOCAL_RESPONSE, spec))


@lowering("Softmax", "LogSoftmax")
def softmax(build: Builder, node, x):
    if x.dtype not in FLOATS or not x.shape:
        return None
    x = build.contiguous(x)
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1) % len(x.shape)
    sizes = (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :]))
    if node.opset < 13:
        sizes = (sizes[0], sizes[1] * sizes[2], 1)
    spec = SoftmaxSpec(*sizes, x.dtype.name, node.op_type == "LogSoftmax")
    step = build.kernel(SOFTMAX, spec)
    return build.emit(step, [build.tensor(x.shape, x.dtype)], [x], "direct", (SOFTMAX, spec))
