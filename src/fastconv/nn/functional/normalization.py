"""Normalisation by the statistics of the batch, of one sample, of groups of channels, or of neighbouring channels.

float16 is computed in float32, and may come with parameters of either type.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer, is_sequence
from fastconv.nn.annotations import ArrayLike, Sizes
from fastconv.nn.functional.arguments import axis_of, floats, number
from fastconv.ops import channelwise
from fastconv.ops import normalization as rows

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
    "vector_norm",
]


def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> np.ndarray:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` per channel of (N, C, ...).

    In training mean and variance are the batch's, the latter biased, and the running arrays, where they are given, move
    towards the batch's mean and *unbiased* variance by `momentum`, in place.  Otherwise the running arrays are used.
    Source: Ioffe and Szegedy, arXiv:1502.03167.
    """
    x = floats(input)
    if x.ndim < 2:
        raise ArgumentError(f"input: expected (N, C, ...), got shape {x.shape}")
    shape = (x.shape[1],)
    weight, bias = _parameter(weight, "weight", x, shape), _parameter(bias, "bias", x, shape)
    mean, var = _parameter(running_mean, "running_mean", x, shape), _parameter(running_var, "running_var", x, shape)
    _check_both_or_neither(mean, var)
    if not training:
        if mean is None:
            raise ArgumentError("running_mean: expected an array unless training=True")
        return channelwise.batch_norm(x, mean, var, weight, bias, number(eps, "eps"))
    count = x.size // max(x.shape[1], 1)
    if count == 1:
        raise ArgumentError(
            f"input: training needs more than one value per channel for its statistics, got shape {x.shape}"
        )
    batch_mean, batch_var = channelwise.moments(x)
    if mean is not None and count:
        _move(running_mean, "running_mean", batch_mean, momentum)
        _move(running_var, "running_var", batch_var * (count / (count - 1)), momentum)
    return channelwise.batch_norm(x, batch_mean, batch_var, weight, bias, number(eps, "eps"))


def instance_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> np.ndarray:
    """:func:`batch_norm` of each sample of (N, C, ...) by itself, or without `use_input_stats` by the running arrays.

    The running arrays, where they are given, move by `momentum`, in place, towards the average over the samples.
    Source: Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022.
    """
    x = floats(input)
    if x.ndim < 2:
        raise ArgumentError(f"input: expected (N, C, *spatial), got shape {x.shape}")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    channels, count = x.shape[1], prod(x.shape[2:])
    if count == 1:
        raise ArgumentError(
            f"input: instance norm needs more than one spatial element for its statistics, got shape {x.shape}"
        )
    weight, bias = _parameter(weight, "weight", x, (channels,)), _parameter(bias, "bias", x, (channels,))
    _check_both_or_neither(running_mean, running_var)
    if running_mean is not None:
        _parameter(running_mean, "running_mean", x, (channels,))
        _parameter(running_var, "running_var", x, (channels,))
        mean, var = channelwise.moments(x.reshape(1, x.shape[0] * channels, count))
        if mean.size:
            _move(running_mean, "running_mean", mean.reshape(-1, channels).mean(axis=0), momentum)
            unbiased = var.reshape(-1, channels).mean(axis=0) * (count / (count - 1))
            _move(running_var, "running_var", unbiased, momentum)
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    return rows.row_norm(x, channels, 1, count, weight, bias, number(eps, "eps"))


def _check_both_or_neither(running_mean, running_var) -> None:
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("running_mean, running_var: expected both or neither")


def group_norm(
    input: ArrayLike, num_groups: int, weight: ArrayLike | None = None, bias: ArrayLike | None = None, eps: float = 1e-5
) -> np.ndarray:
    """Each of `num_groups` groups of channels of each sample of (N, C, ...) with mean 0 and variance 1, then affine.

    `weight` and `bias` are (C,).  Source: Wu and He, arXiv:1803.08494.
    """
    x = floats(input)
    groups = integer(num_groups, "num_groups", 1)
    if x.ndim < 2:
        raise ArgumentError(f"input: expected (N, C, ...), got shape {x.shape}")
    channels, inner = x.shape[1], prod(x.shape[2:])
    if channels % groups:
        raise ArgumentError(f"num_groups: {groups} groups do not divide the {channels} channels of input {x.shape}")
    weight, bias = _parameter(weight, "weight", x, (channels,)), _parameter(bias, "bias", x, (channels,))
    if x.size == groups:
        raise ArgumentError(f"input: a group needs more than one value for its statistics, got shape {x.shape}")
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    return rows.row_norm(x, groups, channels // groups, inner, weight, bias, number(eps, "eps"))


def layer_norm(
    input: ArrayLike,
    normalized_shape: Sizes,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    """Every slice of `x` over its last axes, of `normalized_shape`, with mean 0 and variance 1, then affine.

    `weight` and `bias` have the normalised shape.  Source: Ba, Kiros and Hinton, arXiv:1607.06450.
    """
    return _layer_norm(input, normalized_shape, weight, bias, number(eps, "eps"), True)


def rms_norm(
    input: ArrayLike, normalized_shape: Sizes, weight: ArrayLike | None = None, eps: float | None = None
) -> np.ndarray:
    """Every slice of `x` over its last axes divided by the root of its mean square plus `eps`, then times `weight`.

    Without `eps` it is the machine epsilon of the input.  Source: Zhang and Sennrich, arXiv:1910.07467.
    """
    x = floats(input)
    return _layer_norm(
        x, normalized_shape, weight, None, number(np.finfo(x.dtype).eps if eps is None else eps, "eps"), False
    )


def local_response_norm(
    input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> np.ndarray:
    """``x / (k + alpha / size * sum of squares) ** beta`` over `size` neighbouring channels of (N, C, ...).

    An even window has one channel more before than after.  Source: Krizhevsky et al., NIPS 2012, section 3.3.
    """
    x = floats(input)
    if x.ndim < 3:
        raise ArgumentError(f"input: expected (N, C, *spatial), got shape {x.shape}")
    return rows.local_response_norm(
        x, integer(size, "size", 1), number(alpha, "alpha"), number(beta, "beta"), number(k, "k")
    )


def normalize(
    input: ArrayLike, p: float = 2.0, dim: Sizes = 1, eps: float = 1e-12, out: np.ndarray | None = None
) -> np.ndarray:
    """`x` divided by its p-norm along `dim` (one axis or several), which counts as at least `eps`."""
    x = floats(input)
    axes = tuple(axis_of(d, x.ndim) for d in dim) if is_sequence(dim) else axis_of(dim, x.ndim)
    if is_sequence(dim) and len({*axes}) < len(axes):
        raise ArgumentError(f"dim: expected different axes, got {tuple(dim)}")
    if out is not None and (not isinstance(out, np.ndarray) or out.shape != x.shape):
        raise ArgumentError(
            f"out: expected an array of the input's shape {x.shape}, got {getattr(out, 'shape', out)!r}"
        )
    p = number(p, "p")
    with np.errstate(all="ignore"):
        norm = vector_norm(np.abs(x.astype(np.promote_types(x.dtype, np.float32), copy=False)), p, axes)
        y = np.asarray(x / np.maximum(norm, number(eps, "eps"))).astype(x.dtype, copy=False)
    if out is None:
        return y
    out[...] = y
    return out


def vector_norm(magnitude, p, axes):
    """The p-norm of values that are not negative along `axes`, which stay with size 1."""
    if p == 0:
        return np.count_nonzero(magnitude, axis=axes, keepdims=True).astype(magnitude.dtype)
    if np.isinf(p):
        return (magnitude.max if p > 0 else magnitude.min)(axis=axes, keepdims=True)
    if p == 2:
        return np.sqrt(np.square(magnitude).sum(axis=axes, keepdims=True))
    return (magnitude**p).sum(axis=axes, keepdims=True) ** (1 / p)


def _layer_norm(input, normalized_shape, weight, bias, eps, centred):
    x = floats(input)
    sizes = normalized_shape if is_sequence(normalized_shape) else (normalized_shape,)
    shape = tuple(integer(size, "normalized_shape", 0) for size in sizes)
    if not shape:
        raise ArgumentError("normalized_shape: expected at least one size")
    if x.shape[x.ndim - len(shape) :] != shape or x.ndim < len(shape):
        raise ArgumentError(f"input: expected the last axes {shape} of normalized_shape, got shape {x.shape}")
    weight, bias = _parameter(weight, "weight", x, shape), _parameter(bias, "bias", x, shape)
    if x.size == 0:
        return np.empty(x.shape, x.dtype)
    return rows.row_norm(x, 1, prod(shape), 1, weight, bias, eps, centred)


def _parameter(value, name, x, shape) -> np.ndarray | None:
    """`value` as a contiguous array of `shape` and of the input's type; None stays None."""
    if value is None:
        return None
    array = as_array(value, name)
    if array.shape != shape:
        raise ArgumentError(f"{name}: expected shape {shape} for an input of shape {x.shape}, got {array.shape}")
    if array.dtype != x.dtype and not (x.dtype == np.float16 and array.dtype == np.float32):
        raise ArgumentTypeError(f"input and {name}: expected one element type, got {x.dtype} and {array.dtype}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _move(running, name, batch, momentum):
    """Move `running` towards `batch`, in place."""
    array = np.asarray(running)
    if not array.flags.writeable:
        raise ArgumentError(f"{name}: training updates this array in place, and it is read-only")
    momentum = number(momentum, "momentum")
    array[...] = (1 - momentum) * array.astype(batch.dtype, copy=False) + momentum * batch
