"""Convolution and its relatives: transposed convolution, linear layers, windows as columns and back."""

from itertools import product
from math import prod

import numpy as np

from fastconv.reference.padding import pad_constant
from fastconv.reference.precision import accumulator, silent
from fastconv.reference.windows import per_axis, window_axes


@silent
def conv(x, w, b=None, *, stride=1, padding=0, dilation=1, groups=1, accumulate=None):
    """Cross-correlation of `x` (N, C, *spatial) with `w` (O, C / groups, *kernel), plus `b` (O,): (N, O, *output).

    `padding` is a number of zeros, per axis a number or a pair (before, after), or a word: ``valid``; ``same`` and
    ``SAME_UPPER`` (output = ceil(input / stride), an odd zero goes after), ``SAME_LOWER`` (it goes before).  Padded
    zeros are multiplied like any other value, so a NaN weight reaches the border.  Without input channels the result
    is the bias (torch returns an array without channels).
    """
    wide = accumulator(x.dtype, accumulate)
    kernel = w.shape[2:]
    axes = window_axes(x.shape[2:], kernel, stride, padding, dilation)
    output = tuple(axis.output for axis in axes)
    padded = pad_constant(x.astype(wide), [(axis.before, axis.after) for axis in axes])
    batch, channels = x.shape[:2]
    features = w.shape[0]

    x_grouped = padded.reshape(batch, groups, channels // groups, *padded.shape[2:])
    w_grouped = w.astype(wide).reshape(groups, features // groups, channels // groups, *kernel)
    y = np.zeros((batch, groups, features // groups, prod(output)), wide)
    for tap in np.ndindex(*kernel):
        visited = tuple(axis.padded_positions(t) for axis, t in zip(axes, tap, strict=True))
        y += w_grouped[(..., *tap)] @ x_grouped[(..., *visited)].reshape(*x_grouped.shape[:3], prod(output))
    return _with_bias(y.reshape(batch, features, *output), b).astype(x.dtype)


@silent
def conv_transpose(x, w, b=None, *, stride=1, padding=0, output_padding=0, groups=1, dilation=1, accumulate=None):
    """The adjoint of `conv`: `x` (N, C, *spatial), `w` (C, O / groups, *kernel), `b` (O,): (N, O, *output).

    Every input value adds its multiple of the kernel to the output; then `padding` positions (a number, or per axis a
    number or a pair) are cut off and `output_padding` positions kept after the end:
    output = (input - 1) * stride - before - after + dilation * (kernel - 1) + 1 + output_padding.
    """
    wide = accumulator(x.dtype, accumulate)
    sizes, kernel = x.shape[2:], w.shape[2:]
    rank = len(sizes)
    batch, channels = x.shape[:2]
    features = w.shape[1] * groups

    x_columns = x.astype(wide).reshape(batch, groups, channels // groups, prod(sizes))
    w_grouped = w.astype(wide).reshape(groups, channels // groups, w.shape[1], *kernel)
    columns = np.empty((batch, features, *kernel, *sizes), wide)
    for tap in np.ndindex(*kernel):
        product_of_tap = w_grouped[(..., *tap)].swapaxes(1, 2) @ x_columns
        columns[(slice(None), slice(None), *tap)] = product_of_tap.reshape(batch, features, *sizes)

    stride, dilation = per_axis(stride, rank), per_axis(dilation, rank)
    pads = [per_axis(p, 2) for p in per_axis(padding, rank)]
    output = [
        (size - 1) * s - sum(p) + d * (k - 1) + 1 + extra
        for size, s, p, d, k, extra in zip(
            sizes, stride, pads, dilation, kernel, per_axis(output_padding, rank), strict=True
        )
    ]
    return _with_bias(_scatter(columns, output, stride, dilation, pads), b).astype(x.dtype)


@silent
def linear(x, w, b=None, *, accumulate=None):
    """`x` (..., in) times the transpose of `w` (out, in), plus `b` (out,): (..., out)."""
    wide = accumulator(x.dtype, accumulate)
    y = x.astype(wide) @ w.astype(wide).T
    return (y if b is None else y + b.astype(wide)).astype(x.dtype)


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """Every window of `x` (N, C, *spatial) as a column: (N, C * taps, windows), both in row-major order."""
    rank = x.ndim - 2
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, dilation)
    padded = pad_constant(x, [(axis.before, axis.after) for axis in axes])
    columns = [
        padded[(..., *(axis.padded_positions(t) for axis, t in zip(axes, tap, strict=True)))]
        for tap in np.ndindex(*per_axis(kernel_size, rank))
    ]
    windows = prod(axis.output for axis in axes)
    return np.stack(columns, axis=2).reshape(x.shape[0], x.shape[1] * len(columns), windows)


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """The adjoint of `unfold`: columns (N, C * taps, windows) added up into (N, C, *output_size)."""
    rank = len(output_size)
    kernel = per_axis(kernel_size, rank)
    axes = window_axes(output_size, kernel, stride, padding, dilation)
    columns = x.reshape(x.shape[0], x.shape[1] // prod(kernel), *kernel, *(axis.output for axis in axes)).astype(
        accumulator(x.dtype)
    )
    pads = [(axis.before, axis.after) for axis in axes]
    return _scatter(columns, output_size, per_axis(stride, rank), per_axis(dilation, rank), pads).astype(x.dtype)


def _scatter(columns, output, stride, dilation, pads):
    """Add `columns` (N, C, *kernel, *windows) up where their taps lie in an output of the given size."""
    rank = len(output)
    kernel, windows = columns.shape[2 : 2 + rank], columns.shape[2 + rank :]
    spans = [
        max((n - 1) * s + d * (k - 1) + 1, before + size)
        for n, s, d, k, (before, _), size in zip(windows, stride, dilation, kernel, pads, output, strict=True)
    ]
    canvas = np.zeros((*columns.shape[:2], *spans), columns.dtype)
    for tap in product(*map(range, kernel)):
        visited = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilation, windows, stride, strict=True)
        )
        canvas[(..., *visited)] += columns[(slice(None), slice(None), *tap)]
    return canvas[(..., *(slice(before, before + size) for (before, _), size in zip(pads, output, strict=True)))]


def _with_bias(y, b):
    return y if b is None else y + b.astype(y.dtype).reshape(-1, *[1] * (y.ndim - 2))
