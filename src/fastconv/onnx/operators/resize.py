"""Resampling on a regular grid."""

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
    return _half_pixel(i, axis) + axis.size / 2 * (1 - axis.output / axis.length)


def _pytorch_half_pixel(i, axis):
    return _half_pixel(i, axis) if axis.length > 1 else i * 0 - 0.5


def _align_corners(i, axis):
    return i * (axis.size - 1) / (axis.length - 1) if axis.length != 1 else i * 0


def _crop_and_resize(i, axis):
    extent = (axis.end - axis.start) * (axis.size - 1)
    offset = i * extent / (axis.length - 1) if axis.length != 1 else extent / 2
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


def _interpolated(x, axis, positions, kernel, radius, exclude_outside, normalise):
    """`x` at fractional `positions` of `axis`: sums over the `kernel`, which is 0 beyond `radius`."""
    size = x.shape[axis]
    taps = np.floor(positions - radius)[:, None] + 1 + np.arange(2 * int(np.ceil(radius)))
    weights = kernel(taps - positions[:, None])
    if exclude_outside:
        weights = np.where((taps >= 0) & (taps < size), weights, 0)
    if exclude_outside or normalise:
        weights = weights / weights.sum(axis=1, keepdims=True)
    taps = taps.clip(0, size - 1).astype(np.int64)
    along = [-1 if a == axis else 1 for a in range(x.ndim)]
    return sum(x.take(taps[:, t], axis) * weights[:, t].astype(x.dtype).reshape(along) for t in range(taps.shape[1]))


def _resampled(
    x, axes, *, mode, coordinates, nearest="floor", cubic_a=-0.75, exclude_outside=False, antialias=False, outside=0.0
):
    """`x` with every axis that `axes` (axis → _Axis) names resampled."""
    y = x if mode == "nearest" else x.astype(np.promote_types(x.dtype, np.float32))
    for number, axis in axes.items():
        positions = np.broadcast_to(_POSITIONS[coordinates](np.arange(axis.output), axis), axis.output)
        if axis.output == axis.size and np.array_equal(positions, np.arange(axis.size)):
            continue
        if mode == "nearest":
            # Rounded to float32 first, as in other implementations, because floor() makes the last bit visible.
            picked = _ROUNDINGS[nearest](positions.astype(np.float32)).clip(0, axis.size - 1).astype(np.int64)
            y = y.take(picked, number)
        else:
            widening = max(1 / axis.scale, 1.0) if antialias else 1.0
            reach, shape = (1, _triangle) if mode == "linear" else (2, lambda d: cubic(d, cubic_a))
            y = _interpolated(
                y, number, positions, lambda d: shape(d / widening), reach * widening, exclude_outside, antialias  # noqa: B023
            )
        if coordinates == "tf_crop_and_resize":
            beyond = (positions < 0) | (positions > axis.size - 1)
            y[(slice(None),) * number + (beyond,)] = outside
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
    shrinks = mode == "nearest" and any(s < 1 for s in np.asarray(scales).reshape(-1))
    return _resampled(x, _scaled(x, scales), mode=mode, coordinates="asymmetric", nearest="ceil" if shrinks else "floor")


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
    return _resampled(
        x,
        resized,
        mode=mode,
        coordinates=coordinate_transformation_mode,
        nearest=nearest_mode,
        cubic_a=cubic_coeff_a,
        exclude_outside=bool(exclude_outside),
        antialias=bool(antialias),
        outside=extrapolation_value,
    )


_UPSAMPLE_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}


@operator
def Upsample(x, scales=None, *, mode="nearest", height_scale=None, width_scale=None):
    return _opset_10(x, [1, 1, height_scale, width_scale] if scales is None else scales, _UPSAMPLE_MODES[mode])
