"""Arithmetic, comparison and logic, value by value."""

import math
from functools import reduce

import numpy as np

from fastconv.onnx.operators.registry import operator


def aligned(b, a, axis):
    """`b` shaped so that it broadcasts with its first axis at `axis` of `a`, as opsets before 7 ask."""
    return b if axis is None else b.reshape(b.shape + (1,) * (a.ndim - axis % a.ndim - b.ndim))


def _binary(function):
    def inner(a, b, *, axis=None):
        return function(a, aligned(b, a, axis))

    return inner


def _divide(a, b):
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    towards_minus_infinity = a // b
    return towards_minus_infinity + ((a % b != 0) & ((a < 0) != (b < 0)))


def _power(a, b):
    return np.power(a, b).astype(a.dtype)


def _equal(a, b):
    return np.equal(a, b).astype(bool)


_BINARY = {
    "Add": np.add,
    "And": np.logical_and,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "Div": _divide,
    "Equal": _equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Mul": np.multiply,
    "Or": np.logical_or,
    "Pow": _power,
    "Sub": np.subtract,
    "Xor": np.logical_xor,
}
for _name, _function in _BINARY.items():
    operator(_binary(_function), name=_name, ignored=("broadcast",))


def _unary(function):
    def inner(x):
        return function(x)

    return inner


_erf = np.vectorize(math.erf, otypes=[np.float64])

_UNARY = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "BitwiseNot": np.bitwise_not,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Exp": np.exp,
    "Floor": np.floor,
    "IsNaN": np.isnan,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": np.reciprocal,
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Sqrt": np.sqrt,
    "Tan": np.tan,
}
for _name, _function in _UNARY.items():
    operator(_unary(_function), name=_name)


@operator
def Erf(x):
    return _erf(x).astype(x.dtype)


@operator
def IsInf(x, *, detect_negative=1, detect_positive=1):
    return np.isposinf(x) & bool(detect_positive) | np.isneginf(x) & bool(detect_negative)


@operator
def BitShift(a, b, *, direction):
    """By the type's width or more, everything is shifted out but the sign."""
    width = 8 * a.dtype.itemsize
    if direction == "RIGHT" and a.dtype.kind == "i":
        return np.right_shift(a, np.minimum(b, width - 1))
    shifted = np.left_shift(a, b) if direction == "LEFT" else np.right_shift(a, b)
    return np.where(b < width, shifted, 0).astype(a.dtype)


@operator
def Mod(a, b, *, fmod=0):
    """The remainder has the sign of `a` with `fmod`, else of `b`."""
    return np.fmod(a, b) if fmod else np.mod(a, b)


@operator
def Max(*inputs):
    return reduce(np.maximum, inputs)


@operator
def Min(*inputs):
    return reduce(np.minimum, inputs)


@operator
def Sum(*inputs):
    return reduce(np.add, inputs)


@operator
def Mean(*inputs):
    return Sum(*inputs) / inputs[0].dtype.type(len(inputs))


@operator
def Where(condition, x, y):
    return np.where(condition, x, y)
