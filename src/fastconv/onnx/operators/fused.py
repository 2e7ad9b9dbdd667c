"""What the graph passes put in the place of ONNX's operators, as NumPy computes it."""

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.registry import operator


def clamped(y, low, high):
    """NaN stays NaN."""
    return y if (low, high) == (-np.inf, np.inf) else np.clip(y, y.dtype.type(low), y.dtype.type(high))


@operator(domain="fastconv", name="Conv")
def fused_conv(x, w, b=None, residual=None, *, strides, dilations, group, padding, low, high):
    y = reference.conv(x, w, b, stride=strides, padding=padding, dilation=dilations, groups=group)
    return clamped(y if residual is None else y + residual, low, high)


@operator(domain="fastconv", name="Affine")
def affine(x, scale, shift, *, low, high):
    shape = (-1, *(1,) * (x.ndim - 2))
    return clamped(x * scale.reshape(shape) + shift.reshape(shape), low, high)
