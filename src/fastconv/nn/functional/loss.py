"""Losses.  float16 is computed in float32; the result is a 0-d array unless ``reduction="none"``.

`reduction` is ``"mean"``, ``"sum"`` or ``"none"``; `size_average` and `reduce` are torch's older way to say the same.
"""

from __future__ import annotations

import warnings

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.geometry import MAX_ELEMENTS, integer
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.functional.arguments import floats, number
from fastconv.ops.softmax import softmax
from fastconv.reference import loss

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "smooth_l1_loss",
]

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """Minus the log-softmax over the classes of logits (C,), (N, C) or (N, C, ...) at the target.

    The target is integer classes, (), (N,) or (N, ...), of which `ignore_index` does not count, or probabilities of the
    input's shape.  The mean of classes divides by the sum of their `weight` (C,), that of probabilities by N.
    """
    reduction = _reduction(reduction, size_average, reduce)
    x, goal = floats(input), as_array(target, "target")
    smoothing = number(label_smoothing, "label_smoothing")
    if not 0 <= smoothing <= 1:
        raise ArgumentError(f"label_smoothing: expected 0 to 1, got {label_smoothing}")
    if x.ndim == 0:
        raise ArgumentError("input: expected (C,), (N, C) or (N, C, ...), got a single number")
    unbatched = x.ndim == 1
    if unbatched:
        x, goal = x[None], goal[None]
    log_p = softmax(_wide(x), 1, logarithm=True)
    if goal.dtype.kind == "f":
        losses, divisor = _of_probabilities(log_p, goal, weight, ignore_index, smoothing)
    else:
        losses, divisor = _of_classes(log_p, goal, weight, ignore_index, smoothing)
    return _finished(losses[0] if unbatched and reduction == "none" else losses, reduction, x.dtype, divisor)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> np.ndarray:
    """Minus the log-probabilities (C,), (N, C) or (N, C, ...) of the classes `target`, (), (N,) or (N, ...).

    The mean divides by the sum of the classes' `weight` (C,); `ignore_index` does not count.
    """
    reduction = _reduction(reduction, size_average, reduce)
    x, goal = floats(input), as_array(target, "target")
    if x.ndim == 0:
        raise ArgumentError("input: expected (C,), (N, C) or (N, C, ...), got a single number")
    unbatched = x.ndim == 1
    if unbatched:
        x, goal = x[None], goal[None]
    losses, divisor = _of_classes(_wide(x), goal, weight, ignore_index, 0.0)
    return _finished(losses[0] if unbatched and reduction == "none" else losses, reduction, x.dtype, divisor)


def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: ArrayLike | None = None,
) -> np.ndarray:
    """(input - target)²; with `weight`, of the input's shape, the mean divides by the sum of the weights."""
    reduction = _reduction(reduction, size_average, reduce)
    x, goal, dtype = _pair(input, target)
    return _weighted(loss.squared_error(x, goal), weight, x, reduction, dtype)


def l1_loss(
    input: ArrayLike,
    target: ArrayLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: ArrayLike | None = None,
) -> np.ndarray:
    """abs(input - target); with `weight`, of the input's shape, the mean divides by the sum of the weights."""
    reduction = _reduction(reduction, size_average, reduce)
    x, goal, dtype = _pair(input, target)
    return _weighted(loss.absolute_error(x, goal), weight, x, reduction, dtype)


def smooth_l1_loss(
    input: ArrayLike,
    target: ArrayLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> np.ndarray:
    """(input - target)² / (2 beta) where they are closer than `beta`, else abs(input - target) - beta / 2."""
    reduction = _reduction(reduction, size_average, reduce)
    x, goal, dtype = _pair(input, target)
    width = number(beta, "beta")
    if not width >= 0:
        raise ArgumentError(f"beta: expected 0 or more, got {beta}")
    return _finished(loss.smooth_l1(x, goal, width), reduction, dtype)


def huber_loss(
    input: ArrayLike, target: ArrayLike, reduction: str = "mean", delta: float = 1.0, weight: ArrayLike | None = None
) -> np.ndarray:
    """(input - target)² / 2 where they are closer than `delta`, else delta * (abs(input - target) - delta / 2).

    `weight`, of the input's shape, multiplies; the mean divides by the number of values, not by the sum of the weights.
    """
    reduction = _reduction(reduction)
    x, goal, dtype = _pair(input, target)
    width = number(delta, "delta")
    if not width > 0:
        raise ArgumentError(f"delta: expected more than 0, got {delta}")
    losses = loss.huber(x, goal, width)
    return _finished(losses if weight is None else losses * _like(x, weight), reduction, dtype)


def binary_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> np.ndarray:
    """-(t log(x) + (1 - t) log(1 - x)) for probabilities x and t; a logarithm counts as -100 at least.

    `weight` broadcasts to the input and multiplies.
    """
    reduction = _reduction(reduction, size_average, reduce)
    x, goal, dtype = _same_shape(input, target)
    for array, name in ((x, "input"), (goal, "target")):
        if not ((array >= 0) & (array <= 1)).all():
            raise ArgumentError(
                f"{name}: expected probabilities from 0 to 1; binary_cross_entropy_with_logits takes any number"
            )
    return _finished(_scaled(loss.binary_cross_entropy(x, goal), weight), reduction, dtype)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> np.ndarray:
    """:func:`binary_cross_entropy` of sigmoid(input), without overflow; positives count `pos_weight` times."""
    reduction = _reduction(reduction, size_average, reduce)
    x, goal, dtype = _same_shape(input, target)
    positive = None if pos_weight is None else _broadcast(pos_weight, "pos_weight", x)
    return _finished(_scaled(loss.binary_cross_entropy_with_logits(x, goal, positive), weight), reduction, dtype)


def kl_div(
    input: ArrayLike,
    target: ArrayLike,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> np.ndarray:
    """target * (log(target) - input) for log-probabilities `input`; with `log_target` the target is logarithms as well.

    ``reduction="batchmean"`` divides the sum by the size of axis 0, as the divergence is defined.
    """
    batchmean = reduction == "batchmean"
    reduction = "sum" if batchmean else _reduction(reduction, size_average, reduce)
    x, goal, dtype = _pair(input, target, warn=False)
    losses = loss.kl_div(x, goal, log_target)
    if batchmean:
        return _finished(losses, "mean", dtype, losses.shape[0] if losses.ndim else 1)
    return _finished(losses, reduction, dtype)


def one_hot(tensor: ArrayLike, num_classes: int = -1) -> np.ndarray:
    """int64 of one more axis of size `num_classes` (-1: the largest class plus 1), 1 at the class and 0 elsewhere."""
    classes = as_array(tensor, "tensor")
    if classes.dtype.kind not in "iu":
        raise ArgumentTypeError(f"tensor: expected integer classes, got elements of type {classes.dtype}")
    if num_classes == -1:
        if classes.size == 0:
            raise ArgumentError("num_classes: cannot be inferred from an empty array")
        count = int(classes.max()) + 1
    else:
        count = integer(num_classes, "num_classes", 1)
    _check_classes(classes, count, "tensor", np.ones(classes.shape, bool))
    return (classes[..., None] == np.arange(count)).astype(np.int64)


def _of_classes(log_p, target, weight, ignore_index, smoothing):
    """Losses of the shape of `target`, and what their mean divides by."""
    if target.dtype.kind not in "iu":
        raise ArgumentTypeError(f"target: expected integer classes, got elements of type {target.dtype}")
    if target.shape != (log_p.shape[0], *log_p.shape[2:]):
        raise ArgumentError(
            f"target: expected shape {(log_p.shape[0], *log_p.shape[2:])} for an input of shape {log_p.shape} with the "
            f"classes along axis 1, got {target.shape}"
        )
    weight = _class_weight(weight, log_p)
    ignore_index = integer(ignore_index, "ignore_index", -MAX_ELEMENTS)
    _check_classes(target, log_p.shape[1], "target", target != ignore_index)
    losses, weights = loss.nll(log_p, target, weight, ignore_index)
    if smoothing:
        even = loss.cross_entropy(log_p, np.full_like(log_p, 1 / log_p.shape[1]), weight)
        losses = (1 - smoothing) * losses + smoothing * np.where(target == ignore_index, 0, even)
    return losses.astype(log_p.dtype, copy=False), weights.sum()


def _of_probabilities(log_p, target, weight, ignore_index, smoothing):
    if target.shape != log_p.shape:
        raise ArgumentError(
            f"target: expected probabilities of the input's shape {log_p.shape}, got {target.shape}; "
            "classes have to be integers"
        )
    if integer(ignore_index, "ignore_index", -MAX_ELEMENTS) >= 0:
        raise ArgumentError(f"ignore_index: has no meaning for a target of probabilities, got {ignore_index}")
    losses = loss.cross_entropy(log_p, _wide(target), _class_weight(weight, log_p), smoothing)
    return losses, losses.size


def _class_weight(weight, log_p):
    if weight is None:
        return None
    array = floats(weight, "weight")
    if array.shape != (log_p.shape[1],):
        raise ArgumentError(f"weight: expected shape ({log_p.shape[1]},), one value per class, got {array.shape}")
    return array.astype(log_p.dtype, copy=False)


def _check_classes(classes, count, name, counted):
    outside = counted & ((classes < 0) | (classes >= count))
    if outside.any():
        raise ArgumentIndexError(f"{name}: expected classes from 0 to {count - 1}, got {classes[outside][0]}")


def _reduction(reduction, size_average=None, reduce=None) -> str:
    if size_average is not None or reduce is not None:
        if reduce is not None and not reduce:
            return "none"
        return "mean" if size_average is None or size_average else "sum"
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction: expected one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return reduction


def _wide(x) -> np.ndarray:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _pair(input, target, warn=True):
    """Both arrays in the type to compute in, broadcast to one shape, and the type of the result."""
    x, goal = floats(input), floats(target, "target")
    if x.shape != goal.shape:
        try:
            np.broadcast_shapes(x.shape, goal.shape)
        except ValueError:
            raise ArgumentError(f"target: expected the input's shape {x.shape}, got {goal.shape}") from None
        if warn:
            warnings.warn(f"target: its shape {goal.shape} is not the input's {x.shape}; they broadcast", stacklevel=3)
    return *np.broadcast_arrays(_wide(x), _wide(goal)), np.promote_types(x.dtype, goal.dtype)


def _same_shape(input, target):
    x, goal = floats(input), floats(target, "target")
    if x.shape != goal.shape:
        raise ArgumentError(f"target: expected the input's shape {x.shape}, got {goal.shape}")
    return _wide(x), _wide(goal), np.promote_types(x.dtype, goal.dtype)


def _broadcast(weight, name, x):
    array = _wide(floats(weight, name))
    try:
        return np.broadcast_to(array, x.shape)
    except ValueError:
        raise ArgumentError(f"{name}: expected a shape that broadcasts to {x.shape}, got {array.shape}") from None


def _scaled(losses, weight):
    return losses if weight is None else losses * _broadcast(weight, "weight", losses)


def _like(x, weight):
    array = _wide(floats(weight, "weight"))
    if array.shape != x.shape:
        raise ArgumentError(f"weight: expected the input's shape {x.shape}, got {array.shape}")
    return array


def _weighted(losses, weight, x, reduction, dtype):
    if weight is None:
        return _finished(losses, reduction, dtype)
    weight = _like(x, weight)
    return _finished(losses * weight, reduction, dtype, weight.sum())


def _finished(losses, reduction, dtype, divisor=None) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(loss.reduced(losses, reduction, divisor)).astype(dtype, copy=False)
