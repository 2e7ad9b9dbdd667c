"""Normalisation with given or computed moments."""

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.registry import operator
from fastconv.reference.precision import accumulator, rounded_once


@operator(ignored=("is_test",))
def BatchNormalization(x, scale, b, mean, var, *, epsilon=1e-5, momentum=0.9, spatial=1, training_mode=0):
    """(y,), or in training (y, running mean, running variance).  `spatial` 0 has a mean for every position."""
    if training_mode:
        y, batch_mean, batch_var = reference.batch_norm_training(x, scale, b, epsilon)
        moments = ((mean, batch_mean), (var, batch_var))
        return y, *((old * momentum + new * (1 - momentum)).astype(old.dtype) for old, new in moments)
    if spatial:
        return reference.batch_norm(x, mean, var, scale, b, epsilon)
    return ((x - mean) / np.sqrt(var + epsilon) * scale + b).astype(x.dtype)


@operator
def InstanceNormalization(x, scale, b, *, epsilon=1e-5):
    return reference.instance_norm(x, scale, b, epsilon)


@operator(ignored=("stash_type",))
def GroupNormalization(x, scale, bias, *, epsilon=1e-5, num_groups, opset):
    """`scale` and `bias` have one value per channel, before opset 21 one per group."""
    if opset < 21:
        scale, bias = (np.repeat(v, x.shape[1] // num_groups) for v in (scale, bias))
    return reference.group_norm(x, num_groups, scale, bias, epsilon)


def _trailing(x, axis):
    return tuple(range(axis % x.ndim, x.ndim))


@operator(ignored=("stash_type",))
def LayerNormalization(x, scale, b=None, *, axis=-1, epsilon=1e-5):
    """(y, mean, 1 / standard deviation) over the axes from `axis` on, computed in float32 or wider."""
    axes = _trailing(x, axis)
    wide = x.astype(accumulator(x.dtype))
    mean = wide.mean(axis=axes, keepdims=True)
    deviation = wide - mean
    inverse = 1 / np.sqrt((deviation * deviation).mean(axis=axes, keepdims=True) + wide.dtype.type(epsilon))
    y = deviation * inverse * scale
    return (y if b is None else y + b).astype(x.dtype), mean, inverse


@operator(ignored=("stash_type",))
@rounded_once
def RMSNormalization(x, scale, *, axis=-1, epsilon=1e-5):
    return x / np.sqrt((x * x).mean(axis=_trailing(x, axis), keepdims=True) + epsilon) * scale


@operator
def LRN(x, *, alpha=1e-4, beta=0.75, bias=1.0, size):
    return reference.local_response_norm(x, size, alpha, beta, bias, longer_side="after")


@operator
@rounded_once
def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    axes = tuple(axes)
    return (x - x.mean(axis=axes, keepdims=True)) / (x.std(axis=axes, keepdims=True) + 1e-9)


@operator
@rounded_once
def LpNormalization(x, *, axis=-1, p=2):
    """`x` over its norm along `axis`; 0 where the norm is."""
    norm = np.linalg.norm(x, p, axis, keepdims=True)
    return np.where(norm == 0, 0, x / norm)
