"""Where a module's arrays come from: torch's ``device=`` and ``dtype=`` arguments, and arrays of the caller."""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError

__all__ = ["as_dtype", "check_device", "empty", "float_dtype", "state_array"]


def check_device(device) -> None:
    """Accept None, ``"cpu"`` and torch's CPU device; raise :class:`ArgumentError` for any other."""
    if device is not None and str(device) not in ("cpu", "cpu:0"):
        raise ArgumentError(f"device: expected 'cpu', got {device!r}: fastconv computes on the CPU only")


def as_dtype(dtype) -> np.dtype:
    """`dtype`, a NumPy dtype, its name, or torch's dtype of that name, as the dtype."""
    from_torch = type(dtype).__module__ == "torch"
    try:
        resolved = np.dtype(str(dtype).removeprefix("torch.") if from_torch else dtype)
    except (TypeError, ValueError):
        resolved = None
    if resolved is None or (from_torch and resolved.isbuiltin != 1):  # other packages may have told NumPy of bfloat16
        raise ArgumentTypeError(f"dtype: expected a NumPy dtype or its name, got {dtype!r}")
    return resolved


def float_dtype(dtype) -> np.dtype:
    """`dtype` (a NumPy dtype or its name; None means float32) as a floating-point or complex NumPy dtype."""
    if dtype is None:
        return np.dtype(np.float32)
    resolved = as_dtype(dtype)
    if resolved.kind not in "fc":
        raise ArgumentTypeError(f"dtype: parameters are floating point or complex, got {resolved}")
    return resolved


def empty(shape, device=None, dtype=None) -> np.ndarray:
    """A parameter of `shape` that waits for its values: zeros, which cost no memory until they are written."""
    check_device(device)
    return np.zeros(shape, float_dtype(dtype))


def state_array(value, name: str) -> np.ndarray:
    """A parameter or buffer that comes from outside, as a plain array; torch's are taken without their gradient."""
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        return as_array(value, name)
    except ArgumentTypeError:
        raise
    except (TypeError, RuntimeError, BufferError) as error:
        raise ArgumentTypeError(f"{name}: {type(value).__name__} cannot be read as a NumPy array: {error}") from error
