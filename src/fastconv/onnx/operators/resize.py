"""Resampling on a regular grid."""

import numpy as np

from fastconv.graph.resizing import axis_taps, positions, resizing, resizing_10
from fastconv.onnx.operators.registry import operator


def _resampled(x, axes, method):
    """`x` with every axis that `axes` (number → Axis) names resampled."""
    y = x if method.mode == "nearest" else x.astype(np.promote_types(x.dtype, np.float32))
    for number, axis in axes.items():
        taps, weights = axis_taps(axis, method)
        if method.mode == "nearest" or taps.shape[1] == 1:
            y = y.take(taps[:, 0], number)
        else:
            weights = weights.astype(y.dtype).reshape(-1, taps.shape[1], *[1] * (y.ndim - 1 - number))
            y = sum(y.take(taps[:, t], number) * weights[:, t] for t in range(taps.shape[1]))
        if method.coordinates == "tf_crop_and_resize":
            places = positions(axis, method)
            y[(slice(None),) * number + ((places < 0) | (places > axis.size - 1),)] = method.outside
    if x.dtype.kind in "iu":
        y = np.clip(y, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return y.astype(x.dtype, copy=False)


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
        return _resampled(x, *resizing_10(x.shape, roi, mode))
    how = resizing(
        x.shape,
        roi,
        scales,
        sizes,
        antialias=antialias,
        axes=axes,
        coordinate_transformation_mode=coordinate_transformation_mode,
        cubic_coeff_a=cubic_coeff_a,
        exclude_outside=exclude_outside,
        extrapolation_value=extrapolation_value,
        keep_aspect_ratio_policy=keep_aspect_ratio_policy,
        mode=mode,
        nearest_mode=nearest_mode,
    )
    return _resampled(x, *how)


@operator
def Upsample(x, scales=None, *, mode="nearest", height_scale=None, width_scale=None):
    scales = [1, 1, height_scale, width_scale] if scales is None else scales
    return _resampled(x, *resizing_10(x.shape, scales, mode))
