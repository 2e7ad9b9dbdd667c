"""Checks that many functions share."""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentIndexError, ArgumentTypeError

__all__ = ["axis_of", "floats", "number", "promoted", "real_numbers", "written"]


def axis_of(dim, rank: int) -> int:
    """`dim` counted from the front; an array of rank 0 counts as one axis."""
    rank = max(rank, 1)
    try:
        axis = dim.__index__()
    except (AttributeError, TypeError):
        raise ArgumentTypeError(f"dim: expected an integer, got {dim!r}") from None
    if not -rank <= axis < rank:
        raise ArgumentIndexError(f"dim: expected {-rank} to {rank - 1} for an input of {rank} axes, got {dim}")
    return axis % rank


def written(x, y, inplace):
    """`y`, or `x` with the values of `y` where that is asked for and possible."""
    if inplace and x.flags.writeable:
        x[...] = y
        return x
    return np.asarray(y)


def number(value, name) -> float:
    try:
        return float(value if not isinstance(value, (str, bytes)) else None)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name}: expected a number, got {value!r}") from None


def real_numbers(input) -> np.ndarray:
    x = as_array(input, "input")
    if x.dtype.kind in "bc":
        raise ArgumentTypeError(f"input: expected real numbers, got elements of type {x.dtype}; convert with astype()")
    return x


def floats(value, name="input") -> np.ndarray:
    x = as_array(value, name)
    if x.dtype.kind != "f":
        raise ArgumentTypeError(
            f"{name}: expected floating point, got elements of type {x.dtype}; convert with astype()"
        )
    return x


def promoted(input) -> np.ndarray:
    x = as_array(input, "input")
    if x.dtype.kind == "c":
        raise ArgumentTypeError(f"input: expected real numbers, got elements of type {x.dtype}; convert with astype()")
    return x if x.dtype.kind == "f" else x.astype(np.float32)
