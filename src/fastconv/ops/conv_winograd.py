"""Convolution by Winograd's algorithm, as rows of the op table."""

from __future__ import annotations

from math import prod

from fastconv.geometry import Window
from fastconv.ops.conv_kernel import Kernel, LoopsPlan, conv_nest, kernel_nest
from fastconv.ops.conv_spec import ConvSpec
from fastconv.ops.cost import CALL_SECONDS
from fastconv.ops.weighted import PACK_BYTES
from fastconv.ops.winograd_error import winograd_error, winograd_errors, winograd_forms
from fastconv.ops.winograd_forms import LARGE_FORMS, SMALL_FORMS, STRIDED_FORMS
from fastconv.ops.winograd_lanes import loops_seconds, winograd_loops
from fastconv.ops.winograd_tiling import MOST_DEPTH, MOST_SPREAD, MOST_TAPS, strided_forms, winograd_flops

__all__ = ["LargeWinograd", "Winograd"]


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
