"""Convolutions."""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array, batched
from fastconv.errors import ArgumentError
from fastconv.nn.annotations import ArrayLike, Padding, Sizes
from fastconv.ops.conv import conv_plan
from fastconv.ops.conv_transpose import conv_transpose_plan

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """Cross-correlation of (N, C, L) with `weight` (O, C / groups, K): (N, O, L_out).  See :func:`conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """Cross-correlation of (N, C, H, W) with `weight` (O, C / groups, KH, KW): (N, O, H_out, W_out).

    Beyond torch: `padding` may be pairs ``((top, bottom), (left, right))`` or TensorFlow's ``"same"`` with a stride;
    `algorithm` forces a row of the op table, and raises its reason where that row refuses.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """Cross-correlation of (N, C, D, H, W) with `weight` (O, C / groups, KD, KH, KW).  See :func:`conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The adjoint of :func:`conv1d` in its input; see :func:`conv_transpose2d`."""
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm)


def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """Transposed convolution of (N, C, H, W) with `weight` (C, O / groups, KH, KW): (N, O, H_out, W_out).

    H_out = (H - 1) stride - 2 padding + dilation (KH - 1) + 1 + output_padding, and W_out likewise.
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm)


def conv_transpose3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The adjoint of :func:`conv3d` in its input; see :func:`conv_transpose2d`."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm)


def _conv(rank, input, weight, bias, stride, padding, dilation, groups, algorithm):
    is_batched, x, w, b = _arrays(rank, input, weight, bias, "filters, channels / groups")
    plan = conv_plan(x, w, b, stride, padding, dilation, groups, algorithm)
    y = plan(x, plan.pack(w, b))
    return y if is_batched else y[0]


def _conv_transpose(rank, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm):
    is_batched, x, w, b = _arrays(rank, input, weight, bias, "channels, filters / groups")
    plan = conv_transpose_plan(x, w, b, stride, padding, output_padding, groups, dilation, algorithm)
    y = plan(x, plan.pack(w, b))
    return y if is_batched else y[0]


def _arrays(rank, input, weight, bias, leading):
    x, w = as_array(input, "input"), as_array(weight, "weight")
    b = None if bias is None else as_array(bias, "bias")
    if w.ndim != rank + 2:
        raise ArgumentError(f"weight: expected {rank + 2} axes ({leading}, {rank} of the kernel), got {w.shape}")
    return *batched(x, rank), w, b
