"""Arrays at the door: what callers may pass, and what the kernels get."""

from __future__ import annotations

import numpy as np

from fastconv.errors import ArgumentTypeError

__all__ = ["CACHE_LINE", "aligned_empty", "as_array", "batched", "describe", "is_channels_last"]

CACHE_LINE = 64


def as_array(value, name: str) -> np.ndarray:
    """`value` as an aligned NumPy array of native byte order; no copy where it already is one.

    Anything with ``__array__`` or ``__dlpack__`` is accepted.  Raises :class:`ArgumentTypeError` for anything else and
    for elements that are no numbers.
    """
    if type(value) is not np.ndarray:
        value = _converted(value, name)
    if value.dtype.kind not in "fiubc":
        raise ArgumentTypeError(f"{name}: expected an array of numbers, got elements of type {value.dtype}")
    if not value.flags.aligned or not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return value


def _converted(value, name: str) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentTypeError(
            f"{name}: expected an array without a mask, got a MaskedArray; fill it, x.filled(value)"
        )
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    hint = "; wrap it in numpy.asarray(...)" if isinstance(value, (list, tuple, int, float)) else ""
    raise ArgumentTypeError(f"{name}: expected an array, got {type(value).__name__}{hint}")


def aligned_empty(count: int, dtype) -> np.ndarray:
    """`count` elements of undefined contents that start with a line of the cache, as packed weights had better do."""
    size = count * np.dtype(dtype).itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype)


def batched(x: np.ndarray, rank: int) -> tuple[bool, np.ndarray]:
    """Whether `x` (N, C, *spatial) or (C, *spatial) of `rank` spatial axes has a batch axis, and `x` with one."""
    return (False, x[None]) if x.ndim == rank + 1 else (True, x)


def is_channels_last(array: np.ndarray) -> bool:
    """Whether an array that is NCHW (or NCDHW) by shape lies in memory as NHWC."""
    return array.ndim in (4, 5) and not array.flags.c_contiguous and np.moveaxis(array, 1, -1).flags.c_contiguous


def describe(array: np.ndarray) -> str:
    """Shape and element type, for error messages."""
    return f"{tuple(array.shape)} {array.dtype}"
