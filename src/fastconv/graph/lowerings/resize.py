"""Resize and Upsample of the spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.memory import Tensor
from fastconv.graph.resizing import Axis, Method, axis_taps, resizing, resizing_10
from fastconv.ops.resample import RESAMPLE, ResampleSpec


@dataclass(frozen=True)
class OnnxResampleSpec(ResampleSpec):
    """Resampling in ONNX's coordinates: `axes` and `method` say where values come from."""

    axes: tuple[Axis, ...] = ()
    method: Method | None = None

    def taps(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [axis_taps(axis, self.method) for axis in self.axes]


@lowering("Resize")
def resize(build: Builder, node, x, *how):
    if not isinstance(x, Tensor) or any(isinstance(value, Tensor) for value in how):
        return None
    at = node.attributes
    if node.opset < 11:
        return _resampled(build, x, *resizing_10(x.shape, how[0], at.get("mode", "nearest")))
    return _resampled(build, x, *resizing(x.shape, *how, **at))


@lowering("Upsample")
def upsample(build: Builder, node, x, scales=None):
    at = node.attributes
    if not isinstance(x, Tensor) or isinstance(scales, Tensor):
        return None
    if scales is None:
        scales = at.get("scales") or [1, 1, at.get("height_scale"), at.get("width_scale")]
    return _resampled(build, x, *resizing_10(x.shape, scales, at.get("mode", "nearest")))


def _resampled(build: Builder, x: Tensor, axes: dict[int, Axis], method: Method):
    if x.dtype not in FLOATS or len(x.shape) < 3 or 0 in x.shape or method.coordinates == "tf_crop_and_resize":
        return None
    every = [axes.get(i, Axis(size, size, 1.0, 0.0, 1.0)) for i, size in enumerate(x.shape)]
    if any(axis.output < 1 for axis in every) or any(axis.output != axis.size or axis.scale != 1 for axis in every[:2]):
        return None
    x = build.contiguous(x)
    outputs = tuple(axis.output for axis in every[2:])
    spec = OnnxResampleSpec(
        prod(x.shape[:2]), x.shape[2:], outputs, x.dtype.name, method.mode, axes=tuple(every[2:]), method=method
    )
    y = build.tensor((*x.shape[:2], *outputs), x.dtype)  # before the plan, whose tables grow with it
    step = build.kernel(RESAMPLE, spec)
    return step and build.emit(step, [y], [x], "direct", (RESAMPLE, spec))
