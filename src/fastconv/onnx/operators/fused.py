"""What the graph passes put in the place of ONNX's operators, as NumPy computes it."""

import numpy as np

from fastconv import reference
from fastconv.graph.passes.affine import scaled
from fastconv.onnx.operators import elementwise, matmul  # noqa: F401  (fills the table)
from fastconv.onnx.operators.registry import OPERATORS, operator
from fastconv.ops.elementwise import ACTIVATIONS


def clamped(y, low, high):
    """NaN stays NaN; infinite limits are none, of integers, too."""
    y = y if low == -np.inf else np.maximum(y, y.dtype.type(low))
    return y if high == np.inf else np.minimum(y, y.dtype.type(high))


@operator(domain="fastconv", name="Conv")
def fused_conv(
    x, w, b=None, residual=None, *, strides, dilations, group, padding, low, high, scale=None, activation=None
):
    w = scaled(w, scale)
    y = reference.conv(x, w, b, stride=strides, padding=padding, dilation=dilations, groups=group)
    y = clamped(y if residual is None else y + residual, low, high)
    if activation is None:
        return y
    name, parameters = activation
    return ACTIVATIONS[name].reference(y, *parameters)


@operator(domain="fastconv", name="ConvTranspose")
def fused_conv_transpose(x, w, b=None, *, strides, dilations, group, pads, output_padding, low, high):
    y = reference.conv_transpose(
        x, w, b, stride=strides, padding=pads, output_padding=output_padding, groups=group, dilation=dilations
    )
    return clamped(y, low, high)


@operator(domain="fastconv", name="MatMul")
def fused_matmul(x, w, b=None):
    y = OPERATORS["", "MatMul"].function(x, w)
    return y if b is None else y + b


@operator(domain="fastconv", name="Affine")
def affine(x, scale, shift, *, low, high):
    shape = (-1, *(1,) * (x.ndim - 2))
    return clamped(x * scale.reshape(shape) + shift.reshape(shape), low, high)


def _arithmetic(function):
    def inner(a, b, *, low, high):
        return clamped(function(a, b), low, high)

    return inner


for _name in ("Add", "Sub", "Mul", "Div"):
    operator(_arithmetic(OPERATORS["", _name].function), name=_name, domain="fastconv")
