"""How alike two arrays of vectors are."""

from __future__ import annotations

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.functional.arguments import axis_of, floats, number
from fastconv.nn.functional.normalization import vector_norm

__all__ = ["cosine_similarity", "pairwise_distance"]


def cosine_similarity(x1: ArrayLike, x2: ArrayLike, dim: int = 1, eps: float = 1e-8) -> np.ndarray:
    """``x1 · x2 / (norm(x1) norm(x2))`` along `dim`, which goes; shapes broadcast, and a norm counts as `eps` at least."""
    a, b, dtype = _broadcast(x1, x2)
    axis = axis_of(dim, a.ndim)
    if a.ndim == 0:
        return np.sign(a * b).astype(dtype)
    least = number(eps, "eps")
    with np.errstate(all="ignore"):
        a, b = (x / np.maximum(vector_norm(np.abs(x), 2, axis), x.dtype.type(least)) for x in (a, b))
        return np.asarray((a * b).sum(axis)).astype(dtype, copy=False)


def pairwise_distance(
    x1: ArrayLike, x2: ArrayLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> np.ndarray:
    """The p-norm of ``x1 - x2 + eps`` along the last axis, which goes unless `keepdim`; shapes broadcast."""
    a, b, dtype = _broadcast(x1, x2)
    with np.errstate(all="ignore"):
        magnitude = np.abs(a - b + a.dtype.type(number(eps, "eps")))
        y = vector_norm(np.atleast_1d(magnitude), number(p, "p"), -1)
    return (y if keepdim else y[..., 0]).astype(dtype, copy=False)


def _broadcast(x1, x2):
    """Both in the type to compute in, of one shape, and the type of the result."""
    a, b = floats(x1, "x1"), floats(x2, "x2")
    dtype = np.promote_types(a.dtype, b.dtype)
    wide = np.promote_types(dtype, np.float32)
    try:
        a, b = np.broadcast_arrays(a.astype(wide, copy=False), b.astype(wide, copy=False))
    except ValueError:
        raise ArgumentError(f"x2: expected a shape that broadcasts with that of x1, {a.shape}, got {b.shape}") from None
    return a, b, dtype
