"""Attention by several heads, between its projections."""

from __future__ import annotations

from math import sqrt

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.functional.arguments import floats
from fastconv.nn.functional.attention import scaled_dot_product_attention
from fastconv.nn.functional.dropout import dropout
from fastconv.nn.functional.linear import linear
from fastconv.ops.softmax import softmax

__all__ = ["multi_head_attention_forward"]


def multi_head_attention_forward(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: ArrayLike | None,
    in_proj_bias: ArrayLike | None,
    bias_k: ArrayLike | None,
    bias_v: ArrayLike | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: ArrayLike,
    out_proj_bias: ArrayLike | None,
    training: bool = True,
    key_padding_mask: ArrayLike | None = None,
    need_weights: bool = True,
    attn_mask: ArrayLike | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: ArrayLike | None = None,
    k_proj_weight: ArrayLike | None = None,
    v_proj_weight: ArrayLike | None = None,
    static_k: ArrayLike | None = None,
    static_v: ArrayLike | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """(output (L, N, E), weights): `query` (L, N, E) looks at `key` (S, N, K) and `value` (S, N, V); N may be left out.

    The weights are (N, L, S), the mean over the heads, or without `average_attn_weights` (N, heads, L, S), or None.
    `attn_mask` is (L, S) or (N heads, L, S), `key_padding_mask` (N, S): True where a key does *not* count, the opposite
    of :func:`scaled_dot_product_attention`, or numbers to add.  A query that sees no key gives NaN where weights are
    wanted, and else what zeros give.  `is_causal` is a hint that `attn_mask` is causal, and has to come with it.

    Source: Vaswani et al., arXiv:1706.03762, section 3.2.2.
    """
    q, k, v = floats(query, "query"), floats(key, "key"), floats(value, "value")
    if not q.ndim == k.ndim == v.ndim or q.ndim not in (2, 3):
        raise ArgumentError(
            "query, key, value: expected (L, N, E), (S, N, K) and (S, N, V), or all without N, got "
            f"{q.shape}, {k.shape} and {v.shape}"
        )
    is_batched = q.ndim == 3
    if not is_batched:
        q, k, v = q[:, None], k[:, None], v[:, None]
    size, heads = integer(embed_dim_to_check, "embed_dim", 1), integer(num_heads, "num_heads", 1)
    _check_sizes(q, k, v, size, heads)
    if is_causal and attn_mask is None:
        raise ArgumentError("is_causal: it is a hint about attn_mask, which is None; pass the mask as well")
    weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight:
        weights = np.split(as_array(in_proj_weight, "in_proj_weight"), 3)
    biases = (None,) * 3 if in_proj_bias is None else np.split(as_array(in_proj_bias, "in_proj_bias"), 3)
    q, k, v = (linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True))
    if bias_k is not None or bias_v is not None:
        if static_k is not None or static_v is not None:
            raise ArgumentError("bias_k, bias_v: a static key or value has no place for them")
        if bias_k is None or bias_v is None:
            raise ArgumentError("bias_k, bias_v: expected both or neither")
        k, v = (_with_row(x, as_array(b, name)) for x, b, name in ((k, bias_k, "bias_k"), (v, bias_v, "bias_v")))
    length, batch = q.shape[:2]
    q, k, v = (_by_head(x, heads) for x in (q, k, v))
    k, v = (
        x if given is None else _static(given, name, batch, heads, size // heads)
        for x, given, name in ((k, static_k, "static_k"), (v, static_v, "static_v"))
    )
    if add_zero_attn:
        k, v = (np.concatenate([x, np.zeros_like(x[:, :, :1])], 2) for x in (k, v))
    more = (bias_k is not None) + bool(add_zero_attn)  # keys that no mask hides
    mask = _mask(attn_mask, key_padding_mask, (batch, heads, length, k.shape[2]), more, q.dtype, is_batched)
    rate = dropout_p if training else 0.0
    seen = None
    if need_weights:
        scores = np.matmul(q * q.dtype.type(1 / sqrt(q.shape[-1])), np.swapaxes(k, -1, -2))
        seen = softmax(scores if mask is None else scores + mask, 3, False)
        seen = dropout(seen, rate) if rate else seen
        heard = np.matmul(seen, v)
    else:
        heard = scaled_dot_product_attention(q, k, v, mask, rate)
    y = linear(np.transpose(heard, (2, 0, 1, 3)).reshape(length, batch, size), out_proj_weight, out_proj_bias)
    if seen is not None and average_attn_weights:
        seen = seen.mean(axis=1)
    if not is_batched:
        y, seen = y[:, 0], None if seen is None else seen[0]
    return y, seen


def _check_sizes(q, k, v, size: int, heads: int) -> None:
    if q.shape[-1] != size:
        raise ArgumentError(f"query: expected {size} features on the last axis, as embed_dim says, got {q.shape}")
    if size % heads:
        raise ArgumentError(f"num_heads: {heads} heads do not divide embed_dim {size}")
    if k.shape[:2] != v.shape[:2] or k.shape[1] != q.shape[1]:
        raise ArgumentError(
            f"key, value: expected the same length, and the batch of the query {q.shape[1]}, got {k.shape} and {v.shape}; "
            "with batch_first=True the batch is axis 0"
        )


def _with_row(x: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.broadcast_to(row, (1, *x.shape[1:]))])


def _by_head(x: np.ndarray, heads: int) -> np.ndarray:
    """(S, N, E) as (N, heads, S, E / heads)."""
    return np.ascontiguousarray(x.reshape(*x.shape[:2], heads, -1).transpose(1, 2, 0, 3))


def _static(given, name: str, batch: int, heads: int, size: int) -> np.ndarray:
    x = floats(given, name)
    if x.ndim != 3 or x.shape[0] != batch * heads or x.shape[2] != size:
        raise ArgumentError(f"{name}: expected ({batch * heads}, S, {size}), got {x.shape}")
    return x.reshape(batch, heads, -1, size)


def _mask(attn_mask, key_padding_mask, shape, more: int, dtype, is_batched: bool) -> np.ndarray | None:
    """Both masks as numbers to add to scores of `shape` (N, heads, L, S), of which the last `more` keys are not hidden."""
    batch, heads, length, keys = shape
    mask = None
    if attn_mask is not None:
        mask = _numbers(attn_mask, "attn_mask", dtype)
        expected = (length, keys - more), (batch * heads, length, keys - more)
        if mask.shape not in expected:
            raise ArgumentError(f"attn_mask: expected shape {expected[0]} or {expected[1]}, got {mask.shape}")
        mask = mask.reshape(batch, heads, *mask.shape[1:]) if mask.ndim == 3 else mask
    if key_padding_mask is not None:
        hidden = _numbers(key_padding_mask, "key_padding_mask", dtype)
        expected = (batch, keys - more) if is_batched else (keys - more,)
        if hidden.shape != expected:
            raise ArgumentError(f"key_padding_mask: expected shape {expected}, got {hidden.shape}")
        hidden = hidden.reshape(batch, 1, 1, -1)
        mask = hidden if mask is None else mask + hidden
    if mask is None or not more:
        return mask
    return np.concatenate([mask, np.zeros((*mask.shape[:-1], more), dtype)], -1)


def _numbers(value, name: str, dtype) -> np.ndarray:
    mask = as_array(value, name)
    if mask.dtype == bool:
        return np.where(mask, dtype.type(-np.inf), dtype.type(0))
    if mask.dtype.kind != "f":
        raise ArgumentTypeError(f"{name}: expected bool or floating point, got elements of type {mask.dtype}")
    return mask.astype(dtype, copy=False)
