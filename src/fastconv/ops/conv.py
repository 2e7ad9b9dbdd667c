"""Convolution: its spec, and the algorithms that compute it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from fastconv import reference
from fastconv._kernels import engine, family
from fastconv._kernels.engine import Step
from fastconv.arrays import is_channels_last
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import Window, element_count, integer, is_sequence
from fastconv.ops.direct import THREAD_FLOPS, Axis, DirectLoops, Nest, merge
from fastconv.ops.table import Algorithm, Op, plan_cache

__all__ = ["CONV", "ConvSpec", "conv_plan", "conv_spec"]

KERNEL_ELEMENTS = ("float32", "float64")
KERNEL_ELEMENTS = ("float32", "float64")


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of `x` (N, C, *spatial) with `w` (O, C / groups, *kernel): all that a decision depends on."""

    batch: int
    channels: int
    filters: int
    groups: int
    window: Window
    dtype: str
    has_bias: bool
    x_strides: tuple[int, ...]  # bytes, as NumPy gives them
    channels_last: bool = False  # memory order of the result

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.window.input)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.filters, *self.window.output)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def group_channels(self) -> int:
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        return self.filters // self.groups

    @property
    def taps(self) -> int:
        """Products summed for one output element."""
        return self.group_channels * prod(self.window.kernel)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct sum, padding included."""
        return 2 * prod(self.y_shape) * self.taps

    @property
    def weight_bytes(self) -> int:
        return self.filters * self.taps * self.itemsize

    def empty_strides(self) -> tuple[int, ...]:
        """Strides in bytes of the result."""
        order = (0, *range(2, len(self.y_shape)), 1) if self.channels_last else range(len(self.y_shape))
        strides, step = [0] * len(self.y_shape), self.itemsize
        for axis in reversed(order):
            strides[axis] = step
            step *= self.y_shape[axis]
        return tuple(strides)

    def empty_output(self) -> np.ndarray:
        if not self.channels_last:
            return np.empty(self.y_shape, self.dtype)
        return np.moveaxis(np.empty((self.batch, *self.window.output, self.filters), self.dtype), -1, 1)


class Reference(Algorithm[ConvSpec]):
    """The specification, in NumPy: any element type."""

    name = "reference"

    def plan(self, spec):
        return ReferencePlan(spec)

    def seconds(self, spec):
        return 1e-4 + spec.flops / 1e9

    def scratch_bytes(self, spec):
        padded = spec.batch * spec.channels * prod(spec.window.padded)
        return (padded + 2 * prod(spec.y_shape)) * max(spec.itemsize, 4)


class ReferencePlan:
    layout = "as given"

    def __init__(self, spec: ConvSpec):
        self.spec = spec

    def pack(self, w, b):
        return w, b

    def __call__(self, x, packed):
        window = self.spec.window
        w, b = packed
        y = reference.conv(
            x, w, b, stride=window.stride, padding=window.pads, dilation=window.dilation, groups=self.spec.groups
        )
        if not self.spec.channels_last:
            return y
        out = self.spec.empty_output()
        out[...] = y
        return out


class Kernel(Algorithm[ConvSpec]):
    """What the compiled algorithms have in common: the element types they take."""

    def refusal(self, spec):
        if spec.dtype not in (*KERNEL_ELEMENTS, "float16"):
            return f"the kernels compute float32 and float64, the input is {spec.dtype}"
        if any(stride % spec.itemsize for stride in spec.x_strides):
            return f"the input's strides of {spec.x_strides} bytes are no multiples of its {spec.itemsize}-byte elements"
        return ""

    def plan(self, spec):
        return HalfPlan(spec, self) if spec.dtype == "float16" else self.plan_kernel(spec)


class HalfPlan:
    """float16 arrays, computed in float32."""

    def __init__(self, spec: ConvSpec, algorithm: Kernel):
        x_strides = tuple(2 * stride for stride in spec.x_strides)
        self.wide = algorithm.plan_kernel(replace(spec, dtype="float32", x_strides=x_strides))
        self.layout = self.wide.layout

    def pack(self, w, b):
        return self.wide.pack(w.astype(np.float32), None if b is None else b.astype(np.float32))

    def __call__(self, x, packed):
        return self.wide(x.astype(np.float32), packed).astype(np.float16)


class Direct(Kernel):
    """Sums taps in registers, straight from a padded chunk of the input in the cache."""

    name = "direct"

    def plan_kernel(self, spec):
        return DirectPlan(spec)

    def seconds(self, spec):
        return 2e-6 + spec.flops / 100e9

    def scratch_bytes(self, spec):
        return DirectLoops(conv_nest(spec)).step.scratch


class DirectPlan:
    def __init__(self, spec: ConvSpec):
        self.spec = spec
        self.loops = DirectLoops(conv_nest(spec))
        self.layout = self.loops.layout

    def pack(self, w, b):
        return self.loops.pack(np.ascontiguousarray(w), b)

    def __call__(self, x, packed):
        y = self.spec.empty_output()
        self.loops.step(y, x, *packed)
        return y


class Im2col(Kernel):
    """Copies every window into a column of a matrix, and multiplies: the method of the early frameworks."""

    name = "im2col"

    def plan_kernel(self, spec):
        return Im2colPlan(spec)

    def seconds(self, spec):
        return 4e-6 + spec.flops / 100e9 + self.scratch_bytes(spec) / 5e9

    def scratch_bytes(self, spec):
        return spec.groups * spec.taps * prod(spec.window.output) * spec.itemsize


class Im2colPlan:
    def __init__(self, spec: ConvSpec):
        self.spec = spec
        nest = conv_nest(spec)
        pixels = prod(spec.window.output)
        self.columns_shape = (spec.channels * prod(spec.window.kernel), pixels)
        sizes = {"x_channel": nest.x_strides[1]}
        for name, plural, axis in zip(("depth", "row", "column"), ("depth", "rows", "columns"), nest.axes, strict=True):
            sizes |= {
                f"x_{name}": axis.x_stride,
                f"in_{plural}": axis.input,
                f"out_{plural}": axis.output,
                f"kernel_{plural}": axis.kernel,
                f"pad_{name}": axis.before,
                f"stride_{name}": axis.stride,
                f"dilation_{name}": axis.dilation,
            }
        kernels = family("im2col", spec.dtype).KERNELS
        self.step = Step(kernels["columns"], sizes, tasks=spec.channels, threads=1 + spec.flops // THREAD_FLOPS)
        y_step = spec.filters if spec.channels_last else 1
        self.product = DirectLoops(
            replace(
                nest,
                images=1,
                channels=spec.taps,
                x_strides=(0, pixels),
                axes=merge([Axis(pixels, pixels, 1, 1, 1, 0, 1, y_step)]),
            )
        )
        self.layout = self.product.layout

    def pack(self, w, b):
        return self.product.pack(np.ascontiguousarray(w), b)

    def __call__(self, x, packed):
        y = self.spec.empty_output()
        columns = np.empty(self.columns_shape, self.spec.dtype)
        for image in range(self.spec.batch):
            self.step(columns, x[image])
            self.product.step(y[image], columns, *packed)
        return y


def conv_nest(spec: ConvSpec) -> Nest:
    """The loops of a convolution; spatial axes that the kernel cannot tell apart become one."""
    window = spec.window
    size = spec.itemsize
    x_image, x_channel, *x_axes = (stride // size for stride in spec.x_strides)
    y_image, y_channel, *y_axes = (stride // size for stride in spec.empty_strides())
    axes = [
        Axis(*axis)
        for axis in zip(
            window.input,
            window.output,
            window.kernel,
            window.stride,
            window.dilation,
            (before for before, _ in window.pads),
            x_axes,
            y_axes,
            strict=True,
        )
    ]
    return Nest(
        spec.dtype,
        spec.batch,
        spec.groups,
        spec.group_channels,
        spec.group_filters,
        (x_image, x_channel),
        (y_image, y_channel),
        merge(axes),
    )


CONV = Op("convolution", (Direct(), Im2col(), Reference()))


def conv_plan(x, w, b, stride, padding, dilation, groups: int, algorithm: str):
    """The plan for these arrays, checked and chosen once per combination; ``plan(x, plan.pack(w, b))`` is the result.

    `x` is batched, `w` (O, C / groups, *kernel).  Raises :class:`ArgumentError` and :class:`ArgumentTypeError`.
    """
    try:
        return _plan(
            x.shape,
            x.strides,
            x.dtype,
            w.shape,
            w.dtype,
            None if b is None else (b.shape, b.dtype),
            stride,
            padding,
            dilation,
            groups,
            is_channels_last(x) or is_channels_last(w),
            algorithm,
            engine.get_threads(),
        )
    except TypeError:
        if all(map(_is_hashable, (stride, padding, dilation, groups, algorithm))):
            raise
        return conv_plan(x, w, b, _frozen(stride), _frozen(padding), _frozen(dilation), groups, algorithm)


@plan_cache
def _plan(x_shape, x_strides, x_type, w_shape, w_type, b, stride, padding, dilation, groups, last, algorithm, threads):
    spec = conv_spec(x_shape, x_strides, x_type, w_shape, w_type, b, stride, padding, dilation, groups, last)
    return CONV.choose(spec, algorithm).plan(spec)


def conv_spec(
    x_shape, x_strides, x_type, w_shape, w_type, b, stride, padding, dilation, groups, channels_last=False
) -> ConvSpec:
    """Check shapes and types, and state them; `b` is None or (shape, type)."""
    rank = len(w_shape) - 2
    groups = integer(groups, "groups", 1)
    if len(x_shape) != len(w_shape):
        raise ArgumentError(
            f"input: expected {rank + 1} axes (C, *spatial) or {rank + 2} (N, C, *spatial), got shape {x_shape}"
        )
    if x_type != w_type or (b is not None and b[1] != x_type):
        types = f"input {x_type}, weight {w_type}" + ("" if b is None else f", bias {b[1]}")
        raise ArgumentTypeError(f"input, weight and bias: expected one element type, got {types}; convert with astype()")
    if x_type.kind == "b":
        raise ArgumentTypeError("input: convolution of bool arrays is not defined; convert with astype()")
    filters, channels = w_shape[0], w_shape[1] * groups
    if filters % groups:
        raise ArgumentError(f"groups: {groups} groups do not divide the {filters} filters of the weight {w_shape}")
    if x_shape[1] != channels:
        looks_nhwc = len(x_shape) == 4 and x_shape[-1] == channels
        raise ArgumentError(
            f"input: expected {channels} channels for the weight {w_shape} with groups={groups}, "
            f"got {x_shape[1]} in shape {x_shape}"
            + ("; the array looks like NHWC: pass numpy.moveaxis(x, -1, 1)" if looks_nhwc else "")
        )
    if b is not None and b[0] != (filters,):
        raise ArgumentError(f"bias: expected shape ({filters},), one value per filter, got {b[0]}")
    if filters < 1 or min(w_shape[2:]) < 1:
        raise ArgumentError(f"weight: expected at least one filter and one tap, got shape {w_shape}")
    window = Window.of(x_shape[2:], w_shape[2:], stride, padding, dilation)
    element_count((x_shape[0], filters, *window.output), "output")
    return ConvSpec(
        x_shape[0], channels, filters, groups, window, x_type.name, b is not None, x_strides, channels_last
    )


def _is_hashable(value) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _frozen(value):
    """Lists and arrays of sizes as tuples."""
    return tuple(map(_frozen, value)) if is_sequence(value) else value
