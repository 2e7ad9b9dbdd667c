"""Loops of the direct kernel: which chunk of the output is computed at a time, and where every tap finds its input.

`_kernels/conv.pyx` draws the layouts that are sized here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from fastconv import machine
from fastconv._kernels import engine, family
from fastconv._kernels.engine import Step

__all__ = ["THREAD_FLOPS", "Axis", "DirectLoops", "Nest", "merge"]

CHUNK_PIXELS = 512  # output pixels of one chunk: one panel's results for them stay near the first-level cache
TASKS_PER_THREAD = 8
THREAD_FLOPS = 500_000  # with less work than this for each thread, one has finished before another wakes up
THREAD_BYTES = 100_000  # the same for packing
PIXEL_LANE_FILTERS = 4  # filters of a panel where lanes are pixels
SLACK_VECTORS = 4  # a tile of pixel lanes may read this far behind the packed chunk


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes, window, zeros before, and the strides in elements of input and output."""

    input: int
    output: int
    kernel: int
    stride: int
    dilation: int
    before: int
    x_stride: int
    y_stride: int

    @property
    def tap_positions(self) -> list[tuple[int, int]]:
        """Per tap, the stride phase and the slot, relative to the output position, where it finds its input."""
        return [(k * self.dilation % self.stride, k * self.dilation // self.stride) for k in range(self.kernel)]

    @property
    def phases(self) -> list[int]:
        return sorted({phase for phase, _ in self.tap_positions})

    @property
    def reach(self) -> int:
        """Slots that a chunk needs beyond its outputs."""
        return max(slot for _, slot in self.tap_positions)

    @property
    def is_identity(self) -> bool:
        return self.kernel == 1 and self.stride == 1 and self.input == self.output and self.before == 0


UNIT_AXIS = Axis(1, 1, 1, 1, 1, 0, 0, 0)


def merge(axes: list[Axis]) -> tuple[Axis, Axis, Axis]:
    """Depth, row and column; neighbours that a 1×1 kernel visits in memory order become one long column axis."""
    axes = [axis for axis in axes if axis.input > 1 or not axis.is_identity] or [UNIT_AXIS]
    while len(axes) > 1 and all(axis.is_identity for axis in axes[-2:]) and _contiguous(axes[-2], axes[-1]):
        length = axes[-2].input * axes[-1].input
        axes[-2:] = [Axis(length, length, 1, 1, 1, 0, axes[-1].x_stride, axes[-1].y_stride)]
    if len(axes) > 1 and axes[-1].output == 1:
        axes[-2:] = [axes[-1], axes[-2]]
    return (UNIT_AXIS,) * (3 - len(axes)) + tuple(axes)


def _contiguous(outer: Axis, inner: Axis) -> bool:
    return outer.x_stride == inner.input * inner.x_stride and outer.y_stride == inner.output * inner.y_stride


@dataclass(frozen=True)
class Nest:
    """A convolution as loops over images, groups, channels, filters and three axes; channels and filters per group."""

    dtype: str
    images: int
    groups: int
    channels: int
    filters: int
    x_strides: tuple[int, int]  # image, channel; elements
    y_strides: tuple[int, int]
    axes: tuple[Axis, Axis, Axis]

    @property
    def taps(self) -> int:
        return self.channels * prod(axis.kernel for axis in self.axes)

    @property
    def flops(self) -> int:
        return 2 * self.images * self.groups * self.filters * self.taps * prod(axis.output for axis in self.axes)


class DirectLoops:
    """A nest with its chunks, tables and steps: ``pack`` the weights, then ``step(y, x, *packed)``."""

    def __init__(self, nest: Nest):
        kernels = family("conv", nest.dtype)
        self.nest = nest
        self.tile = kernels.TILE
        self.itemsize = np.dtype(nest.dtype).itemsize
        self.lanes_are_filters = filter_lanes(nest, self.tile) >= pixel_lanes(nest, self.tile)
        self.panel, self.last_panel = self._panels()
        self.panels = ceil(nest.filters / self.panel)
        self.packed = not self._readable_in_place()
        rows, columns = self._chunk()
        _, down, across = nest.axes
        chunks = ceil(down.output / rows), ceil(across.output / columns)
        chunk_tasks, task_panels = self._split_filters(chunks)
        packed_sizes = self._packed_sizes(rows, columns)
        packed_elements = _aligned(nest.axes[0].kernel * nest.channels * packed_sizes["plane"]) if self.packed else 0
        scratch = packed_elements + (
            rows * columns * self.panel if self.lanes_are_filters else SLACK_VECTORS * self.tile["lanes"]
        )
        self.step = Step(
            kernels.KERNELS["direct"],
            {
                **self._nest_sizes(),
                **packed_sizes,
                "packed": self.packed,
                "chunk_rows": rows,
                "chunk_columns": columns,
                "chunks_down": chunks[0],
                "chunks_across": chunks[1],
                "chunk_tasks": chunk_tasks,
                "task_panels": task_panels,
                "panel": self.panel,
                "last_panel": self.last_panel,
                "panel_scratch": packed_elements,
                "lanes_are_filters": self.lanes_are_filters,
            },
            inputs=3,
            constants=(self._offsets(packed_sizes), _table(down.phases), _table(across.phases)),
            tasks=nest.images * nest.groups * nest.axes[0].output * prod(chunks) * chunk_tasks,
            scratch=64 + scratch * self.itemsize,
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
            threads=1 + nest.groups * nest.filters * nest.taps * self.itemsize // THREAD_BYTES,
        )

    @property
    def layout(self) -> tuple:
        """What the form of the packed weights depends on, beside the weights."""
        return ("panels", self.nest.dtype, self.panel, self.last_panel)

    def pack(self, w: np.ndarray, b: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Contiguous weights (filters, taps…) and bias, in the kernel's panels."""
        filters = (self.panels - 1) * self.panel + self.last_panel
        packed = np.empty(self.nest.groups * filters * self.nest.taps, self.nest.dtype)
        self.pack_step(packed, w)
        bias = np.zeros((self.nest.groups, filters), self.nest.dtype)
        if b is not None:
            bias[:, : self.nest.filters] = b.reshape(self.nest.groups, self.nest.filters)
        return packed, bias

    def _panels(self) -> tuple[int, int]:
        """Filters of a panel, and of the last panel of a group."""
        filters = self.nest.filters
        if not self.lanes_are_filters:
            return PIXEL_LANE_FILTERS, (filters - 1) % PIXEL_LANE_FILTERS + 1
        panel = self.tile["filters"]
        half = self.tile["half_panel"]
        return panel, half if (filters - 1) % panel < half else panel

    def _readable_in_place(self) -> bool:
        across = self.nest.axes[2]
        return (
            self.lanes_are_filters
            and across.stride == 1
            and across.x_stride == 1
            and all(axis.before == 0 and _inside(axis) for axis in self.nest.axes)
        )

    def _chunk(self) -> tuple[int, int]:
        """Output rows and columns of a chunk whose packed input takes half the second-level cache at most."""
        _, down, across = self.nest.axes
        budget = machine.cache_bytes(2) // 2 // self.itemsize

        def elements(rows, columns):
            sizes = self._packed_sizes(rows, columns)
            return self.nest.axes[0].kernel * self.nest.channels * sizes["plane"]

        columns = _even_part(across.output, CHUNK_PIXELS)
        while columns > self.tile["pixels"] and elements(1, columns) > budget:
            columns = _even_part(across.output, columns // 2)
        rows = max(1, min(down.output, CHUNK_PIXELS // columns))
        while rows > 1 and elements(rows, columns) > budget:
            rows -= 1
        return _even_part(down.output, rows), columns

    def _split_filters(self, chunks: tuple[int, int]) -> tuple[int, int]:
        """Tasks per chunk and panels per task: filters are shared out where there are too few chunks for the team."""
        threads = engine.get_threads()
        units = self.nest.images * self.nest.groups * self.nest.axes[0].output * prod(chunks)
        wanted = ceil(TASKS_PER_THREAD * threads / max(units, 1)) if threads > 1 else 1
        task_panels = ceil(self.panels / min(wanted, self.panels))
        return ceil(self.panels / task_panels), task_panels

    def _packed_sizes(self, rows: int, columns: int) -> dict[str, int]:
        _, down, across = self.nest.axes
        row_slots, column_slots = rows + down.reach, columns + across.reach
        pitch = len(across.phases) * column_slots
        plane = _aligned(len(down.phases) * row_slots * pitch)
        if plane * self.itemsize % 1024 == 0:  # planes a power of two apart would share the sets of the cache
            plane += 16
        return {
            "row_phases": len(down.phases),
            "row_slots": row_slots,
            "column_phases": len(across.phases),
            "column_slots": column_slots,
            "pitch": pitch,
            "plane": plane,
        }

    def _offsets(self, sizes: dict[str, int]) -> np.ndarray:
        """Where tap k lies, relative to an output position: taps in the order channel, depth, row, column."""
        depth, down, across = self.nest.axes
        channel = np.arange(self.nest.channels)
        if self.packed:
            rows = [down.phases.index(phase) * sizes["row_slots"] + slot for phase, slot in down.tap_positions]
            columns = [across.phases.index(phase) * sizes["column_slots"] + slot for phase, slot in across.tap_positions]
            by_depth = np.arange(depth.kernel) * self.nest.channels * sizes["plane"]
            by_channel, by_row, by_column = channel * sizes["plane"], np.array(rows) * sizes["pitch"], np.array(columns)
        else:
            by_channel = channel * self.nest.x_strides[1]
            by_depth, by_row, by_column = (np.arange(a.kernel) * a.dilation * a.x_stride for a in self.nest.axes)
        sums = by_channel[:, None, None, None] + by_depth[:, None, None] + by_row[:, None] + by_column
        return np.ascontiguousarray(sums, np.int64).reshape(-1)

    def _nest_sizes(self) -> dict[str, int]:
        nest = self.nest
        sizes = {
            "groups": nest.groups,
            "channels": nest.channels,
            "filters": nest.filters,
            "taps": nest.taps,
            "kernel_depth": nest.axes[0].kernel,
            "dilation_depth": nest.axes[0].dilation,
        }
        for array, strides in (("x", nest.x_strides), ("y", nest.y_strides)):
            sizes[f"{array}_image"], sizes[f"{array}_channel"] = strides
        for name, plural, axis in zip(("depth", "row", "column"), ("depth", "rows", "columns"), nest.axes, strict=True):
            sizes |= {
                f"in_{plural}": axis.input,
                f"out_{plural}": axis.output,
                f"pad_{name}": axis.before,
                f"stride_{name}": axis.stride,
                f"x_{name}": axis.x_stride,
                f"y_{name}": axis.y_stride,
            }
        return sizes


def filter_lanes(nest: Nest, tile: dict[str, int]) -> float:
    """Share of the lanes that hold filters, when lanes are filters."""
    half = tile["half_panel"]
    return nest.filters / (ceil(nest.filters / half) * half)


def pixel_lanes(nest: Nest, tile: dict[str, int]) -> float:
    """The same where lanes are pixels of a row; its tile loads more per product, which costs about a sixth."""
    if nest.axes[2].y_stride != 1:
        return 0.0
    columns = nest.axes[2].output
    return 0.85 * columns / (ceil(columns / tile["lanes"]) * tile["lanes"])


def _inside(axis: Axis) -> bool:
    """No window reaches behind the input."""
    return (axis.output - 1) * axis.stride + axis.dilation * (axis.kernel - 1) < axis.input


def _even_part(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return ceil(size / ceil(size / max(most, 1)))


def _aligned(elements: int) -> int:
    return -(-elements // 16) * 16


def _table(values) -> np.ndarray:
    return np.array(values, np.int64)
