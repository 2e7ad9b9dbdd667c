"""Winograd's loops for few filters to a group: the tiles of the output are the lanes of the registers."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, inf, prod

import numpy as np

from fastconv import machine
from fastconv._kernels import family, team
from fastconv._kernels.engine import Step
from fastconv.ops.cost import moving_seconds, peak_flops
from fastconv.ops.nest import (
    THREAD_FLOPS,
    Nest,
    aligned,
    count_chunks,
    even_part,
    nest_bytes,
    nest_sizes,
    packed_bias,
    packed_sizes,
)
from fastconv.ops.winograd import WinogradLoops
from fastconv.ops.winograd_tiling import winograd_seconds

__all__ = ["WinogradLanes", "computes", "loops_seconds", "winograd_loops"]

# Points and outputs along one side of a tile; as many loads as outputs for a row of a register's tiles.
SIDE, SQUARE = 6, 4
LANE_FILTERS = 4  # that are multiplied at a time
LEAST_LANES = 8  # of a register, which then has masked loads

# What the parts take, in multiply-adds of a register at the nominal peak, by the filters that are multiplied at a time:
# per register of tiles the transforms of a channel and of a filter, and a product.
OPERATIONS = {LANE_FILTERS: (330, 150, 1.17), LANE_FILTERS // 2: (500, 180, 1.2)}
TASK_SECONDS = 70e-9  # each register of tiles of a group
FILTER_SECONDS = 40e-12  # and a byte of its filters, which each reads, where the second-level cache does not hold them
FAR_SECONDS = 75e-12  # a byte of results that no cache holds: those of a register of tiles are short runs in many pages


class WinogradLanes(WinogradLoops):
    """The nest as `WinogradLoops` has it, with the transformed weights in another order: `_kernels/winograd_lanes.pxd`."""

    def __init__(self, nest: Nest):
        super().__init__(nest)
        kernels = family("winograd", nest.dtype)
        tile_sizes = family("conv", nest.dtype).TILE
        lanes = tile_sizes["lanes"]
        rows = tile_rows(nest, lanes)
        self.block = block_filters(tile_sizes)
        sizes = packed_sizes(nest, *register_shape(nest, lanes, rows))
        transformed = SIDE**2 * nest.channels * lanes
        threads = 1 + nest.flops // THREAD_FLOPS
        chunks, blocks = count_chunks(nest, sizes), ceil(nest.filters / self.block)
        parts = filter_parts(nest, self.block, chunks, min(team.get_threads(), threads))
        self.step = Step(
            kernels.KERNELS["winograd_lanes"],
            {
                **nest_sizes(nest),
                **sizes,
                "packed": False,
                "task_panels": ceil(blocks / parts),
                "chunk_tasks": ceil(blocks / ceil(blocks / parts)),
                "panel": self.block,
                "last_panel": self.block,
                "panel_scratch": transformed,
                "store_rows": rows,
            },
            inputs=3 + nest.residual,
            tasks=chunks * ceil(blocks / ceil(blocks / parts)),
            scratch=(transformed + SIDE * SQUARE * LANE_FILTERS * lanes) * np.dtype(nest.dtype).itemsize,
            threads=threads,
        )

    @property
    def layout(self) -> tuple:
        return (*super().layout, self.block)

    @property
    def packed_elements(self) -> tuple[int, int]:
        filters = self.nest.groups * aligned(self.nest.filters, self.block)
        return filters * SIDE**2 * self.rows, filters

    def pack(self, w, b, empty=np.empty):
        """As `WinogradLoops`; blocks of filters that are multiplied together lie together, in the order of the products."""
        groups, channels, block = self.nest.groups, self.nest.channels, self.block
        transformed = self.transformed(w)
        filters = aligned(self.nest.filters, block)
        packed = empty(groups * filters * SIDE**2 * channels, self.nest.dtype)
        blocks = packed.reshape(groups, filters // block, SIDE, channels, SIDE, block)
        by_group = transformed.reshape(groups, -1)
        for first in range(0, filters, block):
            panel = first // self.panel
            width = self.panel if panel < self.panels - 1 else self.last_panel
            start = panel * self.panel * SIDE**2 * channels
            points = by_group[:, start : start + width * SIDE**2 * channels].reshape(
                groups, SIDE, SIDE, channels, width
            )
            lane = first - panel * self.panel
            blocks[:, first // block] = points[..., lane : lane + block].swapaxes(2, 3)
        return packed, packed_bias(self.nest, filters, b, empty)


def filter_parts(nest: Nest, block: int, chunks: int, threads: int) -> int:
    """In how many parts of the filters the threads end first, each of which transforms the input of its chunk."""
    by_channel, by_filter, by_product = OPERATIONS[block]
    filters = nest.filters * (by_filter + SIDE**2 * nest.channels * by_product)

    def operations(parts: int) -> float:
        return ceil(chunks * parts / threads) * (nest.channels * by_channel + filters / parts)

    return min(range(1, min(threads, ceil(nest.filters / block)) + 1), key=operations)


def block_filters(tile_sizes: dict[str, int]) -> int:
    """Filters whose sums of a row of points fit the registers."""
    registers = tile_sizes["pixels"] * tile_sizes["filters"] // tile_sizes["lanes"]
    return LANE_FILTERS if registers > LANE_FILTERS * SIDE else LANE_FILTERS // 2


def tile_rows(nest: Nest, lanes: int) -> int:
    """Rows of tiles, side by side in a register, with which the fewest registers hold all tiles."""
    return min((rows for rows in (1, 2, 4) if rows <= lanes), key=lambda rows: _registers(nest, lanes, rows))


def register_shape(nest: Nest, lanes: int, rows: int) -> tuple[int, int]:
    """Output rows and columns of a register of so many rows of tiles."""
    return rows * SQUARE, even_part(nest.axes[2].output, lanes // rows * SQUARE, SQUARE)


def _registers(nest: Nest, lanes: int, rows: int) -> int:
    shape = register_shape(nest, lanes, rows)
    return prod(ceil(axis.output / size) for axis, size in zip(nest.axes[1:], shape, strict=True))


def computes(nest: Nest) -> bool:
    """Whether the kernel does: 3×3 taps on planes whose rows are contiguous, in registers that are worth it."""
    depth, down, across = nest.axes
    contiguous = across.x_stride == across.y_stride == 1
    dense = all((axis.kernel, axis.stride, axis.dilation) == (3, 1, 1) for axis in (down, across))
    lanes = family("conv", nest.dtype).TILE["lanes"]
    return lanes >= LEAST_LANES and dense and contiguous and depth.kernel == depth.output == depth.input == 1


def lanes_seconds(nest: Nest) -> float:
    """Predicted time on one thread; infinite where the kernel does not compute the nest."""
    if not computes(nest):
        return inf
    tile_sizes = family("conv", nest.dtype).TILE
    lanes = tile_sizes["lanes"]
    block = block_filters(tile_sizes)
    by_channel, by_filter, by_product = OPERATIONS[block]
    products = SIDE**2 * nest.channels * aligned(nest.filters, block)
    operations = nest.channels * by_channel + nest.filters * by_filter + products * by_product
    second = peak_flops(nest.dtype) / (2 * lanes)
    tasks = nest.groups * nest.images * _registers(nest, lanes, tile_rows(nest, lanes))
    itemsize = np.dtype(nest.dtype).itemsize
    filter_bytes = products * itemsize
    arriving = filter_bytes * FILTER_SECONDS if filter_bytes > machine.cache_bytes(2) else 0.0
    result_bytes = nest.images * nest.groups * nest.filters * prod(axis.output for axis in nest.axes) * itemsize
    far = result_bytes * FAR_SECONDS if result_bytes > machine.cache_bytes(3) // 2 else 0.0
    return tasks * (operations / second + arriving + TASK_SECONDS) + far + moving_seconds(nest_bytes(nest))


def winograd_loops(nest: Nest, large: bool = False) -> WinogradLoops:
    """The loops that are predicted to take less time; `large` forms have lanes of filters."""
    return WinogradLanes(nest) if not large and fills_lanes(nest) else WinogradLoops(nest, large)


def loops_seconds(nest: Nest, large: bool = False) -> float:
    """Predicted time of these loops on one thread."""
    return lanes_seconds(nest) if not large and fills_lanes(nest) else winograd_seconds(nest, large)


def fills_lanes(nest: Nest) -> bool:
    """Whether lanes are tiles: the same, hence the same bits, for any number of images."""
    if not computes(nest):
        return False
    one = replace(nest, images=1)
    return lanes_seconds(one) < winograd_seconds(one)
