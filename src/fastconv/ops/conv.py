"""Convolution: the algorithms that compute it, and their plans."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod

import numpy as np

from fastconv import reference
from fastconv._kernels import family, team
from fastconv._kernels.engine import Step
from fastconv.arrays import is_channels_last
from fastconv.geometry import Window
from fastconv.ops.arguments import settled, word
from fastconv.ops.conv_fft import FFT
from fastconv.ops.conv_spec import ConvSpec, conv_spec, empty_result, result_strides
from fastconv.ops.cost import CALL_SECONDS, moving_seconds
from fastconv.ops.direct import (
    DirectLoops,
    FilterLanes,
    columns_seconds,
    direct_loops,
    direct_seconds,
    trimmed_seconds,
    trimmed_share,
)
from fastconv.ops.elementwise import ACTIVATIONS
from fastconv.ops.linear import FEW_IMAGES, LinearSpec
from fastconv.ops.nest import THREAD_FLOPS, Axis, Nest, merge, nest_bytes
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.weighted import PACK_BYTES, WeightedKernel, WeightedReference, uneven_strides
from fastconv.ops.winograd import WinogradLoops
from fastconv.ops.winograd_error import winograd_error, winograd_errors, winograd_forms
from fastconv.ops.winograd_forms import LARGE_FORMS, SMALL_FORMS, STRIDED_FORMS
from fastconv.ops.winograd_lanes import loops_seconds, winograd_loops
from fastconv.ops.winograd_tiling import MOST_DEPTH, MOST_SPREAD, MOST_TAPS, strided_forms, winograd_flops

__all__ = [
    "CALL_SECONDS",
    "CONV",
    "EPILOGUES",
    "as_linear",
    "conv_nest",
    "conv_plan",
    "trimmed_loops",
]

EPILOGUES = frozenset(ACTIVATIONS)  # activations that the kernels apply to their own results


class Reference(WeightedReference[ConvSpec]):
    def plan(self, spec):
        return ReferencePlan(spec)

    def scratch_bytes(self, spec):
        padded = spec.batch * spec.channels * prod(spec.window.padded)
        return (padded + 2 * prod(spec.y_shape)) * max(spec.itemsize, 4)


class ReferencePlan:
    layout = None

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


class Kernel(WeightedKernel[ConvSpec]):
    """What the compiled algorithms have in common."""

    def refusal(self, spec):
        return super().refusal(spec) or uneven_strides(spec)

    def plan(self, spec):
        return HalfPlan(spec, self) if spec.dtype == "float16" else self.plan_kernel(spec)

    def pack_seconds(self, spec):
        return spec.weight_bytes / PACK_BYTES


class HalfPlan:
    """float16 arrays, computed in float32 from a compact copy."""

    def __init__(self, spec: ConvSpec, algorithm: Kernel):
        self.x_shape = (spec.batch, spec.channels, *spec.window.input)
        self.channels_last = spec.channels_last
        x_strides = result_strides(self.x_shape, 4, self.channels_last)
        self.wide = algorithm.plan_kernel(replace(spec, dtype="float32", x_strides=x_strides))
        self.layout = self.wide.layout

    def pack(self, w, b):
        return self.wide.pack(w.astype(np.float32), None if b is None else b.astype(np.float32))

    def __call__(self, x, packed):
        wide = empty_result(self.x_shape, np.float32, self.channels_last)
        wide[...] = x
        with np.errstate(over="ignore"):
            return self.wide(wide, packed).astype(np.float16)


class Direct(Kernel):
    """Sums taps in registers, straight from a padded chunk of the input in the cache."""

    name = "direct"

    def plan_kernel(self, spec):
        return LoopsPlan(spec, direct_loops(conv_nest(spec)))

    def seconds(self, spec):
        return CALL_SECONDS + direct_seconds(kernel_nest(spec))

    def scratch_bytes(self, spec):
        return direct_loops(kernel_nest(spec)).step.scratch


class Trimmed(Kernel):
    """Direct, without the products of padding: rows and tiles leave out the taps that find only zeros.

    An infinite or NaN weight that meets the padding gives no NaN, unlike in the definition.
    """

    name = "trimmed"

    def refusal(self, spec):
        if not any(before or after for before, after in spec.window.pads):
            return "there is no padding"
        return super().refusal(spec)

    def plan_kernel(self, spec):
        return LoopsPlan(spec, trimmed_loops(conv_nest(spec)))

    def flops(self, spec):
        return round(spec.flops * trimmed_share(kernel_nest(spec)))

    def seconds(self, spec):
        return CALL_SECONDS + trimmed_seconds(kernel_nest(spec))

    def scratch_bytes(self, spec):
        return trimmed_loops(kernel_nest(spec)).step.scratch


class FewImages(Kernel):
    """One output position to an image: rows of weights times the image, all read where they lie."""

    name = "few_images"

    def refusal(self, spec):
        window = spec.window
        if prod(window.output) != 1:
            return f"it computes one output position to an image, this convolution has {prod(window.output)}"
        if spec.groups != 1 or window.kernel != window.input or any(before or after for before, after in window.pads):
            return "the window of a filter is not the whole input"
        if not _are_contiguous(spec):
            return f"the images, of strides {spec.x_strides}, are not contiguous"
        return FEW_IMAGES.refusal(as_linear(spec)) or super().refusal(spec)

    def plan_kernel(self, spec):
        return LoopsPlan(spec, FEW_IMAGES.plan(as_linear(spec)))

    def seconds(self, spec):
        return FEW_IMAGES.seconds(as_linear(spec))

    def pack_seconds(self, spec):
        return 0.0

    def scratch_bytes(self, spec):
        return FEW_IMAGES.scratch_bytes(as_linear(spec))


def as_linear(spec: ConvSpec) -> LinearSpec:
    """A convolution whose filters see all of an image, as the product that it is."""
    return LinearSpec(spec.batch, spec.taps, spec.filters, "float32" if spec.dtype == "float16" else spec.dtype)


def _are_contiguous(spec: ConvSpec) -> bool:
    shape = (spec.batch, spec.channels, *spec.window.input)
    expected = spec.itemsize
    for size, stride in zip(reversed(shape), reversed(spec.x_strides), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def trimmed_loops(nest: Nest) -> DirectLoops:
    return FilterLanes(nest, trimmed=True)


class LoopsPlan:
    """Runs the one step of direct or Winograd loops."""

    def __init__(self, spec: ConvSpec, loops: DirectLoops | WinogradLoops):
        self.spec = spec
        self.loops = loops
        self.layout = loops.layout
        self.step = loops.step
        self.y_shape = spec.y_shape
        self.dtype = np.dtype(spec.dtype)
        self.channels_last = spec.channels_last

    def pack(self, w, b):
        return self.loops.pack(np.ascontiguousarray(w), b)

    def __call__(self, x, packed):
        y = empty_result(self.y_shape, self.dtype, self.channels_last)
        self.step(y, x, *packed)
        return y


class Winograd(Kernel):
    """Fewer products, between transforms that stay in the cache: F(4×4, 3×3) makes a quarter of them, F(4×4, 5×5) 16 %.

    Kernels of other sizes are sums over blocks of taps, and one with depth is a sum over its depth.  With a stride of 2,
    3×3 taps make 56 % of the products.
    """

    name = "winograd"
    large = False

    def refusal(self, spec):
        window = spec.window
        *depth, rows, columns = (1, 1, *window.kernel)[-3:]
        if len(window.kernel) == 3 and 1 in (rows, columns):
            return f"with depth it computes kernels of several rows and columns, this one has {window.kernel}"
        if rows == columns == 1:
            return f"it computes kernels of several taps in a plane, this one has {window.kernel}"
        if max(rows, columns) > MOST_TAPS:
            return f"it computes kernels of up to {MOST_TAPS} taps along an axis, this one has {window.kernel}"
        if (rows, columns) not in SMALL_FORMS and any(step != 1 for step in window.dilation[-2:]):
            return f"it computes dilations of kernels of {_names(SMALL_FORMS)}, this one has {window.kernel}"
        if prod(depth) > MOST_DEPTH:
            return f"it computes at most {MOST_DEPTH} taps along the depth, the kernel is {window.kernel}"
        if any(step != 1 for step in window.stride[-2:]) and (refusal := self._stride_refusal(window)):
            return refusal
        if window.dilation[-1] > MOST_SPREAD and columns > 1:
            return f"it computes dilations of columns up to {MOST_SPREAD}, got {window.dilation[-1]}"
        if not spec.group_channels:
            return "there are no input channels"
        return super().refusal(spec)

    def _stride_refusal(self, window: Window) -> str:
        if window.stride[-2:] != (2, 2) or window.kernel[-2:] not in STRIDED_FORMS:
            return (
                f"it needs stride 1, or 2 along both axes of {_names(STRIDED_FORMS)} taps, got {window.stride[-2:]} of"
                f" {window.kernel[-2:]}"
            )
        if any(step != 1 for step in window.dilation[-2:]):
            return f"with a stride it needs dilation 1, got {window.dilation[-2:]}"
        return ""

    def plan_kernel(self, spec):
        return LoopsPlan(spec, winograd_loops(conv_nest(spec), self.large))

    def flops(self, spec):
        return winograd_flops(kernel_nest(spec), self.large)

    def seconds(self, spec):
        return CALL_SECONDS + loops_seconds(kernel_nest(spec), self.large)

    def pack_seconds(self, spec):
        points = prod(form.points for form in self.forms(spec))
        return spec.filters * summed_channels(spec) * points * spec.itemsize / PACK_BYTES

    def scratch_bytes(self, spec):
        return winograd_loops(kernel_nest(spec), self.large).step.scratch

    def forms(self, spec):
        window = spec.window
        if window.stride[-1] > 1:
            return strided_forms(kernel_nest(spec))
        return winograd_forms((1, *window.kernel)[-2:], summed_channels(spec), self.large)

    def error_bound(self, spec):
        return winograd_error(self.forms(spec), summed_channels(spec), spec.dtype)

    def errors(self, spec, x, w, b):
        return winograd_errors(x, w, b, spec.window, spec.groups, spec.dtype, self.forms(spec))


class LargeWinograd(Winograd):
    """The same in larger tiles, whose rounding errors are larger, too: chosen in fast precision, or by name."""

    name = "winograd_large"
    large = True
    automatic = False

    def refusal(self, spec):
        if refusal := super().refusal(spec):
            return refusal
        kernel = (1, *spec.window.kernel)[-2:]
        if kernel in SMALL_FORMS and kernel not in LARGE_FORMS:
            return f"it has large tiles for kernels of {_names(LARGE_FORMS)}, this one has {spec.window.kernel}"
        if self.forms(spec) == Winograd().forms(spec):
            return "its tiles are those of 'winograd'"
        return ""


def _names(kernels) -> str:
    *others, last = (f"{rows}×{columns}" for rows, columns in kernels)
    return f"{', '.join(others)} and {last}" if others else last


def summed_channels(spec: ConvSpec) -> int:
    """Channels of the two-dimensional sum that Winograd makes of a kernel with depth."""
    return spec.group_channels * prod(spec.window.kernel[:-2])


class Im2col(Kernel):
    """Copies every window into a column of a matrix, and multiplies: the method of the early frameworks."""

    name = "im2col"

    def plan_kernel(self, spec):
        return Im2colPlan(spec)

    def seconds(self, spec):
        nest = kernel_nest(spec)
        product = CALL_SECONDS + direct_seconds(product_nest(spec, nest))
        columns = CALL_SECONDS + columns_seconds(nest) + moving_seconds(self.scratch_bytes(spec))
        return spec.batch * (columns + product) + moving_seconds(nest_bytes(nest))

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
        self.product = direct_loops(product_nest(spec, nest))
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


def product_nest(spec: ConvSpec, nest: Nest) -> Nest:
    """The weights times the matrix of one image's columns, in the type of `nest`."""
    pixels = prod(spec.window.output)
    y_step = spec.filters if spec.channels_last else 1
    axes = merge([Axis(pixels, pixels, 1, 1, 1, 0, 1, y_step)])
    return replace(nest, images=1, channels=spec.taps, x_strides=(0, pixels), axes=axes)


def kernel_nest(spec: ConvSpec) -> Nest:
    """The loops in the element type that the kernels compute in."""
    nest = conv_nest(spec)
    return replace(nest, dtype="float32") if spec.dtype == "float16" else nest


@lru_cache(maxsize=16)
def conv_nest(spec: ConvSpec) -> Nest:
    """The loops of a convolution; spatial axes that the kernel cannot tell apart become one."""
    window = spec.window
    size = spec.itemsize
    x_image, x_channel, *x_axes = (stride // size for stride in spec.x_strides)
    y_image, y_channel, *y_axes = (stride // size for stride in result_strides(spec.y_shape, size, spec.channels_last))
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


CONV = Op("convolution", (Direct(), Trimmed(), Winograd(), LargeWinograd(), FewImages(), Im2col(), FFT(), Reference()))


def conv_plan(x, w, b, stride, padding, dilation, groups: int, algorithm: str, packed: bool = False):
    """The plan for these arrays, checked and chosen once per combination; ``plan(x, plan.pack(w, b))`` is the result.

    `x` is batched, `w` (O, C / groups, *kernel).  `packed` says that the caller keeps the packed weights.

    Raises :class:`ArgumentError` and :class:`ArgumentTypeError`.
    """
    return _plan(
        x.shape,
        x.strides,
        x.dtype,
        w.shape,
        w.dtype,
        None if b is None else (b.shape, b.dtype),
        settled(stride, "stride"),
        settled(padding, "padding"),
        settled(dilation, "dilation"),
        settled(groups, "groups"),
        is_channels_last(x) or is_channels_last(w),
        word(algorithm, "algorithm"),
        packed,
        team.get_threads(),
    )


@plan_cache
def _plan(
    x_shape, x_strides, x_type, w_shape, w_type, b, stride, padding, dilation, groups, last, algorithm, packed, threads
):
    spec = conv_spec(x_shape, x_strides, x_type, w_shape, w_type, b, stride, padding, dilation, groups, last)
    return CONV.choose(spec, algorithm, packed).plan(spec)
