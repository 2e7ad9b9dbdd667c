"""Resampling, and the rearrangement of pixels, channels and windows."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, prod

import numpy as np

from fastconv import reference
from fastconv.arrays import as_array, batched
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import MAX_ELEMENTS, Window, element_count, integer, is_sequence, per_axis
from fastconv.nn.annotations import ArrayLike, Factors, Sizes
from fastconv.nn.functional.arguments import floats, number
from fastconv.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from fastconv.ops.arguments import word
from fastconv.ops.resample import resample

__all__ = [
    "affine_grid",
    "channel_shuffle",
    "fold",
    "grid_sample",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]

COPYING_MODES = ("nearest", "nearest-exact", "area")
INTERPOLATING_MODES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3, "lanczos": 2}  # rank that each takes
ANTIALIASED_MODES = ("bilinear", "bicubic", "lanczos")
AREA_POOLS = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def interpolate(
    input: ArrayLike,
    size: Sizes | None = None,
    scale_factor: Factors | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> np.ndarray:
    """(N, C, *spatial) resampled to `size`, or to floor(spatial * `scale_factor`); each one number or one per axis.

    Modes: ``nearest`` (floor of output * scale), ``nearest-exact`` (of pixel centres), ``linear``, ``bilinear``,
    ``bicubic``, ``trilinear``, ``area`` (averages) and, with `antialias`, ``lanczos``.  `align_corners` makes the
    outermost samples coincide, otherwise the outermost edges do.  A given `scale_factor` is the scale, unless
    `recompute_scale_factor` asks for the ratio of the sizes.  `antialias` widens the filter where it shrinks.
    """
    x = as_array(input, "input")
    if x.ndim not in (3, 4, 5):
        raise ArgumentError(f"input: expected (N, C, *spatial) with 1 to 3 spatial axes, got shape {x.shape}")
    rank = x.ndim - 2
    _check_mode(x, mode, align_corners, antialias)
    if (size is None) == (scale_factor is None):
        raise ArgumentError(f"size, scale_factor: expected one of the two, got {size!r} and {scale_factor!r}")
    if size is not None:
        if recompute_scale_factor:
            raise ArgumentError("recompute_scale_factor: has no meaning with an explicit size")
        outputs = _per_axis(size, rank, "size", lambda value: integer(value, "size", 1))
    else:
        factors = _per_axis(scale_factor, rank, "scale_factor", lambda value: number(value, "scale_factor"))
        if not all(abs(factor) < MAX_ELEMENTS for factor in factors):
            raise ArgumentError(f"scale_factor: expected finite numbers below {MAX_ELEMENTS}, got {factors}")
        outputs = tuple(floor(n * factor) for n, factor in zip(x.shape[2:], factors, strict=True))
    if min(outputs) < 1 or min(x.shape[2:]) < 1:
        raise ArgumentError(
            f"{'size' if scale_factor is None else 'scale_factor'}: expected spatial sizes of at least 1, "
            f"got {tuple(x.shape[2:])} resampled to {outputs}"
        )
    element_count((*x.shape[:2], *outputs), "output")
    if mode == "area":
        return AREA_POOLS[rank](x, outputs)
    asked = None if scale_factor is None or recompute_scale_factor else factors
    return resample(x, outputs, asked, mode, bool(align_corners), bool(antialias))


def upsample(
    input: ArrayLike,
    size: Sizes | None = None,
    scale_factor: Factors | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> np.ndarray:
    """torch's older name of :func:`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: ArrayLike, size: Sizes | None = None, scale_factor: Factors | None = None) -> np.ndarray:
    """:func:`interpolate` with mode nearest."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: ArrayLike, size: Sizes | None = None, scale_factor: Factors | None = None) -> np.ndarray:
    """:func:`interpolate` with mode bilinear and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", True)


def _check_mode(x, mode, align_corners, antialias):
    rank = x.ndim - 2
    word(mode, "mode")
    if mode not in COPYING_MODES and mode not in INTERPOLATING_MODES:
        known = ", ".join((*COPYING_MODES, *INTERPOLATING_MODES))
        raise ArgumentError(f"mode: expected one of {known}, got {mode!r}")
    if mode in COPYING_MODES:
        if align_corners is not None:
            raise ArgumentError(
                f"align_corners: has a meaning for {', '.join(INTERPOLATING_MODES)} only, not for {mode}"
            )
    elif INTERPOLATING_MODES[mode] != rank:
        raise ArgumentError(
            f"mode: {mode} resamples {INTERPOLATING_MODES[mode]} spatial axes, the input {x.shape} has {rank}"
        )
    if antialias and (mode not in ANTIALIASED_MODES or rank != 2):
        raise ArgumentError(
            f"antialias: works with {', '.join(ANTIALIASED_MODES)} on (N, C, H, W) only, not with {mode}"
        )
    if mode == "lanczos" and (align_corners or not antialias):
        raise ArgumentError("mode: lanczos requires antialias=True, and align_corners=False")
    if x.dtype.kind not in ("f" if mode == "area" else "fiu" if mode in INTERPOLATING_MODES else "fiubc"):
        raise ArgumentTypeError(f"input: mode {mode} of {x.dtype} is not defined; convert with astype()")


def _per_axis(value, rank, name, convert):
    if not is_sequence(value):
        return (convert(value),) * rank
    if len(value) != rank:
        raise ArgumentError(
            f"{name}: expected one value or {rank}, one per spatial axis, got {len(value)}: {tuple(value)}"
        )
    return tuple(convert(v) for v in value)


def pixel_shuffle(input: ArrayLike, upscale_factor: int) -> np.ndarray:
    """(..., C * r², H, W) to (..., C, H * r, W * r): each pixel's channels become a block of r × r pixels."""
    x, factor = as_array(input, "input"), integer(upscale_factor, "upscale_factor", 1)
    _check_pixels(x)
    if x.shape[-3] % factor**2:
        raise ArgumentError(
            f"input: expected a multiple of {factor}² = {factor**2} channels, got {x.shape[-3]} in shape {x.shape}"
        )
    return reference.pixel_shuffle(x, factor)


def pixel_unshuffle(input: ArrayLike, downscale_factor: int) -> np.ndarray:
    """The inverse of :func:`pixel_shuffle`: (..., C, H * r, W * r) to (..., C * r², H, W)."""
    x, factor = as_array(input, "input"), integer(downscale_factor, "downscale_factor", 1)
    _check_pixels(x)
    if x.shape[-2] % factor or x.shape[-1] % factor:
        raise ArgumentError(f"input: expected height and width to be multiples of {factor}, got shape {x.shape}")
    return reference.pixel_unshuffle(x, factor)


def _check_pixels(x):
    if x.ndim < 3:
        raise ArgumentError(f"input: expected (..., C, H, W), got shape {x.shape}")


def channel_shuffle(input: ArrayLike, groups: int) -> np.ndarray:
    """Channels of (N, C, *spatial) read as (groups, C / groups) and transposed."""
    x, groups = as_array(input, "input"), integer(groups, "groups", 1)
    if x.ndim < 3:
        raise ArgumentError(f"input: expected (N, C, *spatial), got shape {x.shape}")
    if x.shape[1] % groups:
        raise ArgumentError(f"groups: {groups} groups do not divide the {x.shape[1]} channels of input {x.shape}")
    return reference.channel_shuffle(x, groups)


def unfold(
    input: ArrayLike, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> np.ndarray:
    """Every window of (N, C, H, W) or (C, H, W) as a column: (N, C * kernel, windows), both in row-major order."""
    x = as_array(input, "input")
    if x.ndim not in (3, 4):
        raise ArgumentError(f"input: expected (N, C, H, W) or (C, H, W), got shape {x.shape}")
    is_batched, x = batched(x, 2)
    window = Window.of(x.shape[2:], kernel_size, stride, per_axis(padding, 2, "padding", 0), dilation)
    y = reference.unfold(x, window.kernel, window.dilation, window.pads, window.stride)
    return y if is_batched else y[0]


def fold(
    input: ArrayLike, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> np.ndarray:
    """The adjoint of :func:`unfold`: columns (N, C * kernel, windows) added up into (N, C, *output_size)."""
    x = as_array(input, "input")
    if x.ndim not in (2, 3):
        raise ArgumentError(f"input: expected (N, C * kernel, windows) or (C * kernel, windows), got shape {x.shape}")
    is_batched, x = batched(x, 1)
    output = per_axis(output_size, 2, "output_size")
    window = Window.of(output, kernel_size, stride, per_axis(padding, 2, "padding", 0), dilation)
    taps, windows = prod(window.kernel), prod(window.output)
    if x.shape[1] % taps:
        raise ArgumentError(
            f"input: expected a multiple of {taps} rows, the size of kernel {window.kernel}, got shape {x.shape}"
        )
    if x.shape[2] != windows:
        raise ArgumentError(
            f"input: expected {windows} columns, one per window ({' × '.join(map(str, window.output))}) of output_size "
            f"{output}, got shape {x.shape}"
        )
    y = reference.fold(x, output, window.kernel, window.dilation, window.pads, window.stride)
    return y if is_batched else y[0]


def grid_sample(
    input: ArrayLike,
    grid: ArrayLike,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> np.ndarray:
    """(N, C, *spatial) at the positions `grid` (N, *output, rank), x first, from -1 to 1: (N, C, *output).

    Modes: ``bilinear``, ``nearest``, and for images ``bicubic``.  Outside lie ``zeros``, the ``border``, or the mirror
    image (``reflection``).  `align_corners` puts -1 and 1 at the outermost elements' centres, else at their edges.
    """
    x, positions = floats(input), as_array(grid, "grid")
    rank = x.ndim - 2
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ArgumentError(f"mode: expected 'bilinear', 'nearest' or 'bicubic', got {mode!r}")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ArgumentError(f"padding_mode: expected 'zeros', 'border' or 'reflection', got {padding_mode!r}")
    if rank not in (2, 3) or min(x.shape[2:]) < 1:
        raise ArgumentError(f"input: expected (N, C, H, W) or (N, C, D, H, W) with elements, got shape {x.shape}")
    if positions.ndim != x.ndim or positions.shape[0] != x.shape[0] or positions.shape[-1] != rank:
        raise ArgumentError(
            f"grid: expected ({x.shape[0]}, *output, {rank}) for input {x.shape}, got {positions.shape}"
        )
    if positions.dtype != x.dtype:
        raise ArgumentTypeError(f"input and grid: expected one element type, got {x.dtype} and {positions.dtype}")
    if mode == "bicubic" and rank != 2:
        raise ArgumentError(f"mode: bicubic samples (N, C, H, W) only, got input {x.shape}")
    return reference.grid_sample(x, positions, mode, padding_mode, bool(align_corners))


def affine_grid(theta: ArrayLike, size: Sequence[int], align_corners: bool | None = None) -> np.ndarray:
    """Where the affine maps `theta` (N, rank, rank + 1) send every position of an output of `size` (N, C, *spatial).

    (N, *spatial, rank), x first, for :func:`grid_sample`.
    """
    maps = floats(theta, "theta")
    sizes = tuple(integer(n, "size", 1) for n in (size if is_sequence(size) else ()))
    rank = len(sizes) - 2
    if rank not in (2, 3):
        raise ArgumentError(f"size: expected (N, C, H, W) or (N, C, D, H, W), got {size!r}")
    if maps.shape != (sizes[0], rank, rank + 1):
        raise ArgumentError(f"theta: expected shape {(sizes[0], rank, rank + 1)} for size {sizes}, got {maps.shape}")
    return reference.affine_grid(np.ascontiguousarray(maps), sizes, bool(align_corners))
