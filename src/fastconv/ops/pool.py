"""Max and average pooling, sliding and adaptive: specs, and the algorithms that compute them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from fastconv import reference
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import Window, element_count, is_sequence, per_axis
from fastconv.ops.arguments import settled
from fastconv.ops.pool_loops import (
    AdaptiveAxis,
    Axis,
    BoxLoops,
    IndexLoops,
    Planes,
    SlidingAxis,
    SlidingLoops,
    box_cost,
    sliding_cost,
)
from fastconv.ops.table import Algorithm, Op, plan_cache

__all__ = [
    "AVERAGE_POOL",
    "MAX_POOL",
    "AdaptiveWindow",
    "AveragePoolSpec",
    "MaxPoolSpec",
    "PoolSpec",
    "adaptive_average_plan",
    "adaptive_max_plan",
    "average_pool_plan",
    "max_pool_plan",
]

KERNEL_ELEMENTS = ("float32", "float64", "float16")
UNIT_AXIS = SlidingAxis(1, 1, 0, 1, 1, 1, 0, 0)


@dataclass(frozen=True, slots=True)
class AdaptiveWindow:
    """Windows that divide every axis evenly: output i takes floor(i · input / output) to ceil((i + 1) · input / output)."""

    input: tuple[int, ...]
    output: tuple[int, ...]


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
    def bytes(self) -> int:
        """Read and written by one call."""
        planes = prod(self.window.input) + prod(self.window.output)
        return self.batch * self.channels * planes * self.itemsize

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
        return replace(self, dtype=dtype, x_strides=compact_strides(x_shape, self.memory_order, np.dtype(dtype).itemsize))


@dataclass(frozen=True)
class MaxPoolSpec(PoolSpec):
    indices: bool = False  # int64 places in the flattened input plane, beside the values


@dataclass(frozen=True)
class AveragePoolSpec(PoolSpec):
    include_pad: bool = True  # windows divide by their taps inside the padded input, or inside the input
    divisor: int | None = None  # by this instead

    def divisors(self, axes: list[Axis]) -> list[np.ndarray]:
        """A table for each axis; a window divides by the product of its three entries."""
        if self.divisor is not None:
            return [np.full(axis.output, self.divisor if i == 0 else 1) for i, axis in enumerate(axes)]
        if isinstance(self.window, AdaptiveWindow):
            return [axis.windows()[:, 1] for axis in axes]
        windows = [axis.padded_windows() if self.include_pad else axis.windows() for axis in axes]
        return [np.maximum(window[:, 1], 1) for window in windows]


class Direct(Algorithm[PoolSpec]):
    """Windows reduced in vector registers: rows first where they slide, box by box where that is shorter."""

    name = "direct"

    def refusal(self, spec):
        if isinstance(spec, AveragePoolSpec) and spec.dtype not in KERNEL_ELEMENTS:
            return f"the kernel takes means of floats, the input is {spec.dtype}"
        return ""

    def plan(self, spec):
        by_value = isinstance(spec, MaxPoolSpec) and (spec.indices or np.dtype(spec.dtype).kind != "f")
        dtype = "float32" if spec.dtype == "float16" else spec.dtype
        if spec.is_empty:
            return EmptyPlan(spec)
        if dtype != spec.dtype or not spec.is_compact:
            return CompactPlan(spec, self.plan(spec.compacted(dtype)))
        return IndexPlan(spec) if by_value else VectorPlan(spec)

    def seconds(self, spec):
        return 2e-6 + spec.bytes / 20e9


class Reference(Algorithm[PoolSpec]):
    """The specification, in NumPy: any element type."""

    name = "reference"

    def plan(self, spec):
        return EmptyPlan(spec) if spec.is_empty else ReferencePlan(spec)

    def seconds(self, spec):
        taps = prod(spec.window.kernel) if isinstance(spec.window, Window) else 4
        return 1e-4 + prod(spec.y_shape) * taps * 5e-9

    def scratch_bytes(self, spec):
        return 3 * prod(spec.y_shape) * spec.itemsize


MAX_POOL = Op("max pooling", (Direct(), Reference()))
AVERAGE_POOL = Op("average pooling", (Direct(), Reference()))


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


class VectorPlan(KernelPlan):
    """One array of floats in, one out."""

    def __init__(self, spec: PoolSpec):
        super().__init__(spec)
        axes = axes_of(spec)
        unit = spec.channels if spec.channels_last else 1
        planes = planes_of(spec, axes, unit)
        divisors = spec.divisors(axes) if isinstance(spec, AveragePoolSpec) else None
        sliding = isinstance(spec.window, Window)
        if sliding and unit > 1 and axes[2].stride == 1 and axes[2].x_stride == unit:
            self.step = SlidingLoops(widened(planes), divisors and [*divisors[:2], divisors[2].repeat(unit)]).step
        elif sliding and unit == 1 and (sliding_cost(planes) < box_cost(planes) or axes[2].dilation > 1):
            self.step = SlidingLoops(planes, divisors).step
        else:
            self.step = BoxLoops(planes, divisors).step
        self.dtype = np.dtype(spec.dtype)

    def __call__(self, x):
        y = self.empty(self.dtype)
        self.step(y, x)
        return y


class IndexPlan(KernelPlan):
    def __init__(self, spec: MaxPoolSpec):
        super().__init__(spec)
        y_strides = compact_strides(spec.y_shape, spec.memory_order, 1)
        y_strides = (*y_strides[:2], *(0,) * (5 - len(y_strides)), *y_strides[2:])
        self.step = IndexLoops(planes_of(spec, axes_of(spec), 1), y_strides, spec.indices).step
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


def compact_strides(shape: tuple[int, ...], order: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [0] * len(shape), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def max_pool_plan(x, rank, kernel, stride, padding, dilation, ceil_mode, indices, algorithm):
    """The plan for `x` (N, C, *spatial), checked and chosen once per combination; ``plan(x)`` is the result.

    The result is the values, with `indices` the pair of values and places.  Raises :class:`ArgumentError` and
    :class:`ArgumentTypeError`.
    """
    return _max_plan(
        x.shape,
        x.strides,
        x.dtype,
        rank,
        settled(kernel, "kernel_size"),
        settled(stride, "stride"),
        settled(padding, "padding"),
        settled(dilation, "dilation"),
        bool(ceil_mode),
        bool(indices),
        algorithm,
    )


@plan_cache
def _max_plan(shape, strides, dtype, rank, kernel, stride, padding, dilation, ceil_mode, indices, algorithm):
    check_input(shape, dtype, rank, "max pooling")
    window = pool_window(shape, kernel, stride, padding, dilation, ceil_mode)
    spec = MaxPoolSpec(*shape[:2], window, dtype.name, strides, indices)
    return MAX_POOL.choose(spec, algorithm).plan(spec)


def average_pool_plan(x, rank, kernel, stride, padding, ceil_mode, include_pad, divisor, algorithm, dilation=1):
    """As :func:`max_pool_plan`; means of floats and of int64."""
    return _average_plan(
        x.shape,
        x.strides,
        x.dtype,
        rank,
        settled(kernel, "kernel_size"),
        settled(stride, "stride"),
        settled(padding, "padding"),
        settled(dilation, "dilation"),
        bool(ceil_mode),
        bool(include_pad),
        settled(divisor, "divisor_override"),
        algorithm,
    )


@plan_cache
def _average_plan(
    shape, strides, dtype, rank, kernel, stride, padding, dilation, ceil_mode, include_pad, divisor, algorithm
):
    check_input(shape, dtype, rank, "average pooling")
    if dtype.kind != "f" and dtype != np.int64:
        raise ArgumentTypeError(
            f"input: average pooling takes floats and int64, as torch does, got {dtype}; convert with astype()"
        )
    if divisor == 0:
        raise ArgumentError("divisor_override: expected a number other than 0, got 0")
    window = pool_window(shape, kernel, stride, padding, dilation, ceil_mode)
    spec = AveragePoolSpec(*shape[:2], window, dtype.name, strides, include_pad, divisor)
    return AVERAGE_POOL.choose(spec, algorithm).plan(spec)


def adaptive_max_plan(x, rank, output_size, indices, algorithm):
    return _adaptive_plan(x.shape, x.strides, x.dtype, rank, settled(output_size, "output_size"), bool(indices), algorithm)


def adaptive_average_plan(x, rank, output_size, algorithm):
    return _adaptive_plan(x.shape, x.strides, x.dtype, rank, settled(output_size, "output_size"), None, algorithm)


@plan_cache
def _adaptive_plan(shape, strides, dtype, rank, output_size, indices, algorithm):
    """`indices` is None for means."""
    check_input(shape, dtype, rank, "adaptive pooling")
    if dtype.kind != "f":
        raise ArgumentTypeError(f"input: adaptive pooling takes floats, as torch does, got {dtype}; convert with astype()")
    window = adaptive_window(shape[2:], output_size)
    if indices is None:
        spec = AveragePoolSpec(*shape[:2], window, dtype.name, strides)
        return AVERAGE_POOL.choose(spec, algorithm).plan(spec)
    if 0 in window.input and 0 not in window.output:
        raise ArgumentError(f"input: expected spatial sizes of at least 1, got shape {shape}: nothing has no maximum")
    spec = MaxPoolSpec(*shape[:2], window, dtype.name, strides, indices)
    return MAX_POOL.choose(spec, algorithm).plan(spec)


def check_input(shape: tuple[int, ...], dtype: np.dtype, rank: int, operation: str) -> None:
    if len(shape) != rank + 2:
        raise ArgumentError(
            f"input: expected {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial) for {operation} in {rank}-d, "
            f"got shape {shape}"
        )
    if dtype.kind in "bc":
        raise ArgumentTypeError(f"input: {operation} of {dtype} is not defined; convert with astype()")


def pool_window(shape, kernel, stride, padding, dilation, ceil_mode) -> Window:
    if stride is None or stride == ():
        stride = kernel
    window = Window.of(shape[2:], kernel, stride, padding, dilation, ceil_mode)
    for (before, after), extent, size, step in zip(
        window.pads, window.extent, window.kernel, window.dilation, strict=True
    ):
        if 2 * max(before, after) > extent and not isinstance(padding, str):
            raise ArgumentError(
                f"padding: expected at most {extent // 2}, half of the window of {extent} (kernel {size}, dilation {step}), "
                f"got {max(before, after)}: a window could lie in the padding altogether; use a smaller padding, or pad()"
            )
    element_count((*shape[:2], *window.output), "output")
    return window


def adaptive_window(sizes: tuple[int, ...], output_size) -> Window | AdaptiveWindow:
    """The windows of an adaptive pooling; where they do not overlap they are sliding ones."""
    rank = len(sizes)
    wanted = output_size if is_sequence(output_size) else (output_size,) * rank
    if len(wanted) != rank:
        raise ArgumentError(f"output_size: expected 1 or {rank} values, got {len(wanted)}: {tuple(wanted)}")
    output = per_axis([size if w is None else w for size, w in zip(sizes, wanted, strict=True)], rank, "output_size", 0)
    element_count(output, "output_size")
    if all(o > 0 and size > 0 and size % o == 0 for size, o in zip(sizes, output, strict=True)):
        kernel = tuple(size // o for size, o in zip(sizes, output, strict=True))
        return Window.of(sizes, kernel, kernel)
    return AdaptiveWindow(sizes, output)
