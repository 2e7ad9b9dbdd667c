"""Padding of the last one, two or three axes.

`padding` is one integer for every side, or two per axis, (before, after) of the **last** axis first; negative numbers
crop.  Input (N, C, *size) or (C, *size).
"""

from __future__ import annotations

from fastconv.errors import ArgumentError
from fastconv.geometry import MAX_ELEMENTS, integer, is_sequence
from fastconv.nn import functional as F
from fastconv.nn.annotations import Sizes
from fastconv.nn.module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _PadNd(Module):
    rank: int
    mode: str

    def __init__(self, padding: Sizes) -> None:
        super().__init__()
        sides = 2 * self.rank
        amounts = padding if is_sequence(padding) else (padding,) * sides
        if len(amounts) != sides:
            raise ArgumentError(f"padding: expected 1 or {sides} values, got {len(amounts)}: {tuple(amounts)}")
        self.padding = tuple(integer(amount, "padding", -MAX_ELEMENTS) for amount in amounts)

    def forward(self, input):
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPadNd(_PadNd):
    """Pads with `value`."""

    mode = "constant"

    def __init__(self, padding: Sizes, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    rank = 1


class ConstantPad2d(_ConstantPadNd):
    rank = 2


class ConstantPad3d(_ConstantPadNd):
    rank = 3


class _ZeroPadNd(_PadNd):
    """Pads with zeros."""

    mode = "constant"


class ZeroPad1d(_ZeroPadNd):
    rank = 1


class ZeroPad2d(_ZeroPadNd):
    rank = 2


class ZeroPad3d(_ZeroPadNd):
    rank = 3


class _ReflectionPadNd(_PadNd):
    """Pads with the input mirrored at its edge values, by less than the size of the axis."""

    mode = "reflect"


class ReflectionPad1d(_ReflectionPadNd):
    rank = 1


class ReflectionPad2d(_ReflectionPadNd):
    rank = 2


class ReflectionPad3d(_ReflectionPadNd):
    rank = 3


class _ReplicationPadNd(_PadNd):
    """Pads with the edge values."""

    mode = "replicate"


class ReplicationPad1d(_ReplicationPadNd):
    rank = 1


class ReplicationPad2d(_ReplicationPadNd):
    rank = 2


class ReplicationPad3d(_ReplicationPadNd):
    rank = 3


class _CircularPadNd(_PadNd):
    """Pads with the other end of the input, by at most the size of the axis."""

    mode = "circular"


class CircularPad1d(_CircularPadNd):
    rank = 1


class CircularPad2d(_CircularPadNd):
    rank = 2


class CircularPad3d(_CircularPadNd):
    rank = 3
