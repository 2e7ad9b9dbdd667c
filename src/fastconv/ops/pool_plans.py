"""How pooling is done: one plan for each way through memory."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from fastconv import reference
from fastconv.geometry import Window
from fastconv.ops.pool_flat import FlatLoops, GrownLoops, flat_cost, grown_cost, is_flat, is_grown
from fastconv.ops.pool_loops import (
    TURNED_ROW_BYTES,
    AdaptiveAxis,
    Axis,
    BoxLoops,
    IndexLoops,
    Planes,
    SlidingAxis,
    SlidingLoops,
    TurnedLoops,
    box_cost,
    pixel_cost,
    sliding_cost,
    turned_bytes,
    turned_cost,
)
from fastconv.ops.pool_spec import AdaptiveWindow, AveragePoolSpec, MaxPoolSpec, PoolSpec, compact_strides

__all__ = ["CompactPlan", "CopyPlan", "EmptyPlan", "IndexPlan", "ReferencePlan", "VectorPlan"]

MAX_PLACES = np.iinfo(np.int32).max  # positions of a plane that fit beside a float32
UNIT_AXIS = SlidingAxis(1, 1, 0, 1, 1, 1, 0, 0)


class ReferencePlan:
    def __init__(self, spec: PoolSpec):
        self.spec = spec

    def __call__(self, x):
        spec, window = self.spec, self.spec.window
        sliding = isinstance(window, Window)
        if sliding:
            arguments = (window.kernel, window.stride, window.pads)
        if isinstance(spec, AveragePoolSpec):
            if not sliding:
                return reference.adaptive_avg_pool(x, window.output)
            options = (window.ceil_mode, spec.include_pad, spec.divisor)
            return reference.avg_pool(x, *arguments, *options, dilation=window.dilation)
        if sliding:
            results = reference.max_pool(x, *arguments, window.dilation, window.ceil_mode)
        else:
            results = reference.adaptive_max_pool(x, window.output)
        return results if spec.indices else results[0]


class EmptyPlan:
    def __init__(self, spec: PoolSpec):
        self.spec = spec

    def __call__(self, x):
        y = np.empty(self.spec.y_shape, self.spec.dtype)
        if isinstance(self.spec, MaxPoolSpec) and self.spec.indices:
            return y, np.empty(self.spec.y_shape, np.int64)
        return y


class CompactPlan:
    """Copies the input first: float16 to float32, and what lies scattered side by side."""

    def __init__(self, spec: PoolSpec, plan):
        self.spec = spec
        self.plan = plan
        self.order = spec.memory_order
        self.back = tuple(np.argsort(self.order))

    def __call__(self, x):
        wide = np.ascontiguousarray(x.transpose(self.order), self.plan.spec.dtype).transpose(self.back)
        y = self.plan(wide)
        if isinstance(y, tuple):
            return y[0].astype(self.spec.dtype, copy=False), y[1]
        return y.astype(self.spec.dtype, copy=False)


class KernelPlan:
    def __init__(self, spec: PoolSpec):
        self.spec = spec
        order = spec.memory_order
        self.memory_shape = tuple(spec.y_shape[axis] for axis in order)
        self.back = tuple(int(axis) for axis in np.argsort(order)) if spec.channels_last else None

    def empty(self, dtype) -> np.ndarray:
        y = np.empty(self.memory_shape, dtype)
        return y if self.back is None else y.transpose(self.back)


class CopyPlan(KernelPlan):
    """Floats whose windows are a single value each."""

    def __call__(self, x):
        y = np.empty(self.memory_shape, x.dtype)
        self.step(y, x)
        return y if self.back is None else y.transpose(self.back)

    def step(self, y, x):
        y = y.reshape(self.memory_shape)
        y = y if self.back is None else y.transpose(self.back)
        if isinstance(self.spec, AveragePoolSpec):
            np.add(x, 0, out=y)  # a sum starts at +0
        else:
            np.copyto(y, x)


class VectorPlan(KernelPlan):
    """One array of floats in, one out."""

    def __init__(self, spec: PoolSpec):
        super().__init__(spec)
        axes = axes_of(spec)
        unit = spec.channels if spec.channels_last else 1
        planes = planes_of(spec, axes, unit)
        divisors = spec.divisors(axes) if isinstance(spec, AveragePoolSpec) else None
        planes, divisors, loops = cheapest(planes, divisors, isinstance(spec.window, Window))
        self.step = loops(planes, divisors).step
        self.dtype = np.dtype(spec.dtype)

    def __call__(self, x):
        y = np.empty(self.memory_shape, self.dtype) if self.back is None else self.empty(self.dtype)
        self.step(y, x)
        return y


def cheapest(planes: Planes, divisors, sliding: bool):
    """The loops that take the fewest cycles, with the planes and divisors in the form that they take."""
    across, unit = planes.axes[2], planes.unit
    candidates = []
    if sliding and unit > 1 and across.stride == 1 and across.x_stride == unit:
        wide = widened(planes), divisors and [*divisors[:2], divisors[2].repeat(unit)]
        cost = sliding_cost(wide[0]) / unit * max(across.kernel / 2, 1)  # taps a pixel apart share no line
        candidates.append((cost, *wide, SlidingLoops))
    elif sliding and unit == 1:
        tall = stacked(planes, divisors)
        candidates.append((sliding_cost(tall[0]) * planes.outputs / tall[0].outputs, *tall, SlidingLoops))
    if unit > 1:
        candidates.append((pixel_cost(planes), planes, divisors, BoxLoops))
    elif across.step == 1:
        candidates.append((box_cost(planes), planes, divisors, BoxLoops))
    if is_flat(planes):
        candidates.append((flat_cost(planes), planes, divisors, FlatLoops))
    if divisors is None and is_grown(planes):
        candidates.append((grown_cost(planes), planes, divisors, GrownLoops))
    if is_turnable(planes):
        candidates.append((turned_cost(planes), planes, divisors, TurnedLoops))
    return min(candidates, key=lambda candidate: candidate[0])[1:]


def is_turnable(planes: Planes) -> bool:
    """Whether the depth is one position that is never padded, and the rows are short enough for `TurnedLoops`."""
    depth = planes.axes[0]
    flat = depth.input == depth.output == depth.windows()[0, 1] == 1
    return flat and turned_bytes(planes) <= TURNED_ROW_BYTES


class IndexPlan(KernelPlan):
    def __init__(self, spec: MaxPoolSpec):
        super().__init__(spec)
        axes = axes_of(spec)
        planes = planes_of(spec, axes, spec.channels if spec.channels_last else 1)
        in_lanes = np.dtype(spec.dtype).kind == "f" and prod(spec.window.input) <= MAX_PLACES
        if spec.indices and in_lanes and planes.unit > 1:
            self.step = BoxLoops(planes, indices=True).step
        elif spec.indices and in_lanes and is_turnable(planes):
            self.step = TurnedLoops(planes, indices=True).step
        else:
            y_strides = compact_strides(spec.y_shape, spec.memory_order, 1)
            y_strides = (*y_strides[:2], *(0,) * (5 - len(y_strides)), *y_strides[2:])
            self.step = IndexLoops(planes_of(spec, axes, 1), y_strides, spec.indices).step
        self.dtype = np.dtype(spec.dtype)

    def __call__(self, x):
        y = self.empty(self.dtype)
        if not self.spec.indices:
            self.step(y, x)
            return y
        indices = self.empty(np.int64)
        self.step(y, indices, x)
        return y, indices


def axes_of(spec: PoolSpec) -> list[Axis]:
    """Depth, row and column.  A plane of one axis leaves the depth and the row at one position each."""
    window = spec.window
    strides = [stride // spec.itemsize for stride in spec.x_strides[2:]]
    if isinstance(window, AdaptiveWindow):
        axes = [AdaptiveAxis(*axis) for axis in zip(window.input, window.output, strides, strict=True)]
    else:
        axes = [
            SlidingAxis(size, output, x_stride, kernel, stride, dilation, *pads)
            for size, output, x_stride, kernel, stride, dilation, pads in zip(
                window.input,
                window.output,
                strides,
                window.kernel,
                window.stride,
                window.dilation,
                window.pads,
                strict=True,
            )
        ]
    return [UNIT_AXIS] * (3 - len(axes)) + axes


def planes_of(spec: PoolSpec, axes: list[Axis], unit: int) -> Planes:
    x_image, x_channel, *_ = (stride // spec.itemsize for stride in spec.x_strides)
    return Planes(spec.dtype, spec.batch, spec.channels // unit, unit, (x_image, x_channel), tuple(axes))


def stacked(planes: Planes, divisors: list[np.ndarray] | None) -> tuple[Planes, list[np.ndarray] | None]:
    """Planes whose rows the windows tile, on top of one another as one high plane: a small plane is hardly a task."""
    depth, down, across = planes.axes
    if not (down.is_tiled and depth.is_tiled and depth.kernel == 1):
        return planes, divisors
    depths, rows, columns = divisors or ([np.ones(1)] * 3)
    x_image, x_channel = planes.x_strides
    counts = [depth.output, planes.channels, planes.images]
    for i, stride in enumerate((depth.x_stride, x_channel, x_image)):
        if down.input > 1 and counts[i] > 1 and stride != down.input * down.x_stride:
            break
        down = replace(
            down,
            input=down.input * counts[i],
            output=down.output * counts[i],
            x_stride=stride if down.input == 1 else down.x_stride,
        )
        rows = np.outer(depths, rows).reshape(-1) if i == 0 else np.tile(rows, counts[i])
        depths, counts[i] = (np.ones(1) if i == 0 else depths), 1
    if counts[0] > 1:
        return planes, divisors
    planes = replace(planes, images=counts[2], channels=counts[1], axes=(UNIT_AXIS, down, across))
    return planes, divisors and [depths, rows, columns]


def widened(planes: Planes) -> Planes:
    """Pixels of `unit` values as planes with `unit` times the columns."""
    across, unit = planes.axes[2], planes.unit
    columns = SlidingAxis(
        across.input * unit,
        across.output * unit,
        1,
        across.kernel,
        1,
        across.dilation * unit,
        across.before * unit,
        across.after * unit,
    )
    return replace(planes, unit=1, axes=(*planes.axes[:2], columns))
