"""``layer_utils.py``: layers in a row, with a tuple of their caches."""

from __future__ import annotations

from fastconv.compat.cs231n.arguments import missing_backward
from fastconv.compat.cs231n.fast_layers import conv_forward_fast, max_pool_forward_fast
from fastconv.compat.cs231n.layers import affine_forward, relu_forward, spatial_batchnorm_forward

__all__ = [
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]


def affine_relu_forward(x, w, b):
    """A full connection and a ReLU; the cache is ``(fc_cache, relu_cache)``."""
    a, fc_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (fc_cache, relu_cache)


def conv_relu_forward(x, w, b, conv_param):
    """A convolution and a ReLU; the cache is ``(conv_cache, relu_cache)``."""
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, relu_cache)


def conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param):
    """A convolution, a batch norm and a ReLU; the cache is ``(conv_cache, bn_cache, relu_cache)``."""
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    normed, bn_cache = spatial_batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(normed)
    return out, (conv_cache, bn_cache, relu_cache)


def conv_relu_pool_forward(x, w, b, conv_param, pool_param):
    """A convolution, a ReLU and a max pooling; the cache is ``(conv_cache, relu_cache, pool_cache)``."""
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    s, relu_cache = relu_forward(a)
    out, pool_cache = max_pool_forward_fast(s, pool_param)
    return out, (conv_cache, relu_cache, pool_cache)


affine_relu_backward = missing_backward("affine_relu_backward")
conv_relu_backward = missing_backward("conv_relu_backward")
conv_bn_relu_backward = missing_backward("conv_bn_relu_backward")
conv_relu_pool_backward = missing_backward("conv_relu_pool_backward")
