"""Convolutions."""

from __future__ import annotations

from fastconv.arrays import as_array, batched
from fastconv.errors import ArgumentError
from fastconv.ops.conv import conv_plan

__all__ = ["conv1d", "conv2d", "conv3d"]


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm="auto"):
    """Cross-correlation of (N, C, L) with `weight` (O, C / groups, K): (N, O, L_out).  See :func:`conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm="auto"):
    """Cross-correlation of (N, C, H, W) with `weight` (O, C / groups, KH, KW): (N, O, H_out, W_out).

    Beyond torch: `padding` may be pairs ``((top, bottom), (left, right))`` or TensorFlow's ``"same"`` with a stride;
    `algorithm` forces a row of the op table, and raises its reason where that row refuses.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm="auto"):
    """Cross-correlation of (N, C, D, H, W) with `weight` (O, C / groups, KD, KH, KW).  See :func:`conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, algorithm)


def _conv(rank, input, weight, bias, stride, padding, dilation, groups, algorithm):
    x, w = as_array(input, "input"), as_array(weight, "weight")
    b = None if bias is None else as_array(bias, "bias")
    if w.ndim != rank + 2:
        raise ArgumentError(
            f"weight: expected {rank + 2} axes (filters, channels / groups, {rank} of the kernel), got {tuple(w.shape)}"
        )
    is_batched, x = batched(x, rank)
    plan = conv_plan(x, w, b, stride, padding, dilation, groups, algorithm)
    y = plan(x, plan.pack(w, b))
    return y if is_batched else y[0]
