"""What max pooling took away, put back; and max pooling over windows placed at random."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.arrays import as_array, batched
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import element_count, is_sequence, per_axis
from fastconv.nn.annotations import ArrayLike, Factors, Sizes
from fastconv.nn.functional.arguments import floats
from fastconv.nn.random import default_generator

__all__ = [
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


def max_unpool1d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sizes | None = None,
) -> np.ndarray:
    """The inverse of ``max_pool1d(..., return_indices=True)``.  See :func:`max_unpool2d`."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sizes | None = None,
) -> np.ndarray:
    """Every value at the position that its index names in a plane of zeros; of values for one position the last stays.

    The size is that of the smallest input that the windows fit, (H - 1) · stride - 2 · padding + kernel, or
    `output_size` (with or without batch and channels), less than a stride away from it.  Raises
    :class:`ArgumentError` for an index outside the plane.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sizes | None = None,
) -> np.ndarray:
    """The inverse of ``max_pool3d(..., return_indices=True)``.  See :func:`max_unpool2d`."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def fractional_max_pool2d(
    input: ArrayLike,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Factors | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Maxima of `output_size` windows (or that share of the input, `output_ratio`), placed at random in (N, C, H, W).

    Steps of two neighbouring lengths follow one another pseudo-randomly (B. Graham, Fractional max-pooling, 2014),
    determined by a number in [0, 1) for each plane and axis: `_random_samples` (N, C, 2), columns first, or else the
    package's random generator.  With `return_indices` as :func:`max_pool2d`.
    """
    pooled = fractional_max_pool2d_with_indices(input, kernel_size, output_size, output_ratio, True, _random_samples)
    return pooled if return_indices else pooled[0]


def fractional_max_pool3d(
    input: ArrayLike,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Factors | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The same over (N, C, D, H, W); `_random_samples` (N, C, 3), depth first.  See :func:`fractional_max_pool2d`."""
    pooled = fractional_max_pool3d_with_indices(input, kernel_size, output_size, output_ratio, True, _random_samples)
    return pooled if return_indices else pooled[0]


def fractional_max_pool2d_with_indices(
    input: ArrayLike,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Factors | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`fractional_max_pool2d`."""
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, _random_samples, (1, 0))


def fractional_max_pool3d_with_indices(
    input: ArrayLike,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Factors | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`fractional_max_pool2d`."""
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, _random_samples, (0, 1, 2))


def _max_unpool(rank, input, indices, kernel_size, stride, padding, output_size):
    x, index = floats(input), as_array(indices, "indices")
    if index.dtype != np.int64:
        raise ArgumentTypeError(f"indices: expected int64, as max_pool{rank}d returns them, got {index.dtype}")
    if index.shape != x.shape:
        raise ArgumentError(f"indices: expected the shape of the input, {x.shape}, got {index.shape}")
    if x.ndim not in (rank + 1, rank + 2):
        raise ArgumentError(
            f"input: expected {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial), got {x.shape}"
        )
    kernel = per_axis(kernel_size, rank, "kernel_size")
    stride = kernel if stride is None or (is_sequence(stride) and not len(stride)) else stride
    size = _unpooled_size(x.shape[-rank:], kernel, per_axis(stride, rank, "stride"), padding, output_size)
    y = np.zeros((*x.shape[:-rank], *size), x.dtype)
    planes = y.reshape(prod(x.shape[:-rank]), prod(size))
    places = index.reshape(len(planes), prod(x.shape[-rank:]))
    if places.size and not 0 <= places.min() <= places.max() < prod(size):
        wrong = places.min() if places.min() < 0 else places.max()
        raise ArgumentError(
            f"indices: {wrong} is outside a plane of {'×'.join(map(str, size))} = {prod(size)} positions"
        )
    planes[np.arange(len(planes))[:, None], places] = x.reshape(places.shape)
    return y


def _unpooled_size(sizes, kernel, stride, padding, output_size) -> tuple[int, ...]:
    rank = len(sizes)
    pads = per_axis(padding, rank, "padding", 0)
    least = [(size - 1) * s - 2 * p + k for size, s, p, k in zip(sizes, stride, pads, kernel, strict=True)]
    if output_size is None:
        wanted = least
    else:
        wanted = tuple(output_size) if is_sequence(output_size) else (output_size,)
        wanted = wanted[2:] if len(wanted) == rank + 2 else wanted
        if len(wanted) != rank:
            raise ArgumentError(f"output_size: expected {rank} or {rank + 2} values, got {output_size!r}")
    wanted = per_axis(wanted, rank, "output_size", 0)
    for axis, (size, default, step) in enumerate(zip(wanted, least, stride, strict=True)):
        if not default - step < size < default + step:
            raise ArgumentError(
                f"output_size: expected {default - step + 1} to {default + step - 1} for axis {axis}, got {size}"
            )
    element_count(wanted, "output_size")
    return wanted


def _fractional_max_pool(rank, input, kernel_size, output_size, output_ratio, samples, sample_of_axis):
    is_batched, x = batched(floats(input), rank)
    if x.ndim != rank + 2:
        raise ArgumentError(
            f"input: expected {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial), got {x.shape}"
        )
    sizes, kernel = x.shape[2:], per_axis(kernel_size, rank, "kernel_size")
    if (output_size is None) == (output_ratio is None):
        raise ArgumentError("output_size: expected either an output_size or an output_ratio")
    if output_size is None:
        ratios = output_ratio if is_sequence(output_ratio) else (output_ratio,) * rank
        if len(ratios) != rank or not all(0 < ratio < 1 for ratio in ratios):
            raise ArgumentError(f"output_ratio: expected 1 or {rank} numbers between 0 and 1, got {output_ratio!r}")
        output_size = [int(size * ratio) for size, ratio in zip(sizes, ratios, strict=True)]
    output = per_axis(output_size, rank, "output_size")
    for size, k, out in zip(sizes, kernel, output, strict=True):
        if out + k - 1 > size:
            raise ArgumentError(
                f"output_size: {out} windows of {k} take at least {out + k - 1} positions, got {size} of {x.shape}"
            )
    u = default_generator.random((*x.shape[:2], rank)) if samples is None else as_array(samples, "_random_samples")
    if u.shape != (*x.shape[:2], rank):
        raise ArgumentError(f"_random_samples: expected shape {(*x.shape[:2], rank)}, got {u.shape}")
    starts = [
        _random_starts(u[..., sample], *axis)
        for sample, axis in zip(sample_of_axis, zip(sizes, kernel, output, strict=True), strict=True)
    ]
    values, indices = _largest(x, starts, kernel)
    return (values, indices) if is_batched else (values[0], indices[0])


def _random_starts(u, size, kernel, output) -> np.ndarray:
    """(N, C, output): where the windows of each plane start."""
    step = u.dtype.type((size - kernel) / max(output - 1, 1))
    i = np.arange(output, dtype=u.dtype)
    starts = ((i + u[..., None]) * step).astype(np.int64) - (u * step).astype(np.int64)[..., None]
    starts[..., -1] = size - kernel
    return starts


def _largest(x, starts, kernel) -> tuple[np.ndarray, np.ndarray]:
    """Values and places of the maxima of windows with these starts, by the rule of :func:`max_pool2d`."""
    rank = len(kernel)
    place = np.zeros((1,) * (2 + 2 * rank), np.int64)
    for axis, (start, k, size) in enumerate(zip(starts, kernel, x.shape[2:], strict=True)):
        shape = [*x.shape[:2], *(1,) * (2 * rank)]
        shape[2 + axis], shape[2 + rank + axis] = start.shape[-1], k
        place = place * size + (start[..., None] + np.arange(k)).reshape(shape)
    place = place.reshape(*place.shape[: 2 + rank], prod(kernel))
    flat = place.reshape(*x.shape[:2], prod(place.shape[2:]))
    windows = np.take_along_axis(x.reshape(*x.shape[:2], prod(x.shape[2:])), flat, -1).reshape(place.shape)
    nan = np.isnan(windows)
    tap = np.where(nan.any(-1), windows.shape[-1] - 1 - nan[..., ::-1].argmax(-1), windows.argmax(-1))[..., None]
    return np.take_along_axis(windows, tap, -1)[..., 0], np.take_along_axis(place, tap, -1)[..., 0]
