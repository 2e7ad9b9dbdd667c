"""Values at fractional positions: sampling grids, regions of interest, deformed windows."""

from itertools import product
from math import prod

import numpy as np

from fastconv.graph.resizing import cubic
from fastconv.onnx.operators.registry import operator
from fastconv.reference.sampling import deform_conv

# An axis of samples is a list of taps (index, weight), arrays that broadcast to all the samples.


def _linear(position):
    first = np.floor(position)
    return [(first, 1 - (position - first)), (first + 1, position - first)]


def _nearest(position):
    return [(np.rint(position), np.ones_like(position))]


def _cubic(position):
    first = np.floor(position)
    return [(first + k, cubic(position - (first + k), -0.75)) for k in range(-1, 3)]


def _weighted(x, taps):
    """For each combination of taps, its values in `x` (C, *spatial) times its weight; 0 outside of `x`."""
    sizes = x.shape[1:]
    for combination in product(*taps):
        weight = prod(w for _, w in combination)
        for (index, _), size in zip(combination, sizes, strict=True):
            weight = np.where((index >= 0) & (index < size), weight, 0)
        places = (i.clip(0, n - 1).astype(np.int64) for (i, _), n in zip(combination, sizes, strict=True))
        yield x[(slice(None), *places)] * weight


def _sample(x, positions, taps=_linear):
    """`x` (C, *spatial) at `positions`, one array per axis: (C, *samples)."""
    return sum(_weighted(x, [taps(position) for position in positions]))


def _reflected(position, size, align_corners):
    """`position` mirrored at the ends of its axis until it lies inside."""
    low, span = (0, size - 1) if align_corners else (-0.5, size)
    if span == 0:
        return np.zeros_like(position)
    distance = np.abs(position - low) % (2 * span)
    return (np.minimum(distance, 2 * span - distance) + low).clip(0, size - 1)


def _clipped(position, size, align_corners):
    return position.clip(0, size - 1)


_SAMPLERS = {"nearest": _nearest, "linear": _linear, "bilinear": _linear, "cubic": _cubic, "bicubic": _cubic}
_INSIDE = {"border": _clipped, "reflection": _reflected}


@operator
def GridSample(x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    """`x` (N, C, *spatial) at `grid` (N, *output, rank), positions in [-1, 1], last axis of `x` first."""
    sizes = x.shape[2:]
    taps, inside = _SAMPLERS[mode], _INSIDE.get(padding_mode)
    y = np.empty((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    for n in range(x.shape[0]):
        axes = []
        for size, g in zip(sizes, np.moveaxis(grid[n], -1, 0)[::-1], strict=True):
            g = g.astype(np.promote_types(x.dtype, np.float32))
            position = (g + 1) / 2 * (size - 1) if align_corners else ((g + 1) * size - 1) / 2
            if inside and taps is not _cubic:
                position = inside(position, size, align_corners)
            axis = taps(position)
            if inside and taps is _cubic:
                axis = [(inside(index, size, align_corners), weight) for index, weight in axis]
            axes.append(axis)
        y[n] = sum(_weighted(x[n], axes))
    return y


@operator
def AffineGrid(theta, size, *, align_corners=0):
    """Positions for GridSample: `theta` (N, rank, rank + 1) applied to those of a result of `size` (N, C, *spatial)."""
    spatial = [int(n) for n in size[2:]]
    axes = [np.linspace(-1, 1, n) if align_corners else (2 * np.arange(n) + 1) / n - 1 for n in spatial]
    points = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(spatial)], -1)
    grid = points.reshape(-1, len(spatial) + 1) @ theta.swapaxes(1, 2)
    return grid.reshape(theta.shape[0], *spatial, len(spatial)).astype(theta.dtype)


@operator
def RoiAlign(
    x,
    rois,
    batch_indices,
    *,
    coordinate_transformation_mode="half_pixel",
    mode="avg",
    output_height=1,
    output_width=1,
    sampling_ratio=0,
    spatial_scale=1.0,
    opset,
):
    """Pooled samples of every region: (regions, C, output_height, output_width); `rois` rows are (x1, y1, x2, y2).

    The maximum is taken over the weighted taps, not over the interpolated samples, as ONNX defines it.
    """
    half_pixel = opset >= 16 and coordinate_transformation_mode == "half_pixel"
    outputs, sizes = (output_height, output_width), x.shape[2:]
    y = np.empty((len(rois), x.shape[1], *outputs), x.dtype)
    for r, (roi, n) in enumerate(zip(rois * spatial_scale - (0.5 if half_pixel else 0), batch_indices, strict=True)):
        axes, counts = [], []
        for start, end, size, output in zip(roi[1::-1], roi[:1:-1], sizes, outputs, strict=True):
            extent = end - start if half_pixel else max(end - start, 1.0)
            count = sampling_ratio or max(int(np.ceil(extent / output)), 0)
            position = start + (np.arange(output * count) + 0.5) * extent / max(output * count, 1)
            beyond = (position < -1) | (position > size)
            axes.append([(i, np.where(beyond, 0, w)) for i, w in _linear(position.clip(0, size - 1))])
            counts.append(count)
        taps = [[(i[:, None], w[:, None]) for i, w in axes[0]], [(i[None], w[None]) for i, w in axes[1]]]
        weighted = _weighted(x[n], taps)
        samples = np.maximum.reduce(list(weighted)) if mode == "max" else sum(weighted)
        bins = samples.reshape(x.shape[1], output_height, counts[0], output_width, counts[1])
        if 0 in counts:
            y[r] = 0
        else:
            y[r] = bins.max(axis=(2, 4)) if mode == "max" else bins.mean(axis=(2, 4))
    return y


@operator
def DeformConv(
    x,
    w,
    offset,
    b=None,
    mask=None,
    *,
    dilations=None,
    group=1,
    kernel_shape=None,
    offset_group=1,
    pads=None,
    strides=None,
):
    """Convolution whose taps are moved by `offset` (N, offset_group * taps * rank, *output) and scaled by `mask`.

    Source: Zhu, Hu, Lin and Dai, arXiv:1811.11168.
    """
    rank = x.ndim - 2
    return deform_conv(
        x, w, offset, b, mask,
        stride=strides or 1,
        padding=list(zip(pads[:rank], pads[rank:], strict=True)) if pads else 0,
        dilation=dilations or 1,
        groups=group,
        offset_groups=offset_group,
    )  # fmt: skip
