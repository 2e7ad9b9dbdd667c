"""Operators that move no value: other shapes and strides for the same memory."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.graph.lower import Builder, lowering
from fastconv.graph.memory import Tensor


@lowering("Identity")
def identity(build: Builder, node, x):
    return [x]


@lowering("Cast")
def cast(build: Builder, node, x):
    """To the type that it has already."""
    types = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 11: np.float64}
    to = node.attributes["to"]
    return [x] if to in types and x.dtype == types[to] else None


@lowering("Shape")
def shape(build: Builder, node, x):
    return [np.array(x.shape[slice(node.attributes.get("start", 0), node.attributes.get("end"))], np.int64)]


@lowering("Size")
def size(build: Builder, node, x):
    return [np.array(x.size, np.int64)]


@lowering("Flatten")
def flatten(build: Builder, node, x):
    axis = node.attributes.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return [build.reshaped(x, (prod(x.shape[:axis]), prod(x.shape[axis:])))]


@lowering("Reshape")
def reshape(build: Builder, node, x, shape=None):
    wanted = node.attributes.get("shape") if shape is None else shape
    if not isinstance(x, Tensor) or wanted is None or isinstance(wanted, Tensor):
        return None
    wanted = [int(size) for size in wanted]
    if not node.attributes.get("allowzero", 0):
        wanted = [x.shape[i] if size == 0 and i < len(x.shape) else size for i, size in enumerate(wanted)]
    if -1 in wanted:
        rest = prod(size for size in wanted if size != -1)
        if rest <= 0 or x.size % rest:
            return None
        wanted[wanted.index(-1)] = x.size // rest
    if prod(wanted) != x.size or min(wanted, default=0) < 0:
        return None
    return [build.reshaped(x, wanted)]


@lowering("Squeeze", "Unsqueeze")
def squeeze(build: Builder, node, x, axes=None):
    if not isinstance(x, Tensor) or isinstance(axes, Tensor):
        return None
    axes = node.attributes.get("axes") if axes is None else np.atleast_1d(axes).tolist()
    if node.op_type == "Squeeze":
        gone = {axis % len(x.shape) for axis in axes} if axes else {i for i, size in enumerate(x.shape) if size == 1}
        if any(x.shape[axis] != 1 for axis in gone):
            return None
        kept = [i for i in range(len(x.shape)) if i not in gone]
        return [Tensor([x.shape[i] for i in kept], x.dtype, x.buffer, [x.strides[i] for i in kept])]
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    if len(new) != len(axes):
        return None
    sizes = iter(zip(x.shape, x.strides, strict=True))
    both = [(1, 0) if axis in new else next(sizes) for axis in range(rank)]
    return [Tensor([size for size, _ in both], x.dtype, x.buffer, [stride for _, stride in both])]


@lowering("Transpose")
def transpose(build: Builder, node, x):
    order = node.attributes.get("perm") or range(len(x.shape))[::-1]
    if sorted(order) != list(range(len(x.shape))):
        return None
    return [x.turned(order)]


@lowering("Expand")
def expand(build: Builder, node, x, shape):
    if not isinstance(x, Tensor) or isinstance(shape, Tensor):
        return None
    wanted = np.broadcast_shapes(x.shape, tuple(int(size) for size in shape))
    missing = len(wanted) - len(x.shape)
    own = [0 if size == 1 else stride for size, stride in zip(x.shape, x.strides, strict=True)]
    return [Tensor(wanted, x.dtype, x.buffer, [0] * missing + own)]


@lowering("Slice")
def slice_axes(build: Builder, node, x, *bounds):
    at = node.attributes
    if not isinstance(x, Tensor) or any(isinstance(value, Tensor) for value in bounds):
        return None
    given = dict(zip(("starts", "ends", "axes", "steps"), bounds, strict=False))
    given = {name: [int(i) for i in value] for name, value in (at | given).items() if value is not None}
    starts, ends = given["starts"], given["ends"]
    sizes, strides, shift = list(x.shape), list(x.strides), 0
    axes = given.get("axes", range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, given.get("steps", [1] * len(starts)), strict=True):
        size = x.shape[axis]
        start, end = (bound + size if bound < 0 else bound for bound in (start, end))
        positions = range(size)[max(start, 0) : max(end, 0) if step > 0 or end >= 0 else None : step]
        sizes[axis], strides[axis] = len(positions), x.strides[axis] * step
        shift += positions.start * x.strides[axis] if positions else 0
    return [x.strided(sizes, strides, shift if 0 not in sizes else 0)]


@lowering("Split")
def split(build: Builder, node, x, parts=None):
    at = node.attributes
    if not isinstance(x, Tensor) or isinstance(parts, Tensor) or not all(node.outputs):
        return None
    axis = at.get("axis", 0) % len(x.shape)
    parts = at.get("split") if parts is None else parts.tolist()
    if parts is None:
        equal = -(-x.shape[axis] // len(node.outputs))
        parts = [max(0, min(equal, x.shape[axis] - i * equal)) for i in range(len(node.outputs))]
    if sum(parts) != x.shape[axis] or len(parts) != len(node.outputs) or min(parts) < 0:
        return None
    starts = np.cumsum([0, *parts[:-1]]).tolist()
    return [
        x.strided((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.strides, start * x.strides[axis] if size else 0)
        for start, size in zip(starts, parts, strict=True)
    ]


@lowering("Gather")
def gather(build: Builder, node, x, index):
    """One position of an axis, which vanishes."""
    if not isinstance(x, Tensor) or not isinstance(index, np.ndarray) or index.ndim:
        return None
    axis = node.attributes.get("axis", 0) % len(x.shape)
    if not -x.shape[axis] <= index < x.shape[axis]:
        return None
    sizes, strides = (list(values) for values in (x.shape, x.strides))
    del sizes[axis], strides[axis]
    return [x.strided(sizes, strides, int(index) % x.shape[axis] * x.strides[axis])]


@lowering("DepthToSpace", "SpaceToDepth")
def blocks(build: Builder, node, x):
    if len(x.shape) != 4:
        return None
    b, mode = node.attributes["blocksize"], node.attributes.get("mode", "DCR")
    n, c, h, w = x.shape
    if node.op_type == "DepthToSpace":
        c //= b * b
        shape, order = (
            ((n, c, b, b, h, w), (0, 1, 4, 2, 5, 3)) if mode == "CRD" else ((n, b, b, c, h, w), (0, 3, 4, 1, 5, 2))
        )
        wanted = (n, c, h * b, w * b)
    else:
        h, w = h // b, w // b
        shape, order = (n, c, h, b, w, b), (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
        wanted = (n, c * b * b, h, w)
    if prod(shape) != x.size:
        return None
    whole = build.contiguous(x).reshaped(shape)
    return [build.contiguous(whole.turned(order)).reshaped(wanted)]
