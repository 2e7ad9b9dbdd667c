"""Transposed convolution as direct convolutions: one for every position of the output within a stride.

Output positions that leave the same remainder by the stride use the same taps, at input positions that step by one.
Each remainder is therefore a direct convolution with some of the taps, whose results lie a stride apart; nothing is
multiplied by the zeros that a stretched input would have, and nothing is added up in memory.  An input of one position
is one product instead, with weights for every output position.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import gcd, prod

import numpy as np

from fastconv import reference
from fastconv._kernels import team
from fastconv.arrays import is_channels_last
from fastconv.geometry import integer, pads_per_axis, per_axis
from fastconv.ops.arguments import word
from fastconv.ops.conv_spec import empty_result
from fastconv.ops.conv_transpose_spec import ConvTransposeSpec, by_filter, conv_transpose_spec
from fastconv.ops.conv_transpose_winograd import Winograd
from fastconv.ops.cost import CALL_SECONDS
from fastconv.ops.direct import transposed_loops, transposed_seconds
from fastconv.ops.nest import UNIT_AXIS, Axis, Nest, merge
from fastconv.ops.table import KERNEL_ELEMENTS, Op, plan_cache
from fastconv.ops.weighted import (
    PACK_BYTES,
    WeightedKernel,
    WeightedReference,
    uneven_strides,
)

__all__ = [
    "CONV_TRANSPOSE",
    "conv_transpose_plan",
    "covers_output",
    "parts_of",
]

MOST_POSITIONS = 2  # of the output to a tap, where each has weights of its own


@dataclass(frozen=True)
class Remainder:
    """One axis of the output positions that leave `first` by the stride: the taps they use, in the order of the input."""

    first: int
    taps: tuple[int, ...]
    axis: Axis


def remainders(size, output, kernel, stride, dilation, before, x_stride, y_stride) -> list[Remainder]:
    """Output position q · stride + first is Σ over taps k of x[q + (first + before - k · dilation) / stride] · w[k].

    Those that no tap reaches are left out: there may be a billion of them.
    """
    found = []
    for first in sorted({(k * dilation - before) % stride for k in range(kernel)}):
        if first >= output:
            break
        taps = tuple(k for k in reversed(range(kernel)) if (first + before - k * dilation) % stride == 0)
        count = -(-(output - first) // stride)
        nearest = (first + before - taps[0] * dilation) // stride
        axis = Axis(size, count, len(taps), 1, dilation // gcd(stride, dilation), -nearest, x_stride, y_stride * stride)
        found.append(Remainder(first, taps, axis))
    return found


class Part:
    """A direct convolution whose results are the output positions of some remainders."""

    def __init__(self, spec: ConvTransposeSpec, remainders: tuple[Remainder, ...], strides):
        self.spec = spec
        self.remainders = remainders
        self.nest = _nest(spec, spec.filters // spec.groups, *strides, merge([part.axis for part in remainders]))

    @property
    def layout(self) -> tuple:
        """What the choice of weights depends on."""
        return ("remainder", self.spec.groups, tuple(part.taps for part in self.remainders))

    def weights(self, w: np.ndarray) -> np.ndarray:
        """Those of the direct convolution (groups, filters, channels, *kernel)."""
        taps = np.ix_(*(part.taps for part in self.remainders))
        return np.ascontiguousarray(by_filter(self.spec, w)[(..., *taps)])

    def bias(self, b: np.ndarray | None) -> np.ndarray | None:
        return b

    def positions(self) -> tuple[slice, ...]:
        """Of the output, along its spatial axes."""
        return tuple(
            slice(part.first, None, step) for part, step in zip(self.remainders, self.spec.stride, strict=True)
        )


class OnePosition:
    """An input of one position an image: a product of its channels with weights for each filter at each output position."""

    def __init__(self, spec: ConvTransposeSpec, strides):
        self.spec = spec
        (x_image, x_channel, *_), (y_image, *_) = strides
        filters = spec.filters // spec.groups * prod(spec.output)
        self.nest = _nest(spec, filters, (x_image, x_channel), (y_image, 1), (UNIT_AXIS,) * 3)

    @property
    def layout(self) -> tuple:
        return ("positions", self.spec.groups, self.spec.output, self.spec.pads, self.spec.dilation)

    def weights(self, w: np.ndarray) -> np.ndarray:
        """(groups, filters and positions, channels): zeros where no tap reaches a position."""
        spec = self.spec
        given = np.moveaxis(by_filter(spec, w), 2, -1)
        every = np.zeros((*given.shape[:2], *spec.output, given.shape[-1]), w.dtype)
        reached, taps = [], []
        for size, kernel, dilation, (before, _) in zip(spec.output, spec.kernel, spec.dilation, spec.pads, strict=True):
            positions = np.arange(kernel) * dilation - before
            inside = (positions >= 0) & (positions < size)
            reached.append(positions[inside])
            taps.append(np.flatnonzero(inside))
        whole = (slice(None),) * 2
        every[(*whole, *np.ix_(*reached))] = given[(*whole, *np.ix_(*taps))]
        return every.reshape(spec.groups, self.nest.filters, -1)

    def bias(self, b: np.ndarray | None) -> np.ndarray | None:
        return None if b is None else np.repeat(b, prod(self.spec.output))

    def positions(self) -> tuple[slice, ...]:
        return (slice(None),) * len(self.spec.output)


def _nest(spec: ConvTransposeSpec, filters: int, x_strides, y_strides, axes) -> Nest:
    channels = spec.channels // spec.groups
    return Nest(spec.dtype, spec.batch, spec.groups, channels, filters, x_strides[:2], y_strides[:2], axes)


def parts_of(spec: ConvTransposeSpec) -> list[Part] | list[OnePosition]:
    """The direct convolutions that give every output position that some tap reaches."""
    strides = spec.element_strides
    if prod(spec.input) == 1 and not spec.channels_last and prod(spec.output) <= MOST_POSITIONS * prod(spec.kernel):
        return [OnePosition(spec, strides)]
    by_axis = [
        remainders(*axis)
        for axis in zip(
            spec.input,
            spec.output,
            spec.kernel,
            spec.stride,
            spec.dilation,
            (before for before, _ in spec.pads),
            *(of_array[2:] for of_array in strides),
            strict=True,
        )
    ]
    return [Part(spec, of_axes, strides) for of_axes in product(*by_axis)]


def covers_output(spec: ConvTransposeSpec, parts: list[Part] | list[OnePosition]) -> bool:
    """Whether some part computes each output position; those that no tap reaches hold the bias alone."""
    steps = prod(min(stride, size) for stride, size in zip(spec.stride, spec.output, strict=True))
    return len(parts) == steps or any(isinstance(part, OnePosition) for part in parts)


class Direct(WeightedKernel[ConvTransposeSpec]):
    """A direct convolution for each remainder of the output positions by the stride."""

    name = "direct"
    elements = KERNEL_ELEMENTS

    def refusal(self, spec):
        return super().refusal(spec) or uneven_strides(spec)

    def plan(self, spec):
        return DirectPlan(spec)

    def seconds(self, spec):
        return sum(CALL_SECONDS + transposed_seconds(part.nest) for part in parts_of(spec))

    def pack_seconds(self, spec):
        return spec.weight_count * spec.itemsize / PACK_BYTES

    def scratch_bytes(self, spec):
        return max((transposed_loops(part.nest).step.scratch for part in parts_of(spec)), default=0)


class DirectPlan:
    def __init__(self, spec: ConvTransposeSpec):
        self.spec = spec
        self.parts = [(part, transposed_loops(part.nest)) for part in parts_of(spec)]
        self.covers_output = covers_output(spec, [part for part, _ in self.parts])
        self.layout = ("remainders", *((*part.layout, *loops.layout) for part, loops in self.parts))

    def pack(self, w, b):
        packed = [loops.pack(part.weights(w), part.bias(b)) for part, loops in self.parts]
        return packed, None if b is None else b.copy()

    def __call__(self, x, packed):
        spec = self.spec
        parts, b = packed
        y = empty_result(spec.y_shape, spec.dtype, spec.channels_last)
        if not self.covers_output:
            y[...] = 0 if b is None else b.reshape(-1, *(1,) * len(spec.output))
        for (part, loops), weights in zip(self.parts, parts, strict=True):
            loops.step(y[(..., *part.positions())], x, *weights)
        return y


class Reference(WeightedReference[ConvTransposeSpec]):
    def plan(self, spec):
        return ReferencePlan(spec)


class ReferencePlan:
    layout = None

    def __init__(self, spec: ConvTransposeSpec):
        self.spec = spec

    def pack(self, w, b):
        return w, b

    def __call__(self, x, packed):
        spec = self.spec
        return reference.conv_transpose(
            x,
            *packed,
            stride=spec.stride,
            padding=spec.pads,
            output_padding=spec.output_padding,
            groups=spec.groups,
            dilation=spec.dilation,
        )


CONV_TRANSPOSE = Op("transposed convolution", (Direct(), Winograd(), Reference()))


def conv_transpose_plan(x, w, b, stride, padding, output_padding, groups, dilation, algorithm="auto"):
    """The plan for these arrays; ``plan(x, plan.pack(w, b))`` is the result.  `x` is batched."""
    last = is_channels_last(x) or is_channels_last(w)
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, None if b is None else (b.shape, b.dtype))
    rank = len(w.shape) - 2
    arguments = (
        per_axis(stride, rank, "stride"),
        pads_per_axis(padding, rank),
        per_axis(output_padding, rank, "output_padding", 0),
        integer(groups, "groups", 1),
        per_axis(dilation, rank, "dilation"),
        last,
    )
    return _plan(*facts, *arguments, word(algorithm, "algorithm"), team.get_threads())


@plan_cache
def _plan(*facts_and_choice):
    *facts, algorithm, _ = facts_and_choice
    spec = conv_transpose_spec(*facts)
    return CONV_TRANSPOSE.choose(spec, algorithm).plan(spec)
