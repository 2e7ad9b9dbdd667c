"""Pooling: maxima with indices, averages, power means, over sliding or adaptive windows."""

from functools import reduce
from math import prod
from operator import and_

import numpy as np

from fastconv.reference.precision import accumulator, silent
from fastconv.reference.windows import per_axis, window_axes


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The largest value of every window of `x` (N, C, *spatial), and where it is: (values, indices).

    Indices are int64 and count in row-major order inside one unpadded plane.  Padding never wins: only positions of
    the input are looked at, so the index of a window of -inf is that of its first position.  Of equal values the
    first wins; a NaN beats everything before it, so the *last* NaN of a window is reported, as torch does.  A window
    that lies in the padding altogether gives the lowest value of the type and the index -1.
    """
    stride = kernel_size if stride is None else stride
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return _maximum(x, [_sliding(axis) for axis in axes])


def adaptive_max_pool(x, output_size):
    """`max_pool` over the windows of `adaptive_avg_pool`: (values, indices)."""
    return _maximum(x, _adaptive_axes(x, output_size))


@silent
def avg_pool(
    x,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
    *,
    dilation=1,
    accumulate=None,
):
    """The mean of every window of `x` (N, C, *spatial).

    The divisor is the number of taps inside the padded input (a window that `ceil_mode` adds may hang over its end),
    or with ``count_include_pad=False`` inside the input, or `divisor_override`, which may be negative.  A window
    without any input is 0.  Integer means are rounded towards zero.
    """
    if divisor_override == 0:
        raise ValueError("divisor_override: expected a number other than 0, got 0")
    stride = kernel_size if stride is None else stride
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    if divisor_override is not None:
        divisor = divisor_override
    else:
        ends = [axis.size + axis.after if count_include_pad else axis.size for axis in axes]
        starts = [-axis.before if count_include_pad else 0 for axis in axes]
        positions = [axis.positions() for axis in axes]
        inside = [(start <= p) & (p < end) for p, start, end in zip(positions, starts, ends, strict=True)]
        divisor = np.maximum(_box_sizes(inside), 1)
    total = _sum(x.astype(accumulator(x.dtype, accumulate)), [_sliding(axis) for axis in axes])
    return _divide(total, divisor).astype(x.dtype)


@silent
def adaptive_avg_pool(x, output_size, *, accumulate=None):
    """The means over windows that divide each axis evenly: (N, C, *output_size).

    Output i of an axis of size L averages the positions from floor(i * L / out) up to ceil((i + 1) * L / out), which
    overlap where L is no multiple.  `output_size` is one number or one per axis; None keeps the size of its axis, 0
    gives an empty result.  The mean of an empty axis is NaN.
    """
    axes = _adaptive_axes(x, output_size)
    total = _sum(x.astype(accumulator(x.dtype, accumulate)), axes)
    return _divide(total, _box_sizes([inside for _, inside in axes])).astype(x.dtype)


@silent
def lp_pool(x, norm_type, kernel_size, stride=None, ceil_mode=False, *, padding=0, dilation=1, accumulate=None):
    """The p-norm (sum of abs(x) ** p) ** (1 / p) of every window of `x`, with p = `norm_type`; inf is the largest.

    Two differences from torch, which computes the sum from a mean: negative values of odd powers keep their magnitude
    (torch gives NaN), and a window that `ceil_mode` cuts off sums what it sees (torch scales it to the full window).
    """
    if norm_type == np.inf:
        return max_pool(np.abs(x), kernel_size, stride, padding, dilation, ceil_mode)[0]
    stride = kernel_size if stride is None else stride
    axes = window_axes(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    powers = np.abs(x.astype(accumulator(x.dtype, accumulate))) ** norm_type
    return (_sum(powers, [_sliding(axis) for axis in axes]) ** (1 / norm_type)).astype(x.dtype)


# An axis of windows is a pair (positions, inside), both (windows, taps): where every tap reads, and whether it counts.


def _sliding(axis):
    positions = axis.positions()
    return positions, (positions >= 0) & (positions < axis.size)


def _adaptive_axes(x, output_size):
    sizes = x.shape[2:]
    outputs = [
        size if output is None else output
        for size, output in zip(sizes, per_axis(output_size, len(sizes)), strict=True)
    ]
    axes = []
    for size, output in zip(sizes, outputs, strict=True):
        i = np.arange(output)[:, None]
        starts, ends = i * size // max(output, 1), -(-(i + 1) * size // max(output, 1))
        positions = starts + np.arange((ends - starts).max(initial=0))
        axes.append((positions, positions < ends))
    return axes


def _walk(x, axes):
    """Per tap: its values (N, C, *windows), whether they count (*windows), their indices in the plane (*windows)."""
    sizes = x.shape[2:]
    for tap in np.ndindex(*(positions.shape[1] for positions, _ in axes)):
        inside = [counted[:, t] for (_, counted), t in zip(axes, tap, strict=True)]
        places = [p[:, t].clip(0, size - 1) for (p, _), t, size in zip(axes, tap, sizes, strict=True)]
        grid = np.meshgrid(*places, indexing="ij")
        counts = reduce(and_, np.meshgrid(*inside, indexing="ij"))
        yield x[(..., *grid)], counts, np.ravel_multi_index(grid, sizes)


def _maximum(x, axes):
    shape = (*x.shape[:2], *(len(positions) for positions, _ in axes))
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    best, best_index = np.full(shape, lowest, x.dtype), np.full(shape, -1, np.int64)
    for values, counts, index in _walk(x, axes):
        wins = counts & ((values > best) | np.isnan(values) | (best_index < 0))
        best, best_index = np.where(wins, values, best), np.where(wins, index, best_index)
    return best, best_index


def _sum(x, axes):
    total = np.zeros((*x.shape[:2], *(len(positions) for positions, _ in axes)), x.dtype)
    for values, counts, _ in _walk(x, axes):
        total += np.where(counts, values, x.dtype.type(0))
    return total


def _box_sizes(inside):
    return prod(np.meshgrid(*(counted.sum(axis=1) for counted in inside), indexing="ij"))


def _divide(total, divisor):
    if total.dtype.kind == "f":
        return total / np.asarray(divisor, total.dtype)
    return np.sign(total) * np.sign(divisor) * (np.abs(total) // np.abs(divisor))
