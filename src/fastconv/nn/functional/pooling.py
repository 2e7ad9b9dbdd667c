"""Pooling: sliding, adaptive and power means.

Inputs are (N, C, *size) or (C, *size).  Sizes are one integer or one per axis, `stride` is `kernel_size` where it is
not given, and padding may be pairs ``((top, bottom), (left, right))`` beyond torch.  `algorithm` forces a row of the op
table, ``"direct"`` or ``"reference"``.  Every function raises :class:`ArgumentError` for impossible sizes and
:class:`ArgumentTypeError` for element types that torch does not pool either.
"""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array, batched
from fastconv.errors import ArgumentError
from fastconv.nn.annotations import ArrayLike, OutputSizes, Padding, Sizes
from fastconv.nn.functional.arguments import floats, number
from fastconv.ops.pool import adaptive_average_plan, adaptive_max_plan, average_pool_plan, max_pool_plan

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
]


def max_pool1d(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str = "auto",
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest values of windows of (N, C, L).  See :func:`max_pool2d`."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm)


def max_pool2d(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str = "auto",
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest value of every window of (N, C, H, W): (N, C, H_out, W_out); floats and integers.

    Padding never wins, a NaN always does.  With `ceil_mode` a last window that starts inside the input counts although
    it does not fit.  With `return_indices` the result is (values, int64 places in the flattened input plane): of equal
    values the first, of several NaN the last.  Padding beyond half of the window raises.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm)


def max_pool3d(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str = "auto",
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest values of windows of (N, C, D, H, W).  See :func:`max_pool2d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm)


def max_pool1d_with_indices(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`max_pool2d`."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True, algorithm)


def max_pool2d_with_indices(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`max_pool2d`."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True, algorithm)


def max_pool3d_with_indices(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`max_pool2d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True, algorithm)


def avg_pool1d(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The means of windows of (N, C, L).  See :func:`avg_pool2d`."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, algorithm)


def avg_pool2d(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The mean of every window of (N, C, H, W): (N, C, H_out, W_out); floats and int64.

    The divisor counts the taps inside the padded input (a window that `ceil_mode` adds may hang over its end), or with
    ``count_include_pad=False`` those inside the input; `divisor_override` replaces it and may be negative.  float16 is
    summed in float32.
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, algorithm)


def avg_pool3d(
    input: ArrayLike,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The means of windows of (N, C, D, H, W).  See :func:`avg_pool2d`."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, algorithm)


def adaptive_avg_pool1d(input: ArrayLike, output_size: OutputSizes, *, algorithm: str = "auto") -> np.ndarray:
    """The means of `output_size` windows of (N, C, L).  See :func:`adaptive_avg_pool2d`."""
    return _adaptive_avg_pool(1, input, output_size, algorithm)


def adaptive_avg_pool2d(input: ArrayLike, output_size: OutputSizes, *, algorithm: str = "auto") -> np.ndarray:
    """The means of windows that divide (N, C, H, W) evenly: (N, C, *output_size); floats.

    Output i of an axis of size L takes the positions from floor(i L / size) to ceil((i + 1) L / size).  In
    `output_size` None keeps an axis and 0 empties it.  The mean of an empty axis is NaN, where torch raises for some
    sizes.
    """
    return _adaptive_avg_pool(2, input, output_size, algorithm)


def adaptive_avg_pool3d(input: ArrayLike, output_size: OutputSizes, *, algorithm: str = "auto") -> np.ndarray:
    """The means of windows of (N, C, D, H, W).  See :func:`adaptive_avg_pool2d`."""
    return _adaptive_avg_pool(3, input, output_size, algorithm)


def adaptive_max_pool1d(
    input: ArrayLike, output_size: OutputSizes, return_indices: bool = False, *, algorithm: str = "auto"
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest values of windows of (N, C, L).  See :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(1, input, output_size, return_indices, algorithm)


def adaptive_max_pool2d(
    input: ArrayLike, output_size: OutputSizes, return_indices: bool = False, *, algorithm: str = "auto"
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest values of the windows of :func:`adaptive_avg_pool2d`; indices as of :func:`max_pool2d`."""
    return _adaptive_max_pool(2, input, output_size, return_indices, algorithm)


def adaptive_max_pool3d(
    input: ArrayLike, output_size: OutputSizes, return_indices: bool = False, *, algorithm: str = "auto"
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The largest values of windows of (N, C, D, H, W).  See :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(3, input, output_size, return_indices, algorithm)


def adaptive_max_pool1d_with_indices(
    input: ArrayLike, output_size: OutputSizes, return_indices: bool = False, *, algorithm: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(1, input, output_size, True, algorithm)


def adaptive_max_pool2d_with_indices(
    input: ArrayLike, output_size: OutputSizes, return_indices: bool = False, *, algorithm: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(2, input, output_size, True, algorithm)


def adaptive_max_pool3d_with_indices(
    input: ArrayLike, output_size: OutputSizes, return_indices: bool = False, *, algorithm: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """(values, indices), whatever `return_indices` says.  See :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(3, input, output_size, True, algorithm)


def lp_pool1d(
    input: ArrayLike,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The p-norms of windows of (N, C, L).  See :func:`lp_pool2d`."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode, algorithm)


def lp_pool2d(
    input: ArrayLike,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The p-norm (Σ |x|^p)^(1/p) of every window of (N, C, H, W), with p = `norm_type`; inf is the largest magnitude.

    Two differences from torch, which computes the sum from a mean of x^p: negative values of odd powers keep their
    magnitude (torch gives NaN), and a window that `ceil_mode` cuts off sums what it sees (torch scales it up).
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode, algorithm)


def lp_pool3d(
    input: ArrayLike,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
    *,
    algorithm: str = "auto",
) -> np.ndarray:
    """The p-norms of windows of (N, C, D, H, W).  See :func:`lp_pool2d`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode, algorithm)


def _max_pool(rank, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm):
    is_batched, x = batched(as_array(input, "input"), rank)
    y = max_pool_plan(x, rank, kernel_size, stride, padding, dilation, ceil_mode, return_indices, algorithm)(x)
    return y if is_batched else _unbatched(y)


def _avg_pool(rank, input, kernel_size, stride, padding, ceil_mode, include_pad, divisor, algorithm):
    is_batched, x = batched(as_array(input, "input"), rank)
    y = average_pool_plan(x, rank, kernel_size, stride, padding, ceil_mode, include_pad, divisor, algorithm)(x)
    return y if is_batched else y[0]


def _adaptive_avg_pool(rank, input, output_size, algorithm):
    is_batched, x = batched(as_array(input, "input"), rank)
    y = adaptive_average_plan(x, rank, output_size, algorithm)(x)
    return y if is_batched else y[0]


def _adaptive_max_pool(rank, input, output_size, return_indices, algorithm):
    is_batched, x = batched(as_array(input, "input"), rank)
    y = adaptive_max_plan(x, rank, output_size, return_indices, algorithm)(x)
    return y if is_batched else _unbatched(y)


def _unbatched(y):
    return tuple(part[0] for part in y) if isinstance(y, tuple) else y[0]


def _lp_pool(rank, input, norm_type, kernel_size, stride, ceil_mode, algorithm):
    x, p = floats(input), number(norm_type, "norm_type")
    if not p > 0:
        raise ArgumentError(f"norm_type: expected a positive power or inf, got {norm_type!r}")
    if p == np.inf:
        return _max_pool(rank, np.abs(x), kernel_size, stride, 0, 1, ceil_mode, False, algorithm)
    magnitude = np.abs(x, dtype=np.promote_types(x.dtype, np.float32))
    with np.errstate(all="ignore"):
        powers = magnitude * magnitude if p == 2 else magnitude**p
        y = _avg_pool(rank, powers, kernel_size, stride, 0, ceil_mode, True, 1, algorithm)
        return (np.sqrt(y) if p == 2 else y ** (1 / p)).astype(x.dtype, copy=False)
