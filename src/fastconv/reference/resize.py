"""Resampling, and the exchange of channels for resolution."""

import math

import numpy as np

from fastconv.reference.pooling import adaptive_avg_pool
from fastconv.reference.precision import silent
from fastconv.reference.windows import per_axis

CUBIC_A = -0.75  # as in torch and OpenCV
ANTIALIAS_CUBIC_A = -0.5  # as in Keys, IEEE Trans. ASSP 29 (1981), and Pillow


@silent
def interpolate(
    x,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=False,
    recompute_scale_factor=False,
    antialias=False,
):
    """`x` (N, C, *spatial) resampled to `size`, or to floor(spatial * `scale_factor`); each one number or per axis.

    Modes: ``nearest`` (floor of output * scale), ``nearest-exact`` (of pixel centres), ``linear`` (also ``bilinear``,
    ``trilinear``), ``bicubic``, ``area`` (`adaptive_avg_pool`) and, with `antialias`, ``lanczos``.  `align_corners`
    makes the outermost samples coincide, otherwise the outermost edges do.  A given `scale_factor` is the scale,
    unless `recompute_scale_factor` asks for the ratio of the sizes.  `antialias` widens the filter where it shrinks.
    Integers are rounded (halves up) after every axis, the last axis first, as in torch and Pillow.
    """
    rank, sizes = x.ndim - 2, x.shape[2:]
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: expected either size or scale_factor")
    if size is not None:
        outputs, scales = per_axis(size, rank), (None,) * rank
    else:
        factors = per_axis(scale_factor, rank)
        outputs = tuple(math.floor(n * float(factor)) for n, factor in zip(sizes, factors, strict=True))
        scales = (None,) * rank if recompute_scale_factor else tuple(1 / factor for factor in factors)
    if mode == "area":
        return adaptive_avg_pool(x, outputs)
    axes = [axis_taps(*axis, mode, align_corners, antialias, rank) for axis in zip(sizes, outputs, scales, strict=True)]
    if mode in ("nearest", "nearest-exact"):
        for axis, (taps, _) in enumerate(axes, 2):
            x = x.take(taps[:, 0], axis)
        return x
    y = x.astype(np.promote_types(x.dtype, np.float32))
    for axis, (taps, weights) in list(enumerate(axes, 2))[::-1]:
        y = _resample(y, axis, taps, weights.astype(y.dtype))
        if x.dtype.kind in "iu":
            y = np.floor(y + 0.5).clip(np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return y.astype(x.dtype)


def axis_taps(size, output, scale, mode, align_corners, antialias, rank):
    """What one of `rank` axes adds up in `interpolate`: input positions and float64 weights, both (output, taps).

    `scale` is input positions per output position, or None for the ratio of the sizes.
    """
    if mode in ("nearest", "nearest-exact"):
        if mode == "nearest" and rank == 2 and output in (size, 2 * size):
            scale = None  # torch's shortcut in two dimensions, not in one or three, ignores the scale
        return _nearest(size, output, scale, centred=mode == "nearest-exact")[:, None], np.ones((output, 1))
    scale = _scale(size, output, scale, align_corners)
    if antialias:
        return _filter_taps(size, output, scale, mode)
    return _interpolation_taps(size, output, scale, mode, align_corners)


def pixel_shuffle(x, upscale_factor):
    """(..., C * r * r, H, W) to (..., C, H * r, W * r): each pixel's channels become a block of r × r pixels.

    Source: Shi et al., arXiv:1609.05158.
    """
    r = upscale_factor
    *batch, channels, height, width = x.shape
    blocks = x.reshape(*batch, channels // (r * r), r, r, height, width)
    rows_then_columns = np.moveaxis(blocks, (-4, -3), (-3, -1))
    return rows_then_columns.reshape(*batch, channels // (r * r), height * r, width * r)


def pixel_unshuffle(x, downscale_factor):
    """The inverse of `pixel_shuffle`: (..., C, H * r, W * r) to (..., C * r * r, H, W)."""
    r = downscale_factor
    *batch, channels, height, width = x.shape
    blocks = x.reshape(*batch, channels, height // r, r, width // r, r)
    return np.moveaxis(blocks, (-3, -1), (-4, -3)).reshape(*batch, channels * r * r, height // r, width // r)


def _scale(size, output, scale, align_corners):
    """Input positions per output position."""
    if align_corners:
        return (size - 1) / (output - 1) if output > 1 else 0.0
    return size / output if scale is None else scale


def _nearest(size, output, scale, centred):
    """Source positions, computed in float32 because torch does and floor() makes its rounding visible."""
    scale = np.float32(size / output if scale is None else scale)
    positions = np.arange(output, dtype=np.float32)
    return np.floor((positions + np.float32(0.5 if centred else 0)) * scale).astype(np.int64).clip(max=size - 1)


def _interpolation_taps(size, output, scale, mode, align_corners):
    """Positions and weights (output, taps) of a sample between its 2 or 4 neighbours."""
    i = np.arange(output)
    source = i * scale if align_corners else (i + 0.5) * scale - 0.5
    if mode in ("linear", "bilinear", "trilinear"):
        if output == size:
            source = i  # torch copies an axis that keeps its size, whatever the scale
        source = source.clip(0, size - 1)
        first = np.floor(source)
        offsets, kernel = np.arange(2), _triangle
    elif mode == "bicubic":
        first = np.floor(source)
        offsets, kernel = np.arange(-1, 3), lambda distance: _cubic(distance, CUBIC_A)
    else:
        raise ValueError(f"mode: {mode!r} is unknown, or known with antialias only")
    taps = first[:, None] + offsets
    return taps.clip(0, size - 1).astype(np.int64), kernel(taps - source[:, None])


def _filter_taps(size, output, scale, mode):
    """Positions and weights (output, taps) of a filter as wide as the step between outputs."""
    filters = {
        "bilinear": (1, _triangle),
        "bicubic": (2, lambda distance: _cubic(distance, ANTIALIAS_CUBIC_A)),
        "lanczos": (3, _lanczos),
    }
    if mode not in filters:
        raise ValueError(f"antialias: expected mode bilinear, bicubic or lanczos, got {mode!r}")
    radius, kernel = filters[mode]
    widening = max(scale, 1.0)
    centre = (np.arange(output)[:, None] + 0.5) * scale
    first = np.trunc(centre - radius * widening + 0.5).clip(0)
    end = np.trunc(centre + radius * widening + 0.5).clip(max=size)
    taps = first + np.arange((end - first).max(initial=0))
    weights = np.where(taps < end, kernel((taps - centre + 0.5) / widening), 0)
    return np.minimum(taps, end - 1).astype(np.int64), weights / weights.sum(axis=1, keepdims=True)


def _triangle(distance):
    return np.maximum(1 - np.abs(distance), 0)


def _cubic(distance, a):
    t = np.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _lanczos(distance):
    return np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)


def _resample(x, axis, taps, weights):
    along = [1] * x.ndim
    along[axis] = len(taps)
    return sum(x.take(taps[:, t], axis) * weights[:, t].reshape(along) for t in range(taps.shape[1]))
