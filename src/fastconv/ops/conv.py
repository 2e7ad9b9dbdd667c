"""Convolution: the algorithms that compute it, and their plans."""

from __future__ import annotations

from math import prod

from fastconv import reference
from fastconv._kernels import team
from fastconv.arrays import is_channels_last
from fastconv.ops.arguments import settled, word
from fastconv.ops.conv_fft import FFT
from fastconv.ops.conv_im2col import Im2col
from fastconv.ops.conv_kernel import Kernel, LoopsPlan, conv_nest, kernel_nest
from fastconv.ops.conv_spec import ConvSpec, conv_spec
from fastconv.ops.conv_winograd import LargeWinograd, Winograd
from fastconv.ops.cost import CALL_SECONDS
from fastconv.ops.direct import DirectLoops, direct_loops, direct_seconds
from fastconv.ops.elementwise import ACTIVATIONS
from fastconv.ops.filter_lanes import FilterLanes, trimmed_seconds, trimmed_share
from fastconv.ops.linear import FEW_IMAGES, LinearSpec
from fastconv.ops.nest import Nest
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.weighted import WeightedReference

__all__ = [
    "CONV",
    "EPILOGUES",
    "as_linear",
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
