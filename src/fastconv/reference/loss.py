"""Losses, value by value, and their reduction to one number."""

import numpy as np

from fastconv.reference.precision import silent

LOWEST_LOG = -100.0  # what binary_cross_entropy takes for log(0), as torch does


@silent
def squared_error(x, target):
    """(x - target)²."""
    return np.square(x - target)


@silent
def absolute_error(x, target):
    """abs(x - target)."""
    return np.abs(x - target)


@silent
def smooth_l1(x, target, beta=1.0):
    """(x - target)² / (2 beta) where they are closer than `beta`, else abs(x - target) - beta / 2.

    Source: Girshick, arXiv:1504.08083.
    """
    distance = np.abs(x - target)
    if beta == 0:
        return distance
    return np.where(distance < beta, 0.5 * np.square(distance) / beta, distance - 0.5 * beta)


@silent
def huber(x, target, delta=1.0):
    """(x - target)² / 2 where they are closer than `delta`, else delta * (abs(x - target) - delta / 2).

    Source: Huber, Annals of Mathematical Statistics 35(1), 1964.
    """
    distance = np.abs(x - target)
    return np.where(distance <= delta, 0.5 * np.square(distance), delta * (distance - 0.5 * delta))


@silent
def binary_cross_entropy(x, target):
    """-(target * log(x) + (1 - target) * log(1 - x)) for probabilities `x`; a logarithm counts as -100 at least."""
    return -(target * np.maximum(np.log(x), LOWEST_LOG) + (1 - target) * np.maximum(np.log1p(-x), LOWEST_LOG))


@silent
def binary_cross_entropy_with_logits(x, target, pos_weight=None):
    """`binary_cross_entropy` of sigmoid(x), without overflow; positives count `pos_weight` times."""
    log_one_plus = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)
    if pos_weight is not None:
        log_one_plus = (1 + (pos_weight - 1) * target) * log_one_plus
    return (1 - target) * x + log_one_plus


@silent
def kl_div(x, target, log_target=False):
    """target * (log(target) - x) for log-probabilities `x`; 0 log(0) is 0.

    Source: Kullback and Leibler, Annals of Mathematical Statistics 22(1), 1951.
    """
    if log_target:
        return np.exp(target) * (target - x)
    return np.where(target == 0, target, target * np.log(target)) - target * x


@silent
def nll(x, target, weight=None, ignore_index=-100):
    """Minus the log-probability `x` (N, C, ...) of each class `target` (N, ...), times its weight; and the weights.

    Both are (N, ...), and 0 where the target is `ignore_index`.
    """
    counted = target != ignore_index
    classes = np.where(counted, target, 0)
    weights = np.ones(target.shape, x.dtype) if weight is None else weight[classes]
    weights = np.where(counted, weights, x.dtype.type(0))
    chosen = np.take_along_axis(x, classes[:, None], 1)[:, 0]
    return np.where(counted, -chosen * weights, x.dtype.type(0)), weights


@silent
def cross_entropy(x, target, weight=None, label_smoothing=0.0):
    """Minus the sum over the classes (axis 1) of the probabilities `target` times the log-probabilities `x`.

    Smoothing mixes the target with the uniform distribution.  Source: Szegedy et al., arXiv:1512.00567.
    """
    target = target * (1 - label_smoothing) + label_smoothing / max(x.shape[1], 1)
    products = x * target
    return -(products if weight is None else products * per_class(weight, x)).sum(axis=1)


def per_class(weight, x):
    """`weight` (C,) shaped to multiply `x` (N, C, ...)."""
    return weight.reshape(-1, *[1] * (x.ndim - 2))


@silent
def reduced(losses, reduction, divisor=None):
    """The losses themselves (``none``), their ``sum``, or their sum over `divisor` (``mean``; NaN over nothing)."""
    if reduction == "none":
        return losses
    total = losses.sum()
    return (
        total if reduction == "sum" else total / np.asarray(losses.size if divisor is None else divisor, losses.dtype)
    )
