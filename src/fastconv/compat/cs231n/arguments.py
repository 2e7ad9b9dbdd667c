"""Checks that the course's functions share, and the backward functions that are not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from fastconv.arrays import as_array, describe
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer

__all__ = [
    "affine_arguments",
    "check_images",
    "common_type",
    "conv_arguments",
    "eps_of",
    "missing_backward",
    "mode_of",
    "per_feature",
    "sizes",
]


def sizes(param, name: str, **least: int) -> list[int]:
    """The integers of a parameter dictionary under the keys of `least`, none smaller than it says."""
    if not isinstance(param, Mapping) or not least.keys() <= param.keys():
        raise ArgumentError(f"{name}: expected a dictionary with {', '.join(map(repr, least))}, got {param!r}")
    return [integer(param[key], f"{name}[{key!r}]", minimum) for key, minimum in least.items()]


def mode_of(param, name: str) -> str:
    """What a parameter dictionary says of training and testing."""
    mode = param.get("mode") if isinstance(param, Mapping) else None
    if mode not in ("train", "test"):
        raise ArgumentError(f"{name}: expected a dictionary with 'mode' 'train' or 'test', got {param!r}")
    return mode


def eps_of(param, name: str) -> float:
    """The entry 'eps' of a parameter dictionary, or the course's default."""
    if not isinstance(param, Mapping):
        raise ArgumentError(f"{name}: expected a dictionary, which may have 'eps', got {param!r}")
    return param.get("eps", 1e-5)


def common_type(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in the type that NumPy gives their products."""
    dtype = np.result_type(*arrays)
    return [array.astype(dtype, copy=False) for array in arrays]


def check_images(x: np.ndarray) -> None:
    if x.ndim != 4:
        raise ArgumentError(f"x: expected images (N, C, H, W), got shape {x.shape}")


def conv_arguments(x, w, b, conv_param) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """(x, w, b, stride, pad) of a convolution, the arrays in one type."""
    x, w, b = as_array(x, "x"), as_array(w, "w"), as_array(b, "b")
    stride, pad = sizes(conv_param, "conv_param", stride=1, pad=0)
    check_images(x)
    if w.ndim != 4 or w.shape[1] != x.shape[1]:
        raise ArgumentError(
            f"w: expected (F, {x.shape[1]}, HH, WW) for images of {x.shape[1]} channels {x.shape}, got shape {w.shape}"
        )
    if b.size != w.shape[0]:
        raise ArgumentError(f"b: expected ({w.shape[0]},), one value per filter, got shape {b.shape}")
    x, w, b = common_type(x, w, b)
    return x, w, b.reshape(-1), stride, pad


def affine_arguments(x, w, b) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The examples as rows, the weights and the biases of a full connection, in one type."""
    x, w, b = as_array(x, "x"), as_array(w, "w"), as_array(b, "b")
    if not x.ndim or w.ndim != 2 or prod(x.shape[1:]) != w.shape[0]:
        raise ArgumentError(
            f"w: expected ({prod(x.shape[1:])}, M) for examples of shape {x.shape[1:]}, got shape {w.shape}"
        )
    if b.size != w.shape[1]:
        raise ArgumentError(f"b: expected ({w.shape[1]},), got shape {b.shape}")
    x, w, b = common_type(x, w, b)
    return x.reshape(x.shape[0], w.shape[0]), w, b.reshape(-1)


def per_feature(value, name: str, x: np.ndarray, count: int) -> np.ndarray:
    """A parameter with one value per feature, in any shape that holds them, as (count,)."""
    array = as_array(value, name)
    if array.size != count:
        raise ArgumentError(f"{name}: expected {count} values for x of {describe(x)}, got shape {array.shape}")
    if x.dtype.kind != "f":
        raise ArgumentTypeError(f"x: expected floating point, got elements of type {x.dtype}; convert with astype()")
    return np.ascontiguousarray(array.reshape(-1))


def missing_backward(name: str) -> Callable:
    """The function `name`, which says that it is not there."""

    def backward(dout, cache):
        raise NotImplementedError(
            f"{name}: fastconv computes forward passes only, gradients are not there yet; the cache holds what the "
            f"course's {name} takes, so a function of your own can stand in"
        )

    backward.__name__ = backward.__qualname__ = name
    backward.__doc__ = "Not there yet: raises NotImplementedError."
    return backward
