"""Dropout: random values become zero, and the others grow so that the mean stays.

The randomness comes from the package's generator, which ``fastconv.nn.random.manual_seed`` restarts.
"""

from __future__ import annotations

import warnings
from math import sqrt

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.functional.arguments import floats, number, written
from fastconv.nn.random import default_generator

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]

SELU_LIMIT = -1.7580993408473766  # of selu(x) towards -inf


def dropout(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
    """Every value zero with probability `p`, else multiplied by 1 / (1 - p).  Outside training the input itself.

    A dropped NaN or infinity is NaN.  Source: Hinton et al., arXiv:1207.0580.
    """
    return _dropout(input, p, training, inplace, _every_value)


def dropout1d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
    """:func:`dropout` of whole channels of (N, C, L) or (C, L)."""
    _check_rank(input, "dropout1d", (2, 3), "(N, C, L) or (C, L)")
    return _dropout(input, p, training, inplace, _channels if as_array(input, "input").ndim == 3 else _first_axis)


def dropout2d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
    """:func:`dropout` of whole channels of (N, C, H, W); three axes mean (N, C, L), with a warning, as in torch."""
    x = as_array(input, "input")
    _check_rank(x, "dropout2d", (3, 4), "(N, C, H, W)")
    if x.ndim == 3:
        warnings.warn("dropout2d: an input of 3 axes is taken as (N, C, L); use dropout1d for it", stacklevel=2)
    return _dropout(input, p, training, inplace, _channels)


def dropout3d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> np.ndarray:
    """:func:`dropout` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    _check_rank(input, "dropout3d", (4, 5), "(N, C, D, H, W) or (C, D, H, W)")
    return _dropout(input, p, training, inplace, _channels if as_array(input, "input").ndim == 5 else _first_axis)


def alpha_dropout(input: ArrayLike, p: float = 0.5, training: bool = False, inplace: bool = False) -> np.ndarray:
    """Every value selu's lower limit with probability `p`; then scaled and shifted so that mean 0 and variance 1 stay.

    Source: Klambauer et al., arXiv:1706.02515.
    """
    return _alpha_dropout(input, p, training, inplace, _every_value)


def feature_alpha_dropout(
    input: ArrayLike, p: float = 0.5, training: bool = False, inplace: bool = False
) -> np.ndarray:
    """:func:`alpha_dropout` of whole channels of (N, C, ...)."""
    _check_rank(input, "feature_alpha_dropout", range(2, 65), "(N, C, ...)")
    return _alpha_dropout(input, p, training, inplace, _channels)


def _every_value(shape):
    return shape


def _channels(shape):
    return (*shape[:2], *[1] * (len(shape) - 2))


def _first_axis(shape):
    return (shape[0], *[1] * (len(shape) - 1))


def _check_rank(input, name, ranks, expected):
    x = as_array(input, "input")
    if x.ndim not in ranks:
        raise ArgumentError(f"input: {name} expected {expected}, got shape {x.shape}")


def _probability(p) -> float:
    probability = number(p, "p")
    if not 0 <= probability <= 1:
        raise ArgumentError(f"p: expected a probability from 0 to 1, got {p}")
    return probability


def _dropout(input, p, training, inplace, noise_shape):
    p = _probability(p)
    if not training or p == 0:
        return input
    x = floats(input)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return _masked(x, _kept(x, p, noise_shape) * x.dtype.type(scale), x.dtype.type(0), inplace)


def _alpha_dropout(input, p, training, inplace, noise_shape):
    p = _probability(p)
    if not training or p == 0:
        return input
    x = floats(input)
    if p == 1:
        return _masked(x, np.zeros((), x.dtype), x.dtype.type(0), inplace)
    scale = 1 / sqrt((SELU_LIMIT**2 * p + 1) * (1 - p))
    kept = _kept(x, p, noise_shape)
    shift = np.where(kept, -SELU_LIMIT * scale * p, SELU_LIMIT * scale * (1 - p)).astype(x.dtype)
    return _masked(x, kept * x.dtype.type(scale), shift, inplace)


def _kept(x, p, noise_shape):
    return default_generator.random(noise_shape(x.shape), np.float32) >= np.float32(p)


def _masked(x, factor, shift, inplace):
    with np.errstate(invalid="ignore", over="ignore"):
        return written(x, x * factor + shift, inplace)
