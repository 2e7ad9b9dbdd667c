"""onnxruntime's own operators that convolutional networks meet: what its quantiser and its optimiser write.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import functools

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.activation import Clip, HardSigmoid
from fastconv.onnx.operators.quantization import DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear
from fastconv.onnx.operators.recurrent import LSTM
from fastconv.onnx.operators.registry import operator
from fastconv.onnx.operators.windowed import AveragePool, Conv, GlobalAveragePool

microsoft = functools.partial(operator, domain="com.microsoft")

microsoft(QuantizeLinear)
microsoft(DequantizeLinear)


@microsoft
def Gelu(x):
    return reference.gelu(x)


_ACTIVATIONS = {
    "Clip": Clip,
    "HardSigmoid": lambda x, alpha, beta: HardSigmoid(x, alpha=alpha, beta=beta),
    "LeakyRelu": reference.leaky_relu,
    "Relu": reference.relu,
    "Sigmoid": reference.sigmoid,
    "Tanh": reference.tanh,
}


@microsoft
def FusedConv(x, w, b=None, z=None, *, activation, activation_params=(), **attributes):
    """activation(Conv(x, w, b) + z)"""
    y = Conv(x, w, b, **attributes)
    return _ACTIVATIONS[activation](y if z is None else y + z, *activation_params)


@microsoft
def FusedMatMul(a, b, *, alpha=1.0, transA=0, transB=0):
    a, b = (m.swapaxes(-1, -2) if turned else m for m, turned in ((a, transA), (b, transB)))
    return (a @ b * alpha).astype(a.dtype)


def _requantized(y, scale, zero_point):
    return QuantizeLinear(y.astype(np.float32), scale, zero_point)


def _through_reals(function):
    """An operator on one quantised tensor that computes `function` on the reals it stands for."""

    def inner(x, x_scale, x_zero_point, y_scale, y_zero_point=None, **attributes):
        y = function(DequantizeLinear(x, x_scale, x_zero_point), **attributes)
        return _requantized(y, y_scale, np.zeros((), x.dtype) if y_zero_point is None else y_zero_point)

    return inner


def _planes_first(function):
    def inner(x, *, channels_last=0, **attributes):
        if not channels_last:
            return function(x, **attributes)
        return np.moveaxis(function(np.moveaxis(x, -1, 1), **attributes), 1, -1)

    return inner


for _name, _function in {
    "QLinearAveragePool": _planes_first(AveragePool),
    "QLinearGlobalAveragePool": _planes_first(GlobalAveragePool),
    "QLinearLeakyRelu": lambda x, *, alpha=0.01: reference.leaky_relu(x, alpha),
    "QLinearSigmoid": reference.sigmoid,
}.items():
    microsoft(_through_reals(_function), name=_name)


def _of_two(function):
    def inner(a, a_scale, a_zero_point, b, b_scale, b_zero_point, c_scale, c_zero_point=None):
        y = function(DequantizeLinear(a, a_scale, a_zero_point), DequantizeLinear(b, b_scale, b_zero_point))
        return _requantized(y, c_scale, np.zeros((), a.dtype) if c_zero_point is None else c_zero_point)

    return inner


microsoft(_of_two(np.add), name="QLinearAdd")
microsoft(_of_two(np.multiply), name="QLinearMul")


@microsoft
def QLinearConcat(y_scale, y_zero_point, *inputs, axis):
    """`inputs` are triples of tensor, scale and zero point."""
    reals = [DequantizeLinear(*inputs[i : i + 3]) for i in range(0, len(inputs), 3)]
    return _requantized(np.concatenate(reals, axis), y_scale, y_zero_point)


@microsoft
def QGemm(
    a,
    a_scale,
    a_zero_point,
    b,
    b_scale,
    b_zero_point,
    c=None,
    y_scale=None,
    y_zero_point=None,
    *,
    alpha=1.0,
    transA=0,
    transB=0,
):
    """alpha * A' @ B' + C, with C in units of alpha * a_scale * b_scale; float32 where `y_scale` is omitted."""
    axis = 0 if transB else 1
    a = DequantizeLinear(a, a_scale, a_zero_point)
    b = DequantizeLinear(b, b_scale, b_zero_point, axis=axis)
    y = (a.T if transA else a) @ (b.T if transB else b) * alpha
    if c is not None:
        y = y + c * (alpha * a_scale * b_scale)
    y = y.astype(np.float32)
    return y if y_scale is None else _requantized(y, y_scale, y_zero_point)


def _rounded(x):
    """`x` as 8 bits would hold it."""
    return DequantizeLinear(*DynamicQuantizeLinear(x))


@microsoft(ignored=("hidden_size",))
def DynamicQuantizeLSTM(
    x,
    w,
    r,
    b=None,
    lengths=None,
    initial_h=None,
    initial_c=None,
    peepholes=None,
    w_scale=None,
    w_zero_point=None,
    r_scale=None,
    r_zero_point=None,
    **attributes,
):
    """LSTM with 8-bit weights (directions, features, 4 * hidden), its input rounded to 8 bits, its state not."""
    w, r = (
        np.stack([DequantizeLinear(m[d].T, s[d], z[d], axis=0) for d in range(len(m))])
        for m, s, z in ((w, w_scale, w_zero_point), (r, r_scale, r_zero_point))
    )
    return LSTM(_rounded(x), w, r, b, lengths, initial_h, initial_c, peepholes, **attributes)
