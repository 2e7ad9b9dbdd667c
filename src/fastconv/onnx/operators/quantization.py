"""Integers that stand for reals: value = (integer - zero point) * scale."""

import numpy as np

from fastconv.onnx.operators.registry import operator
from fastconv.onnx.operators.windowed import ConvInteger
from fastconv.onnx.tensors import dtype_of


def _spread(parameter, x, axis, block_size):
    """A scale or zero point that broadcasts to `x`, of one value, one per index of `axis`, or one per block of it."""
    if parameter is None or parameter.size == 1:
        return parameter if parameter is None else parameter.reshape(())
    if block_size:
        return np.repeat(parameter, block_size, axis).take(range(x.shape[axis]), axis)
    return parameter.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])


def _saturated(reals, dtype):
    limits = np.iinfo(dtype)
    return np.clip(np.rint(reals), limits.min, limits.max).astype(dtype)


@operator(ignored=("saturate",))
def QuantizeLinear(x, scale, zero_point=None, *, axis=1, block_size=0, output_dtype=0, precision=0):
    """round(x / scale) + zero point, halves to even, clipped to the type of the zero point."""
    dtype = zero_point.dtype if zero_point is not None else dtype_of(output_dtype or 2)
    scale = _spread(scale, x, axis, block_size)
    wide = dtype_of(precision) if precision else np.promote_types(x.dtype, np.float32)
    ratio = np.rint(x.astype(wide) / scale.astype(wide))
    if zero_point is not None:
        ratio = ratio + _spread(zero_point, x, axis, block_size).astype(wide)
    return _saturated(ratio, dtype)


@operator
def DequantizeLinear(x, scale, zero_point=None, *, axis=1, block_size=0, output_dtype=0):
    """(x - zero point) * scale, in the type of the scale."""
    dtype = dtype_of(output_dtype) if output_dtype else scale.dtype
    centred = x.astype(np.float32)
    if zero_point is not None:
        centred = centred - _spread(zero_point, x, axis, block_size).astype(np.float32)
    return (centred * _spread(scale, x, axis, block_size)).astype(dtype)


@operator
def DynamicQuantizeLinear(x):
    """(y, scale, zero point) with uint8 spread over the range of `x`, which is widened to hold 0."""
    low, high = min(x.min(initial=0), 0), max(x.max(initial=0), 0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    zero_point = _saturated(-low / scale, np.uint8)
    return _saturated(np.rint(x / scale) + np.float32(zero_point), np.uint8), scale, zero_point


def _centred(x, zero_point):
    """`x` less its zero point, in float64, in which products of bytes add up exactly."""
    return x.astype(np.float64) - (0 if zero_point is None else zero_point)


def _integer_product(a, b, a_zero_point, b_zero_point):
    if a_zero_point is not None and a_zero_point.ndim == 1:
        a_zero_point = a_zero_point[:, None]
    return _centred(a, a_zero_point) @ _centred(b, b_zero_point)


@operator
def MatMulInteger(a, b, a_zero_point=None, b_zero_point=None):
    """Zero points are one value, or one per row of `a` and per column of `b`."""
    return _integer_product(a, b, a_zero_point, b_zero_point).astype(np.int64).astype(np.int32)


@operator
def QLinearMatMul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point):
    rows = a_scale[:, None] if a_scale.ndim == 1 else a_scale
    total = _integer_product(a, b, a_zero_point, b_zero_point)
    return _saturated(np.rint(total * (rows * b_scale / y_scale)) + y_zero_point, y_zero_point.dtype)


@operator
def QLinearConv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, b=None, **attributes):
    total = ConvInteger(x, w, x_zero_point, w_zero_point, **attributes).astype(np.int64)
    per_channel = (1, -1, *[1] * (x.ndim - 2))
    if b is not None:
        total = total + b.reshape(per_channel)
    scale = (x_scale * w_scale / y_scale).reshape(per_channel)
    return _saturated(np.rint(total * scale) + y_zero_point, y_zero_point.dtype)
