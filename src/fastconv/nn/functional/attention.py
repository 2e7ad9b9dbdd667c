"""Scaled dot-product attention."""

from __future__ import annotations

from math import sqrt

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.functional.arguments import floats, number
from fastconv.nn.functional.dropout import dropout
from fastconv.ops.softmax import softmax

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> np.ndarray:
    """``softmax(query @ keyᵀ * scale + mask) @ value``: (..., L, E), (..., S, E) and (..., S, V) give (..., L, V).

    `attn_mask` broadcasts to (..., L, S): True where a key counts, or numbers to add.  With `is_causal` query i sees
    the keys up to i.  `scale` is 1 / √E unless it is given.  A query that sees no key gives zeros.  `dropout_p` drops
    weights whether training or not.  `enable_gqa` repeats the heads (axis -3) of key and value up to those of query.

    Source: Vaswani et al., arXiv:1706.03762, section 3.2.1.
    """
    q, k, v = floats(query, "query"), floats(key, "key"), floats(value, "value")
    if not q.dtype == k.dtype == v.dtype:
        raise ArgumentTypeError(
            f"query, key and value: expected one element type, got {q.dtype}, {k.dtype} and {v.dtype}"
        )
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ArgumentError(f"query, key and value: expected 2 axes or more, got {q.shape}, {k.shape} and {v.shape}")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ArgumentError(
            f"key, value: expected (..., S, {q.shape[-1]}) and (..., S, V) for query {q.shape}, got {k.shape} and "
            f"{v.shape}"
        )
    if is_causal and attn_mask is not None:
        raise ArgumentError("is_causal: expected False beside an attn_mask")
    if enable_gqa:
        k, v = (_repeated(x, q, name) for x, name in ((k, "key"), (v, "value")))
    factor = 1 / sqrt(max(q.shape[-1], 1)) if scale is None else number(scale, "scale")
    dtype = q.dtype
    q, k, v = (x.astype(np.promote_types(dtype, np.float32), copy=False) for x in (q, k, v))
    try:
        scores = np.matmul(q * q.dtype.type(factor), np.swapaxes(k, -1, -2))
        scores = _masked(scores, attn_mask, is_causal)
        weights = softmax(scores, scores.ndim - 1, False)
        unseen = np.isneginf(scores).all(-1, keepdims=True)
        if unseen.any():
            weights = np.where(unseen, weights.dtype.type(0), weights)
        if dropout_p:
            weights = dropout(weights, dropout_p, True)
        return np.matmul(weights, v).astype(dtype, copy=False)
    except ValueError as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"query, key and value: their leading axes do not broadcast: {q.shape}, {k.shape} and {v.shape}"
        ) from None


def _repeated(x, query, name):
    heads, wanted = (a.shape[-3] if a.ndim > 2 else 1 for a in (x, query))
    if x.ndim < 3 or wanted % heads:
        raise ArgumentError(f"{name}: {heads} heads do not divide the {wanted} of query {query.shape}")
    return np.repeat(x, wanted // heads, axis=-3)


def _masked(scores, mask, is_causal):
    if is_causal:
        mask = np.tri(*scores.shape[-2:], dtype=bool)
    if mask is None:
        return scores
    mask = as_array(mask, "attn_mask")
    try:
        np.broadcast_to(mask, scores.shape)
    except ValueError:
        raise ArgumentError(
            f"attn_mask: expected a shape that broadcasts to {scores.shape}, got {mask.shape}"
        ) from None
    if mask.dtype == bool:
        return np.where(mask, scores, scores.dtype.type(-np.inf))
    return scores + mask.astype(scores.dtype, copy=False)
