"""Constants, shapes, types and what passes its input on."""

import math

import numpy as np

from fastconv.onnx.operators.registry import operator
from fastconv.onnx.tensors import dtype_of


@operator
def Constant(
    *,
    value=None,
    value_float=None,
    value_floats=None,
    value_int=None,
    value_ints=None,
    value_string=None,
    value_strings=None,
):
    if value is not None:
        return value
    for number, dtype in ((value_float, np.float32), (value_int, np.int64), (value_string, object)):
        if number is not None:
            return np.array(number, dtype)
    for numbers, dtype in ((value_floats, np.float32), (value_ints, np.int64), (value_strings, object)):
        if numbers is not None:
            return np.array(numbers, dtype)
    raise ValueError("no value is given")


@operator
def ConstantOfShape(shape, *, value=None):
    """A view of one value, of the given shape."""
    return np.broadcast_to(np.float32(0) if value is None else value.reshape(()), tuple(int(n) for n in shape))


@operator
def Identity(x):
    return x


@operator
def Shape(x, *, start=0, end=None):
    return np.array(x.shape[start:end], np.int64)


@operator
def Size(x):
    return np.array(x.size, np.int64)


@operator(ignored=("stash_type",))
def Range(start, limit, delta):
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return (start.reshape(()) + np.arange(count) * delta.reshape(())).astype(start.dtype)


def _cast(x, dtype):
    if dtype.kind == "O":
        return np.array([str(v) for v in x.reshape(-1)], object).reshape(x.shape)
    return x.astype(dtype)


@operator(ignored=("round_mode", "saturate"))
def Cast(x, *, to):
    return _cast(x, dtype_of(to))


@operator(ignored=("round_mode", "saturate"))
def CastLike(x, like):
    return _cast(x, like.dtype)


@operator(ignored=("is_test",))
def Dropout(x, ratio=0.5, training_mode=None, *, seed=None, opset):
    """(x, mask); values are dropped only in `training_mode`, drawn from NumPy's old generator as ONNX's tests do."""
    ratio = 0.5 if ratio is None else np.asarray(ratio).item()
    if training_mode is None or not training_mode.item() or ratio == 0:
        return x, np.ones(x.shape, bool if opset >= 10 else x.dtype)
    mask = np.random.RandomState(seed).uniform(0, 1, x.shape) >= ratio
    return (mask * x / (1 - ratio)).astype(x.dtype), mask


@operator
def EyeLike(x, *, dtype=None, k=0):
    return np.eye(*x.shape, k=k, dtype=x.dtype if dtype is None else dtype_of(dtype))
