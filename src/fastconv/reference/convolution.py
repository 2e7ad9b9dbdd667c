"""Convolution and its relatives: transposed convolution, linear layers, windows as columns and back."""

from math import prod

import numpy as np

from fastconv.reference.padding import pad_constant
from fastconv.reference.precision import accumulator, silent
from fastconv.reference.windows import Axis, per_axis, window_axes


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
    for tap, visited in _taps(axes):
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

    settings = (per_axis(setting, rank) for setting in (stride, dilation, padding, output_padding))
    axes = []
    for n, k, s, d, pads, extra in zip(sizes, kernel, *settings, strict=True):
        before, after = per_axis(pads, 2)
        output = (n - 1) * s - before - after + d * (k - 1) + 1 + extra
        axes.append(Axis(output, k, s, d, before, after, n))
    return _with_bias(_scatter(columns, axes), b).astype(x.dtype)


@silent
def linear(x, w, b=None, *, accumulate=None):
    """`x` (..., in) times the transpose of `w` (out, in), plus `b` (out,): (..., out)."""
    wide = accumulator(x.dtype, accumulate)
    y = x.astype(wide) @ w.astype(wide).T
    return (y if b is None else y + b.astype(wide)).astype(x.dtype)


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """Every window of `x` (N, C, *spatial) as a column: (N, C * taps, windows), both in row-major order."""
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, dilation)
    padded = pad_constant(x, [(axis.before, axis.after) for axis in axes])
    columns = np.stack([padded[(..., *visited)] for _, visited in _taps(axes)], axis=2)
    taps, windows = prod(axis.kernel for axis in axes), prod(axis.output for axis in axes)
    return columns.reshape(x.shape[0], x.shape[1] * taps, windows)


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """The adjoint of `unfold`: columns (N, C * taps, windows) added up into (N, C, *output_size)."""
    axes = window_axes(output_size, kernel_size, stride, padding, dilation)
    kernel, windows = [axis.kernel for axis in axes], [axis.output for axis in axes]
    columns = x.astype(accumulator(x.dtype)).reshape(x.shape[0], x.shape[1] // prod(kernel), *kernel, *windows)
    return _scatter(columns, axes).astype(x.dtype)


def _taps(axes):
    """Every tap of a kernel, with the positions of the padded input that it visits."""
    for tap in np.ndindex(*(axis.kernel for axis in axes)):
        yield tap, tuple(axis.padded_positions(t) for axis, t in zip(axes, tap, strict=True))


def _scatter(columns, axes):
    """Add `columns` (N, C, *kernel, *windows) up at the positions that their taps visit, and cut the padding off."""
    reach = [max((axis.output - 1) * axis.stride + axis.extent, axis.before + axis.size) for axis in axes]
    padded = np.zeros((*columns.shape[:2], *reach), columns.dtype)
    for tap, visited in _taps(axes):
        padded[(..., *visited)] += columns[(slice(None), slice(None), *tap)]
    return padded[(..., *(slice(axis.before, axis.before + axis.size) for axis in axes))]


def _with_bias(y, b):
    return y if b is None else y + b.astype(y.dtype).reshape(-1, *[1] * (y.ndim - 2))
