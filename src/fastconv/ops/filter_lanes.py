"""The direct convolution whose lanes are filters: its loops, and the time that they are predicted to take."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, prod

import numpy as np

from fastconv import _kernels, machine
from fastconv._kernels import family, team
from fastconv.ops.cost import moving_seconds, peak_flops
from fastconv.ops.direct_loops import DirectLoops
from fastconv.ops.nest import (
    THREAD_FLOPS,
    Axis,
    Nest,
    aligned,
    cache_budget,
    chunk_shape,
    count_chunks,
    even_part,
    filter_panels,
    nest_bytes,
    nest_sizes,
    packed_elements,
    packed_sizes,
    split_filters,
)
from fastconv.ops.table import plan_cache

__all__ = [
    "ELEMENT_SECONDS",
    "REGISTER_SECONDS",
    "STORE_FILTER_LANES",
    "FilterLanes",
    "filter_lanes_seconds",
    "is_inside",
    "readable_in_place",
    "trimmed_seconds",
    "trimmed_share",
]

CHUNK_PIXELS = 512  # output pixels of one chunk
MOST_IDLE = 1.15  # times what threads would take that are all busy to the end
STORE_PIXELS = 224  # of one panel of filters: results that the first-level cache holds until they are stored
FEW_PANELS = 8  # of filters, that may read an input whose neighbours lie apart
NARROW_TILE = 6  # pixels that use weights more slowly than the first-level cache gives them, and the second not
BLOCK_TAPS = 512, 128  # that all rows meet before the next, and where tiles are narrow

STORE_FILTER_LANES = 11  # what storing an output element costs, in taps: results are transposed on their way
VISIT = 3  # the same for one that leaves the registers and comes back
BY_TAPS = 1.1  # times what is predicted for rows that all meet some taps before the next, beside other algorithms

# What the loops take beside the products, in seconds.
CHUNK_SECONDS = 44e-9  # each chunk, and each of its channels that is packed:
PLANE_SECONDS = 17e-9
REGISTER_SECONDS = 1.2e-9  # each register that is packed; where the elements of a line are copied one by one:
LINE_SECONDS, ELEMENT_SECONDS = 4.8e-9, 0.39e-9
WEIGHT_SECONDS = 7e-12, 28e-12  # each byte of weights of the last-level cache, and of memory, every time it is read
UNFETCHED_SECONDS = 40e-12  # and more each byte the first time that it is read, where nothing fetches it ahead
CHAIN_REGISTERS = {"avx512": 4, "avx2": 8, "baseline": 8}  # sums that hide the time from one to the next


class FilterLanes(DirectLoops):
    """Lanes are filters: `_kernels/conv.pyx`.

    `trimmed` leaves out the taps that lie in the padding; with `own_filters`, every image has filters of its own.
    """

    def __init__(self, nest: Nest, trimmed: bool = False, own_filters: bool = False):
        kernels = family("conv", nest.dtype)
        self.nest = nest
        self.trimmed = trimmed
        self.panel, self.last_panel = filter_panels(nest.filters, kernels.TILE)
        columns, sizes = self.chunk_sizes(nest, min(team.get_threads(), 1 + nest.flops // THREAD_FLOPS))
        store_rows = even_part(sizes["chunk_rows"], max(STORE_PIXELS // columns, 1))
        chunks = count_chunks(nest, sizes)
        packed = self.packs(nest, trimmed)
        input_elements = aligned(packed_elements(nest, sizes)) if packed else 0
        panel_sizes = {"panel": self.panel, "last_panel": self.last_panel, "panel_scratch": input_elements}
        split = split_filters(chunks, self.panels)
        sizes = nest_sizes(nest) | sizes | split | panel_sizes
        sizes |= {"packed": packed, "store_rows": store_rows, "trimmed": trimmed}
        sizes["tap_block"] = self.tap_block(nest, trimmed)
        sizes["w_image"] = self.packed_elements[0] if own_filters else 0
        self.step = self._make_step(
            kernels.KERNELS["direct"],
            sizes,
            chunks * split["chunk_tasks"],
            input_elements + store_rows * columns * self.panel,
            self._tables(sizes),
        )

    @property
    def layout(self) -> tuple:
        return (*super().layout, "rows first" if self.trimmed else "")

    def _ordered(self, taps: np.ndarray) -> np.ndarray:
        """Trimmed: row, column, channel, depth, so that what is left of a row is one range of taps."""
        return np.ascontiguousarray(np.moveaxis(taps, (-2, -1), (-4, -3))) if self.trimmed else taps

    @staticmethod
    def chunk_sizes(nest: Nest, threads: int = 1) -> tuple[int, dict[str, int]]:
        """Output columns of a chunk, and the fields that describe its packed input.

        Chunks are smaller where the tasks of whole ones would leave some of the `threads` idle.
        """
        tile = family("conv", nest.dtype).TILE
        panels = ceil(nest.filters / tile["filters"])
        most = CHUNK_PIXELS
        while True:
            limits = (most, tile["pixels"], cache_budget(nest))
            rows, columns = chunk_shape(nest, *limits, widest=min(STORE_PIXELS, most), blocks=True)
            sizes = packed_sizes(nest, rows, columns, blocks=True)
            tasks = count_chunks(nest, sizes) * panels
            if ceil(tasks / threads) * threads <= MOST_IDLE * tasks or most <= tile["pixels"]:
                return columns, sizes
            most = max(rows * columns // 2, tile["pixels"])

    @staticmethod
    def tap_block(nest: Nest, trimmed: bool) -> int:
        """Taps that all rows of a chunk meet before the next taps; 0 where each row meets all in turn."""
        if not trimmed:
            return max(nest.taps, 1)
        return _block_of_position(nest) if _trims_by_taps(nest) else 0

    @staticmethod
    def packs(nest: Nest, trimmed: bool) -> bool:
        """Whether the input is copied; else it is read where it lies, `trimmed` only where neighbours are side by side."""
        return not (readable_in_place(nest) or (not trimmed and _readable_apart(nest)))


def filter_lanes_seconds(nest: Nest) -> float:
    """Predicted time of filter lanes on one thread."""
    return _filter_lanes_seconds(nest, False)


def trimmed_seconds(nest: Nest) -> float:
    """Predicted time on one thread of filter lanes without the taps that lie in the padding."""
    by_taps = _trims_by_taps(nest)
    return _trimmed_seconds(nest, by_taps) * (BY_TAPS if by_taps else 1.0)


def trimmed_share(nest: Nest) -> float:
    """Of all products, those that are left without the taps that lie in the padding."""
    return prod(_trimmed_shares(nest, _trims_by_taps(nest)))


@plan_cache
def _trims_by_taps(nest: Nest) -> bool:
    """Whether taps come one after the other, each for all rows; else every row meets all taps in turn.

    The same for any number of images, because zeros that one of the two adds make 0.0 of -0.0.
    """
    one = replace(nest, images=1)
    return _trimmed_seconds(one, True) < _trimmed_seconds(one, False)


def _trimmed_shares(nest: Nest, by_taps: bool) -> tuple[float, float]:
    """Of the taps of all tiles, those that are not left out; and of a tile's pixels, those that such a tap meets."""
    _, down, across = nest.axes
    rows = _share_of_taps(down, 1)
    if by_taps:
        return rows, _share_of_taps(across, 1)
    return rows * _share_of_taps(across, family("conv", nest.dtype).TILE["pixels"]), 1.0


def _trimmed_seconds(nest: Nest, by_taps: bool) -> float:
    visits = nest.taps / _block_of_position(nest) if by_taps else 0.0
    return _filter_lanes_seconds(nest, True, *_trimmed_shares(nest, by_taps), visits)


def _block_of_position(nest: Nest) -> int:
    """Taps of one row and column of the kernel, or of equal parts of them."""
    position = nest.taps // prod(axis.kernel for axis in nest.axes[1:])
    columns = nest.axes[2].output
    narrow = columns / ceil(columns / family("conv", nest.dtype).TILE["pixels"]) <= NARROW_TILE
    return even_part(max(position, 1), BLOCK_TAPS[narrow])


def _filter_lanes_seconds(
    nest: Nest, trimmed: bool, share: float = 1.0, inside: float = 1.0, visits: float = 0.0
) -> float:
    """With shares of the taps and, of each, of a tile's pixels; between `visits`, in which all rows meet some taps, sums wait.

    Without visits a row meets all taps in turn.
    """
    tile = family("conv", nest.dtype).TILE
    _, down, across = nest.axes
    columns, sizes = FilterLanes.chunk_sizes(nest)
    panel, last_panel = filter_panels(nest.filters, tile)
    whole_panels = ceil(nest.filters / panel) - 1
    panel_registers, last_registers = (filters // tile["lanes"] for filters in (panel, last_panel))
    tiles_across = ceil(columns / tile["pixels"])
    lines = nest.images * nest.groups * nest.axes[0].output * down.output
    tiles = lines * across.output / columns * tiles_across
    chain, pixels = CHAIN_REGISTERS[_kernels.ISA], inside * columns / tiles_across
    products = whole_panels * max(pixels * panel_registers, chain) + max(pixels * last_registers, chain)
    stores = lines * across.output * (whole_panels * panel_registers + last_registers)
    operations = 1.06 * tiles * nest.taps * share * products + stores * (
        STORE_FILTER_LANES + share * inside * visits * VISIT
    )
    chunks = count_chunks(nest, sizes)
    passes = chunks if visits else tiles
    fetched = visits > 0 or not trimmed
    return (
        operations * 2 * tile["lanes"] / peak_flops(nest.dtype)
        + chunks * CHUNK_SECONDS
        + _weight_seconds(nest, (whole_panels * panel + last_panel) * share, panel * share, chunks, passes, fetched)
        + (_pack_seconds(nest, sizes, tile["lanes"]) * chunks if FilterLanes.packs(nest, trimmed) else 0.0)
        + moving_seconds(nest_bytes(nest))
    )


def _weight_seconds(nest: Nest, filters: float, panel: float, chunks: int, tiles: float, fetched: bool) -> float:
    """Of `filters` to a group: every chunk reads them, and every tile where the second-level cache holds no panel.

    `fetched`: ahead of their use.
    """
    tap = nest.taps * np.dtype(nest.dtype).itemsize
    size = nest.groups * filters * tap
    if size <= machine.cache_bytes(2):
        return 0.0
    passes = chunks if 2 * panel * tap <= machine.cache_bytes(2) else tiles
    seconds = filters * tap * passes * WEIGHT_SECONDS[size > machine.cache_bytes(3)]
    return seconds if fetched else seconds + size * UNFETCHED_SECONDS


def _pack_seconds(nest: Nest, sizes: dict[str, int], lanes: int) -> float:
    """Of the input of a chunk; rows in the padding take no time."""
    depth, down, across = nest.axes
    phases = len(across.phases)
    rows = min(sizes["row_phases"] * sizes["row_slots"], down.input)
    if across.x_stride == 1 and (across.stride <= 2 or across.stride == phases == 4):
        plane = rows * across.stride * ceil(sizes["column_slots"] / lanes) * REGISTER_SECONDS
    else:
        elements = min(sizes["column_slots"], ceil(across.input / across.stride))
        plane = rows * phases * (LINE_SECONDS + elements * ELEMENT_SECONDS)
    return depth.kernel * nest.channels * (PLANE_SECONDS + plane)


@lru_cache(maxsize=256)
def _share_of_taps(axis: Axis, tile: int) -> float:
    """Of all taps of all tiles of so many outputs: those that meet the input somewhere in their tile.

    The outputs are divided as evenly as they can be, the first tiles taking one more.  The tiles of a tap are neighbours,
    from the first output that is not before the input to the last that is not behind it: nothing is made per output.
    """
    size, longer = divmod(axis.output, ceil(axis.output / tile))

    def start(number):
        return number * size + min(number, longer)

    def tile_of(output):
        return output // (size + 1) if output < longer * (size + 1) else (output - longer) // size

    used = 0
    for tap in range(axis.kernel):
        place = axis.before - tap * axis.dilation
        low = max(-(-place // axis.stride), 0)
        high = min((axis.input - 1 + place) // axis.stride, axis.output - 1)
        if low < axis.output and high >= 0:
            used += max(start(tile_of(high) + 1) - start(tile_of(low)), 0)
    return used / (axis.kernel * axis.output)


def readable_in_place(nest: Nest) -> bool:
    """Whether neighbouring outputs find their inputs side by side, none of them in the padding."""
    across = nest.axes[2]
    return across.stride == across.x_stride == 1 and is_inside(nest)


def _readable_apart(nest: Nest) -> bool:
    """Whether the input had better be read where it lies, although neighbouring outputs find theirs a step apart.

    A copy in which they are neighbours pays where many filters read it and windows overlap, or registers are copied.
    """
    across = nest.axes[2]
    in_registers = across.x_stride == 1 and across.stride in (2, 4)
    overlap = any(axis.kernel > axis.stride for axis in nest.axes)
    panel, _ = filter_panels(nest.filters, family("conv", nest.dtype).TILE)
    return is_inside(nest) and (ceil(nest.filters / panel) <= FEW_PANELS or not (in_registers or overlap))


def is_inside(nest: Nest) -> bool:
    """Whether no window reaches the padding."""
    return all(axis.is_inside for axis in nest.axes)
