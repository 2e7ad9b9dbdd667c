"""The direct convolution: the loops whose lanes are pixels of long rows, and the choice between these and the others."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from fastconv import machine
from fastconv._kernels import family
from fastconv.ops.cost import moving_seconds, peak_flops
from fastconv.ops.direct_loops import DirectLoops
from fastconv.ops.filter_lanes import (
    STORE_FILTER_LANES,
    FilterLanes,
    filter_lanes_seconds,
    is_inside,
    readable_in_place,
    trimmed_seconds,
)
from fastconv.ops.nest import (
    Nest,
    cache_budget,
    chunk_shape,
    count_chunks,
    even_part,
    nest_bytes,
    nest_sizes,
    packed_elements,
    packed_sizes,
    split_filters,
)
from fastconv.ops.pixel_lanes import PixelLanes, PlaneLanes, fits_planes, has_wide_registers, plane_lanes

__all__ = [
    "DirectLoops",
    "FilterLanes",
    "PixelLanes",
    "PlaneLanes",
    "PointwiseLanes",
    "direct_loops",
    "direct_seconds",
    "taps_per_output",
    "transposed_loops",
    "transposed_seconds",
]

FEW_LANES = 4  # of a register, which then may have no masked loads
WIDE_BYTES = 256  # of a tile's pixels of one tap, which hide the way of the next
FAR_TAPS, FAR_FILTERS, FAR_BYTES = 48, 64, 2048  # so many rows, so far apart, are copied for so many filters
LATE_PIXELS, LATE_FILTERS = 1.2, 1.08  # what the products take then, in tiles of pixels and of filters
LINE_BYTES = 64
POINTWISE_TILES = 16  # side by side in a chunk that is read in place
WEIGHT_BYTES_PER_SECOND = 80e9, 40e9  # that the second-level cache holds, and others

# What storing an output element costs, in taps.
STORE_PIXEL_LANES, STORE_POINTWISE = 9, 4
STORE_APART = 3  # times as much where neighbouring pixels are not neighbours in memory
COPY = 6  # the same for an element of the packed input
CHAINS = 8  # sums side by side that hide how long each multiplication and addition takes


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
        packed = self.packs(nest)
        if packed:
            budget //= 2  # the results take as much again
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

    @staticmethod
    def packs(nest: Nest) -> bool:
        """Whether the input is copied: where it cannot be read where it lies, or many filters would read rows far apart."""
        return not is_pointwise(nest) or (nest.filters >= FAR_FILTERS and _lies_far_apart(nest))


def is_pointwise(nest: Nest) -> bool:
    """Whether neighbouring outputs, side by side in memory, read neighbouring inputs, none of them in the padding."""
    return readable_in_place(nest) and nest.axes[2].y_stride == 1


def _lies_far_apart(nest: Nest) -> bool:
    """Whether the rows of the taps do, for tiles that are too narrow for a fetch in time."""
    return _has_narrow_tiles(nest) and nest.x_strides[1] * np.dtype(nest.dtype).itemsize >= FAR_BYTES


def _has_narrow_tiles(nest: Nest) -> bool:
    """What a tile multiplies with the pixels of one of many taps takes less time than their way from another cache."""
    tile = family("pointwise", nest.dtype).TILE
    return nest.taps >= FAR_TAPS and tile["vectors"] * tile["lanes"] * np.dtype(nest.dtype).itemsize < WIDE_BYTES


def _arrives_late(nest: Nest) -> bool:
    """Whether pixels that are read where they lie come from beyond the first-level cache to narrow tiles."""
    lines = 2 * nest.taps * LINE_BYTES  # of a tile that begins anywhere
    return _lies_far_apart(nest) or (_has_narrow_tiles(nest) and lines > machine.cache_bytes(1))


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
    if _planes_pay(nest):
        registers = ceil(columns / plane_lanes(nest))
        taps[PlaneLanes] = registers * (1.06 * plane_lanes(nest) * nest.taps + tile["lanes"] * store) / columns
    in_place = is_pointwise(nest)
    if in_place:
        usable = (columns >= tile["lanes"] or tile["lanes"] > FEW_LANES) and (
            nest.filters > 1 or nest.taps == nest.channels
        )
    else:
        usable = columns >= tile["lanes"] and nest.filters > 1 and nest.axes[2].y_stride == 1
    if usable:
        packs = PointwiseLanes.packs(nest)
        late = LATE_PIXELS if not packs and _arrives_late(nest) else 1
        copies = 0 if not packs else nest.channels * prod(len(axis.phases) for axis in nest.axes[1:]) / nest.filters
        taps[PointwiseLanes] = filled * (1.02 * late * max(loads, 1) * nest.taps + STORE_POINTWISE) + COPY * copies
    return taps


def _planes_pay(nest: Nest) -> bool:
    """Whether planes are packed: where several filters read each, or where masked registers would cost more."""
    across = nest.axes[2]
    return fits_planes(nest) and (
        nest.filters > 1 or not has_wide_registers(nest) or (across.stride == 1 and across.output <= plane_lanes(nest))
    )


def _filter_taps(nest: Nest, tile: dict[str, int]) -> float:
    half = tile["half_panel"]
    halves = ceil(nest.filters / half)
    slowness = max(CHAINS * tile["lanes"] / (tile["pixels"] * half), 1)
    late = LATE_FILTERS if readable_in_place(nest) and _lies_far_apart(nest) else 1
    slots = halves + (slowness - 1) * (halves % 2)  # of half a panel; the last may be alone
    return half * (slots * 1.01 * late * nest.taps + halves * STORE_FILTER_LANES) / nest.filters


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


def transposed_loops(nest: Nest) -> DirectLoops:
    """The loops of a part of a transposed convolution, in whose definition no padding takes part."""
    return FilterLanes(nest, trimmed=True) if _is_trimmed(nest) else direct_loops(nest)


def transposed_seconds(nest: Nest) -> float:
    """Predicted time on one thread."""
    return trimmed_seconds(nest) if _is_trimmed(nest) else direct_seconds(nest)


def _is_trimmed(nest: Nest) -> bool:
    return not is_inside(nest) and trimmed_seconds(nest) < direct_seconds(nest)
