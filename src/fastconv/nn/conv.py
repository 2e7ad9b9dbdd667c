"""Convolution and transposed convolution in one, two and three dimensions."""

from __future__ import annotations

import math

import numpy as np

from fastconv._kernels.recent import Recent
from fastconv.arrays import as_array, batched
from fastconv.errors import ArgumentError
from fastconv.geometry import Window, integer, per_axis
from fastconv.nn import functional as F
from fastconv.nn import init
from fastconv.nn.annotations import DTypeLike, Padding, Sizes
from fastconv.nn.factory import empty
from fastconv.nn.module import Module
from fastconv.nn.packing import Packing
from fastconv.ops.arguments import word
from fastconv.ops.conv import conv_plan
from fastconv.ops.conv_transpose import conv_transpose_plan

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """A bank of filters slid over the last `rank` axes.

    Input (N, in_channels, *size) or (in_channels, *size), output with out_channels and
    (size + pads − dilation (kernel_size − 1) − 1) // stride + 1 per axis.  ``weight`` is (out_channels,
    in_channels / groups, *kernel_size) and ``bias`` (out_channels,), both drawn from U(±1 / √fan in).

    `kernel_size`, `stride` and `dilation` are one integer or one per axis; so is `padding`, which may also be
    ``"same"``, ``"valid"``, or a pair (before, after) per axis.  `padding_mode` says what the padding holds: zeros,
    reflect, replicate or circular.  `algorithm` is that of :func:`fastconv.nn.functional.conv2d`.

    Raises :class:`ArgumentError` for channels that `groups` does not divide, sizes out of range, and unknown words.
    """

    rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        algorithm: str = "auto",
    ) -> None:
        super().__init__()
        self.in_channels = integer(in_channels, "in_channels", 0)
        self.out_channels = integer(out_channels, "out_channels", 1)
        self.groups = integer(groups, "groups", 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ArgumentError(f"{name}: expected a multiple of groups ({self.groups}), got {getattr(self, name)}")
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size")
        self.stride = per_axis(stride, self.rank, "stride")
        self.dilation = per_axis(dilation, self.rank, "dilation")
        self.padding = _normalised_padding(padding, self.kernel_size)
        self.output_padding = (0,) * self.rank
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(f"padding_mode: expected one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        self.padding_mode = padding_mode
        self.algorithm = word(algorithm, "algorithm")
        self._packing = Packing()
        self._recent = Recent()
        self._parameters["weight"] = empty(self._weight_shape(), device, dtype)
        self._parameters["bias"] = empty(self.out_channels, device, dtype) if bias else None
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def reset_parameters(self) -> None:
        """Draw the initial weight and bias again."""
        self.__dict__["_handed_out"] = True
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        init.kaiming_uniform_(weight, a=math.sqrt(5))
        if bias is not None:
            bound = 1 / math.sqrt(max(init.fans(weight.shape)[0], 1))
            init.uniform_(bias, -bound, bound)

    def forward(self, input):
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), 0
        parameters = self._parameters
        facts = (self.stride, padding, self.dilation, self.groups, self.algorithm)
        plan = self._recent.find(input, parameters["weight"], parameters["bias"], facts)
        if plan is not None:
            return plan(input, self._packing.get(self, plan))
        is_batched, x = batched(as_array(input, "input"), self.rank)
        plan = conv_plan(x, as_array(parameters["weight"], "weight"), parameters["bias"], *facts, packed=True)
        if x is input:
            self.__dict__["_recent"] = Recent(plan, (x, parameters["weight"], parameters["bias"]), facts)
        y = plan(x, self._packing.get(self, plan))
        return y if is_batched else y[0]

    def _padded(self, input):
        shape = np.shape(input)
        if len(shape) not in (self.rank + 1, self.rank + 2):
            raise ArgumentError(f"input: expected {self.rank + 1} or {self.rank + 2} axes, got shape {shape}")
        pads = Window.of(shape[-self.rank :], self.kernel_size, self.stride, self.padding, self.dilation).pads
        return F.pad(input, [amount for pair in reversed(pads) for amount in pair], mode=self.padding_mode)

    def extra_repr(self) -> str:
        fields = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        fields += [
            f"{name}={value}"
            for name, value, silent in (
                ("padding", self.padding, (0,) * self.rank),
                ("dilation", self.dilation, (1,) * self.rank),
                ("output_padding", self.output_padding, (0,) * self.rank),
                ("groups", self.groups, 1),
                ("bias", self._parameters["bias"] is not None, True),
                ("padding_mode", self.padding_mode, "zeros"),
                ("algorithm", self.algorithm, "auto"),
            )
            if value != silent
        ]
        return ", ".join(fields)


def _normalised_padding(padding, kernel_size: tuple[int, ...]):
    """`padding` checked: a word, one number per axis, or where the two sides of an axis differ one pair per axis."""
    pads = Window.of(kernel_size, kernel_size, padding=padding).pads
    if isinstance(padding, str):
        return padding
    return tuple(before for before, _ in pads) if all(before == after for before, after in pads) else pads


class Conv1d(_ConvNd):
    rank = 1


class Conv2d(_ConvNd):
    rank = 2


class Conv3d(_ConvNd):
    rank = 3


class _ConvTransposeNd(_ConvNd):
    """Transposed convolution over the last `rank` axes: every input value lays a scaled filter into the output.

    Input (N, in_channels, *size) or (in_channels, *size), output with out_channels and
    (size − 1) stride − 2 padding + dilation (kernel_size − 1) + 1 + output_padding per axis.  ``weight`` is
    (in_channels, out_channels / groups, *kernel_size) and ``bias`` (out_channels,).

    `output_padding` adds to one side of the output and must be below the larger of stride and dilation; calling with
    `output_size` chooses it.  Raises :class:`ArgumentError` for that, for channels that `groups` does not divide, and
    for any `padding_mode` but zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        algorithm: str = "auto",
    ) -> None:
        if padding_mode != "zeros":
            raise ArgumentError(f"padding_mode: a transposed convolution takes 'zeros' only, got {padding_mode!r}")
        padding = per_axis(padding, self.rank, "padding", 0)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
        )
        self.output_padding = per_axis(output_padding, self.rank, "output_padding", 0)
        for extra, step, spread in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(step, spread):
                raise ArgumentError(
                    f"output_padding: expected less than the larger of stride {self.stride} and dilation "
                    f"{self.dilation} on each axis, got {self.output_padding}"
                )

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def forward(self, input, output_size=None):
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding_for(np.shape(input), output_size)
        is_batched, x = batched(as_array(input, "input"), self.rank)
        parameters = self._parameters
        plan = conv_transpose_plan(
            x,
            as_array(parameters["weight"], "weight"),
            parameters["bias"],
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
            self.algorithm,
        )
        y = plan(x, self._packing.get(self, plan))
        return y if is_batched else y[0]

    def _output_padding_for(self, shape: tuple[int, ...], output_size) -> tuple[int, ...]:
        rank = self.rank
        if len(shape) not in (rank + 1, rank + 2):
            raise ArgumentError(f"input: expected {rank + 1} or {rank + 2} axes, got shape {shape}")
        if len(output_size) not in (rank, len(shape)):
            raise ArgumentError(f"output_size: expected {rank} or {len(shape)} values, got {tuple(output_size)}")
        wanted = tuple(output_size)[-rank:]
        smallest = [
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for size, kernel, stride, padding, dilation in zip(
                shape[-rank:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        largest = [size + stride - 1 for size, stride in zip(smallest, self.stride, strict=True)]
        if not all(low <= size <= high for low, size, high in zip(smallest, wanted, largest, strict=True)):
            raise ArgumentError(
                f"output_size: expected sizes from {tuple(smallest)} to {tuple(largest)} for an input of "
                f"{shape[-rank:]}, got {wanted}"
            )
        return tuple(size - low for size, low in zip(wanted, smallest, strict=True))


class ConvTranspose1d(_ConvTransposeNd):
    rank = 1


class ConvTranspose2d(_ConvTransposeNd):
    rank = 2


class ConvTranspose3d(_ConvTransposeNd):
    rank = 3
