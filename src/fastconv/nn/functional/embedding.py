"""Rows of a table by number."""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.geometry import integer
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.functional.arguments import number
from fastconv.nn.functional.normalization import vector_norm

__all__ = ["embedding"]


def embedding(
    input: ArrayLike,
    weight: ArrayLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> np.ndarray:
    """The rows of `weight` (rows, features) that the integers `input` (...) name: (..., features).

    With `max_norm` the named rows of `weight` whose `norm_type`-norm is larger are scaled down to it, in place.
    `padding_idx` is checked; it, `scale_grad_by_freq` and `sparse` say what gradients do, of which there are none.
    """
    rows, table = as_array(input, "input"), as_array(weight, "weight")
    if rows.dtype not in (np.int32, np.int64):
        raise ArgumentTypeError(f"input: expected int32 or int64, got elements of type {rows.dtype}")
    if table.ndim != 2:
        raise ArgumentError(f"weight: expected (rows, features), got shape {table.shape}")
    count = len(table)
    if padding_idx is not None and integer(padding_idx, "padding_idx", -count) >= count:
        raise ArgumentIndexError(f"padding_idx: expected {-count} to {count - 1}, got {padding_idx}")
    if rows.size and not 0 <= rows.min() <= rows.max() < count:
        wrong = rows[(rows < 0) | (rows >= count)][0]
        raise ArgumentIndexError(f"input: expected rows from 0 to {count - 1} of weight {table.shape}, got {wrong}")
    if max_norm is not None:
        _limit(table, np.unique(rows), number(max_norm, "max_norm"), number(norm_type, "norm_type"))
    return table[rows]


def _limit(table, rows, largest, p):
    if not table.flags.writeable:
        raise ArgumentError("weight: max_norm scales it in place, and it is read-only")
    norms = vector_norm(np.abs(table[rows]), p, -1)
    table[rows] *= np.where(norms > largest, largest / (norms + 1e-7), 1).astype(table.dtype)
