"""Padding: zeros or another constant, mirrored, repeated or wrapped borders."""

import numpy as np


def pad(x, pad, mode="constant", value=0):
    """`x` with `pad` positions more on either side of its last axes.

    `pad` is ``(before, after)`` of the last axis, then of the one before it, and so on.  Negative numbers crop.
    Modes: ``constant`` (filled with `value`), ``reflect`` (mirrored without repeating the border), ``replicate`` (the
    border repeated) and ``circular`` (wrapped around what is left after cropping).  Mirrors and wraps repeat as often
    as needed; torch stops at one.  Raises ValueError for an odd `pad` and for an unknown mode.
    """
    if len(pad) % 2:
        raise ValueError(f"pad: expected pairs (before, after), got {len(pad)} values")
    pairs = list(zip(pad[0::2], pad[1::2], strict=True))[::-1]
    if mode == "constant":
        return pad_constant(x, pairs, 0 if value is None else value)
    for axis, (before, after) in enumerate(pairs, x.ndim - len(pairs)):
        x = x.take(_source_positions(x.shape[axis], before, after, mode), axis)
    return x


def pad_constant(x, pairs, value=0):
    """`x` with `pairs` of (before, after) around its last ``len(pairs)`` axes, first axis first."""
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + list(pairs)
    y = np.full([before + size + after for size, (before, after) in zip(x.shape, pairs, strict=True)], value, x.dtype)
    kept = tuple(
        slice(max(-before, 0), size - max(-after, 0)) for size, (before, after) in zip(x.shape, pairs, strict=True)
    )
    inner = tuple(
        slice(max(before, 0), size - max(after, 0)) for size, (before, after) in zip(y.shape, pairs, strict=True)
    )
    y[inner] = x[kept]
    return y


def _source_positions(size, before, after, mode):
    positions = np.arange(-before, size + after)
    if mode == "replicate":
        return positions.clip(0, size - 1)
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        folded = positions % period
        return np.minimum(folded, period - folded) if size > 1 else folded
    if mode == "circular":
        first, end = max(-before, 0), size - max(-after, 0)
        return first + (positions - first) % (end - first)
    raise ValueError(f"mode: expected constant, reflect, replicate or circular, got {mode!r}")
