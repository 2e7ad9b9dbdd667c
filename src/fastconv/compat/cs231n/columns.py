"""Windows of images as the columns of a matrix, in the course's two orders, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastconv.geometry import Window

__all__ = ["IMAGES_FIRST", "IMAGES_LAST", "Deferred", "columns_of", "images_of"]

# The axes of (N, C, H, W) in the order in which a column matrix counts them: rows are (C, height, width) of the window,
# columns the positions with the image changing fastest, as in im2col_cython, or slowest, as in conv_forward_strides.
IMAGES_LAST = (1, 2, 3, 0)
IMAGES_FIRST = (1, 0, 2, 3)


def columns_of(x: np.ndarray, window: Window, order: tuple[int, ...]) -> np.ndarray:
    """(C * height * width, N * rows * columns): every window of the zero-padded `x` (N, C, H, W)."""
    vertical, horizontal = order.index(2), order.index(3)
    pads = [(0, 0)] * 4
    pads[vertical], pads[horizontal] = window.pads
    planes = np.pad(x.transpose(order), pads)
    steps = [slice(None)] * 4
    steps[vertical], steps[horizontal] = (slice(None, None, stride) for stride in window.stride)
    windows = sliding_window_view(planes, window.kernel, (vertical, horizontal))[tuple(steps)]
    return windows.transpose(0, 4, 5, 1, 2, 3).reshape(x.shape[1] * window.kernel[0] * window.kernel[1], -1)


def images_of(columns: np.ndarray, shape: tuple[int, ...], window: Window, order: tuple[int, ...]) -> np.ndarray:
    """The adjoint of :func:`columns_of`: the columns added up where they came from, (N, C, H, W) = `shape`."""
    vertical, horizontal = order.index(2), order.index(3)
    padded, positions = [shape[axis] for axis in order], [shape[axis] for axis in order]
    padded[vertical], padded[horizontal] = window.padded
    positions[vertical], positions[horizontal] = window.output
    taps = columns.reshape(shape[1], *window.kernel, *positions[1:])
    planes = np.zeros(padded, columns.dtype)
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            places = [slice(None)] * 4
            for axis, first, stride, count in zip(
                (vertical, horizontal), (row, column), window.stride, window.output, strict=True
            ):
                places[axis] = slice(first, first + stride * (count - 1) + 1, stride)
            planes[tuple(places)] += taps[:, row, column]
    inner = [slice(None)] * 4
    for axis, (before, _), size in zip((vertical, horizontal), window.pads, window.input, strict=True):
        inner[axis] = slice(before, before + size)
    return np.ascontiguousarray(planes[tuple(inner)].transpose(np.argsort(order)))


class Deferred:
    """An array of a cache that a forward pass does without: ``function(*arguments)``, made when it is first used.

    It does what an array does in a backward pass: NumPy's functions take it, and it has an array's attributes.
    """

    def __init__(self, function: Callable[..., np.ndarray], *arguments):
        self._function = function
        self._arguments = arguments

    @cached_property
    def _array(self) -> np.ndarray:
        return self._function(*self._arguments)

    def __array__(self, dtype=None, copy=None):
        array = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._array, name)

    def __getitem__(self, key):
        return self._array[key]

    def __len__(self) -> int:
        return len(self._array)
