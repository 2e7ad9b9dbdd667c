"""The element types that results are computed in, and the rounding at the end."""

from functools import wraps

import numpy as np


def accumulator(dtype, accumulate=None) -> np.dtype:
    """The type in which values of `dtype` are summed: integers in their own, floats in float32 or wider."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        return dtype
    return np.promote_types(dtype, np.float32) if accumulate is None else np.dtype(accumulate)


def silent(function):
    """Let NaN and infinity arise without NumPy's warnings."""

    @wraps(function)
    def inner(*args, **keywords):
        with np.errstate(all="ignore"):
            return function(*args, **keywords)

    return inner


def rounded_once(function):
    """Hand `x` over in its accumulator type and round the result to the type that `x` came in."""

    @wraps(function)
    @silent
    def inner(x, *args, **keywords):
        return function(x.astype(accumulator(x.dtype)), *args, **keywords).astype(x.dtype)

    return inner
