"""Fully connected layers: their spec, and the algorithms that compute them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from fastconv import machine, reference
from fastconv._kernels import engine, family
from fastconv._kernels.engine import Step
from fastconv.errors import ArgumentError
from fastconv.geometry import element_count
from fastconv.ops.arguments import word
from fastconv.ops.direct import direct_loops
from fastconv.ops.nest import THREAD_BYTES, UNIT_AXIS, Axis, Nest
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.weighted import PACK_BYTES, WeightedKernel, WeightedReference, check_types

__all__ = ["FEW_IMAGES", "LINEAR", "LinearSpec", "linear_plan"]

MOST_IMAGES = 32
TASK_OUTPUTS = 16
MEMORY_BYTES = 27e9  # per second


@dataclass(frozen=True)
class LinearSpec:
    """`x` (images, inputs), contiguous, times the transpose of `w` (outputs, inputs)."""

    images: int
    inputs: int
    outputs: int
    dtype: str

    @property
    def taps(self) -> int:
        return self.inputs

    @property
    def flops(self) -> int:
        return 2 * self.images * self.inputs * self.outputs

    @property
    def weight_bytes(self) -> int:
        return self.inputs * self.outputs * np.dtype(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Bytes of input, weights and output, each counted once."""
        return (self.images * (self.inputs + self.outputs)) * np.dtype(self.dtype).itemsize + self.weight_bytes


class FewImages(WeightedKernel[LinearSpec]):
    """Dot products at the speed at which the weights come from memory; nothing is packed."""

    name = "few_images"

    def refusal(self, spec):
        if spec.images > MOST_IMAGES:
            return f"it is made for at most {MOST_IMAGES} images, and there are {spec.images}"
        return super().refusal(spec)

    def plan(self, spec):
        return FewImagesPlan(spec)

    def seconds(self, spec):
        sums = spec.images * spec.outputs * 4e-9  # across the lanes
        return 0.6e-6 + _stream_seconds(spec, 105e9, 67e9, 93e9, sums)

    def scratch_bytes(self, spec):
        return few_images_scratch(spec)


def _stream_seconds(spec: LinearSpec, level_2: float, level_3: float, flops: float, sums: float = 0.0) -> float:
    """Time for reading the weights at the rate of the cache that holds them, bytes per second, or for products and sums.

    From memory both algorithms read at the same rate: packed copies of large weights would buy nothing.
    """
    rates = {machine.cache_bytes(3): level_3, machine.cache_bytes(2): level_2}
    rate = min((size, rate) for size, rate in [*rates.items(), (inf, MEMORY_BYTES)] if spec.weight_bytes <= size)[1]
    return max(spec.weight_bytes / rate, spec.flops * np.dtype(spec.dtype).itemsize / 4 / flops + sums)


def few_images_scratch(spec: LinearSpec) -> int:
    """Bytes of the images side by side; one alone is read where it lies."""
    if spec.images == 1:
        return 0
    dtype = "float64" if spec.dtype == "float64" else "float32"
    lanes = family("conv", dtype).TILE["lanes"]
    return 64 + spec.images * ceil(spec.inputs / lanes) * lanes * np.dtype(dtype).itemsize


class FewImagesPlan:
    def __init__(self, spec: LinearSpec):
        self.spec = spec
        self.y_shape = (spec.images, spec.outputs)
        self.dtype = np.dtype("float64" if spec.dtype == "float64" else "float32")
        self.is_wide = self.dtype.name != spec.dtype
        self.layout = ("wide", self.dtype) if self.is_wide else None
        self.step = Step(
            family("linear", self.dtype.name).KERNELS["few_images"],
            {"images": spec.images, "inputs": spec.inputs, "outputs": spec.outputs, "task_outputs": TASK_OUTPUTS},
            inputs=3,
            tasks=ceil(spec.outputs / TASK_OUTPUTS),
            scratch=few_images_scratch(spec),
            threads=1 + spec.weight_bytes // (4 * THREAD_BYTES),
        )

    def pack(self, w, b):
        bias = np.zeros(self.spec.outputs, self.dtype) if b is None else np.ascontiguousarray(b, self.dtype)
        return np.ascontiguousarray(w, self.dtype), bias

    def __call__(self, x, packed):
        y = np.empty(self.y_shape, self.dtype)
        if self.is_wide:
            self.step(y, x.astype(self.dtype), *packed)
            return y.astype(self.spec.dtype)
        self.step(y, x, *packed)
        return y


class Product(WeightedKernel[LinearSpec]):
    """A matrix product through the tile of the direct convolution: the batch takes the place of the pixels."""

    name = "direct"

    def plan(self, spec):
        return ProductPlan(spec)

    def seconds(self, spec):
        return 1e-6 + _stream_seconds(spec, 90e9, 78e9, 100e9)

    def pack_seconds(self, spec):
        return spec.weight_bytes / PACK_BYTES


class ProductPlan:
    def __init__(self, spec: LinearSpec):
        self.spec = spec
        self.dtype = "float64" if spec.dtype == "float64" else "float32"
        images = Axis(spec.images, spec.images, 1, 1, 1, 0, spec.inputs, spec.outputs)
        self.loops = direct_loops(
            Nest(self.dtype, 1, 1, spec.inputs, spec.outputs, (0, 1), (0, 1), (UNIT_AXIS, UNIT_AXIS, images))
        )
        self.layout = self.loops.layout

    def pack(self, w, b):
        return self.loops.pack(np.ascontiguousarray(w, self.dtype), b)

    def __call__(self, x, packed):
        y = np.empty((self.spec.images, self.spec.outputs), self.dtype)
        self.loops.step(y, x.astype(self.dtype, copy=False), *packed)
        return y.astype(self.spec.dtype, copy=False)


class Reference(WeightedReference[LinearSpec]):
    def plan(self, spec):
        return ReferencePlan()

    def seconds(self, spec):
        return 1e-5 + spec.flops / 5e9


class ReferencePlan:
    layout = None

    def pack(self, w, b):
        return w, b

    def __call__(self, x, packed):
        return reference.linear(x, *packed)


FEW_IMAGES = FewImages()
LINEAR = Op("linear layer", (FEW_IMAGES, Product(), Reference()))


def linear_plan(x, w, b, algorithm="auto", packed=False):
    """The plan for `x` (images, inputs), `w` (outputs, inputs) and `b` (outputs,) or None: ``plan(x, plan.pack(w, b))``.

    `packed` says that the caller keeps the packed weights.
    """
    bias = None if b is None else (b.shape, b.dtype)
    return _plan(x.shape, x.dtype, w.shape, w.dtype, bias, word(algorithm, "algorithm"), packed, engine.get_threads())


@plan_cache
def _plan(x_shape, x_type, w_shape, w_type, b, algorithm, packed, threads):
    (images, inputs), (outputs, expected) = x_shape, w_shape
    check_types(x_type, w_type, b)
    if inputs != expected:
        raise ArgumentError(
            f"input: expected {expected} features in the last axis for the weight {w_shape}, got {inputs}"
            "; if the input comes from a convolution or pooling layer, a Flatten is missing before this layer"
        )
    if b is not None and b[0] != (outputs,):
        raise ArgumentError(f"bias: expected shape ({outputs},), one value per output, got {b[0]}")
    element_count((images, outputs), "output")
    spec = LinearSpec(images, inputs, outputs, x_type.name)
    return LINEAR.choose(spec, algorithm, packed).plan(spec)
