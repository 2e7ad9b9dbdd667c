"""Fully connected layers: their spec, and the algorithms that compute them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np

from fastconv import machine, reference
from fastconv._kernels import family, team
from fastconv._kernels.engine import Step
from fastconv.arrays import aligned_empty
from fastconv.errors import ArgumentError
from fastconv.geometry import element_count
from fastconv.ops.arguments import word
from fastconv.ops.direct import FilterLanes, direct_loops
from fastconv.ops.nest import THREAD_BYTES, UNIT_AXIS, Axis, Nest, filter_panels, packed_bias
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.weighted import PACK_BYTES, WeightedKernel, WeightedReference, check_types

__all__ = ["FEW_IMAGES", "LINEAR", "PANELS", "LinearSpec", "halved", "linear_plan", "stores_half"]

MOST_IMAGES = 32
CHECKED_OUTPUTS = 64  # at a time
TASK_OUTPUTS = 16

# Bytes of weights read in a second from the second-level cache, from the third and from memory, and operations.
ROW_RATES, TILE_RATES, PANEL_RATES = (105e9, 67e9, 27e9), (90e9, 78e9, 30e9), (97e9, 92e9, 34e9)
ROW_FLOPS, TILE_FLOPS, PANEL_FLOPS = 93e9, 100e9, 110e9
HALF_ROUNDING = 2.0**-11  # the largest of a weight to float16, relative to it; the smallest numbers have larger ones
CHAIN_SECONDS = 1.1e-9  # from a sum to the next that continues it


@dataclass(frozen=True)
class LinearSpec:
    """`x` (images, inputs), contiguous, times the transpose of `w` (outputs, inputs).

    `weights` is the element type of `w` where it is not that of `x`: "float16" beside float32; `rounded` where they were
    rounded to it, which is part of the error.
    """

    images: int
    inputs: int
    outputs: int
    dtype: str
    weights: str = ""
    rounded: bool = False

    @property
    def taps(self) -> int:
        return self.inputs

    @property
    def flops(self) -> int:
        return 2 * self.images * self.inputs * self.outputs

    @property
    def computed(self) -> str:
        """The element type in which the kernels compute."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def stored(self) -> str:
        """The element type of the weights."""
        return self.weights or self.dtype

    @property
    def weight_bytes(self) -> int:
        return self.inputs * self.outputs * np.dtype(self.stored).itemsize

    @property
    def computed_bytes(self) -> int:
        """Bytes of the weights in the type in which the kernels compute."""
        return self.inputs * self.outputs * np.dtype(self.computed).itemsize

    @property
    def bytes(self) -> int:
        """Bytes of input, weights and output, each counted once."""
        return (self.images * (self.inputs + self.outputs)) * np.dtype(self.dtype).itemsize + self.weight_bytes


class LinearKernel(WeightedKernel[LinearSpec]):
    """A compiled row."""

    def error_bound(self, spec):
        return super().error_bound(spec) + spec.rounded * HALF_ROUNDING


class FewImages(LinearKernel):
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
        return 0.6e-6 + max(
            spec.computed_bytes / _rate(spec.computed_bytes, ROW_RATES), _product_seconds(spec, ROW_FLOPS) + sums
        )

    def scratch_bytes(self, spec):
        return few_images_scratch(spec)


def _rate(size: int, rates: tuple[float, float, float]) -> float:
    """Bytes of weights read in a second, of `size` bytes that stay in the smallest cache that holds them."""
    level_2, level_3, memory = rates
    places = {machine.cache_bytes(3): level_3, machine.cache_bytes(2): level_2, inf: memory}
    return places[min(place for place in places if size <= place)]


def _product_seconds(spec: LinearSpec, flops: float) -> float:
    return spec.flops * np.dtype(spec.computed).itemsize / 4 / flops


def few_images_scratch(spec: LinearSpec) -> int:
    """Bytes of the images side by side; one alone is read where it lies."""
    if spec.images == 1:
        return 0
    lanes = family("conv", spec.computed).TILE["lanes"]
    return 64 + spec.images * ceil(spec.inputs / lanes) * lanes * np.dtype(spec.computed).itemsize


class LinearPlan:
    """A step on arrays of the computed type; float16 inputs are widened for it, and its results rounded."""

    step: Step

    def __init__(self, spec: LinearSpec):
        self.spec = spec
        self.y_shape = (spec.images, spec.outputs)
        self.dtype = self.weight_type = np.dtype(spec.computed)  # the second that of packed weights
        self.is_wide = self.dtype.name != spec.dtype

    def __call__(self, x, packed):
        y = np.empty(self.y_shape, self.dtype)
        if self.is_wide:
            self.step(y, x.astype(self.dtype), *packed)
            with np.errstate(over="ignore"):
                return y.astype(self.spec.dtype)
        self.step(y, x, *packed)
        return y


class FewImagesPlan(LinearPlan):
    def __init__(self, spec: LinearSpec):
        super().__init__(spec)
        self.layout = None if spec.stored == spec.computed else ("wide", self.dtype)
        self.step = Step(
            family("linear", spec.computed).KERNELS["few_images"],
            {"images": spec.images, "inputs": spec.inputs, "outputs": spec.outputs, "task_outputs": TASK_OUTPUTS},
            inputs=3,
            tasks=ceil(spec.outputs / TASK_OUTPUTS),
            scratch=few_images_scratch(spec),
            threads=_threads(spec),
        )

    def pack(self, w, b):
        bias = np.zeros(self.spec.outputs, self.dtype) if b is None else np.ascontiguousarray(b, self.dtype)
        return np.ascontiguousarray(w, self.dtype), bias


def _threads(spec: LinearSpec) -> int:
    return 1 + spec.weight_bytes // (4 * THREAD_BYTES)


class Panels(LinearKernel):
    """Few images times weights in the panels of the direct convolution, as fast as they can be read.

    The bits are those of ``direct``.  float16 weights are kept as they are, and widened in the registers, where
    an instruction does that.
    """

    name = "panels"

    def plan(self, spec):
        return PanelsPlan(spec)

    def seconds(self, spec):
        panel, _ = _panel_shape(spec)
        panels = ceil(spec.outputs / panel)
        size = spec.weight_bytes if _keeps_half(spec) else spec.computed_bytes
        reading = size / _rate(size, PANEL_RATES)
        if spec.images == 1:  # panels that are left over wait for their own sums
            alone = panels % (_panel_kernels(spec).TASK_OUTPUTS // panel)
            reading = reading * (1 - alone / max(panels, 1)) + alone * spec.inputs * CHAIN_SECONDS
        passes = sum(divmod(spec.images, 4)) - (spec.images % 4 > 1)  # by four images, by two, by one
        waiting = panels * spec.inputs * CHAIN_SECONDS * passes if spec.images > 1 else 0.0
        return 0.6e-6 + max(reading, waiting, _product_seconds(spec, PANEL_FLOPS))

    def pack_seconds(self, spec):
        return spec.weight_bytes / PACK_BYTES


def halved(spec: LinearSpec) -> LinearSpec:
    """The same with float32 weights that are rounded to float16."""
    return replace(spec, weights="float16", rounded=True)


def stores_half(w: np.ndarray) -> bool:
    """Whether float32 weights (outputs, inputs) may be stored as float16.

    An instruction widens them; every value is finite and stays so; and the roundings for each output are within
    HALF_ROUNDING of the sum of its weights, which many tiny ones might exceed.
    """
    if w.dtype != np.float32 or not family("linear", "float32", half=True).READS_HALF:
        return False
    for first in range(0, len(w), CHECKED_OUTPUTS):
        part = w[first : first + CHECKED_OUTPUTS]
        with np.errstate(over="ignore", invalid="ignore"):
            errors = np.abs(part.astype(np.float16) - part).sum(axis=1, dtype=np.float64)
            allowed = np.abs(part).sum(axis=1, dtype=np.float64) * HALF_ROUNDING
        if not (errors <= allowed).all():
            return False
    return True


def _keeps_half(spec: LinearSpec) -> bool:
    """Whether the weights are packed as float16: where an instruction widens them."""
    return spec.stored == "float16" and family("linear", "float32", half=True).READS_HALF


def _panel_kernels(spec: LinearSpec):
    """The narrower registers are those that float16 is widened to faster."""
    return family("linear", spec.computed, half=_keeps_half(spec))


def _panel_shape(spec: LinearSpec) -> tuple[int, int]:
    """Outputs of a panel and of the last one."""
    return filter_panels(spec.outputs, family("conv", spec.computed, half=_keeps_half(spec)).TILE)


def _nest(spec: LinearSpec) -> Nest:
    """The product as a convolution: the batch takes the place of the pixels."""
    images = Axis(spec.images, spec.images, 1, 1, 1, 0, spec.inputs, spec.outputs)
    return Nest(spec.computed, 1, 1, spec.inputs, spec.outputs, (0, 1), (0, 1), (UNIT_AXIS, UNIT_AXIS, images))


class PanelsPlan(LinearPlan):
    def __init__(self, spec: LinearSpec):
        super().__init__(spec)
        self.half = _keeps_half(spec)
        if self.half:
            self.weight_type = np.dtype(np.float16)
        kernels = _panel_kernels(spec)
        self.panel, self.last_panel = _panel_shape(spec)
        self.loops = None if self.half else FilterLanes(_nest(spec))
        self.step = Step(
            kernels.KERNELS["panels"],
            {"images": spec.images, "inputs": spec.inputs, "outputs": spec.outputs, "half": self.half},
            inputs=3,
            tasks=ceil(spec.outputs / kernels.TASK_OUTPUTS),
            threads=_threads(spec),
        )

    @property
    def layout(self):
        """Without float16 that of the direct convolution: a layer packs its weights once for both."""
        return ("half panels", self.panel, self.last_panel) if self.half else self.loops.layout

    @property
    def packed_elements(self) -> tuple[int, int]:
        """Sizes of the packed weights and bias."""
        filled = (ceil(self.spec.outputs / self.panel) - 1) * self.panel + self.last_panel
        return filled * self.spec.inputs, filled

    def pack(self, w, b, empty=aligned_empty):
        """Weights (outputs, inputs) and bias, in panels."""
        if not self.half:
            return self.loops.pack(np.ascontiguousarray(w, self.dtype), b, empty)
        elements, filled = self.packed_elements
        packed = empty(elements, self.weight_type)
        whole = (self.spec.outputs - 1) // self.panel * self.panel
        panels = packed[: whole * self.spec.inputs].reshape(-1, self.spec.inputs, self.panel)
        panels[...] = w[:whole].reshape(-1, self.panel, self.spec.inputs).swapaxes(1, 2)
        last = packed[whole * self.spec.inputs :].reshape(self.spec.inputs, self.last_panel)
        last[:, : self.spec.outputs - whole] = w[whole:].T
        last[:, self.spec.outputs - whole :] = 0
        return packed, packed_bias(_nest(self.spec), filled, b, empty)


class Product(LinearKernel):
    """A matrix product through the tile of the direct convolution: the batch takes the place of the pixels."""

    name = "direct"

    def plan(self, spec):
        return ProductPlan(spec)

    def seconds(self, spec):
        return 1e-6 + max(
            spec.computed_bytes / _rate(spec.computed_bytes, TILE_RATES), _product_seconds(spec, TILE_FLOPS)
        )

    def pack_seconds(self, spec):
        return spec.computed_bytes / PACK_BYTES


class ProductPlan(LinearPlan):
    def __init__(self, spec: LinearSpec):
        super().__init__(spec)
        self.loops = direct_loops(_nest(spec))
        self.layout, self.step, self.packed_elements = self.loops.layout, self.loops.step, self.loops.packed_elements

    def pack(self, w, b, empty=aligned_empty):
        return self.loops.pack(np.ascontiguousarray(w, self.dtype), b, empty)


class Reference(WeightedReference[LinearSpec]):
    def plan(self, spec):
        return ReferencePlan(spec)

    def seconds(self, spec):
        return 1e-5 + spec.flops / 5e9


class ReferencePlan:
    def __init__(self, spec: LinearSpec):
        self.dtype = np.dtype(spec.dtype)
        self.layout = ("wide", self.dtype) if spec.weights else None

    def pack(self, w, b):
        return w.astype(self.dtype, copy=False), None if b is None else b.astype(self.dtype, copy=False)

    def __call__(self, x, packed):
        return reference.linear(x, *packed)


FEW_IMAGES = FewImages()
PANELS = Panels()
LINEAR = Op("linear layer", (FEW_IMAGES, PANELS, Product(), Reference()))


def linear_plan(x, w, b, algorithm="auto", packed=False):
    """The plan for `x` (images, inputs), `w` (outputs, inputs) and `b` (outputs,) or None: ``plan(x, plan.pack(w, b))``.

    `packed` says that the caller keeps the packed weights.  float16 weights beside a float32 `x` are widened.
    """
    bias = None if b is None else (b.shape, b.dtype)
    return _plan(x.shape, x.dtype, w.shape, w.dtype, bias, word(algorithm, "algorithm"), packed, team.get_threads())


@plan_cache
def _plan(x_shape, x_type, w_shape, w_type, b, algorithm, packed, threads):
    (images, inputs), (outputs, expected) = x_shape, w_shape
    narrow = x_type == np.float32 and w_type == np.float16 and (b is None or b[1] in (x_type, w_type))
    if not narrow:
        check_types(x_type, w_type, b)
    if inputs != expected:
        raise ArgumentError(
            f"input: expected {expected} features in the last axis for the weight {w_shape}, got {inputs}"
            "; if the input comes from a convolution or pooling layer, a Flatten is missing before this layer"
        )
    if b is not None and b[0] != (outputs,):
        raise ArgumentError(f"bias: expected shape ({outputs},), one value per output, got {b[0]}")
    element_count((images, outputs), "output")
    spec = LinearSpec(images, inputs, outputs, x_type.name, w_type.name if narrow else "")
    return LINEAR.choose(spec, algorithm, packed).plan(spec)
