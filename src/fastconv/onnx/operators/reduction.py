"""Sums, extremes and norms over axes, and searches along one."""

import numpy as np

from fastconv.onnx.operators.registry import operator
from fastconv.reference.precision import rounded_once


def _axes(axes, noop_with_empty_axes):
    """NumPy's `axis` for ONNX's `axes`: without any, all axes are meant, or none."""
    if axes is None or len(axes) == 0:
        return () if noop_with_empty_axes else None
    return tuple(int(axis) for axis in axes)


def _sum(x, axis, keepdims):
    return x.sum(axis=axis, keepdims=keepdims, dtype=x.dtype)


def _mean(x, axis, keepdims):
    count = x.size // max(np.sum(x, axis=axis).size, 1)
    total = _sum(x, axis, keepdims)
    return total // count if x.dtype.kind in "iu" else total / count


def _limits(dtype):
    """The results of a maximum and of a minimum over nothing."""
    if dtype.kind == "b":
        return False, True
    return (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def _max(x, axis, keepdims):
    return x.max(axis=axis, keepdims=keepdims, initial=_limits(x.dtype)[0])


def _min(x, axis, keepdims):
    return x.min(axis=axis, keepdims=keepdims, initial=_limits(x.dtype)[1])


def _product(x, axis, keepdims):
    return x.prod(axis=axis, keepdims=keepdims, dtype=x.dtype)


def _log_sum_exp(x, axis, keepdims):
    largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0)
    total = np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift
    return total if keepdims else total.reshape(np.sum(x, axis=axis).shape)


_REDUCTIONS = {
    "ReduceL1": lambda x, axis, keepdims: _sum(np.abs(x), axis, keepdims),
    "ReduceL2": lambda x, axis, keepdims: np.sqrt(_sum(x * x, axis, keepdims)),
    "ReduceLogSum": lambda x, axis, keepdims: np.log(_sum(x, axis, keepdims)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceMin": _min,
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axis, keepdims: _sum(x * x, axis, keepdims),
}


def _reduction(function):
    function = rounded_once(function)

    def inner(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        return function(x, _axes(axes, noop_with_empty_axes), bool(keepdims))

    return inner


for _name, _function in _REDUCTIONS.items():
    operator(_reduction(_function), name=_name)


def _search(find):
    def inner(x, *, axis=0, keepdims=1, select_last_index=0):
        found = x.shape[axis] - 1 - find(np.flip(x, axis), axis) if select_last_index else find(x, axis)
        return np.expand_dims(found, axis) if keepdims else found

    return inner


operator(_search(np.argmax), name="ArgMax")
operator(_search(np.argmin), name="ArgMin")


def _cumulative(function, start):
    def inner(x, axis, *, exclusive=0, reverse=0):
        axis = axis.item()
        x = np.flip(x, axis) if reverse else x
        if exclusive:
            first = np.full_like(x.take([0], axis), start)
            x = np.concatenate((first, x.take(range(x.shape[axis] - 1), axis)), axis)
        y = function(x, axis=axis, dtype=x.dtype)
        return np.flip(y, axis) if reverse else y

    return inner


operator(_cumulative(np.cumsum, 0), name="CumSum")
operator(_cumulative(np.cumprod, 1), name="CumProd")


@operator
def NonZero(x):
    return np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64)


@operator
def TopK(x, k, *, axis=-1, largest=1, sorted=1):
    """Of equal values the first come first; NaN counts as the largest."""
    count = int(np.asarray(k).item())
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"k: expected at most the {x.shape[axis]} values of axis {axis}, got {count}")
    order = np.argsort(np.flip(x, axis) if largest else x, axis=axis, kind="stable")
    if largest:
        order = x.shape[axis] - 1 - np.flip(order, axis)
    indices = order.take(np.arange(count), axis)
    return np.take_along_axis(x, indices, axis), indices


@operator
def Unique(x, *, axis=None, sorted=1):
    values, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first)
        rank = np.argsort(order)
        values = values[order] if axis is None else values.take(order, axis)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    return values, first, inverse, counts
