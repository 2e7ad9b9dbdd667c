"""Direct convolution with few filters to a group: lanes are pixels."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from fastconv._kernels import family, has, team
from fastconv.ops.direct_loops import DirectLoops
from fastconv.ops.nest import (
    TASKS_PER_THREAD,
    Axis,
    Nest,
    aligned,
    cache_budget,
    chunk_shape,
    count_chunks,
    even_part,
    nest_sizes,
    packed_elements,
    packed_sizes,
    split_filters,
)

__all__ = ["PixelLanes", "PlaneLanes", "fits_planes", "has_wide_registers", "plane_lanes"]


class PixelLanes(DirectLoops):
    """Lanes are pixels: `_kernels/depthwise.pyx`."""

    def __init__(self, nest: Nest):
        nest = _dilated_rows_apart(nest)
        columns = nest.axes[2].output
        kernels = family("depthwise", nest.dtype)
        if 2 * columns <= kernels.TILE["lanes"]:
            kernels = family("depthwise", nest.dtype, half=True)
        self.nest = nest
        self.tile = kernels.TILE
        self.panel = even_part(nest.filters, self.tile["filters"])
        self.last_panel = (nest.filters - 1) % self.panel + 1
        lanes = self.tile["lanes"]
        step = self.tile["vectors"] * lanes
        budget = cache_budget(nest, 1 if nest.channels == 1 else 2)
        sizes = packed_sizes(nest, *chunk_shape(nest, budget, step, budget, lanes), lanes)
        group_elements = packed_elements(nest, sizes)
        block = self._groups_of_a_chunk(group_elements, budget)
        chunks = count_chunks(nest, sizes, block)
        split = split_filters(chunks, self.panels)
        blocks = {"block": block, "group_blocks": ceil(nest.groups / block), "group_packed": group_elements}
        panel_sizes = {"panel": self.panel, "last_panel": self.last_panel, "panel_scratch": 0}
        packed = not self._readable_in_place()
        sizes = nest_sizes(nest) | sizes | split | panel_sizes | blocks | {"packed": packed}
        tables = (*self._tables(sizes), self._runs())
        spill = step + nest.axes[2].reach  # the last tile of the last row reads whole registers
        self.step = self._make_step(
            kernels.KERNELS["depthwise"],
            sizes,
            chunks * split["chunk_tasks"],
            (block * group_elements + spill) * packed,
            tables,
        )

    def _readable_in_place(self) -> bool:
        depth, _, across = self.nest.axes
        return (
            self.panel == depth.kernel == across.x_stride == across.y_stride == 1
            and depth.is_inside
            and across.stride <= self.tile["stride"]
            and across.kernel <= self.tile["kernel"]
        )

    def _skips_columns(self) -> bool:
        """Input columns are two apart and read where they lie."""
        return self.nest.axes[2].stride == 2 and self._readable_in_place()

    @property
    def layout(self) -> tuple:
        order = (self._runs_of_rows(), self.nest.axes[2].kernel) if self.panel == 1 else ()
        return (*super().layout, str(order))

    def _groups_of_a_chunk(self, elements: int, budget: int) -> int:
        """As many as fit the cache, but enough blocks for the team."""
        threads = team.get_threads()
        most = self.nest.groups if threads == 1 else max(self.nest.groups // (TASKS_PER_THREAD * threads), 1)
        return max(min(budget // max(elements, 1), most), 1)

    def _ordered(self, taps: np.ndarray) -> np.ndarray:
        """With one filter to a panel: channel, depth, run of rows, column, row."""
        if self.panel > 1:
            return taps
        runs = [taps[..., rows, :].swapaxes(-1, -2) for rows in self._runs_of_rows()]
        flat = [run.reshape(*run.shape[:-2], -1) for run in runs]
        return np.ascontiguousarray(np.concatenate(flat, axis=-1))

    def _runs_of_rows(self) -> list[list[int]]:
        """Taps of a column that read neighbouring rows, as many together as the kernel has cases for, long runs first."""
        longest, usual = self.tile["runs_apart" if self._skips_columns() else "runs"]
        positions = self.nest.axes[1].tap_positions
        neighbours: list[list[int]] = []
        for tap in sorted(range(len(positions)), key=positions.__getitem__):
            phase, slot = positions[tap]
            if neighbours and positions[neighbours[-1][-1]] == (phase, slot - 1):
                neighbours[-1].append(tap)
            else:
                neighbours.append([tap])
        runs = []
        for run in neighbours:
            most = longest if len(run) == longest else usual
            runs += [run[first : first + most] for first in range(0, len(run), most)]
        return sorted(runs, key=len, reverse=True)

    def _runs(self) -> np.ndarray:
        """The kernel's table: taps of a run, input row of the first, column, columns; then zeros."""
        _, down, across = self.nest.axes
        step = 2 if self._skips_columns() and across.dilation == 1 else 1
        entries = [
            (len(rows), rows[0] * down.dilation - down.before, column, min(step, across.kernel - column))
            for rows in self._runs_of_rows()
            for column in range(0, across.kernel, step)
        ]
        return np.array(entries * (self.nest.channels * self.nest.axes[0].kernel) + [(0, 0, 0, 0)], np.int64)


def _dilated_rows_apart(nest: Nest) -> Nest:
    """With rows d apart as d maps, one behind the other in depth, whose taps read neighbouring rows.

    Left as it is where rows have a stride, or the maps would differ in height or padding.
    """
    depth, down, across = nest.axes
    apart = down.dilation
    if (
        apart == 1
        or down.kernel == 1
        or down.stride > 1
        or not depth.input == depth.output == depth.kernel == 1
        or not depth.is_inside
        or max(nest.channels, nest.filters) > 1
        or any(rows % apart for rows in (down.input, down.output, down.before))
    ):
        return nest
    maps = Axis(apart, apart, 1, 1, 1, 0, down.x_stride, down.y_stride)
    rows = Axis(
        down.input // apart, down.output // apart, down.kernel, 1, 1, down.before // apart,
        down.x_stride * apart, down.y_stride * apart,
    )  # fmt: skip
    return replace(nest, axes=(maps, rows, across))


class PlaneLanes(PixelLanes):
    """Lanes are pixels of small maps, whose planes are packed whole: `_kernels/depthwise_planes.pyx`."""

    def __init__(self, nest: Nest):
        nest = _dilated_rows_apart(nest)
        kernels = _plane_kernels(nest)
        self.nest = nest
        self.tile = kernels.TILE
        self.panel = self.last_panel = 1
        sizes = _plane_sizes(nest, self.tile["line"])
        group_elements = packed_elements(nest, sizes)
        block = self._groups_of_a_chunk(group_elements, cache_budget(nest, 1))
        elements = block * group_elements + 2 * self.tile["line"]  # what the last tile reads behind its planes
        sizes |= nest_sizes(nest) | {
            "packed": True,
            "block": block,
            "group_blocks": ceil(nest.groups / block),
            "group_packed": group_elements,
            "panel": 1,
            "last_panel": 1,
            "panel_scratch": elements,
            "task_panels": nest.filters,
            "chunk_tasks": 1,
        }
        tables = (*self._tables(sizes), self._runs())
        tasks = count_chunks(nest, sizes, block)
        self.step = self._make_step(kernels.KERNELS["depthwise"], sizes, tasks, elements, tables)

    def _skips_columns(self) -> bool:
        return False


def _plane_kernels(nest: Nest):
    """Registers half as wide where these hold a row, too."""
    kernels = family("depthwise_planes", nest.dtype)
    narrow = 2 * nest.axes[2].output <= kernels.TILE["lanes"]
    return family("depthwise_planes", nest.dtype, half=True) if narrow else kernels


def _plane_sizes(nest: Nest, line: int) -> dict[str, int]:
    """The packed form of whole planes, with lines of `line` elements."""
    _, down, across = nest.axes
    sizes = packed_sizes(nest, down.output, across.output)
    plane = aligned(sizes["row_phases"] * sizes["row_slots"] * line)
    return sizes | {"column_slots": across.output + across.reach, "pitch": line, "plane": plane}


def plane_lanes(nest: Nest) -> int:
    """Lanes of the registers that `PlaneLanes` takes."""
    return _plane_kernels(nest).TILE["lanes"]


def has_wide_registers(nest: Nest) -> bool:
    """Two of them make a line of `PlaneLanes`: those of AVX-512, whose masks cost nothing."""
    return 2 * plane_lanes(nest) == _plane_kernels(nest).TILE["line"]


def fits_planes(nest: Nest) -> bool:
    """Whether `PlaneLanes` computes the nest: few filters, and lines and planes as small as the kernel has them."""
    depth, _, across = nest.axes
    if (
        min(nest.channels, nest.filters) > 1
        or not depth.kernel == across.x_stride == across.y_stride == 1
        or not depth.is_inside
        or across.stride > 2
        or len(across.phases) < across.stride
        or not has("depthwise_planes", nest.dtype)
    ):
        return False
    line = _plane_kernels(nest).TILE["line"]
    slots = (across.output + across.reach) * across.stride
    return slots <= line and packed_elements(nest, _plane_sizes(nest, line)) <= cache_budget(nest, 1)
