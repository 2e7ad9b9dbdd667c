"""A convolution's spec: all that a decision may depend on, checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import Window, element_count, integer
from fastconv.ops.weighted import check_types

__all__ = ["ConvSpec", "conv_spec", "empty_result", "result_strides"]


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of `x` (N, C, *spatial) with `w` (O, C / groups, *kernel): all that a decision depends on."""

    batch: int
    channels: int
    filters: int
    groups: int
    window: Window
    dtype: str
    has_bias: bool
    x_strides: tuple[int, ...]  # bytes, as NumPy gives them
    channels_last: bool = False  # memory order of the result

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.window.input)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.filters, *self.window.output)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def group_channels(self) -> int:
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        return self.filters // self.groups

    @property
    def taps(self) -> int:
        """Products summed for one output element."""
        return self.group_channels * prod(self.window.kernel)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct sum, padding included."""
        return 2 * prod(self.y_shape) * self.taps

    @property
    def weight_bytes(self) -> int:
        return self.filters * self.taps * self.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of input, weights and output, each counted once."""
        return (prod(self.x_shape) + prod(self.y_shape)) * self.itemsize + self.weight_bytes

    def empty_output(self) -> np.ndarray:
        return empty_result(self.y_shape, self.dtype, self.channels_last)


def empty_result(shape: tuple[int, ...], dtype: str, channels_last: bool) -> np.ndarray:
    """An array NCHW by shape, in memory NCHW or NHWC."""
    if not channels_last:
        return np.empty(shape, dtype)
    return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)


def result_strides(shape: tuple[int, ...], itemsize: int, channels_last: bool) -> tuple[int, ...]:
    """Strides in bytes of such an array."""
    order = (0, *range(2, len(shape)), 1) if channels_last else range(len(shape))
    strides, step = [0] * len(shape), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def conv_spec(
    x_shape, x_strides, x_type, w_shape, w_type, b, stride, padding, dilation, groups, channels_last=False
) -> ConvSpec:
    """Check shapes and types, and state them; `b` is None or (shape, type)."""
    rank = len(w_shape) - 2
    groups = integer(groups, "groups", 1)
    if len(x_shape) != len(w_shape):
        raise ArgumentError(
            f"input: expected {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial), got shape {x_shape}"
        )
    check_types(x_type, w_type, b)
    if x_type.kind == "b":
        raise ArgumentTypeError("input: convolution of bool arrays is not defined; convert with astype()")
    filters, channels = w_shape[0], w_shape[1] * groups
    if filters % groups:
        raise ArgumentError(f"groups: {groups} groups do not divide the {filters} filters of the weight {w_shape}")
    if x_shape[1] != channels:
        looks_nhwc = len(x_shape) == 4 and x_shape[-1] == channels
        raise ArgumentError(
            f"input: expected {channels} channels for the weight {w_shape} with groups={groups}, "
            f"got {x_shape[1]} in shape {x_shape}"
            + ("; the array looks like NHWC: pass numpy.moveaxis(x, -1, 1)" if looks_nhwc else "")
        )
    if b is not None and b[0] != (filters,):
        raise ArgumentError(f"bias: expected shape ({filters},), one value per filter, got {b[0]}")
    if filters < 1 or min(w_shape[2:]) < 1:
        raise ArgumentError(f"weight: expected at least one filter and one tap, got shape {w_shape}")
    window = Window.of(x_shape[2:], w_shape[2:], stride, padding, dilation)
    element_count((x_shape[0], filters, *window.output), "output")
    return ConvSpec(x_shape[0], channels, filters, groups, window, x_type.name, b is not None, x_strides, channels_last)
