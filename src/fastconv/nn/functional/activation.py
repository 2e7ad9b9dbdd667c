"""Activations and softmax.

Results have the shape of the input and, but for softmax, its memory order.  float16 is computed in float32.  With
`inplace` the input array itself is changed and returned; a read-only array stays as it is, and a new one is returned.
"""

from __future__ import annotations

import warnings

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.annotations import ArrayLike, DTypeLike
from fastconv.nn.factory import as_dtype
from fastconv.nn.functional.arguments import axis_of, floats, number, promoted, real_numbers, written
from fastconv.nn.random import default_generator
from fastconv.ops import channelwise
from fastconv.ops import softmax as softmax_op
from fastconv.ops.elementwise import elementwise

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
]


def relu(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """max(x, 0) in any real element type; NaN and -0.0 stay."""
    return elementwise("relu", real_numbers(input), (), inplace)


def relu6(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """`x` clipped to [0, 6] in any real element type; NaN stays."""
    return elementwise("relu6", real_numbers(input), (), inplace)


def hardtanh(input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> np.ndarray:
    """`x` clipped to [min_val, max_val] in any real element type; NaN stays."""
    x = real_numbers(input)
    low, high = number(min_val, "min_val"), number(max_val, "max_val")
    if not low <= high:
        raise ArgumentError(f"max_val: expected at least min_val ({min_val}), got {max_val}")
    if x.dtype.kind == "u" and low < 0:
        raise ArgumentError(f"min_val: expected 0 or more for an input of {x.dtype}, got {min_val}")
    return elementwise("hardtanh", x, (low, high), inplace)


def threshold(input: ArrayLike, threshold: float, value: float, inplace: bool = False) -> np.ndarray:
    """`x` where it is above `threshold` or NaN, else `value`; any real element type."""
    return _threshold(input, threshold, value, inplace)


def _threshold(input, threshold, value, inplace):
    x = real_numbers(input)
    return elementwise("threshold", x, (number(threshold, "threshold"), number(value, "value")), inplace)


def leaky_relu(input: ArrayLike, negative_slope: float = 0.01, inplace: bool = False) -> np.ndarray:
    """`x` where it is positive, else `negative_slope` * x."""
    return elementwise("leaky_relu", floats(input), (number(negative_slope, "negative_slope"),), inplace)


def elu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> np.ndarray:
    """`x` where it is positive, else alpha * (exp(x) - 1)."""
    return elementwise("elu", floats(input), (number(alpha, "alpha"),), inplace)


def selu(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """1.0507 * elu(x, 1.6733), with the constants of Klambauer et al., arXiv:1706.02515."""
    return elementwise("selu", floats(input), (), inplace)


def celu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> np.ndarray:
    """`x` where it is positive, else alpha * (exp(x / alpha) - 1)."""
    x = floats(input)
    alpha = number(alpha, "alpha")
    if alpha == 0:
        raise ArgumentError("alpha: expected a number other than 0")
    return elementwise("celu", x, (alpha,), inplace)


def gelu(input: ArrayLike, approximate: str = "none") -> np.ndarray:
    """`x` times the normal distribution function of `x`, exact or by ``approximate="tanh"``.

    gelu(inf) is inf; torch 2.13 returns NaN for it.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"approximate: expected 'none' or 'tanh', got {approximate!r}")
    return elementwise("gelu" if approximate == "none" else "gelu_tanh", floats(input))


def silu(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """x * sigmoid(x)."""
    return elementwise("silu", floats(input), (), inplace)


def mish(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """x * tanh(softplus(x))."""
    return elementwise("mish", floats(input), (), inplace)


def hardswish(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """x * relu6(x + 3) / 6."""
    return elementwise("hardswish", floats(input), (), inplace)


def hardsigmoid(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """relu6(x + 3) / 6."""
    return elementwise("hardsigmoid", floats(input), (), inplace)


def sigmoid(input: ArrayLike) -> np.ndarray:
    """1 / (1 + exp(-x)); float32 for integers."""
    return elementwise("sigmoid", promoted(input))


def tanh(input: ArrayLike) -> np.ndarray:
    """The hyperbolic tangent; float32 for integers."""
    return elementwise("tanh", promoted(input))


def softsign(input: ArrayLike) -> np.ndarray:
    """x / (1 + abs(x)); float32 for integers."""
    return elementwise("softsign", promoted(input))


def tanhshrink(input: ArrayLike) -> np.ndarray:
    """x - tanh(x); float32 for integers."""
    return elementwise("tanhshrink", promoted(input))


def logsigmoid(input: ArrayLike) -> np.ndarray:
    """log(sigmoid(x))."""
    return elementwise("logsigmoid", floats(input))


def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
    """log(1 + exp(beta * x)) / beta, and `x` itself where beta * x is above `threshold`."""
    x = floats(input)
    beta = number(beta, "beta")
    if beta == 0:
        raise ArgumentError("beta: expected a number other than 0")
    return elementwise("softplus", x, (beta, number(threshold, "threshold")))


def hardshrink(input: ArrayLike, lambd: float = 0.5) -> np.ndarray:
    """`x` where abs(x) is above `lambd` or NaN, else 0."""
    return elementwise("hardshrink", floats(input), (number(lambd, "lambd"),))


def softshrink(input: ArrayLike, lambd: float = 0.5) -> np.ndarray:
    """`x` moved towards 0 by `lambd`, at most to 0."""
    x = floats(input)
    lambd = number(lambd, "lambd")
    if lambd < 0:
        raise ArgumentError(f"lambd: expected 0 or more, got {lambd}")
    return elementwise("softshrink", x, (lambd,))


def prelu(input: ArrayLike, weight: ArrayLike) -> np.ndarray:
    """`x` where it is positive, else `x` times `weight`: one value, or one per channel (axis 1)."""
    x, slope = floats(input), as_array(weight, "weight")
    if slope.dtype != x.dtype:
        raise ArgumentTypeError(f"input and weight: expected one element type, got {x.dtype} and {slope.dtype}")
    if slope.ndim > 1:
        raise ArgumentError(f"weight: expected one axis (C,), got shape {slope.shape}")
    if slope.size == 1:
        return elementwise("leaky_relu", x, (float(slope.reshape(())),))
    channels = x.shape[1] if x.ndim > 1 else 1
    if slope.size != channels:
        raise ArgumentError(
            f"weight: expected 1 value or {channels}, one per channel of input {x.shape}, got {slope.size}"
        )
    return channelwise.prelu(x, np.ascontiguousarray(slope))


def rrelu(
    input: ArrayLike, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> np.ndarray:
    """`x` where it is positive, else `x` times a slope: their mean, or in training one drawn for every value."""
    x = floats(input)
    lower, upper = number(lower, "lower"), number(upper, "upper")
    if not lower <= upper:
        raise ArgumentError(f"upper: expected at least lower ({lower}), got {upper}")
    if not np.isfinite(upper - lower):
        raise ArgumentError(f"lower, upper: expected finite numbers, got {lower} and {upper}")
    if not training:
        return elementwise("leaky_relu", x, ((lower + upper) / 2,), inplace)
    slopes = default_generator.uniform(lower, upper, x.shape).astype(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        y = np.where(x > 0, x, x * slopes)
    return written(x, y, inplace)


def _in_place(x) -> np.ndarray:
    """`x` as an array that can be changed."""
    if not isinstance(x, np.ndarray) or not x.flags.writeable:
        what = "a read-only array" if isinstance(x, np.ndarray) else type(x).__name__
        raise ArgumentTypeError(f"input: expected a NumPy array to change in place, got {what}")
    return x


def relu_(input: ArrayLike) -> np.ndarray:
    """:func:`relu` of the array `input` itself, which is changed and returned."""
    return relu(_in_place(input), True)


def leaky_relu_(input: ArrayLike, negative_slope: float = 0.01) -> np.ndarray:
    """:func:`leaky_relu` of the array `input` itself."""
    return leaky_relu(_in_place(input), negative_slope, True)


def elu_(input: ArrayLike, alpha: float = 1.0) -> np.ndarray:
    """:func:`elu` of the array `input` itself."""
    return elu(_in_place(input), alpha, True)


def selu_(input: ArrayLike) -> np.ndarray:
    """:func:`selu` of the array `input` itself."""
    return selu(_in_place(input), True)


def celu_(input: ArrayLike, alpha: float = 1.0) -> np.ndarray:
    """:func:`celu` of the array `input` itself."""
    return celu(_in_place(input), alpha, True)


def hardtanh_(input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> np.ndarray:
    """:func:`hardtanh` of the array `input` itself."""
    return hardtanh(_in_place(input), min_val, max_val, True)


def threshold_(input: ArrayLike, threshold: float, value: float) -> np.ndarray:
    """:func:`threshold` of the array `input` itself."""
    return _threshold(_in_place(input), threshold, value, True)


def rrelu_(input: ArrayLike, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> np.ndarray:
    """:func:`rrelu` of the array `input` itself."""
    return rrelu(_in_place(input), lower, upper, training, True)


def glu(input: ArrayLike, dim: int = -1) -> np.ndarray:
    """a * sigmoid(b), where a and b are the halves of `x` along `dim`."""
    x = floats(input)
    axis = axis_of(dim, x.ndim)
    size = x.shape[axis] if x.ndim else 1
    if x.ndim == 0 or size % 2:
        raise ArgumentError(f"dim: expected an axis of even size to halve, got size {size} of shape {x.shape}")
    a, b = np.split(x, 2, axis)
    gate = elementwise("sigmoid", b)
    with np.errstate(invalid="ignore"):
        return np.multiply(a, gate, out=gate)


def softmax(
    input: ArrayLike, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> np.ndarray:
    """exp(x) over its sum along `dim`, the largest value subtracted first; a row of -inf or with +inf is NaN."""
    return _softmax(input, dim, _stacklevel, dtype, "softmax")


def log_softmax(
    input: ArrayLike, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> np.ndarray:
    """The logarithm of :func:`softmax`, without the loss of small values."""
    return _softmax(input, dim, _stacklevel, dtype, "log_softmax")


def softmin(
    input: ArrayLike, dim: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None
) -> np.ndarray:
    """softmax(-x)."""
    return _softmax(
        np.negative(floats(input) if dtype is None else real_numbers(input)), dim, _stacklevel, dtype, "softmin"
    )


def _softmax(input, dim, stacklevel, dtype, name):
    x = as_array(input, "input")
    if dtype is not None:
        x = x.astype(as_dtype(dtype))
    if x.dtype.kind != "f":
        raise ArgumentTypeError(f"input: {name} of {x.dtype} is not defined; pass dtype= or convert with astype()")
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
        warnings.warn(f"{name}: dim=None is deprecated, and means dim={dim} here", stacklevel=stacklevel)
    return softmax_op.softmax(x, axis_of(dim, x.ndim), name == "log_softmax")
