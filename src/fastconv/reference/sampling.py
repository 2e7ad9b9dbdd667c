"""Sampling at given positions, and the exchange of channels between groups."""

from math import prod

import numpy as np

from fastconv.reference.precision import silent
from fastconv.reference.resize import CUBIC_A, _cubic
from fastconv.reference.windows import window_axes

FAR = 2.0**30  # beyond any axis; positions are kept below it, so that they have integers


@silent
def affine_grid(theta, size, align_corners=False):
    """Where an affine map sends every position of an output of `size` (N, C, *spatial): (N, *spatial, rank).

    `theta` is (N, rank, rank + 1); positions are (x, y[, z]) from -1 to 1: the outermost elements' centres with
    `align_corners`, their outer edges otherwise.  Source: Jaderberg et al., arXiv:1506.02025.
    """
    axes = [_base_positions(n, align_corners) for n in size[2:]]
    ones = np.ones(size[2:])
    base = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], ones], axis=-1).astype(theta.dtype)
    grid = base.reshape(1, -1, base.shape[-1]) @ theta.swapaxes(1, 2)
    return grid.reshape(size[0], *size[2:], len(axes))


@silent
def grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    """`x` (N, C, *spatial) at the positions `grid` (N, *output, rank), as `affine_grid` makes them: (N, C, *output).

    Modes: ``bilinear`` (between all neighbours, of any rank), ``nearest`` (halves to even) and ``bicubic``.  Outside
    lie zeros, the value at the ``border``, or the mirror image (``reflection``).
    """
    wide = np.promote_types(x.dtype, np.float32)
    sizes = x.shape[2:]
    positions = [
        _in_elements(grid[..., rank].astype(wide), n, align_corners)
        for n, rank in zip(sizes, range(len(sizes))[::-1], strict=True)
    ]
    if mode != "bicubic":
        positions = [_inside(p, n, padding_mode, align_corners) for p, n in zip(positions, sizes, strict=True)]
    taps = [_taps(p, mode) for p in positions]
    total = np.zeros((x.shape[0], x.shape[1], *grid.shape[1:-1]), wide)
    for choice in np.ndindex(*(len(axis) for axis in taps)):
        chosen = [axis[t] for axis, t in zip(taps, choice, strict=True)]
        weight = np.prod([w for _, w in chosen], axis=0, dtype=wide)
        places = [p for p, _ in chosen]
        if mode == "bicubic":
            places = [_inside(p, n, padding_mode, align_corners) for p, n in zip(places, sizes, strict=True)]
        total += _at(x, places).astype(wide) * weight[:, None]
    return total.astype(x.dtype)


@silent
def deform_conv(x, w, offset, b=None, mask=None, *, stride=1, padding=0, dilation=1, groups=1, offset_groups=1):
    """`conv` whose taps are moved by `offset` (N, offset_groups * taps * rank, *output) and scaled by `mask`.

    Taps are in row-major order, and the parts of an offset in the order of the axes; `mask` is (N, offset_groups *
    taps, *output).  Between positions values are interpolated linearly, and outside of `x` they are 0.
    Source: Zhu, Hu, Lin and Dai, arXiv:1811.11168.
    """
    kernel, wide = w.shape[2:], np.promote_types(x.dtype, np.float32)
    axes = window_axes(x.shape[2:], kernel, stride, padding, dilation)
    output, rank, taps = [axis.output for axis in axes], len(axes), prod(kernel)
    batch, channels, features = x.shape[0], x.shape[1], w.shape[0]
    parts = offset.astype(wide).reshape(batch, offset_groups, taps, rank, *output)
    shares = x.reshape(batch, offset_groups, channels // offset_groups, *x.shape[2:])
    columns = np.empty((batch, offset_groups, channels // offset_groups, taps, *output), wide)
    for t, tap in enumerate(np.ndindex(*kernel)):
        places = np.meshgrid(*(axis.positions()[:, i] for axis, i in zip(axes, tap, strict=True)), indexing="ij")
        for g in range(offset_groups):
            around = [_taps(place + parts[:, g, t, axis], "bilinear") for axis, place in enumerate(places)]
            corners = ([axis[c] for axis, c in zip(around, choice, strict=True)] for choice in np.ndindex(*[2] * rank))
            columns[:, g, :, t] = sum(_weighted(shares[:, g], corner) for corner in corners)
    if mask is not None:
        columns *= mask.astype(wide).reshape(batch, offset_groups, 1, taps, *output)
    y = w.astype(wide).reshape(groups, features // groups, -1) @ columns.reshape(batch, groups, -1, prod(output))
    y = y.reshape(batch, features, *output)
    return (y if b is None else y + b.astype(wide).reshape(-1, *[1] * rank)).astype(x.dtype)


def _weighted(x, corner):
    """`x` (N, C, *spatial) at one whole position per axis, times the product of their weights."""
    return _at(x, [place for place, _ in corner]) * prod(weight for _, weight in corner)[:, None]


def channel_shuffle(x, groups):
    """Channels of `x` (N, C, ...) read as (groups, C / groups) and transposed.

    Source: Zhang et al., arXiv:1707.01083.
    """
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(x.shape)


def _base_positions(size, align_corners):
    if align_corners:
        return np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    return (2 * np.arange(size) + 1) / size - 1


def _in_elements(position, size, align_corners):
    """From -1 … 1 to 0 … size - 1."""
    if align_corners:
        return (position + 1) / 2 * (size - 1)
    return ((position + 1) * size - 1) / 2


def _inside(position, size, padding_mode, align_corners):
    if padding_mode == "zeros":
        return position
    if padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        folded = np.abs(position - low) % (2 * span) if span else np.zeros_like(position)
        position = low + np.minimum(folded, 2 * span - folded)
    return np.nan_to_num(position.clip(0, size - 1), nan=0.0)


def _taps(position, mode):
    """Pairs (whole position, weight) that are summed along one axis."""
    if mode == "nearest":
        return [(np.rint(position), np.ones_like(position))]
    first = np.floor(position)
    if mode == "bilinear":
        return [(first, 1 - (position - first)), (first + 1, position - first)]
    offsets = range(-1, 3)
    return [(first + t, _cubic(position - first - t, CUBIC_A).astype(position.dtype)) for t in offsets]


def _at(x, places):
    """`x` at whole positions (N, *output) per axis; zero outside."""
    inside = np.all([(p >= 0) & (p <= n - 1) for p, n in zip(places, x.shape[2:], strict=True)], axis=0)
    indices = [
        np.nan_to_num(p).clip(-FAR, FAR).astype(np.int64).clip(0, n - 1)
        for p, n in zip(places, x.shape[2:], strict=True)
    ]
    images = np.arange(x.shape[0]).reshape(-1, *[1] * (indices[0].ndim - 1))
    values = np.moveaxis(x[(images, slice(None), *indices)], -1, 1)
    return np.where(inside[:, None], values, x.dtype.type(0))
