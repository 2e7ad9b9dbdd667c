"""Max and average pooling, sliding and adaptive: the algorithms, and the checks at the door."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import Window, element_count, is_sequence, per_axis
from fastconv.ops.arguments import settled, word
from fastconv.ops.pool_plans import CompactPlan, CopyPlan, EmptyPlan, IndexPlan, ReferencePlan, VectorPlan
from fastconv.ops.pool_spec import AdaptiveWindow, AveragePoolSpec, MaxPoolSpec, PoolSpec
from fastconv.ops.table import Algorithm, Op, plan_cache

__all__ = [
    "AVERAGE_POOL",
    "MAX_POOL",
    "adaptive_average_plan",
    "adaptive_max_plan",
    "average_pool_plan",
    "max_pool_plan",
]

KERNEL_ELEMENTS = ("float32", "float64", "float16")


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
        if spec.is_copy and not by_value:
            return CopyPlan(spec)
        if dtype != spec.dtype or not spec.is_compact:
            return CompactPlan(spec, self.plan(spec.compacted(dtype)))
        return IndexPlan(spec) if by_value else VectorPlan(spec)

    def seconds(self, spec):
        return 2e-6 + spec.bytes / 20e9

    def error_bound(self, spec):
        return error_bound(spec)


class Reference(Algorithm[PoolSpec]):
    """The specification, in NumPy: any element type."""

    name = "reference"

    def plan(self, spec):
        return EmptyPlan(spec) if spec.is_empty else ReferencePlan(spec)

    def seconds(self, spec):
        return 1e-4 + spec.flops * 5e-9

    def scratch_bytes(self, spec):
        return 3 * prod(spec.y_shape) * spec.itemsize

    def error_bound(self, spec):
        return error_bound(spec)


def error_bound(spec: PoolSpec) -> float:
    """Of a mean, as a multiple of Σ|x| / |divisor|: a rounding for each addition, the division and the result."""
    if isinstance(spec, MaxPoolSpec) or np.dtype(spec.dtype).kind != "f":
        return 0.0
    wide = np.promote_types(spec.dtype, np.float32)
    return float((spec.taps + 1) * np.finfo(wide).eps / 2 + (wide != spec.dtype) * np.finfo(spec.dtype).eps)


MAX_POOL = Op("max pooling", (Direct(), Reference()))
AVERAGE_POOL = Op("average pooling", (Direct(), Reference()))


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
        word(algorithm, "algorithm"),
    )


@plan_cache
def _max_plan(*facts_and_algorithm):
    *facts, algorithm = facts_and_algorithm
    spec = max_pool_spec(*facts)
    return MAX_POOL.choose(spec, algorithm).plan(spec)


def max_pool_spec(
    shape, strides, dtype, rank, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, indices=False
) -> MaxPoolSpec:
    """Check shapes and types, and state them."""
    check_input(shape, dtype, rank, "max pooling")
    window = pool_window(shape, kernel, stride, padding, dilation, ceil_mode)
    return MaxPoolSpec(*shape[:2], window, dtype.name, strides, indices)


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
        word(algorithm, "algorithm"),
    )


@plan_cache
def _average_plan(*facts_and_algorithm):
    *facts, algorithm = facts_and_algorithm
    spec = average_pool_spec(*facts)
    return AVERAGE_POOL.choose(spec, algorithm).plan(spec)


def average_pool_spec(
    shape,
    strides,
    dtype,
    rank,
    kernel,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    include_pad=True,
    divisor=None,
) -> AveragePoolSpec:
    """Check shapes and types, and state them."""
    check_input(shape, dtype, rank, "average pooling")
    if dtype.kind != "f" and dtype != np.int64:
        raise ArgumentTypeError(
            f"input: average pooling takes floats and int64, as torch does, got {dtype}; convert with astype()"
        )
    if divisor is not None and not isinstance(divisor, int):
        raise ArgumentTypeError(f"divisor_override: expected an integer, got {divisor!r}")
    if divisor == 0:
        raise ArgumentError("divisor_override: expected a number other than 0, got 0")
    window = pool_window(shape, kernel, stride, padding, dilation, ceil_mode)
    return AveragePoolSpec(*shape[:2], window, dtype.name, strides, include_pad, divisor)


def adaptive_max_plan(x, rank, output_size, indices, algorithm):
    """As :func:`max_pool_plan`; floats."""
    output = settled(output_size, "output_size")
    return _adaptive_plan(x.shape, x.strides, x.dtype, rank, output, bool(indices), word(algorithm, "algorithm"))


def adaptive_average_plan(x, rank, output_size, algorithm):
    """As :func:`max_pool_plan`; floats."""
    output = settled(output_size, "output_size")
    return _adaptive_plan(x.shape, x.strides, x.dtype, rank, output, None, word(algorithm, "algorithm"))


@plan_cache
def _adaptive_plan(shape, strides, dtype, rank, output_size, indices, algorithm):
    """`indices` is None for means."""
    check_input(shape, dtype, rank, "adaptive pooling")
    if dtype.kind != "f":
        raise ArgumentTypeError(
            f"input: adaptive pooling takes floats, as torch does, got {dtype}; convert with astype()"
        )
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
            f"input: {operation} in {rank}-d expects {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial), "
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
                f"padding: expected at most {extent // 2}, half of the window of {extent} (kernel {size}, dilation "
                f"{step}), got {max(before, after)}: a window could lie in the padding altogether; use a smaller "
                "padding, or pad()"
            )
    element_count((*shape[:2], *window.output), "output")
    return window


def adaptive_window(sizes: tuple[int, ...], output_size) -> Window | AdaptiveWindow:
    """The windows of an adaptive pooling; where they do not overlap they are sliding ones."""
    rank = len(sizes)
    wanted = output_size if is_sequence(output_size) else (output_size,)
    if len(wanted) not in (1, rank):
        raise ArgumentError(f"output_size: expected 1 or {rank} values, got {len(wanted)}: {tuple(wanted)}")
    wanted = tuple(wanted) * (rank // len(wanted))
    output = per_axis([size if w is None else w for size, w in zip(sizes, wanted, strict=True)], rank, "output_size", 0)
    element_count(output, "output_size")
    if all(o > 0 and size > 0 and size % o == 0 for size, o in zip(sizes, output, strict=True)):
        kernel = tuple(size // o for size, o in zip(sizes, output, strict=True))
        return Window.of(sizes, kernel, kernel)
    return AdaptiveWindow(sizes, output)
