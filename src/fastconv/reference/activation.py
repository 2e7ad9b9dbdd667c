"""Activations, value by value, and softmax.

Values at the edge follow from the formulas as torch writes them: where infinity meets zero (silu, gelu, mish and
hardswish of -inf) the result is NaN, comparisons let NaN through, and relu keeps -0.0.
"""

import math

import numpy as np

from fastconv.reference.precision import rounded_once

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

_erf = np.vectorize(math.erf, otypes=[np.float64])


def relu(x):
    """max(x, 0) in any real element type; NaN stays NaN and -0.0 stays -0.0."""
    return np.where(x < 0, x.dtype.type(0), x)


def hardtanh(x, min_val=-1.0, max_val=1.0):
    """`x` clipped to [min_val, max_val] in any real element type; NaN stays NaN."""
    return np.clip(x, x.dtype.type(min_val), x.dtype.type(max_val))


def relu6(x):
    """`x` clipped to [0, 6]."""
    return hardtanh(x, 0, 6)


def threshold(x, threshold, value):
    """`x` where it is above `threshold` or NaN, else `value`."""
    return np.where(x <= threshold, x.dtype.type(value), x)


@rounded_once
def leaky_relu(x, negative_slope=0.01):
    """`x` where it is positive, else `negative_slope` * x.  Source: Maas, Hannun and Ng, ICML 2013."""
    return np.where(x > 0, x, x * negative_slope)


@rounded_once
def prelu(x, weight):
    """`leaky_relu` with one slope for all values or one per channel (axis 1): `weight` (1,) or (C,)."""
    slope = weight.astype(x.dtype)
    slope = slope.reshape(()) if slope.size == 1 else slope.reshape(-1, *[1] * (x.ndim - 2))
    return np.where(x > 0, x, x * slope)


@rounded_once
def elu(x, alpha=1.0):
    """`x` where it is positive, else alpha * (exp(x) - 1).  Source: Clevert et al., arXiv:1511.07289."""
    return np.where(x > 0, x, alpha * np.expm1(x))


@rounded_once
def selu(x):
    """`elu` with the self-normalising alpha, scaled.  Source: Klambauer et al., arXiv:1706.02515."""
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x))


@rounded_once
def celu(x, alpha=1.0):
    """`x` where it is positive, else alpha * (exp(x / alpha) - 1).  Source: Barron, arXiv:1704.07483."""
    return np.where(x > 0, x, alpha * np.expm1(x / alpha))


@rounded_once
def gelu(x, approximate="none"):
    """`x` times the normal distribution function of `x`, exact or by ``approximate="tanh"``.

    Source: Hendrycks and Gimpel, arXiv:1606.08415.
    """
    if approximate == "none":
        return x * 0.5 * (1 + _erf(x * math.sqrt(0.5))).astype(x.dtype)
    if approximate == "tanh":
        return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    raise ValueError(f"approximate: expected none or tanh, got {approximate!r}")


@rounded_once
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow on the way."""
    return _sigmoid(x)


@rounded_once
def silu(x):
    """x * sigmoid(x).  Source: Elfwing, Uchibe and Doya, arXiv:1702.03118."""
    return x * _sigmoid(x)


@rounded_once
def mish(x):
    """x * tanh(softplus(x)).  Source: Misra, arXiv:1908.08681."""
    return x * np.tanh(_softplus(x))


@rounded_once
def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


@rounded_once
def hardsigmoid(x):
    """relu6(x + 3) / 6."""
    return relu6(x + 3) / 6


@rounded_once
def hardswish(x):
    """x * relu6(x + 3) / 6.  Source: Howard et al., arXiv:1905.02244."""
    return x * relu6(x + 3) / 6


@rounded_once
def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta, and `x` itself where beta * x is above `threshold`."""
    return np.where(x * beta > threshold, x, np.log1p(np.exp(x * beta)) / beta)


@rounded_once
def softsign(x):
    """x / (1 + abs(x))."""
    return x / (1 + np.abs(x))


@rounded_once
def hardshrink(x, lambd=0.5):
    """`x` where abs(x) is above `lambd` or NaN, else 0."""
    return np.where(np.abs(x) <= lambd, 0, x)


@rounded_once
def softshrink(x, lambd=0.5):
    """`x` moved towards 0 by `lambd`, at most to 0."""
    return x - np.clip(x, -lambd, lambd)


@rounded_once
def tanhshrink(x):
    """x - tanh(x)."""
    return x - np.tanh(x)


@rounded_once
def log_sigmoid(x):
    """log(sigmoid(x)), without overflow on the way."""
    return -_softplus(-x)


@rounded_once
def softmax(x, axis):
    """exp(x) over its sum along `axis`, the largest value subtracted first.

    A row of -inf, and a row with +inf, is NaN.
    """
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


@rounded_once
def log_softmax(x, axis):
    """The logarithm of `softmax`, without the loss of small values."""
    shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
