"""What pooling is asked to do: specs of max and average pooling, sliding and adaptive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from fastconv.geometry import Window
from fastconv.ops.pool_loops import Axis

__all__ = ["AdaptiveWindow", "AveragePoolSpec", "MaxPoolSpec", "PoolSpec", "compact_strides"]


@dataclass(frozen=True, slots=True)
class AdaptiveWindow:
    """Windows that divide every axis evenly: output i takes floor(i·input/output) to ceil((i+1)·input/output)."""

    input: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        """The largest window: a fraction of the input, and up to a position more on either side."""
        pairs = zip(self.input, self.output, strict=True)
        return tuple(min(-(-size // max(output, 1)) + 1, size) for size, output in pairs)


@dataclass(frozen=True)
class PoolSpec:
    """Pooling of `x` (N, C, *spatial): all that a decision depends on."""

    batch: int
    channels: int
    window: Window | AdaptiveWindow
    dtype: str
    x_strides: tuple[int, ...]  # bytes, as NumPy gives them

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.window.output)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def is_empty(self) -> bool:
        return 0 in self.y_shape

    @property
    def taps(self) -> int:
        """Values of the largest window."""
        return prod(self.window.kernel)

    @property
    def flops(self) -> int:
        """Comparisons or additions."""
        return prod(self.y_shape) * self.taps

    @property
    def bytes(self) -> int:
        """Read and written by one call."""
        planes = prod(self.window.input) + prod(self.window.output)
        return self.batch * self.channels * planes * self.itemsize

    @property
    def is_copy(self) -> bool:
        """Whether every window is one value of the input, and so is what becomes of it."""
        return self.taps == 1 and self.window.output == self.window.input

    @property
    def channels_last(self) -> bool:
        """Whether the channels of a pixel are neighbours in memory; the result then lies like that, too."""
        return self.channels > 1 and self.x_strides[1] == self.itemsize != self.x_strides[-1]

    @property
    def memory_order(self) -> tuple[int, ...]:
        """The axes from the outermost to the innermost in memory, of the result and of what the kernels read."""
        spatial = range(2, len(self.y_shape))
        return (0, *spatial, 1) if self.channels_last else (0, 1, *spatial)

    @property
    def is_compact(self) -> bool:
        """Whether the innermost axis, or one value of it, is contiguous, and strides are whole elements."""
        innermost = self.memory_order[-1]
        size = (self.batch, self.channels, *self.window.input)[innermost]
        aligned = all(stride % self.itemsize == 0 for stride in self.x_strides)
        return aligned and (size == 1 or self.x_strides[innermost] == self.itemsize)

    def compacted(self, dtype: str) -> PoolSpec:
        """The same pooling of a compact copy of the input."""
        x_shape = (self.batch, self.channels, *self.window.input)
        strides = compact_strides(x_shape, self.memory_order, np.dtype(dtype).itemsize)
        return replace(self, dtype=dtype, x_strides=strides)


@dataclass(frozen=True)
class MaxPoolSpec(PoolSpec):
    indices: bool = False  # int64 places in the flattened input plane, beside the values


@dataclass(frozen=True)
class AveragePoolSpec(PoolSpec):
    include_pad: bool = True  # windows divide by their taps inside the padded input, or inside the input
    divisor: int | None = None  # by this instead

    @property
    def is_copy(self) -> bool:
        return super().is_copy and self.divisor in (None, 1)

    def divisors(self, axes: list[Axis]) -> list[np.ndarray]:
        """A table for each axis; a window divides by the product of its three entries."""
        if self.divisor is not None:
            return [np.full(axis.output, self.divisor if i == 0 else 1) for i, axis in enumerate(axes)]
        if isinstance(self.window, AdaptiveWindow):
            return [axis.windows()[:, 1] for axis in axes]
        windows = [axis.padded_windows() if self.include_pad else axis.windows() for axis in axes]
        return [np.maximum(window[:, 1], 1) for window in windows]


def compact_strides(shape: tuple[int, ...], order: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [0] * len(shape), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)
