"""``layers.py``: the layers that students write, forward.

The naive convolution and pooling are fastconv's NumPy reference, those of ``fast_layers`` its kernels, so the course's
comparisons of the two remain comparisons.
"""

from __future__ import annotations

import numpy as np

from fastconv import reference
from fastconv.arrays import as_array
from fastconv.compat.cs231n.arguments import (
    affine_arguments,
    check_images,
    common_type,
    conv_arguments,
    eps_of,
    missing_backward,
    mode_of,
    per_feature,
    sizes,
)
from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.geometry import Window, integer
from fastconv.nn import functional as F
from fastconv.ops import channelwise

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]


def affine_forward(x, w, b):
    """Examples `x` (N, d_1, ..., d_k) as rows times `w` (D, M) plus `b` (M,): out (N, M), cache ``(x, w, b)``."""
    rows, weights, biases = affine_arguments(x, w, b)
    return rows @ weights + biases, (x, w, b)  # weights of this order would be packed anew for every call


def relu_forward(x):
    """The positive part of `x`, of any shape; the cache is `x`."""
    return F.relu(x), x


def conv_forward_naive(x, w, b, conv_param):
    """As ``conv_forward_fast``, summed by NumPy; the cache is ``(x, w, b, conv_param)``."""
    images, filters, biases, stride, pad = conv_arguments(x, w, b, conv_param)
    Window.of(images.shape[2:], filters.shape[2:], stride, pad)  # raises where the filters do not fit
    return reference.conv(images, filters, biases, stride=stride, padding=pad), (x, w, b, conv_param)


def max_pool_forward_naive(x, pool_param):
    """As ``max_pool_forward_fast``, by NumPy; the cache is ``(x, pool_param)``."""
    images = as_array(x, "x")
    check_images(images)
    height, width, stride = sizes(pool_param, "pool_param", pool_height=1, pool_width=1, stride=1)
    Window.of(images.shape[2:], (height, width), stride)
    return reference.max_pool(images, (height, width), stride)[0], (x, pool_param)


def batchnorm_forward(x, gamma, beta, bn_param):
    """Every feature of `x` (N, D) with mean 0 and variance 1, times `gamma` (D,), plus `beta` (D,).

    `bn_param` has 'mode', and may have 'eps' (1e-5) and 'momentum' (0.9).  In mode 'train' the statistics are the
    batch's, and the running ones move: ``running = momentum * running + (1 - momentum) * batch``, with the *biased*
    variance.  In mode 'test' the running ones are used.  Both are put back into `bn_param` as 'running_mean' and
    'running_var', which start at zero.  The cache is ``(x, gamma, beta, mean, var, eps)``.
    """
    examples = as_array(x, "x")
    if examples.ndim != 2:
        raise ArgumentError(f"x: expected (N, D), got shape {examples.shape}; images go to spatial_batchnorm_forward")
    return _batchnorm(examples, gamma, beta, bn_param)


def spatial_batchnorm_forward(x, gamma, beta, bn_param):
    """:func:`batchnorm_forward` of the channels of `x` (N, C, H, W), over the images and all their positions."""
    images = as_array(x, "x")
    check_images(images)
    return _batchnorm(images, gamma, beta, bn_param)


def _batchnorm(x, gamma, beta, bn_param):
    mode, count = mode_of(bn_param, "bn_param"), x.shape[1]
    eps, momentum = eps_of(bn_param, "bn_param"), bn_param.get("momentum", 0.9)
    running = [
        per_feature(bn_param.get(key, np.zeros(count, x.dtype)), f"bn_param[{key!r}]", x, count)
        for key in ("running_mean", "running_var")
    ]
    scale, shift = per_feature(gamma, "gamma", x, count), per_feature(beta, "beta", x, count)
    x, scale, shift, *running = common_type(x, scale, shift, *running)
    if mode == "train":
        if not x.size:
            raise ArgumentError(f"x: training needs at least one value per feature, got shape {x.shape}")
        mean, var = (statistic.astype(x.dtype, copy=False) for statistic in channelwise.moments(x))
        running = [momentum * old + (1 - momentum) * new for old, new in zip(running, (mean, var), strict=True)]
    else:
        mean, var = running
    bn_param["running_mean"], bn_param["running_var"] = running
    return channelwise.batch_norm(x, mean, var, scale, shift, eps), (x, gamma, beta, mean, var, eps)


def layernorm_forward(x, gamma, beta, ln_param):
    """Every example of `x` (N, D) with mean 0 and variance 1, times `gamma` (D,), plus `beta` (D,).

    `ln_param` may have 'eps' (1e-5).  The cache is ``(x, gamma, beta, eps)``.
    """
    examples = as_array(x, "x")
    if examples.ndim != 2:
        raise ArgumentError(f"x: expected (N, D), got shape {examples.shape}")
    eps = eps_of(ln_param, "ln_param")
    scale, shift = (per_feature(p, n, examples, examples.shape[1]) for p, n in ((gamma, "gamma"), (beta, "beta")))
    examples, scale, shift = common_type(examples, scale, shift)
    return F.layer_norm(examples, examples.shape[1:], scale, shift, eps), (x, gamma, beta, eps)


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    """Each of `G` groups of channels of each image of `x` (N, C, H, W) with mean 0 and variance 1, then affine.

    `gamma` and `beta` are (1, C, 1, 1), or (C,) as in older years.  `gn_param` may have 'eps' (1e-5).  The cache is
    ``(x, gamma, beta, G, eps)``.
    """
    images = as_array(x, "x")
    check_images(images)
    groups, eps = integer(G, "G", 1), eps_of(gn_param, "gn_param")
    scale, shift = (per_feature(p, n, images, images.shape[1]) for p, n in ((gamma, "gamma"), (beta, "beta")))
    images, scale, shift = common_type(images, scale, shift)
    return F.group_norm(images, groups, scale, shift, eps), (x, gamma, beta, G, eps)


def dropout_forward(x, dropout_param):
    """Keep every value of `x` with probability 'p', divided by it; the others become zero.  In mode 'test', `x` itself.

    'p' is the probability of *keeping*, as since 2018; before, it was that of dropping.  A 'seed' restarts NumPy's global
    generator, from which the mask is drawn as the course draws it.  The cache is ``(dropout_param, mask)``, where the
    mask holds 0 and 1 / p, and is None in mode 'test'.
    """
    x, mode = as_array(x, "x"), mode_of(dropout_param, "dropout_param")
    p = dropout_param.get("p")
    if not isinstance(p, (int, float, np.number)) or not 0 < p <= 1:
        raise ArgumentError(f"dropout_param['p']: expected the probability of keeping, above 0 and up to 1, got {p!r}")
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])  # noqa: NPY002  the global generator is the course's
    if mode == "test":
        return x, (dropout_param, None)
    mask = (np.random.rand(*x.shape) < p) / p  # noqa: NPY002
    return (x * mask).astype(x.dtype, copy=False), (dropout_param, mask)


def svm_loss(x, y):
    """The mean over examples of the hinge losses of the wrong classes, margin 1, and its gradient: ``(loss, dx)``.

    `x` (N, C) are scores, `y` (N,) the right classes.
    """
    scores, classes, examples = _scores(x, y)
    margins = np.maximum(0, scores - scores[examples, classes][:, None] + 1)
    margins[examples, classes] = 0
    dx = (margins > 0).astype(scores.dtype)
    dx[examples, classes] -= dx.sum(axis=1)
    return margins.sum() / len(classes), dx / len(classes)


def softmax_loss(x, y):
    """The mean over examples of -log softmax(scores) at the right class, and its gradient: ``(loss, dx)``.

    `x` (N, C) are scores, `y` (N,) the right classes.
    """
    scores, classes, examples = _scores(x, y)
    log_probabilities = np.asarray(F.log_softmax(scores, dim=1))
    dx = np.exp(log_probabilities)
    dx[examples, classes] -= 1
    return -log_probabilities[examples, classes].sum() / len(classes), dx / len(classes)


def _scores(x, y):
    """Scores (N, C) and right classes (N,), checked, and the numbers of the examples."""
    scores, classes = as_array(x, "x"), as_array(y, "y")
    if scores.ndim != 2 or not scores.size or scores.dtype.kind != "f":
        raise ArgumentError(f"x: expected scores (N, C) of floating point, got {scores.shape} {scores.dtype}")
    if classes.dtype.kind not in "iu":
        raise ArgumentTypeError(f"y: expected integer classes, got elements of type {classes.dtype}")
    if classes.shape != scores.shape[:1]:
        raise ArgumentError(f"y: expected {scores.shape[:1]}, a class for each example, got shape {classes.shape}")
    if classes.min() < 0 or classes.max() >= scores.shape[1]:
        raise ArgumentIndexError(
            f"y: expected classes from 0 to {scores.shape[1] - 1}, got {classes.min()} to {classes.max()}"
        )
    return scores, classes, np.arange(len(classes))


affine_backward = missing_backward("affine_backward")
relu_backward = missing_backward("relu_backward")
conv_backward_naive = missing_backward("conv_backward_naive")
max_pool_backward_naive = missing_backward("max_pool_backward_naive")
batchnorm_backward = missing_backward("batchnorm_backward")
batchnorm_backward_alt = missing_backward("batchnorm_backward_alt")
layernorm_backward = missing_backward("layernorm_backward")
dropout_backward = missing_backward("dropout_backward")
spatial_batchnorm_backward = missing_backward("spatial_batchnorm_backward")
spatial_groupnorm_backward = missing_backward("spatial_groupnorm_backward")
