"""What a transposed convolution is: its sizes and arguments, checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.geometry import element_count
from fastconv.ops.conv_spec import result_strides
from fastconv.ops.weighted import check_types

__all__ = ["ConvTransposeSpec", "by_filter", "conv_transpose_spec"]


@dataclass(frozen=True)
class ConvTransposeSpec:
    """A transposed convolution of `x` (N, C, *input) with `w` (C, O / groups, *kernel)."""

    batch: int
    channels: int
    filters: int
    groups: int
    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    dtype: str
    x_strides: tuple[int, ...]  # bytes
    channels_last: bool = False

    @property
    def output(self) -> tuple[int, ...]:
        return tuple(
            (size - 1) * stride - before - after + dilation * (kernel - 1) + 1 + extra
            for size, stride, (before, after), dilation, kernel, extra in zip(
                self.input, self.stride, self.pads, self.dilation, self.kernel, self.output_padding, strict=True
            )
        )

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.filters, *self.output)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def element_strides(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of input and output, where those of the input are whole elements."""
        y_strides = result_strides(self.y_shape, self.itemsize, self.channels_last)
        x, y = (tuple(stride // self.itemsize for stride in strides) for strides in (self.x_strides, y_strides))
        return x, y

    @property
    def weight_count(self) -> int:
        return self.channels * (self.filters // self.groups) * prod(self.kernel)

    @property
    def flops(self) -> int:
        """Multiplications and additions: every input value meets every tap of every filter of its group."""
        return 2 * self.batch * prod(self.input) * self.weight_count

    @property
    def bytes(self) -> int:
        """Bytes of input, weights and output, each counted once."""
        arrays = self.batch * self.channels * prod(self.input) + prod(self.y_shape) + self.weight_count
        return arrays * self.itemsize

    @property
    def taps(self) -> int:
        """The most products summed for one output element."""
        steps = (s // gcd(s, d) for s, d in zip(self.stride, self.dilation, strict=True))
        return self.channels // self.groups * prod(-(-k // step) for k, step in zip(self.kernel, steps, strict=True))


def by_filter(spec: ConvTransposeSpec, w: np.ndarray) -> np.ndarray:
    """(groups, filters, channels, *kernel)"""
    shape = (spec.groups, spec.channels // spec.groups, spec.filters // spec.groups, *spec.kernel)
    return w.reshape(shape).swapaxes(1, 2)


def conv_transpose_spec(
    x_shape, x_strides, x_type, w_shape, w_type, b, stride, pads, extra, groups, dilation, channels_last=False
) -> ConvTransposeSpec:
    """Check shapes and types, and state them; `b` is None or (shape, type), the others are per axis already."""
    rank = len(w_shape) - 2
    if len(x_shape) != rank + 2:
        raise ArgumentError(
            f"input: expected {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial), got shape {x_shape}"
        )
    check_types(x_type, w_type, b)
    if x_shape[1] != w_shape[0]:
        raise ArgumentError(
            f"input: expected {w_shape[0]} channels for the weight {w_shape}, got {x_shape[1]} in shape {x_shape}"
            "; a transposed convolution's weight is (input channels, output channels / groups, *kernel)"
        )
    if x_shape[1] % groups:
        raise ArgumentError(f"groups: {groups} groups do not divide the {x_shape[1]} channels of the input {x_shape}")
    if min(w_shape[1:]) < 1 or min(x_shape[1:]) < 1:
        raise ArgumentError(f"input and weight: expected sizes of at least 1, got {x_shape} and {w_shape}")
    filters = w_shape[1] * groups
    if b is not None and b[0] != (filters,):
        raise ArgumentError(f"bias: expected shape ({filters},), one value per filter, got {b[0]}")
    for more, step, spread in zip(extra, stride, dilation, strict=True):
        if more >= max(step, spread):
            raise ArgumentError(
                f"output_padding: expected less than the larger of stride {stride} and dilation {dilation} on each axis, "
                f"got {extra}"
            )
    spec = ConvTransposeSpec(
        x_shape[0], x_shape[1], filters, groups, x_shape[2:], w_shape[2:], stride, pads, extra, dilation, x_type.name,
        x_strides, channels_last,
    )  # fmt: skip
    if min(spec.output) < 1:
        raise ArgumentError(
            f"padding: it takes more than there is: input {x_shape[2:]}, kernel {w_shape[2:]}, stride {stride} and padding "
            f"{pads} give an output of {spec.output}"
        )
    element_count(spec.y_shape, "output")
    return spec
