"""Layers that only change the shape."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer, is_sequence
from fastconv.nn import functional as F
from fastconv.nn.annotations import Sizes
from fastconv.nn.module import Module

__all__ = ["ChannelShuffle", "Flatten", "Fold", "PixelShuffle", "PixelUnshuffle", "Unflatten", "Unfold"]


class Flatten(Module):
    """Merges the axes from `start_dim` to `end_dim`, both included: (N, C, H, W) → (N, C·H·W).  A view if possible."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input):
        input = as_array(input, "input")
        shape = input.shape or (1,)
        start, end = _axis(self.start_dim, len(shape), "start_dim"), _axis(self.end_dim, len(shape), "end_dim")
        if start > end:
            raise ArgumentError(f"start_dim: expected an axis before end_dim, got {start} and {end} of shape {shape}")
        merged = 1
        for size in shape[start : end + 1]:
            merged *= size
        return input.reshape(*shape[:start], merged, *shape[end + 1 :])

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits the axis `dim` into axes of `unflattened_size`, in which one size may be −1.  A view if possible."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not is_sequence(unflattened_size):
            raise ArgumentTypeError(f"unflattened_size: expected a tuple of integers, got {unflattened_size!r}")
        for size in unflattened_size:
            integer(size, "unflattened_size", -1)
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input):
        input = as_array(input, "input")
        dim = _axis(self.dim, input.ndim, "dim")
        try:
            return input.reshape(*input.shape[:dim], *self.unflattened_size, *input.shape[dim + 1 :])
        except ValueError:
            raise ArgumentError(
                f"unflattened_size: {self.unflattened_size} does not multiply to the {input.shape[dim]} of axis {dim} "
                f"of input {input.shape}"
            ) from None

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


def _axis(dim, ndim: int, name: str) -> int:
    dim = integer(dim, name, -ndim)
    if dim >= ndim:
        raise ArgumentError(f"{name}: expected an axis from {-ndim} to {ndim - 1}, got {dim}")
    return dim % ndim


class _Rearrangement(Module):
    """Moves values between channels and positions, by one positive integer called `parameter`."""

    function: str
    parameter: str

    def forward(self, input):
        return getattr(F, self.function)(input, getattr(self, self.parameter))

    def extra_repr(self) -> str:
        return f"{self.parameter}={getattr(self, self.parameter)}"


class PixelShuffle(_Rearrangement):
    """(N, C·r², H, W) → (N, C, H·r, W·r), r the `upscale_factor`.  Source: Shi et al. 2016."""

    function, parameter = "pixel_shuffle", "upscale_factor"

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = integer(upscale_factor, "upscale_factor", 1)


class PixelUnshuffle(_Rearrangement):
    """(N, C, H·r, W·r) → (N, C·r², H, W), r the `downscale_factor`"""

    function, parameter = "pixel_unshuffle", "downscale_factor"

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = integer(downscale_factor, "downscale_factor", 1)


class ChannelShuffle(_Rearrangement):
    """Channels (groups, C / groups) transposed to (C / groups, groups).  Source: Zhang et al. 2018, ShuffleNet."""

    function, parameter = "channel_shuffle", "groups"

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = integer(groups, "groups", 1)


class Unfold(Module):
    """Every window as a column: (N, C, H, W) → (N, C·kernel taps, windows).  Known as im2col."""

    def __init__(self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Columns added up at their windows: (N, C·kernel taps, windows) → (N, C, *output_size).  Known as col2im."""

    def __init__(
        self, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
