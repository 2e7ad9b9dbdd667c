"""Resampling on a regular grid."""

import math
from typing import NamedTuple

import numpy as np

from fastconv.onnx.operators.registry import operator


class _Axis(NamedTuple):
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


class _Method(NamedTuple):
    """How values between the samples are found; the fields are Resize's attributes."""

    mode: str
    coordinates: str
    nearest: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    outside: float = 0.0


def _picked(positions, axis, method):
    """Indices of the values that stand for fractional positions; before opset 11, `nearest` was ``outward``."""
    rounding = method.nearest
    if rounding == "outward":
        rounding = "ceil" if axis.scale < 1 else "floor"
    return _ROUNDINGS[rounding](positions).clip(0, axis.size - 1).astype(np.int64)


def _taps(positions, axis, method):
    """Indices and weights (output, taps) of the values that are summed at each fractional position."""
    widening = max(1 / axis.scale, 1.0) if method.antialias else 1.0
    radius = widening * (1 if method.mode == "linear" else 2)
    taps = np.floor(positions - radius)[:, None] + 1 + np.arange(2 * math.ceil(radius))
    distance = (taps - positions[:, None]) / widening
    weights = _triangle(distance) if method.mode == "linear" else cubic(distance, method.cubic_a)
    if method.exclude_outside:
        weights = np.where((taps >= 0) & (taps < axis.size), weights, 0)
    if method.exclude_outside or method.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return taps.clip(0, axis.size - 1).astype(np.int64), weights


def _resampled(x, axes, method):
    """`x` with every axis that `axes` (number → _Axis) names resampled."""
    y = x if method.mode == "nearest" else x.astype(np.promote_types(x.dtype, np.float32))
    # Nearest takes every step in float32, as other implementations do, because rounding makes the last bit visible.
    real = np.float32 if method.mode == "nearest" else np.float64
    for number, axis in axes.items():
        axis = axis._replace(scale=real(axis.scale))
        positions = _POSITIONS[method.coordinates](np.arange(axis.output, dtype=real), axis)
        if axis.output == axis.size and np.array_equal(positions, np.arange(axis.size)):
            continue
        if method.mode == "nearest":
            y = y.take(_picked(positions, axis, method), number)
        else:
            taps, weights = _taps(positions, axis, method)
            weights = weights.astype(y.dtype).reshape(-1, taps.shape[1], *[1] * (y.ndim - 1 - number))
            y = sum(y.take(taps[:, t], number) * weights[:, t] for t in range(taps.shape[1]))
        if method.coordinates == "tf_crop_and_resize":
            y[(slice(None),) * number + ((positions < 0) | (positions > axis.size - 1),)] = method.outside
    if x.dtype.kind in "iu":
        y = np.clip(y, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return y.astype(x.dtype, copy=False)


def _scaled(x, scales):
    """The axes of `x` for one scale each; sizes are rounded down, in float32 as `scales` are."""
    scales = np.asarray(scales, np.float32)
    outputs = np.floor(scales * np.asarray(x.shape, np.float32))
    return {
        i: _Axis(size, int(output), float(scale), 0.0, 1.0)
        for i, (size, output, scale) in enumerate(zip(x.shape, outputs, scales, strict=True))
    }


def _opset_10(x, scales, mode):
    return _resampled(x, _scaled(x, scales), _Method(mode, "asymmetric", "outward"))


_POLICIES = {"not_larger": min, "not_smaller": max}


def _sized(x, axes, sizes, policy):
    scales = [int(wanted) / x.shape[axis] for axis, wanted in zip(axes, sizes, strict=True)]
    outputs = [int(wanted) for wanted in sizes]
    if policy != "stretch":
        scales = [_POLICIES[policy](scales)] * len(scales)
        outputs = [int(s * x.shape[axis] + 0.5) for axis, s in zip(axes, scales, strict=True)]
    return {
        axis: _Axis(x.shape[axis], output, scale, 0.0, 1.0)
        for axis, output, scale in zip(axes, outputs, scales, strict=True)
    }


def _is_given(values):
    return values is not None and len(values) > 0


@operator
def Resize(
    x,
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
    opset,
):
    """`x` with the axes `axes` resized by `scales` or to `sizes`.  In opset 10 the second input is the scales."""
    if opset < 11:
        return _opset_10(x, roi, mode)
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    if _is_given(sizes):
        resized = _sized(x, axes, sizes, keep_aspect_ratio_policy)
    else:
        every = [1.0] * x.ndim
        for axis, scale in zip(axes, scales, strict=True):
            every[axis] = scale
        resized = _scaled(x, every)
    if coordinate_transformation_mode == "tf_crop_and_resize":
        for axis, start, end in zip(axes, roi[: len(axes)], roi[len(axes) :], strict=True):
            resized[axis] = resized[axis]._replace(start=float(start), end=float(end))
    method = _Method(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    return _resampled(x, resized, method)


_UPSAMPLE_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}


@operator
def Upsample(x, scales=None, *, mode="nearest", height_scale=None, width_scale=None):
    return _opset_10(x, [1, 1, height_scale, width_scale] if scales is None else scales, _UPSAMPLE_MODES[mode])
