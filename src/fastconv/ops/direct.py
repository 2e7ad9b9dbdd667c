"""The direct convolution's loops: where every tap finds its input, and which lanes the kernel fills."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, prod

import numpy as np

from fastconv import _kernels, machine
from fastconv._kernels import family, team
from fastconv._kernels.engine import Step
from fastconv.arrays import aligned_empty
from fastconv.ops.cost import moving_seconds, peak_flops
from fastconv.ops.nest import (
    TASKS_PER_THREAD,
    THREAD_BYTES,
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
    packed_bias,
    packed_elements,
    packed_sizes,
    split_filters,
)

__all__ = [
    "DirectLoops",
    "FilterLanes",
    "PixelLanes",
    "PointwiseLanes",
    "columns_seconds",
    "direct_loops",
    "direct_seconds",
    "taps_per_output",
    "transposed_loops",
    "transposed_seconds",
    "trimmed_seconds",
    "trimmed_share",
]

CHUNK_PIXELS = 512  # output pixels of one chunk
STORE_PIXELS = 224  # of one panel of filters: results that the first-level cache holds until they are stored
FEW_PANELS = 8  # of filters, that may read an input whose neighbours lie apart
FEW_LANES = 4  # of a register, which then may have no masked loads
POINTWISE_TILES = 16  # side by side in a chunk that is read in place
WEIGHT_BYTES_PER_SECOND = 80e9, 40e9  # that the second-level cache holds, and others
HEAD_BYTES = 64  # of the scratch: which chunk lies packed behind it

# What storing an output element costs, in taps: results of filter lanes are transposed on their way.
STORE_FILTER_LANES, STORE_PIXEL_LANES, STORE_POINTWISE = 11, 9, 4
STORE_APART = 3  # times as much where neighbouring pixels are not neighbours in memory
COPY = 6  # the same for an element of the packed input
CHAINS = 8  # sums side by side that hide how long each multiplication and addition takes

# What filter lanes take beside the products, in seconds.
CHUNK_SECONDS = 44e-9  # each chunk, and each of its channels that is packed:
PLANE_SECONDS = 17e-9
REGISTER_SECONDS = 1.2e-9  # each register that is packed; where the elements of a line are copied one by one:
LINE_SECONDS, ELEMENT_SECONDS = 4.8e-9, 0.39e-9
COLUMN_SECONDS = 7e-9  # each line of im2col's matrix, beside its elements
WEIGHT_SECONDS = 7e-12, 28e-12  # each byte of weights of the last-level cache, and of memory, every time it is read
CHAIN_REGISTERS = {"avx512": 4, "avx2": 8, "baseline": 8}  # sums that hide the time from one to the next


class DirectLoops:
    """A nest with its chunks, tables and steps: ``pack`` the weights, then ``step(y, x, *packed)``."""

    nest: Nest
    step: Step
    panel: int  # filters side by side in the packed weights
    last_panel: int

    @property
    def panels(self) -> int:
        return ceil(self.nest.filters / self.panel)

    @property
    def layout(self) -> tuple:
        """What the form of the packed weights depends on, beside the weights."""
        return ("panels", self.nest.dtype, self.panel, self.last_panel)

    @property
    def packed_elements(self) -> tuple[int, int]:
        """Sizes of the packed weights and bias."""
        filters = self.nest.groups * ((self.panels - 1) * self.panel + self.last_panel)
        return filters * self.nest.taps, filters

    def pack(
        self, w: np.ndarray, b: np.ndarray | None, empty=aligned_empty, scale=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Contiguous weights (filters, taps…) and bias, in the kernel's panels.

        ``empty(count, dtype)`` gives the memory; `scale` is a factor for each filter, in float64, and not for its bias.
        """
        nest = self.nest
        filters = (self.panels - 1) * self.panel + self.last_panel
        packed = empty(self.packed_elements[0], nest.dtype)
        step = self.pack_step(nest.groups, scale is not None)
        step(packed, w, *(() if scale is None else (np.ascontiguousarray(scale, np.float64),)))
        return packed, packed_bias(nest, filters, b, empty)

    def pack_step(self, groups: int, scaled: bool = False) -> Step:
        """``step(packed, w)`` for the weights of so many groups; `scaled`: ``step(packed, w, factors of the filters)``."""
        nest = self.nest
        elements = groups * self.packed_elements[0] // nest.groups
        return Step(
            family("conv", nest.dtype).KERNELS["pack_filters"],
            {
                "groups": groups,
                "filters": nest.filters,
                "taps": nest.taps,
                "panel": self.panel,
                "last_panel": self.last_panel,
                "scaled": scaled,
            },
            inputs=1 + scaled,
            constants=(self._places(),),
            tasks=groups * self.panels,
            threads=1 + elements * np.dtype(nest.dtype).itemsize // THREAD_BYTES,
        )

    def _places(self) -> np.ndarray:
        """Of each tap in the order of the weights: where it is in the order in which the kernel sums."""
        places = np.arange(self.nest.taps)
        taps = places.reshape(self.nest.channels, *(axis.kernel for axis in self.nest.axes))
        ordered = self._ordered(taps)
        if ordered is not taps:
            places = np.empty_like(places)
            places[ordered.reshape(-1)] = taps.reshape(-1)
        return places

    def _tables(self, sizes: dict) -> tuple[np.ndarray, ...]:
        """Where tap k lies, relative to an output position, and the stride phases of rows and columns."""
        depth, down, across = self.nest.axes
        channel = np.arange(self.nest.channels)
        row_phases = down.phases
        if sizes["packed"]:
            if sizes["row_slots"] == sizes["chunk_rows"] and down.reach:  # rows of its own for each tap
                rows = [k * sizes["row_slots"] for k in range(down.kernel)]
                row_phases = [k * down.dilation for k in range(down.kernel)]
            else:
                rows = [down.phases.index(phase) * sizes["row_slots"] + slot for phase, slot in down.tap_positions]
            columns = [
                across.phases.index(phase) * sizes["column_slots"] + slot for phase, slot in across.tap_positions
            ]
            by_depth = np.arange(depth.kernel) * self.nest.channels * sizes["plane"]
            by_channel, by_row, by_column = channel * sizes["plane"], np.array(rows) * sizes["pitch"], np.array(columns)
        else:
            by_channel = channel * self.nest.x_strides[1]
            by_depth, by_row, by_column = (
                (np.arange(a.kernel) * a.dilation - a.before) * a.x_stride for a in self.nest.axes
            )
        offsets = by_channel[:, None, None, None] + by_depth[:, None, None] + by_row[:, None] + by_column
        phases = (np.array(phases, np.int64) for phases in (row_phases, across.phases))
        return np.ascontiguousarray(self._ordered(offsets), np.int64).reshape(-1), *phases

    def _ordered(self, taps: np.ndarray) -> np.ndarray:
        """(…, channel, depth, row, column) in the order in which the kernel sums them."""
        return taps

    def _make_step(self, kernel, sizes: dict, tasks: int, scratch_elements: int, tables) -> Step:
        return Step(
            kernel,
            sizes,
            inputs=3 + self.nest.residual,
            constants=tables,
            tasks=tasks,
            scratch=HEAD_BYTES + scratch_elements * np.dtype(self.nest.dtype).itemsize,
            threads=1 + self.nest.flops // THREAD_FLOPS,
        )


class FilterLanes(DirectLoops):
    """Lanes are filters: `_kernels/conv.pyx`.

    `trimmed` leaves out the taps that lie in the padding; with `own_filters`, every image has filters of its own.
    """

    def __init__(self, nest: Nest, trimmed: bool = False, own_filters: bool = False):
        kernels = family("conv", nest.dtype)
        self.nest = nest
        self.trimmed = trimmed
        self.panel, self.last_panel = filter_panels(nest.filters, kernels.TILE)
        columns, sizes = self.chunk_sizes(nest)
        store_rows = even_part(sizes["chunk_rows"], max(STORE_PIXELS // columns, 1))
        chunks = count_chunks(nest, sizes)
        packed = self.packs(nest, trimmed)
        input_elements = aligned(packed_elements(nest, sizes)) if packed else 0
        panel_sizes = {"panel": self.panel, "last_panel": self.last_panel, "panel_scratch": input_elements}
        split = split_filters(chunks, self.panels)
        sizes = nest_sizes(nest) | sizes | split | panel_sizes
        sizes |= {"packed": packed, "store_rows": store_rows, "trimmed": trimmed}
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
    def chunk_sizes(nest: Nest) -> tuple[int, dict[str, int]]:
        """Output columns of a chunk, and the fields that describe its packed input."""
        limits = (CHUNK_PIXELS, family("conv", nest.dtype).TILE["pixels"], cache_budget(nest))
        rows, columns = chunk_shape(nest, *limits, widest=STORE_PIXELS, blocks=True)
        return columns, packed_sizes(nest, rows, columns, blocks=True)

    @staticmethod
    def packs(nest: Nest, trimmed: bool) -> bool:
        """Whether the input is copied; else it is read where it lies, `trimmed` only where neighbours are side by side."""
        return not (_readable_in_place(nest) or (not trimmed and _readable_apart(nest)))


class PixelLanes(DirectLoops):
    """Lanes are pixels: `_kernels/depthwise.pyx`."""

    def __init__(self, nest: Nest):
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
            and depth.before == 0
            and _inside(depth)
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


class PointwiseLanes(DirectLoops):
    """Lanes are pixels, and several filters share them: `_kernels/pointwise.pyx`.

    An input is read where it lies if its neighbours are those of the outputs, and packed otherwise.
    """

    def __init__(self, nest: Nest):
        kernels = family("pointwise", nest.dtype)
        tile = kernels.TILE
        self.nest = nest
        self.panel = even_part(nest.filters, tile["filters"])
        self.last_panel = (nest.filters - 1) % self.panel + 1
        step = tile["vectors"] * tile["lanes"]
        budget = cache_budget(nest)
        packed = not is_pointwise(nest)
        if packed:
            rows, columns = chunk_shape(nest, budget, step, budget)
        else:
            widest = max(min(POINTWISE_TILES, budget // (step * max(nest.taps, 1))), 1) * step
            columns = even_part(nest.axes[2].output, widest, tile["lanes"])
            rows = even_part(nest.axes[1].output, widest // columns)
        sizes = packed_sizes(nest, rows, columns)
        input_elements = packed_elements(nest, sizes) if packed else 0
        chunks = count_chunks(nest, sizes)
        split = split_filters(chunks, self.panels)
        panel_sizes = {"panel": self.panel, "last_panel": self.last_panel, "panel_scratch": 0}
        sizes = nest_sizes(nest) | sizes | split | panel_sizes | {"packed": packed}
        self.step = self._make_step(
            kernels.KERNELS["pointwise"], sizes, chunks * split["chunk_tasks"], input_elements, self._tables(sizes)
        )


def is_pointwise(nest: Nest) -> bool:
    """Whether neighbouring outputs, side by side in memory, read neighbouring inputs, none of them in the padding."""
    return _readable_in_place(nest) and nest.axes[2].y_stride == 1


def direct_loops(nest: Nest) -> DirectLoops:
    """The loops with the lanes that are predicted to take the least time."""
    taps = taps_per_output(nest)
    return min(taps, key=taps.__getitem__)(nest)


def taps_per_output(nest: Nest) -> dict[type[DirectLoops], float]:
    """Predicted cost of an output element in products of a full register tile, for the loops that compute the nest."""
    tile, pixel_tile = family("conv", nest.dtype).TILE, family("depthwise", nest.dtype).TILE
    taps = {FilterLanes: _filter_taps(nest, tile)}
    if tile["lanes"] == 1:
        return taps
    columns = nest.axes[2].output
    filled = ceil(columns / tile["lanes"]) * tile["lanes"] / columns
    filters = even_part(nest.filters, pixel_tile["filters"])
    vectors = min(pixel_tile["vectors"], ceil(columns / tile["lanes"]))
    loads = (filters + vectors) / (filters * vectors)
    store = STORE_PIXEL_LANES * (1 if nest.axes[2].y_stride == 1 else STORE_APART)
    taps[PixelLanes] = filled * (1.06 * max(0.9 * loads, 1) * nest.taps + store)
    in_place = is_pointwise(nest)
    if in_place:
        usable = (columns >= tile["lanes"] or tile["lanes"] > FEW_LANES) and (
            nest.filters > 1 or nest.taps == nest.channels
        )
    else:
        usable = columns >= tile["lanes"] and nest.filters > 1 and nest.axes[2].y_stride == 1
    if usable:
        copies = 0 if in_place else nest.channels * prod(len(axis.phases) for axis in nest.axes[1:]) / nest.filters
        taps[PointwiseLanes] = filled * (1.02 * max(loads, 1) * nest.taps + STORE_POINTWISE) + COPY * copies
    return taps


def _filter_taps(nest: Nest, tile: dict[str, int]) -> float:
    half = tile["half_panel"]
    halves = ceil(nest.filters / half)
    slowness = max(CHAINS * tile["lanes"] / (tile["pixels"] * half), 1)
    slots = halves + (slowness - 1) * (halves % 2)  # of half a panel; the last may be alone
    return half * (slots * 1.01 * nest.taps + halves * STORE_FILTER_LANES) / nest.filters


def direct_seconds(nest: Nest) -> float:
    """Predicted time on one thread."""
    taps = taps_per_output(nest)
    lanes = min(taps, key=taps.__getitem__)
    return filter_lanes_seconds(nest) if lanes is FilterLanes else _pixel_lanes_seconds(nest, taps[lanes])


def _pixel_lanes_seconds(nest: Nest, taps: float) -> float:
    outputs = nest.images * nest.groups * nest.filters * prod(axis.output for axis in nest.axes)
    weights = nest.groups * nest.filters * nest.taps * np.dtype(nest.dtype).itemsize
    arriving = weights / WEIGHT_BYTES_PER_SECOND[weights > machine.cache_bytes(2)]
    return max(2 * outputs * taps / peak_flops(nest.dtype), arriving) + moving_seconds(nest_bytes(nest))


def filter_lanes_seconds(nest: Nest, trimmed: bool = False) -> float:
    """Predicted time of filter lanes on one thread."""
    share = trimmed_share(nest) if trimmed else 1.0
    tile = family("conv", nest.dtype).TILE
    _, down, across = nest.axes
    columns, sizes = FilterLanes.chunk_sizes(nest)
    panel, last_panel = filter_panels(nest.filters, tile)
    whole_panels = ceil(nest.filters / panel) - 1
    panel_registers, last_registers = (filters // tile["lanes"] for filters in (panel, last_panel))
    tiles_across = ceil(columns / tile["pixels"])
    lines = nest.images * nest.groups * nest.axes[0].output * down.output
    tiles = lines * across.output / columns * tiles_across
    chain, pixels = CHAIN_REGISTERS[_kernels.ISA], columns / tiles_across
    products = whole_panels * max(pixels * panel_registers, chain) + max(pixels * last_registers, chain)
    stores = lines * across.output * (whole_panels * panel_registers + last_registers) * STORE_FILTER_LANES
    operations = 1.06 * tiles * nest.taps * share * products + stores
    chunks = count_chunks(nest, sizes)
    return (
        operations * 2 * tile["lanes"] / peak_flops(nest.dtype)
        + chunks * CHUNK_SECONDS
        + _weight_seconds(nest, (whole_panels * panel + last_panel) * share, panel * share, chunks, tiles)
        + (_pack_seconds(nest, sizes, tile["lanes"]) * chunks if FilterLanes.packs(nest, trimmed) else 0.0)
        + moving_seconds(nest_bytes(nest))
    )


def _weight_seconds(nest: Nest, filters: float, panel: float, chunks: int, tiles: float) -> float:
    """Of `filters` to a group: every chunk reads them, and every tile where the second-level cache holds no panel."""
    tap = nest.taps * np.dtype(nest.dtype).itemsize
    size = nest.groups * filters * tap
    if size <= machine.cache_bytes(2):
        return 0.0
    passes = chunks if 2 * panel * tap <= machine.cache_bytes(2) else tiles
    return filters * tap * passes * WEIGHT_SECONDS[size > machine.cache_bytes(3)]


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


def columns_seconds(nest: Nest) -> float:
    """Predicted time in which the windows of one image become columns, each tap a line for every output row."""
    depth, down, across = nest.axes
    lines = nest.groups * nest.taps * depth.output * down.output
    if across.x_stride == across.stride == 1:
        return lines * (COLUMN_SECONDS + across.output * REGISTER_SECONDS / family("conv", nest.dtype).TILE["lanes"])
    return lines * (COLUMN_SECONDS + across.output * ELEMENT_SECONDS)


def trimmed_share(nest: Nest) -> float:
    """Of all products, those that are left without the taps that lie in the padding."""
    _, down, across = nest.axes
    return _share_of_taps(down, 1) * _share_of_taps(across, family("conv", nest.dtype).TILE["pixels"])


def trimmed_seconds(nest: Nest) -> float:
    """Predicted time on one thread of filter lanes without those taps."""
    return filter_lanes_seconds(nest, trimmed=True)


@lru_cache(maxsize=256)
def _share_of_taps(axis: Axis, tile: int) -> float:
    """Of all taps of all tiles of so many outputs: those that meet the input somewhere in their tile.

    The outputs are divided as evenly as they can be, the first tiles taking one more.  The tiles of a tap are neighbours,
    from the first output that is not before the input to the last that is not behind it: nothing is made per output.
    """
    size, longer = divmod(axis.output, ceil(axis.output / tile))

    def start(number):
        return number * size + np.minimum(number, longer)

    def tile_of(output):
        return np.where(output < longer * (size + 1), output // (size + 1), (output - longer) // size)

    place = axis.before - np.arange(axis.kernel) * axis.dilation
    low = np.maximum(-(-place // axis.stride), 0)
    high = np.minimum((axis.input - 1 + place) // axis.stride, axis.output - 1)
    used = np.maximum(start(tile_of(high) + 1) - start(tile_of(low)), 0)
    return float(used[(low < axis.output) & (high >= 0)].sum()) / (axis.kernel * axis.output)


def transposed_loops(nest: Nest) -> DirectLoops:
    """The loops of a part of a transposed convolution, in whose definition no padding takes part."""
    return FilterLanes(nest, trimmed=True) if _is_trimmed(nest) else direct_loops(nest)


def transposed_seconds(nest: Nest) -> float:
    """Predicted time on one thread."""
    return trimmed_seconds(nest) if _is_trimmed(nest) else direct_seconds(nest)


def _is_trimmed(nest: Nest) -> bool:
    return not _is_inside(nest) and trimmed_seconds(nest) < direct_seconds(nest)


def _readable_in_place(nest: Nest) -> bool:
    """Whether neighbouring outputs find their inputs side by side, none of them in the padding."""
    across = nest.axes[2]
    return across.stride == across.x_stride == 1 and _is_inside(nest)


def _readable_apart(nest: Nest) -> bool:
    """Whether the input had better be read where it lies, although neighbouring outputs find theirs a step apart.

    A copy in which they are neighbours pays where many filters read it and windows overlap, or registers are copied.
    """
    across = nest.axes[2]
    in_registers = across.x_stride == 1 and across.stride in (2, 4)
    overlap = any(axis.kernel > axis.stride for axis in nest.axes)
    panel, _ = filter_panels(nest.filters, family("conv", nest.dtype).TILE)
    return _is_inside(nest) and (ceil(nest.filters / panel) <= FEW_PANELS or not (in_registers or overlap))


def _is_inside(nest: Nest) -> bool:
    """Whether no window reaches the padding."""
    return all(axis.before == 0 and _inside(axis) for axis in nest.axes)


def _inside(axis: Axis) -> bool:
    """No window reaches behind the input."""
    return (axis.output - 1) * axis.stride + axis.dilation * (axis.kernel - 1) < axis.input
