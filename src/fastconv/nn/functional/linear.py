"""Fully connected layers."""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.annotations import ArrayLike
from fastconv.ops.linear import linear_plan

__all__ = ["bilinear", "linear"]


def linear(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, algorithm: str = "auto"
) -> np.ndarray:
    """`input` (..., in) times the transpose of `weight` (out, in), plus `bias` (out,): (..., out).

    A one-dimensional weight (in,) is a single output without an axis of its own.  Beyond torch: `algorithm` forces a row
    of the op table.
    """
    x, w = as_array(input, "input"), as_array(weight, "weight")
    b = None if bias is None else as_array(bias, "bias")
    if w.ndim not in (1, 2):
        raise ArgumentError(f"weight: expected shape (out, in) or (in,), got {w.shape}")
    if w.ndim == 1:
        return linear(x, w[None], None if b is None else np.atleast_1d(b), algorithm=algorithm)[..., 0]
    rows = as_rows(x)
    plan = linear_plan(rows, w, b, algorithm)
    return plan(rows, plan.pack(w, b)).reshape(*x.shape[:-1], w.shape[0])


def bilinear(input1: ArrayLike, input2: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> np.ndarray:
    """``input1 @ weight[k] @ input2 + bias[k]``: (..., in1), (..., in2) and `weight` (out, in1, in2) give (..., out)."""
    x1, x2, w = as_array(input1, "input1"), as_array(input2, "input2"), as_array(weight, "weight")
    if w.ndim != 3 or x1.shape[-1:] != w.shape[1:2] or x2.shape[-1:] != w.shape[2:]:
        raise ArgumentError(f"weight: expected (out, in1, in2) for inputs {x1.shape} and {x2.shape}, got {w.shape}")
    if x1.shape[:-1] != x2.shape[:-1]:
        raise ArgumentError(f"input2: expected {x1.shape[:-1]} before the last axis, as input1 has, got {x2.shape}")
    b = None if bias is None else as_array(bias, "bias")
    if b is not None and b.shape != w.shape[:1]:
        raise ArgumentError(f"bias: expected shape {w.shape[:1]}, one value per output, got {b.shape}")
    types = {array.dtype for array in (x1, x2, w, b) if array is not None}
    if len(types) > 1:
        names = ", ".join(sorted(map(str, types)))
        raise ArgumentTypeError(f"input1, input2, weight and bias: expected one element type, got {names}")
    y = np.einsum("...i,kij,...j->...k", x1, w, x2)
    return y if b is None else y + b


def as_rows(x: np.ndarray) -> np.ndarray:
    """`x` (..., features) as a contiguous matrix."""
    if x.ndim < 1:
        raise ArgumentError(f"input: expected at least one axis, got shape {x.shape}")
    return np.ascontiguousarray(x).reshape(-1 if x.shape[-1] else int(np.prod(x.shape[:-1])), x.shape[-1])
