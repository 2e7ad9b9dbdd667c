"""Convolution as a product with the matrix of all windows."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.conv_kernel import Kernel, conv_nest, kernel_nest
from fastconv.ops.conv_spec import ConvSpec
from fastconv.ops.cost import CALL_SECONDS, moving_seconds
from fastconv.ops.direct import direct_loops, direct_seconds
from fastconv.ops.filter_lanes import ELEMENT_SECONDS, REGISTER_SECONDS
from fastconv.ops.nest import THREAD_FLOPS, Axis, Nest, merge, nest_bytes

__all__ = ["Im2col"]

COLUMN_SECONDS = 7e-9  # each line of im2col's matrix, beside its elements


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


def columns_seconds(nest: Nest) -> float:
    """Predicted time in which the windows of one image become columns, each tap a line for every output row."""
    depth, down, across = nest.axes
    lines = nest.groups * nest.taps * depth.output * down.output
    if across.x_stride == across.stride == 1:
        return lines * (COLUMN_SECONDS + across.output * REGISTER_SECONDS / family("conv", nest.dtype).TILE["lanes"])
    return lines * (COLUMN_SECONDS + across.output * ELEMENT_SECONDS)
