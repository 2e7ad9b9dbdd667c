"""Winograd's transposed convolution with a stride of 2: its plan, and what it is predicted to take."""

from __future__ import annotations

from functools import cache, lru_cache
from math import prod

import numpy as np

from fastconv.ops.conv_spec import empty_result
from fastconv.ops.conv_transpose_spec import ConvTransposeSpec, by_filter
from fastconv.ops.cost import CALL_SECONDS
from fastconv.ops.nest import UNIT_AXIS, Axis, Nest
from fastconv.ops.weighted import PACK_BYTES, WeightedKernel, uneven_strides
from fastconv.ops.winograd import WinogradLoops
from fastconv.ops.winograd_error import winograd_error
from fastconv.ops.winograd_forms import Forms, TransposedForm
from fastconv.ops.winograd_tiling import winograd_flops, winograd_seconds

__all__ = ["Winograd", "transposed_winograd"]

KERNELS = (3, 3), (4, 4)


class Winograd(WeightedKernel[ConvTransposeSpec]):
    """Fewer products for every second row and column of the output: 39 % for 4×4 taps, 56 % for 3×3."""

    name = "winograd"

    def refusal(self, spec):
        if spec.kernel not in KERNELS:
            return f"it computes kernels of 3×3 and 4×4, this one has {spec.kernel}"
        if spec.stride != (2, 2) or spec.dilation != (1, 1):
            return f"it needs stride 2 and dilation 1, got {spec.stride} and {spec.dilation}"
        if spec.pads[0][0] % 2 != spec.pads[1][0] % 2:
            return f"padding before rows and before columns must both be even or both odd, got {spec.pads}"
        if spec.kernel == (3, 3) and spec.pads[0][0] % 2 == 0:
            return f"with 3×3 taps it needs an odd padding before rows and columns, got {spec.pads}"
        return super().refusal(spec) or uneven_strides(spec)

    def plan(self, spec):
        return WinogradPlan(spec)

    def flops(self, spec):
        return winograd_flops(_nest(spec), transposed=forms_of(spec))

    def seconds(self, spec):
        return CALL_SECONDS + winograd_seconds(_nest(spec), transposed=forms_of(spec))

    def pack_seconds(self, spec):
        points = prod(form.points for form in forms_of(spec))
        return spec.channels * (spec.filters // spec.groups) * points * spec.itemsize / PACK_BYTES

    def scratch_bytes(self, spec):
        return transposed_winograd(spec).step.scratch

    def error_bound(self, spec):
        return winograd_error(forms_of(spec), spec.channels // spec.groups, spec.dtype)


class WinogradPlan:
    def __init__(self, spec: ConvTransposeSpec):
        self.spec = spec
        self.loops = transposed_winograd(spec)
        self.layout = (*self.loops.layout, spec.groups)

    def pack(self, w, b):
        return self.loops.pack(weights(self.spec, w), b)

    def __call__(self, x, packed):
        spec = self.spec
        y = empty_result(spec.y_shape, spec.dtype, spec.channels_last)
        self.loops.step(y, x, *packed)
        return y


def transposed_winograd(spec: ConvTransposeSpec, **clamp: float) -> WinogradLoops:
    """The loops; `clamp` are `low` and `high` of a nest."""
    return WinogradLoops(_nest(spec, **clamp), transposed=forms_of(spec))


def weights(spec: ConvTransposeSpec, w: np.ndarray) -> np.ndarray:
    """Contiguous (filters, channels, *kernel), as the loops pack them."""
    ordered = np.ascontiguousarray(by_filter(spec, w))
    return ordered.reshape(spec.filters, -1, *spec.kernel)


@cache
def _forms(kernel: tuple[int, int], odd: int) -> Forms:
    down, across = (TransposedForm(taps, odd) for taps in kernel)
    return down, across


def forms_of(spec: ConvTransposeSpec) -> Forms:
    """What padding takes away, beyond one, moves the input alone."""
    return _forms(spec.kernel, spec.pads[0][0] % 2)


@lru_cache(maxsize=64)
def _nest(spec: ConvTransposeSpec, **clamp: float) -> Nest:
    """Axes have the taps of an output, and begin at the first value of the first tile."""
    (x_image, x_channel, *x_axes), (y_image, y_channel, *y_axes) = spec.element_strides
    axes = [
        Axis(size, output, (form.taps + 1) // 2, 1, 1, -min(form.starts) - before // 2, x_stride, y_stride)
        for size, output, form, (before, _), x_stride, y_stride in zip(
            spec.input, spec.output, forms_of(spec), spec.pads, x_axes, y_axes, strict=True
        )
    ]
    return Nest(
        spec.dtype,
        spec.batch,
        spec.groups,
        spec.channels // spec.groups,
        spec.filters // spec.groups,
        (x_image, x_channel),
        (y_image, y_channel),
        (UNIT_AXIS, *axes),
        **clamp,
    )
