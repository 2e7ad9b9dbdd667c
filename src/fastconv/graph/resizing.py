"""Where the values of a resized axis come from, in ONNX's coordinate modes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Axis", "Method", "axis_taps", "cubic", "positions", "resizing", "resizing_10"]


class Axis(NamedTuple):
    """One resized axis: sizes in elements, `scale` = output / input, the crop in [0, 1] for tf_crop_and_resize."""

    size: int
    output: int
    scale: float
    start: float
    end: float

    @property
    def length(self) -> float:
        """The output's size before it was rounded to a whole number."""
        return self.scale * self.size


def _half_pixel(i, axis):
    return (i + 0.5) / axis.scale - 0.5


def _half_pixel_symmetric(i, axis):
    return axis.size / 2 * (1 - axis.output / axis.length) + (i + 0.5) / axis.scale - 0.5


def _pytorch_half_pixel(i, axis):
    return _half_pixel(i, axis) if axis.output > 1 else i * 0


def _align_corners(i, axis):
    return i * (axis.size - 1) / (axis.length - 1) if axis.length != 1 else i * 0


def _crop_and_resize(i, axis):
    extent = (axis.end - axis.start) * (axis.size - 1)
    offset = i * extent / (axis.length - 1) if axis.length != 1 else i * 0 + extent / 2
    return axis.start * (axis.size - 1) + offset


_POSITIONS = {
    "align_corners": _align_corners,
    "asymmetric": lambda i, axis: i / axis.scale,
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_crop_and_resize": _crop_and_resize,
    "tf_half_pixel_for_nn": lambda i, axis: (i + 0.5) / axis.scale,
}

_ROUNDINGS = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda position: np.floor(position + 0.5),
    "round_prefer_floor": lambda position: np.ceil(position - 0.5),
}


def _triangle(distance):
    return np.maximum(1 - np.abs(distance), 0)


def cubic(distance, a):
    """Keys' kernel with parameter `a`.  Source: IEEE Trans. ASSP 29 (1981)."""
    t = np.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


class Method(NamedTuple):
    """How values between the samples are found; the fields are Resize's attributes."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    outside: float = 0.0


def positions(axis: Axis, method: Method) -> np.ndarray:
    """The fractional position of every output.

    Nearest takes every step in float32, as other implementations do, because rounding makes the last bit visible.
    """
    real = np.float32 if method.mode == "nearest" else np.float64
    axis = axis._replace(scale=real(axis.scale))
    return _POSITIONS[method.coordinates](np.arange(axis.output, dtype=real), axis)


def axis_taps(axis: Axis, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Input positions and weights (output, taps) of what is summed for every output of an axis."""
    places = positions(axis, method)
    if axis.output == axis.size and np.array_equal(places, np.arange(axis.size)):
        return np.arange(axis.size)[:, None], np.ones((axis.size, 1))
    if method.mode == "nearest":
        return _picked(places, axis, method)[:, None], np.ones((axis.output, 1))
    return _taps(places, axis, method)


def _picked(places, axis, method):
    """Indices of the values that stand for fractional positions; before opset 11, `nearest` was ``outward``."""
    rounding = method.nearest
    if rounding == "outward":
        rounding = "ceil" if axis.scale < 1 else "floor"
    return _ROUNDINGS[rounding](places).clip(0, axis.size - 1).astype(np.int64)


def _taps(places, axis, method):
    """Indices and weights (output, taps) of the values around fractional positions."""
    widening = max(1 / axis.scale, 1.0) if method.antialias else 1.0
    radius = widening * (1 if method.mode == "linear" else 2)
    taps = np.floor(places - radius)[:, None] + 1 + np.arange(2 * math.ceil(radius))
    distance = (taps - places[:, None]) / widening
    weights = _triangle(distance) if method.mode == "linear" else cubic(distance, method.cubic_a)
    if method.exclude_outside:
        weights = np.where((taps >= 0) & (taps < axis.size), weights, 0)
    if method.exclude_outside or method.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return taps.clip(0, axis.size - 1).astype(np.int64), weights


def resizing(
    shape,
    roi=None,
    scales=None,
    sizes=None,
    *,
    antialias=0,
    axes=None,
    coordinate_transformation_mode="half_pixel",
    cubic_coeff_a=-0.75,
    exclude_outside=0,
    extrapolation_value=0.0,
    keep_aspect_ratio_policy="stretch",
    mode="nearest",
    nearest_mode="round_prefer_floor",
) -> tuple[dict[int, Axis], Method]:
    """What Resize of opset 11 or later does to an array of `shape`: the axes by number, and how values are found."""
    axes = list(range(len(shape))) if axes is None else [axis % len(shape) for axis in axes]
    if sizes is not None and len(sizes):
        resized = _sized(shape, axes, sizes, keep_aspect_ratio_policy)
    else:
        every = [1.0] * len(shape)
        for axis, scale in zip(axes, scales, strict=True):
            every[axis] = scale
        resized = _scaled(shape, every)
    if coordinate_transformation_mode == "tf_crop_and_resize":
        for axis, start, end in zip(axes, roi[: len(axes)], roi[len(axes) :], strict=True):
            resized[axis] = resized[axis]._replace(start=float(start), end=float(end))
    method = Method(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    return resized, method


def resizing_10(shape, scales, mode) -> tuple[dict[int, Axis], Method]:
    """The same for Resize of opset 10, and for Upsample."""
    mode = {"bilinear": "linear"}.get(mode, mode)
    return _scaled(shape, scales), Method(mode, "asymmetric", "outward")


def _scaled(shape, scales):
    """The axes for one scale each; sizes are rounded down, in float32 as `scales` are."""
    scales = np.asarray(scales, np.float32)
    outputs = np.floor(scales * np.asarray(shape, np.float32))
    return {
        i: Axis(size, int(output), float(scale), 0.0, 1.0)
        for i, (size, output, scale) in enumerate(zip(shape, outputs, scales, strict=True))
    }


_POLICIES = {"not_larger": min, "not_smaller": max}


def _sized(shape, axes, sizes, policy):
    scales = [int(wanted) / shape[axis] for axis, wanted in zip(axes, sizes, strict=True)]
    outputs = [int(wanted) for wanted in sizes]
    if policy != "stretch":
        scales = [_POLICIES[policy](scales)] * len(scales)
        outputs = [int(s * shape[axis] + 0.5) for axis, s in zip(axes, scales, strict=True)]
    return {
        axis: Axis(shape[axis], output, scale, 0.0, 1.0)
        for axis, output, scale in zip(axes, outputs, scales, strict=True)
    }
