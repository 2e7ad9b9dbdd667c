"""Normalisation over batch, channels, groups and neighbouring channels."""

from math import prod

import numpy as np

from fastconv.reference.precision import accumulator, rounded_once, silent


@rounded_once
def batch_norm(x, mean, var, weight=None, bias=None, eps=1e-5):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, one value of each (C,) per channel of `x` (N, C, ...).

    Source: Ioffe and Szegedy, arXiv:1502.03167.
    """
    return _affine(_normalise(x, _per_channel(mean, x), _per_channel(var, x), eps), weight, bias)


@silent
def batch_norm_training(x, weight=None, bias=None, eps=1e-5):
    """Batch norm with the statistics of `x` itself: (y, mean, var), the last two (C,).

    `var` is biased (divided by the number n of values per channel), which is what normalises; running statistics take
    the unbiased ``var * n / (n - 1)``.
    """
    mean, var = _moments(x.astype(accumulator(x.dtype)), (0, *range(2, x.ndim)))
    return batch_norm(x, mean, var, weight, bias, eps), mean.reshape(-1), var.reshape(-1)


@rounded_once
def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Every slice of `x` over its last axes, of `normalized_shape`, with mean 0 and variance 1.

    `weight` and `bias` have the normalised shape.  Source: Ba, Kiros and Hinton, arXiv:1607.06450.
    """
    rank = len(normalized_shape) if hasattr(normalized_shape, "__len__") else 1
    y = _normalise(x, *_moments(x, tuple(range(-rank, 0))), eps)
    y = y if weight is None else y * weight.astype(x.dtype)
    return y if bias is None else y + bias.astype(x.dtype)


@rounded_once
def rms_norm(x, normalized_shape, weight=None, eps=1e-5):
    """Every slice of `x` over its last axes, of `normalized_shape`, divided by the root of its mean square plus `eps`.

    `weight` has the normalised shape.  Source: Zhang and Sennrich, arXiv:1910.07467.
    """
    rank = len(normalized_shape) if hasattr(normalized_shape, "__len__") else 1
    mean_square, _ = _moments(x * x, tuple(range(-rank, 0)))
    y = x / np.sqrt(mean_square + eps)
    return y if weight is None else y * weight.astype(x.dtype)


@rounded_once
def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """Every group of C / `num_groups` channels of each image of `x` (N, C, ...) with mean 0 and variance 1.

    `weight` and `bias` have one value per channel.  Source: Wu and He, arXiv:1803.08494.
    """
    grouped = x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])
    y = _normalise(grouped, *_moments(grouped, tuple(range(2, grouped.ndim))), eps)
    return _affine(y.reshape(x.shape), weight, bias)


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    """Every channel of each image of `x` (N, C, ...) with mean 0 and variance 1: `group_norm` with C groups."""
    return group_norm(x, x.shape[1], weight, bias, eps)


@rounded_once
def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0, *, longer_side="before"):
    """``x / (k + alpha / size * sum of squares) ** beta`` over `size` neighbouring channels of `x` (N, C, ...).

    An even window has one channel more on one side: before, as in torch, or with ``longer_side="after"`` as in ONNX.
    Channels that do not exist count as zeros.  Source: Krizhevsky, Sutskever and Hinton, NIPS 2012, section 3.3.
    """
    sides = (size - 1) // 2, size // 2
    before, after = (min(side, x.shape[1]) for side in {"before": sides[::-1], "after": sides}[longer_side])
    squares = np.pad(x * x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
    total = sum(squares[:, start : start + x.shape[1]] for start in range(before + 1 + after))
    return x / (k + alpha / size * total) ** beta


def _normalise(x, mean, var, eps):
    return (x - mean) / np.sqrt(var + eps)


def _moments(x, axes):
    """Mean and biased variance over `axes`, which stay with size 1; NaN over nothing."""
    count = np.asarray(prod(x.shape[axis] for axis in axes), x.dtype)
    mean = x.sum(axis=axes, keepdims=True) / count
    return mean, ((x - mean) ** 2).sum(axis=axes, keepdims=True) / count


def _per_channel(values, x):
    return values.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 2))


def _affine(y, weight, bias):
    y = y if weight is None else y * _per_channel(weight, y)
    return y if bias is None else y + _per_channel(bias, y)
