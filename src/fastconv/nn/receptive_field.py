"""How many input positions a value depends on, followed through a network from layer to layer.

A window of extent e after layers of receptive field r and jump j (input positions between neighbouring values) sees
r + (e − 1) j input positions, and its stride s makes the jump j s.  Where branches meet, the largest field counts.
Source: Araujo, Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch
from math import ceil

import numpy as np

from fastconv.geometry import per_axis
from fastconv.nn.attention import MultiheadAttention
from fastconv.nn.conv import _ConvNd, _ConvTransposeNd
from fastconv.nn.deformation import DeformConv2d
from fastconv.nn.flatten import PixelShuffle, PixelUnshuffle, Unfold
from fastconv.nn.pooling import _AdaptivePoolNd, _MaxUnpoolNd, _PoolNd
from fastconv.nn.upsampling import Upsample

__all__ = ["FieldTracker"]

Numbers = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """Per spatial axis of the model's input: what one value depends on, and how far neighbouring values lie apart."""

    size: Numbers
    jump: Numbers

    def widened(self, steps, stride) -> Field:
        """Seen through windows of `steps` jumps from end to end that move by `stride` jumps."""
        return Field(
            tuple(size + step * jump for size, step, jump in zip(self.size, steps, self.jump, strict=True)),
            tuple(jump * Fraction(move) for jump, move in zip(self.jump, stride, strict=True)),
        )


class FieldTracker:
    """Follows the arrays of one run, by their identity, from layer to layer.

    An array that no layer has made (a sum, a concatenation, a functional activation) is taken to come from all the
    outputs of its spatial size that no layer has used yet.
    """

    def __init__(self, inputs: list[np.ndarray]) -> None:
        self._known: dict[int, tuple[np.ndarray, Field | None]] = {}  # holds the arrays, so that no id is reused
        self._unused: dict[int, tuple[np.ndarray, Field | None]] = {}
        for array in inputs:
            ones = (Fraction(1),) * max(array.ndim - 2, 0)
            self._learn(array, Field(ones, ones))

    def call(self, layer, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> tuple[int, ...] | None:
        """Record that `layer` made `outputs` from `inputs`; the receptive field of the first output."""
        field = _largest([self._field_of(array) for array in inputs])
        if field is not None and inputs:
            rank = getattr(layer, "rank", len(field.size))
            field = _seen_through(layer, field, inputs[0], outputs[0]) if rank == len(field.size) else None
        for array in outputs:
            self._learn(array, _collapsed(field, inputs[0]) if field and array.ndim == 2 < inputs[0].ndim else field)
        field = self._known[id(outputs[0])][1]
        return None if field is None else tuple(ceil(size) for size in field.size)

    def _learn(self, array: np.ndarray, field: Field | None) -> None:
        self._known[id(array)] = self._unused[id(array)] = array, field

    def _field_of(self, array: np.ndarray) -> Field | None:
        origin = array
        while origin is not None and id(origin) not in self._known:
            origin = origin.base if isinstance(origin, np.ndarray) else None
        if origin is not None:
            origins = [self._known[id(origin)]]
        elif array.ndim == 2:
            origins = list(self._unused.values())
        else:
            origins = [entry for entry in self._unused.values() if entry[0].shape[2:] == array.shape[2:]]
        fields = []
        for source, field in origins:
            self._unused.pop(id(source), None)
            fields.append(_collapsed(field, source) if field and array.ndim == 2 < source.ndim else field)
        return _largest(fields)


def _largest(fields: list[Field | None]) -> Field | None:
    if not fields or None in fields or len({len(field.size) for field in fields}) > 1:
        return None
    return Field(
        tuple(map(max, *(field.size for field in fields))) if len(fields) > 1 else fields[0].size,
        max((field.jump for field in fields), default=()),
    )


def _collapsed(field: Field, array: np.ndarray) -> Field:
    """The field of values that depend on all positions of `array`."""
    positions = array.shape[2:]
    if len(positions) != len(field.size):
        return field
    return field.widened([size - 1 for size in positions], (1,) * len(positions))


@singledispatch
def _seen_through(layer, field: Field, input: np.ndarray, output: np.ndarray) -> Field | None:
    """The field of the values of `output`, which `layer` made from `input` with `field`; None if it has no fixed size."""
    return field


@_seen_through.register(_ConvNd)
@_seen_through.register(_PoolNd)
@_seen_through.register(Unfold)
def _(layer, field, input, output) -> Field:
    kernel = per_axis(layer.kernel_size, len(field.size), "kernel_size")
    dilation = per_axis(getattr(layer, "dilation", 1), len(kernel), "dilation")
    stride = per_axis(layer.stride or kernel, len(kernel), "stride")
    return field.widened([d * (k - 1) for k, d in zip(kernel, dilation, strict=True)], stride)


@_seen_through.register
def _(layer: _ConvTransposeNd, field, input, output) -> Field:
    steps = [d * (k - 1) // s for k, d, s in zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)]
    return field.widened(steps, [Fraction(1, stride) for stride in layer.stride])


@_seen_through.register
def _(layer: _MaxUnpoolNd, field, input, output) -> Field:
    return field.widened((0,) * len(layer.stride), [Fraction(1, stride) for stride in layer.stride])


@_seen_through.register(MultiheadAttention)
@_seen_through.register(DeformConv2d)
def _(layer, field, input, output) -> None:
    return None  # every position, or wherever the offsets lead


@_seen_through.register
def _(layer: _AdaptivePoolNd, field, input, output) -> Field:
    sizes = list(zip(input.shape[-layer.rank :], output.shape[-layer.rank :], strict=True))
    windows = [
        max((-(-(i + 1) * size // count) - i * size // count for i in range(count)), default=1) for size, count in sizes
    ]
    return field.widened([window - 1 for window in windows], [Fraction(size, max(count, 1)) for size, count in sizes])


@_seen_through.register
def _(layer: Upsample, field, input, output) -> Field:
    taps = {"linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 4}.get(layer.mode, 1)
    factors = [Fraction(before, after) for before, after in zip(input.shape[2:], output.shape[2:], strict=True)]
    return field.widened((taps - 1,) * len(factors), factors)


@_seen_through.register
def _(layer: PixelShuffle, field, input, output) -> Field:
    rank = len(field.size)
    return field.widened((0,) * rank, (Fraction(1, layer.upscale_factor),) * rank)


@_seen_through.register
def _(layer: PixelUnshuffle, field, input, output) -> Field:
    rank = len(field.size)
    return field.widened((layer.downscale_factor - 1,) * rank, (layer.downscale_factor,) * rank)
