"""Deformable convolution, which torchvision has among its operators."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import Window
from fastconv.nn.annotations import ArrayLike, Padding, Sizes
from fastconv.reference.sampling import deform_conv

__all__ = ["deform_conv2d"]


def deform_conv2d(
    input: ArrayLike,
    offset: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    mask: ArrayLike | None = None,
) -> np.ndarray:
    """:func:`conv2d` whose taps are moved by `offset`, and scaled by `mask` where it is given: (N, O, H_out, W_out).

    `input` is (N, C, H, W), `weight` (O, C / groups, KH, KW) and `offset` (N, G 2 KH KW, H_out, W_out): for each of G
    shares of the channels and every tap the move along H and along W.  `mask` is (N, G KH KW, H_out, W_out).  Between
    positions values are interpolated, outside they are 0.  Arguments are those of ``torchvision.ops.deform_conv2d``;
    it runs in NumPy.

    Source: Zhu, Hu, Lin and Dai, arXiv:1811.11168.
    """
    x, w = as_array(input, "input"), as_array(weight, "weight")
    moves, b, scales = (
        None if value is None else as_array(value, name)
        for value, name in ((offset, "offset"), (bias, "bias"), (mask, "mask"))
    )
    given = {"input": x, "weight": w, "offset": moves, "bias": b, "mask": scales}
    types = {name: array.dtype for name, array in given.items() if array is not None}
    if len({*types.values()}) > 1 or x.dtype.kind != "f":
        text = ", ".join(f"{name} {dtype}" for name, dtype in types.items())
        raise ArgumentTypeError(f"input, offset, weight, bias and mask: expected one floating-point type, got {text}")
    if x.ndim != 4 or w.ndim != 4:
        raise ArgumentError(
            f"input, weight: expected (N, C, H, W) and (O, C / groups, KH, KW), got {x.shape}, {w.shape}"
        )
    window = Window.of(x.shape[2:], w.shape[2:], stride, padding, dilation)
    channels, taps = x.shape[1], prod(w.shape[2:])
    groups = channels // max(w.shape[1], 1)
    if not channels or w.shape[1] * groups != channels or w.shape[0] % groups:
        raise ArgumentError(
            f"weight: expected (O, C / groups, KH, KW) for {channels} channels, with groups that divide both, got {w.shape}"
        )
    shares = moves.shape[1] // (2 * taps) if moves.ndim == 4 else 0
    _check("offset", moves, (x.shape[0], max(shares, 1) * 2 * taps, *window.output))
    if channels % shares:
        raise ArgumentError(f"offset: its {shares} shares of {2 * taps} channels do not divide the input's {channels}")
    if scales is not None:
        _check("mask", scales, (x.shape[0], shares * taps, *window.output))
    if b is not None:
        _check("bias", b, (w.shape[0],))
    return deform_conv(
        x, w, moves, b, scales,
        stride=window.stride, padding=window.pads, dilation=window.dilation, groups=groups, offset_groups=shares,
    )  # fmt: skip


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ArgumentError(f"{name}: expected shape {shape}, got {array.shape}")
