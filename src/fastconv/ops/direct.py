"""The direct convolution's loops: where every tap finds its input, and which lanes the kernel fills."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.cost import CACHE_BYTES_PER_SECOND, peak_flops
from fastconv.ops.nest import (
    THREAD_BYTES,
    THREAD_FLOPS,
    Axis,
    Nest,
    aligned,
    cache_budget,
    chunk_shape,
    even_part,
    filter_panels,
    nest_sizes,
    packed_bias,
    packed_elements,
    packed_sizes,
    split_filters,
)

__all__ = ["STORE_FILTER_LANES", "DirectLoops", "direct_seconds", "taps_per_output"]

CHUNK_PIXELS = 512  # output pixels of one chunk: one panel's results for them stay near the first-level cache

# What storing an output element costs, in taps: results of filter lanes are transposed on their way.
STORE_FILTER_LANES, STORE_PIXEL_LANES = 18, 9


class DirectLoops:
    """A nest with its chunks, tables and steps: ``pack`` the weights, then ``step(y, x, *packed)``."""

    def __init__(self, nest: Nest):
        kernels = family("conv", nest.dtype)
        self.nest = nest
        self.tile = kernels.TILE
        by_filters, by_pixels = taps_per_output(nest, self.tile)
        self.lanes_are_filters = by_filters <= by_pixels
        self.panel, self.last_panel = self._panels()
        self.panels = ceil(nest.filters / self.panel)
        self.packed = not self._readable_in_place()
        step = self.tile["pixels"] if self.lanes_are_filters else self.tile["row_vectors"] * self.tile["lanes"]
        sizes = packed_sizes(nest, *chunk_shape(nest, CHUNK_PIXELS, step, cache_budget(nest)))
        chunks = sizes["chunks_down"] * sizes["chunks_across"]
        split = split_filters(nest, chunks, self.panels)
        input_elements = aligned(packed_elements(nest, sizes)) if self.packed else 0
        result_elements = sizes["chunk_rows"] * sizes["chunk_columns"] * self.panel if self.lanes_are_filters else step
        itemsize = np.dtype(nest.dtype).itemsize
        self.step = Step(
            kernels.KERNELS["direct"],
            {
                **nest_sizes(nest),
                **sizes,
                **split,
                "packed": self.packed,
                "panel": self.panel,
                "last_panel": self.last_panel,
                "panel_scratch": input_elements,
                "lanes_are_filters": self.lanes_are_filters,
            },
            inputs=3 + nest.residual,
            constants=(
                self._offsets(sizes),
                *(np.array(axis.phases, np.int64) for axis in nest.axes[1:]),
                self._columns(),
            ),
            tasks=nest.images * nest.groups * nest.axes[0].output * chunks * split["chunk_tasks"],
            scratch=64 + (input_elements + result_elements) * itemsize,
            threads=1 + nest.flops // THREAD_FLOPS,
        )
        self.pack_step = Step(
            kernels.KERNELS["pack_filters"],
            {
                "groups": nest.groups,
                "filters": nest.filters,
                "taps": nest.taps,
                "panel": self.panel,
                "last_panel": self.last_panel,
            },
            tasks=nest.groups * self.panels,
            threads=1 + nest.groups * nest.filters * nest.taps * itemsize // THREAD_BYTES,
        )

    @property
    def layout(self) -> tuple:
        """What the form of the packed weights depends on, beside the weights."""
        order = (self.nest.axes[1].tap_positions if self.panel == 1 else ()), self.nest.axes[2].kernel
        return ("panels", self.nest.dtype, self.panel, self.last_panel, str(order))

    @property
    def packed_elements(self) -> tuple[int, int]:
        """Sizes of the packed weights and bias."""
        filters = self.nest.groups * ((self.panels - 1) * self.panel + self.last_panel)
        return filters * self.nest.taps, filters

    def pack(self, w: np.ndarray, b: np.ndarray | None, empty=np.empty) -> tuple[np.ndarray, np.ndarray]:
        """Contiguous weights (filters, taps…) and bias, in the kernel's panels; ``empty(count, dtype)`` gives the memory."""
        if self.panel == 1:
            w = self._by_columns(w.reshape(-1, *self._tap_shape))
        filters = (self.panels - 1) * self.panel + self.last_panel
        packed = empty(self.nest.groups * filters * self.nest.taps, self.nest.dtype)
        self.pack_step(packed, w)
        return packed, packed_bias(self.nest, filters, b)

    def _panels(self) -> tuple[int, int]:
        filters = self.nest.filters
        if self.lanes_are_filters:
            return filter_panels(filters, self.tile)
        panel = even_part(filters, self.tile["row_filters"])
        return panel, (filters - 1) % panel + 1

    def _readable_in_place(self) -> bool:
        across = self.nest.axes[2]
        return (
            self.lanes_are_filters
            and across.stride == 1
            and across.x_stride == 1
            and all(axis.before == 0 and _inside(axis) for axis in self.nest.axes)
        )

    def _offsets(self, sizes: dict[str, int]) -> np.ndarray:
        """Where tap k lies, relative to an output position: taps in the order channel, depth, row, column."""
        depth, down, across = self.nest.axes
        channel = np.arange(self.nest.channels)
        if self.packed:
            rows = [down.phases.index(phase) * sizes["row_slots"] + slot for phase, slot in down.tap_positions]
            columns = [
                across.phases.index(phase) * sizes["column_slots"] + slot for phase, slot in across.tap_positions
            ]
            by_depth = np.arange(depth.kernel) * self.nest.channels * sizes["plane"]
            by_channel, by_row, by_column = channel * sizes["plane"], np.array(rows) * sizes["pitch"], np.array(columns)
        else:
            by_channel = channel * self.nest.x_strides[1]
            by_depth, by_row, by_column = (np.arange(a.kernel) * a.dilation * a.x_stride for a in self.nest.axes)
        sums = by_channel[:, None, None, None] + by_depth[:, None, None] + by_row[:, None] + by_column
        if self.panel == 1:
            sums = self._by_columns(sums[None])
        return np.ascontiguousarray(sums, np.int64).reshape(-1)

    @property
    def _tap_shape(self) -> tuple[int, ...]:
        return (self.nest.channels, *(axis.kernel for axis in self.nest.axes))

    def _by_columns(self, taps: np.ndarray) -> np.ndarray:
        """(…, channel, depth, row, column) with one filter to a panel: in the order channel, depth, column, row phase, row."""
        positions = self.nest.axes[1].tap_positions
        order = sorted(range(len(positions)), key=positions.__getitem__)
        return np.ascontiguousarray(taps[..., order, :].swapaxes(-1, -2))

    def _columns(self) -> np.ndarray:
        """Lengths of the runs of taps in that order that lie in neighbouring rows, then 0."""
        positions = sorted(self.nest.axes[1].tap_positions)
        runs = []
        for before, position in zip([None, *positions], positions, strict=False):
            if before and position == (before[0], before[1] + 1) and runs[-1] < self.tile["column_taps"]:
                runs[-1] += 1
            else:
                runs.append(1)
        repeats = self.nest.channels * self.nest.axes[0].kernel * self.nest.axes[2].kernel
        return np.array(runs * repeats + [0], np.int64)


def taps_per_output(nest: Nest, tile: dict[str, int]) -> tuple[float, float]:
    """Predicted cost of an output element, in products of a full register tile: lanes that are filters, and pixels."""
    half = tile["half_panel"]
    filled = ceil(nest.filters / half) * half / nest.filters
    by_filters = filled * (1.03 * nest.taps + STORE_FILTER_LANES)
    if nest.axes[2].y_stride != 1:
        return by_filters, float("inf")
    columns = nest.axes[2].output
    filled = ceil(columns / tile["lanes"]) * tile["lanes"] / columns
    filters = even_part(nest.filters, tile["row_filters"])
    vectors = min(tile["row_vectors"], ceil(columns / tile["lanes"]))
    loads = 1.2 * (filters + vectors) / (filters * vectors)
    return by_filters, filled * (1.06 * max(loads, 1) * nest.taps + STORE_PIXEL_LANES)


def direct_seconds(nest: Nest) -> float:
    """Predicted time on one thread."""
    outputs = nest.images * nest.groups * nest.filters * prod(axis.output for axis in nest.axes)
    inputs = nest.images * nest.groups * nest.channels * prod(axis.input for axis in nest.axes)
    products = 2 * outputs * min(taps_per_output(nest, family("conv", nest.dtype).TILE)) / peak_flops(nest.dtype)
    return products + inputs * np.dtype(nest.dtype).itemsize / CACHE_BYTES_PER_SECOND


def _inside(axis: Axis) -> bool:
    """No window reaches behind the input."""
    return (axis.output - 1) * axis.stride + axis.dilation * (axis.kernel - 1) < axis.input
