"""Concat and Pad."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.graph.lower import Builder, lowering
from fastconv.graph.memory import Tensor
from fastconv.ops.pad import PAD, PadSpec


@lowering("Concat")
def concat(build: Builder, node, *inputs):
    """Where the parts lie one behind the other in the result, they are computed in their places.

    Of several images, these are the results of convolutions that nothing else reads.
    """
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    first = inputs[0]
    if not first.shape or any(value.dtype != first.dtype or len(value.shape) != len(first.shape) for value in inputs):
        return None
    axis = node.attributes.get("axis", 1) % len(first.shape)
    rest = [value.shape[:axis] + value.shape[axis + 1 :] for value in inputs]
    if rest.count(rest[0]) != len(rest):
        return None
    size = sum(value.shape[axis] for value in inputs)
    y = build.tensor((*first.shape[:axis], size, *first.shape[axis + 1 :]), first.dtype)
    in_place = prod(first.shape[:axis]) == 1 and len(tensors) == len(inputs)
    place, shift = 0, 0
    while place < len(inputs):
        count = _own_buffer(inputs[place:], y) if in_place else 0
        if count:
            inputs[place].buffer.root()[0].place_in(y.buffer, shift)
        elif not (axis == 1 and _moved(build, node.inputs[place], inputs[place], y, shift)):
            part = y.strided(inputs[place].shape, y.strides, shift)
            _write(build, part, inputs[place])
        for value in inputs[place : place + max(count, 1)]:
            shift += value.shape[axis] * y.strides[axis]
        place += max(count, 1)
    return [y]


def _own_buffer(tensors, y: Tensor) -> int:
    """How many of the first tensors lie one behind the other and fill a buffer that can move into that of `y`."""
    root, end = tensors[0].buffer.root()[0], 0
    if root.name or root is y.buffer:
        return 0
    for count, tensor in enumerate(tensors, 1):
        other, shift = tensor.buffer.root()
        if other is not root or shift != end or not tensor.is_contiguous:
            return 0
        end += tensor.nbytes
        if end == root.size:
            return count
    return 0


def _moved(build: Builder, name: str, x, y: Tensor, shift: int) -> bool:
    """Let the call that computes `x`, which nothing but the concatenation reads, write it into its place in `y`."""
    if not isinstance(x, Tensor) or not x.fills_buffer or build.reads[name] != 1 or x.buffer.first is None:
        return False
    call = build.calls[x.buffer.first]
    is_alone = x.buffer.first == x.buffer.last and name in call.node.outputs and call.outputs[0] is x
    if not is_alone or call.with_image_stride is None:
        return False
    call.work = call.with_image_stride(y.strides[0])
    x.strides = y.strides
    x.buffer.place_in(y.buffer, shift)
    return True


def _write(build: Builder, part: Tensor, value) -> None:
    if isinstance(value, Tensor):
        build.copy(part, value)
    else:
        build.emit(np.copyto, [part], [value], "copy")


MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@lowering("Pad")
def pad(build: Builder, node, x, pads=None, fill=None, axes=None):
    at = node.attributes
    pads = at.get("pads", at.get("paddings")) if pads is None else pads
    fill = at.get("value", 0.0) if fill is None else fill
    if not isinstance(x, Tensor) or any(isinstance(value, Tensor) for value in (pads, fill, axes)) or pads is None:
        return None
    axes = range(len(x.shape)) if axes is None else [int(axis) % len(x.shape) for axis in axes]
    pads = [int(count) for count in pads]
    pairs = [(0, 0)] * len(x.shape)
    for axis, *pair in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        pairs[axis] = tuple(pair)
    mode = MODES[at.get("mode", "constant")]
    most = {"constant": None, "replicate": None, "reflect": -1, "circular": 0}[mode]
    if most is not None and any(
        not 0 <= side <= size + most for p, size in zip(pairs, x.shape, strict=True) for side in p
    ):
        return None
    if mode == "replicate" and (min(map(min, pairs)) < 0 or 0 in x.shape):
        return None
    x = build.contiguous(x)
    value = np.asarray(fill).reshape(()).astype(x.dtype).tobytes()
    spec = PadSpec(x.shape, x.strides, x.dtype.str, tuple(pairs), mode, value)
    if min(spec.y_shape, default=0) < 1:
        return None
    y = build.tensor(spec.y_shape, x.dtype)  # before the plan, whose tables grow with it
    plan = build.kernel(PAD, spec)
    return plan and build.emit(plan.step, [y], [x], "direct", (PAD, spec))
