"""The specification of every operation, in plain NumPy.

These functions define what fastconv computes; the kernels are checked against them, and every operation has them as
its last resort.  They import NumPy alone and derive every size on their own.

Arrays are batched, ``(N, C, *spatial)`` with one to three spatial axes; arguments carry torch's names, order and
defaults.  The result has the element type of `x`.  Floats are summed in float32, or in float64 for float64 inputs,
and rounded once at the end; where a function takes `accumulate`, that type is used for the sums instead.  Integers
are computed in their own type and wrap.  NaN and infinity follow IEEE 754 without warnings.

Arguments are expected to be legal: what a caller may get wrong is checked before, by the layers.  A combination that
means nothing (an unknown padding word, a window that fits nowhere) raises ``ValueError``.
"""

from fastconv.reference.activation import (
    celu,
    elu,
    gelu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    threshold,
)
from fastconv.reference.convolution import conv, conv_transpose, fold, linear, unfold
from fastconv.reference.normalization import (
    batch_norm,
    batch_norm_training,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from fastconv.reference.padding import pad
from fastconv.reference.pooling import adaptive_avg_pool, adaptive_max_pool, avg_pool, lp_pool, max_pool
from fastconv.reference.resize import interpolate, pixel_shuffle, pixel_unshuffle
from fastconv.reference.sampling import affine_grid, channel_shuffle, deform_conv, grid_sample

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "affine_grid",
    "avg_pool",
    "batch_norm",
    "batch_norm_training",
    "celu",
    "channel_shuffle",
    "conv",
    "conv_transpose",
    "deform_conv",
    "elu",
    "fold",
    "gelu",
    "grid_sample",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_sigmoid",
    "log_softmax",
    "lp_pool",
    "max_pool",
    "mish",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "unfold",
]
