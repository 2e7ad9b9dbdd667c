"""Activation functions and softmax."""

from math import prod

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.registry import operator
from fastconv.reference.precision import rounded_once


def _plain(function):
    def inner(x):
        return function(x)

    return inner


for _name, _function in {
    "HardSwish": reference.hardswish,
    "Mish": reference.mish,
    "Relu": reference.relu,
    "Sigmoid": reference.sigmoid,
    "Softsign": reference.softsign,
    "Tanh": reference.tanh,
}.items():
    operator(_plain(_function), name=_name)


@operator
def Clip(x, min=None, max=None):
    """NaN stays NaN; where `min` is above `max`, everything is `max`."""
    x = x if min is None else np.maximum(x, np.asarray(min, x.dtype))
    return x if max is None else np.minimum(x, np.asarray(max, x.dtype))


@operator
def LeakyRelu(x, *, alpha=0.01):
    return reference.leaky_relu(x, alpha)


@operator
def PRelu(x, slope, *, opset):
    """Before opset 7, a slope per channel; since then, one that broadcasts to `x`."""
    if opset < 7 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return np.where(x < 0, x * slope, x).astype(x.dtype)


@operator
def Elu(x, *, alpha=1.0):
    return reference.elu(x, alpha)


@operator
def Celu(x, *, alpha=1.0):
    return reference.celu(x, alpha)


@operator
@rounded_once
def Selu(x, *, alpha=None, gamma=None, opset):
    if alpha is None:
        alpha = 1.67326319217681884765625 if opset >= 6 else 1.6732
    if gamma is None:
        gamma = 1.05070102214813232421875 if opset >= 6 else 1.0507
    return gamma * reference.elu(x, alpha)


@operator
def Gelu(x, *, approximate="none"):
    return reference.gelu(x, approximate)


@operator
@rounded_once
def HardSigmoid(x, *, alpha=0.2, beta=0.5):
    return np.clip(x * alpha + beta, 0, 1)


@operator
@rounded_once
def Softplus(x):
    return np.logaddexp(x, 0)


@operator
@rounded_once
def Swish(x, *, alpha=1.0):
    return x * reference.sigmoid(x * alpha)


@operator
def ThresholdedRelu(x, *, alpha=1.0):
    return reference.threshold(x, x.dtype.type(alpha), 0)


@operator
@rounded_once
def Shrink(x, *, bias=0.0, lambd=0.5):
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


def _hardmax(x, axis):
    hit = np.expand_dims(x.argmax(axis), axis)
    y = np.zeros_like(x)
    np.put_along_axis(y, hit, 1, axis)
    return y


def _along_axis(function):
    def inner(x, *, axis=None, opset):
        if opset >= 13:
            return function(x, -1 if axis is None else axis)
        leading = prod(x.shape[: 1 if axis is None else axis])
        return function(x.reshape(leading, x.size // max(leading, 1)), 1).reshape(x.shape)

    return inner


for _name, _function in {
    "Hardmax": _hardmax,
    "LogSoftmax": reference.log_softmax,
    "Softmax": reference.softmax,
}.items():
    operator(_along_axis(_function), name=_name)
