"""What the compiled algorithms of a convolution have in common: their loops, and plans of one step."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from fastconv.ops.conv_spec import ConvSpec, empty_result, result_strides
from fastconv.ops.direct import DirectLoops
from fastconv.ops.nest import Axis, Nest, merge
from fastconv.ops.weighted import PACK_BYTES, WeightedKernel, uneven_strides
from fastconv.ops.winograd import WinogradLoops

__all__ = ["HalfPlan", "Kernel", "LoopsPlan", "conv_nest", "kernel_nest"]


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
