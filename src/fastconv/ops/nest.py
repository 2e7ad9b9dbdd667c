"""Loop nests of convolutions, and the chunks that the kernels compute at a time; `_kernels/chunk.pxd` draws them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, prod

import numpy as np

from fastconv import machine
from fastconv._kernels import family, team
from fastconv.ops.elementwise import ACTIVATIONS, operation_parameters

__all__ = [
    "LINE",
    "THREAD_BYTES",
    "THREAD_FLOPS",
    "UNIT_AXIS",
    "Axis",
    "Nest",
    "aligned",
    "cache_budget",
    "chunk_shape",
    "count_chunks",
    "even_part",
    "filter_panels",
    "merge",
    "nest_bytes",
    "nest_sizes",
    "packed_bias",
    "packed_elements",
    "packed_sizes",
    "split_filters",
]

TASKS_PER_THREAD = 8
THREAD_FLOPS = 500_000  # with less work than this for each thread, one has finished before another wakes up
LINE = 16  # elements: a cache line of float32, and a multiple of every register's lanes
MORE_SLOTS = 1.25  # lines of a packed input may be longer by this factor to be whole registers
THREAD_BYTES = 100_000  # the same for packing


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

    @cached_property
    def tap_positions(self) -> list[tuple[int, int]]:
        """Per tap, the stride phase and the slot, relative to the output position, where it finds its input."""
        return [(k * self.dilation % self.stride, k * self.dilation // self.stride) for k in range(self.kernel)]

    @cached_property
    def phases(self) -> list[int]:
        return sorted({phase for phase, _ in self.tap_positions})

    @cached_property
    def reach(self) -> int:
        """Slots that a chunk needs beyond its outputs."""
        return max(slot for _, slot in self.tap_positions)

    @property
    def is_inside(self) -> bool:
        """No window reaches the padding."""
        return self.before == 0 and (self.output - 1) * self.stride + self.dilation * (self.kernel - 1) < self.input

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
    if len(axes) > 1 and axes[-1].output == 1 and 1 in (axes[-1].kernel, axes[-2].kernel):
        axes[-2:] = [axes[-1], axes[-2]]  # the order of the taps stays, because one of the two has a single tap
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
    residual: bool = False  # an array laid out as the result is added to it
    low: float = -inf  # then the result is clamped
    high: float = inf
    activation: tuple[str, tuple[float, ...]] | None = (
        None  # and this function of it is the output; name and parameters
    )

    @cached_property
    def taps(self) -> int:
        return self.channels * prod(axis.kernel for axis in self.axes)

    @property
    def flops(self) -> int:
        return 2 * self.images * self.groups * self.filters * self.taps * prod(axis.output for axis in self.axes)


def nest_bytes(nest: Nest) -> int:
    """Of the input and the output."""
    inputs = nest.channels * prod(axis.input for axis in nest.axes)
    outputs = nest.filters * prod(axis.output for axis in nest.axes)
    return nest.images * nest.groups * (inputs + outputs) * np.dtype(nest.dtype).itemsize


def nest_sizes(nest: Nest) -> dict[str, int]:
    """The fields of the kernel's sizes that describe the nest."""
    sizes = {
        "groups": nest.groups,
        "block": 1,
        "group_blocks": nest.groups,
        "group_packed": 0,
        "store_rows": 1,
        "channels": nest.channels,
        "filters": nest.filters,
        "taps": nest.taps,
        "w_image": 0,
        "trimmed": False,
        "tap_block": 0,
        "has_residual": nest.residual,
        "low": nest.low,
        "high": nest.high,
        **_activation(nest),
    }
    for array, strides in (("x", nest.x_strides), ("y", nest.y_strides)):
        sizes[f"{array}_image"], sizes[f"{array}_channel"] = strides
    for name, plural, axis in zip(("depth", "row", "column"), ("depth", "rows", "columns"), nest.axes, strict=True):
        sizes |= {
            f"in_{plural}": axis.input,
            f"out_{plural}": axis.output,
            f"pad_{name}": axis.before,
            f"stride_{name}": axis.stride,
            f"kernel_{plural}": axis.kernel,
            f"dilation_{name}": axis.dilation,
            f"x_{name}": axis.x_stride,
            f"y_{name}": axis.y_stride,
        }
    return sizes


def _activation(nest: Nest) -> dict:
    if nest.activation is None:
        return {"activation": 0, "parameters": {"a": 0, "b": 0, "c": 0}}
    name, parameters = nest.activation
    return {
        "activation": family("elementwise", nest.dtype).OPERATIONS[ACTIVATIONS[name].kernel],
        "parameters": operation_parameters(name, parameters),
    }


def packed_sizes(nest: Nest, rows: int, columns: int, lanes: int = 0, blocks: bool = False) -> dict[str, int]:
    """The fields that describe the packed input of a chunk of `rows` × `columns` output positions.

    Lines are made of whole registers, which pack faster, of `lanes` if given or else where that costs little space.
    With `blocks`, each tap may have rows of its own, where these are fewer than all rows between the first and the last.
    """
    _, down, across = nest.axes
    row_slots, column_slots = rows + down.reach, columns + across.reach
    row_phases = len(down.phases)
    if blocks and down.kernel * rows < row_phases * row_slots:
        row_phases, row_slots = down.kernel, rows
    whole = aligned(column_slots, lanes or LINE)
    whole_registers = lanes > 0 or whole <= MORE_SLOTS * column_slots
    if whole_registers:
        column_slots = whole
    pitch = len(across.phases) * column_slots
    plane = aligned(row_phases * row_slots * pitch)
    if plane * np.dtype(nest.dtype).itemsize % 1024 == 0:  # such planes would share few sets of the cache
        plane += 16
    return {
        "chunk_rows": rows,
        "chunk_columns": columns,
        "chunks_down": ceil(down.output / rows),
        "chunks_across": ceil(across.output / columns),
        "row_phases": row_phases,
        "row_slots": row_slots,
        "column_phases": len(across.phases),
        "column_slots": column_slots,
        "pitch": pitch,
        "plane": plane,
        "whole_registers": whole_registers,
    }


def packed_elements(nest: Nest, sizes: dict[str, int]) -> int:
    return nest.axes[0].kernel * nest.channels * sizes["plane"]


def chunk_shape(
    nest: Nest,
    most: int,
    column_step: int,
    budget: int,
    lanes: int = 0,
    widest: int | None = None,
    blocks: bool = False,
) -> tuple[int, int]:
    """Output rows and columns of a chunk: `most` positions, `budget` packed elements, at least a row of `column_step`."""
    _, down, across = nest.axes

    def fits(rows, columns):
        return packed_elements(nest, packed_sizes(nest, rows, columns, lanes, blocks)) <= budget

    columns = even_part(across.output, widest or most, column_step)
    while columns > column_step and not fits(1, columns):
        columns = even_part(across.output, columns // 2, column_step)
    rows = max(1, min(down.output, most // columns))
    while rows > 1 and not fits(rows, columns):
        rows -= 1
    return even_part(down.output, rows), columns


def split_filters(chunks: int, panels: int) -> dict[str, int]:
    """Panels per task and tasks per chunk: filters are shared out where there are too few chunks for the team."""
    threads = team.get_threads()
    units = max(chunks, 1)
    wanted = ceil(TASKS_PER_THREAD * threads / units) if threads > 1 else 1
    task_panels = ceil(panels / min(wanted, panels))
    return {"task_panels": task_panels, "chunk_tasks": ceil(panels / task_panels)}


def count_chunks(nest: Nest, sizes: dict[str, int], block: int = 1) -> int:
    """Chunks of all images, blocks of groups, and output positions."""
    blocks = ceil(nest.groups / block)
    return nest.images * blocks * nest.axes[0].output * sizes["chunks_down"] * sizes["chunks_across"]


def filter_panels(filters: int, tile: dict[str, int]) -> tuple[int, int]:
    """Filters of a panel and of the last panel of a group, where lanes are filters."""
    panel, half = tile["filters"], tile["half_panel"]
    return panel, half if (filters - 1) % panel < half else panel


def packed_bias(nest: Nest, filters: int, b: np.ndarray | None, empty=np.empty) -> np.ndarray:
    """The bias, padded with zeros to `filters` per group; ``empty(count, dtype)`` gives the memory."""
    bias = empty(nest.groups * filters, nest.dtype)
    by_group = bias.reshape(nest.groups, filters)
    given = 0 if b is None else nest.filters
    if given:
        by_group[:, :given] = b.reshape(nest.groups, given)
    by_group[:, given:] = 0
    return bias


def even_part(size: int, most: int, step: int = 1) -> int:
    """The size, a multiple of `step` unless there is only one, of equal parts of at most about `most`."""
    parts = ceil(size / max(most, 1))
    return size if parts == 1 else ceil(size / parts / step) * step


def cache_budget(nest: Nest, level: int = 2) -> int:
    """Elements that fit in half a cache of a core."""
    return machine.cache_bytes(level) // 2 // np.dtype(nest.dtype).itemsize


def aligned(elements: int, step: int = LINE) -> int:
    return -(-elements // step) * step
