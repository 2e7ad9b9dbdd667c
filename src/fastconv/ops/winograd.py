"""Winograd convolution: fewer products for a stride of 1, at the price of two transforms.

F(m, r) computes m outputs of a filter of r taps from the m + r - 1 values of a polynomial product at as many points.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, inf

import numpy as np

from fastconv import machine
from fastconv._kernels import engine, family
from fastconv._kernels.engine import Step
from fastconv.ops.cost import CACHE_BYTES_PER_SECOND, peak_flops
from fastconv.ops.direct import STORE_FILTER_LANES
from fastconv.ops.nest import (
    THREAD_BYTES,
    THREAD_FLOPS,
    Nest,
    aligned,
    chunk_shape,
    even_part,
    filter_panels,
    nest_sizes,
    packed_bias,
    packed_sizes,
    split_filters,
)
from fastconv.ops.winograd_error import SIDE, filter_transform

__all__ = ["WinogradLoops", "winograd_flops", "winograd_seconds"]

LEAST_TILES, MOST_TILES = 16, 32  # of a chunk, the most no more than MAX_COLUMNS of the kernel
RESULT_ELEMENTS = 1 << 12  # results on their way to the output: half the first-level cache


class WinogradLoops:
    """A nest with a square kernel of 3 or 5 taps and stride 1, computed in tiles of 4×4 or 2×2."""

    def __init__(self, nest: Nest):
        self.nest = nest
        kernels = family("winograd", nest.dtype)
        tile_sizes = family("conv", nest.dtype).TILE
        self.kernel = nest.axes[1].kernel
        self.tile = SIDE + 1 - self.kernel
        self.panel, self.last_panel = filter_panels(nest.filters, tile_sizes)
        self.panels = ceil(nest.filters / self.panel)
        _, down, across = nest.axes
        tiles = replace(
            nest,
            axes=(
                nest.axes[0],
                *(replace(a, output=ceil(a.output / self.tile), kernel=SIDE, stride=self.tile) for a in (down, across)),
            ),
        )
        itemsize = np.dtype(nest.dtype).itemsize
        lanes = tile_sizes["lanes"]
        most = chunk_tiles(nest)
        sizes = packed_sizes(tiles, *chunk_shape(tiles, most, 1, inf))
        image_tiles = sizes["chunk_rows"] * sizes["chunk_columns"]
        chunks = sizes["chunks_down"] * sizes["chunks_across"]
        images = even_part(max(nest.images, 1), self._images_together(most // image_tiles)) if chunks == 1 else 1
        blocks = ceil(nest.images / images)
        split = split_filters(replace(nest, images=blocks), chunks, self.panels)
        tiles_of_chunk = images * image_tiles
        strip = aligned(sizes["row_slots"] * sizes["chunk_columns"] + lanes + 2)
        rounded = ceil(tiles_of_chunk / lanes) * lanes
        v_row = rounded if rounded * 4 <= tiles_of_chunk * 5 else tiles_of_chunk  # no register crosses a cache line
        v_plane = aligned(nest.channels * v_row + lanes)
        result_rows = max(1, RESULT_ELEMENTS // (sizes["chunk_columns"] * self.tile**2 * lanes))
        result_rows = min(result_rows, sizes["chunk_rows"])
        line_scratch = 2 * SIDE * self.tile * strip
        v_scratch = aligned(line_scratch + (sizes["column_slots"] + 2 * lanes) * self.tile)
        m_scratch = v_scratch + SIDE**2 * v_plane
        result_scratch = m_scratch + SIDE**2 * tiles_of_chunk * self.panel
        result = result_rows * sizes["chunk_columns"] * self.tile**2 * lanes
        self.step = Step(
            kernels.KERNELS["winograd"],
            {
                "chunks": {
                    **nest_sizes(tiles),
                    **sizes,
                    **split,
                    "packed": True,
                    "panel": self.panel,
                    "last_panel": self.last_panel,
                    "panel_scratch": result_scratch,
                    "lanes_are_filters": True,
                },
                "tile": self.tile,
                "y_rows": down.output,
                "y_columns": across.output,
                "images": nest.images,
                "chunk_images": images,
                "strip": strip,
                "chunk_tiles": tiles_of_chunk,
                "v_row": v_row,
                "v_plane": v_plane,
                "result_rows": result_rows,
                "line_scratch": line_scratch,
                "v_scratch": v_scratch,
                "m_scratch": m_scratch,
            },
            inputs=3 + nest.residual,
            constants=(np.arange(nest.channels, dtype=np.int64) * v_row,),
            tasks=blocks * nest.groups * chunks * split["chunk_tasks"],
            scratch=64 + (result_scratch + result) * itemsize,
            threads=1 + nest.flops // THREAD_FLOPS,
        )
        self.transform_step = Step(
            kernels.KERNELS["transform_filters"],
            {
                "groups": nest.groups,
                "channels": nest.channels,
                "filters": nest.filters,
                "panel": self.panel,
                "last_panel": self.last_panel,
                "kernel": self.kernel,
            },
            constants=(filter_transform(self.kernel),),
            tasks=nest.groups * self.panels * ceil(nest.channels / lanes),
            scratch=lanes * self.kernel**2 * self.panel * itemsize,
            threads=1 + nest.groups * nest.filters * nest.channels * SIDE**2 * itemsize // THREAD_BYTES,
        )

    @property
    def layout(self) -> tuple:
        """What the form of the packed weights depends on, beside the weights."""
        return ("winograd", self.nest.dtype, self.panel, self.last_panel)

    @property
    def packed_elements(self) -> tuple[int, int]:
        """Sizes of the packed weights and bias."""
        filters = self.nest.groups * ((self.panels - 1) * self.panel + self.last_panel)
        return filters * SIDE**2 * self.nest.channels, filters

    def _images_together(self, most: int) -> int:
        """Images of a chunk that has room for `most`: filters from memory are worth more than a share for each thread."""
        filters, _ = self.packed_elements
        if filters * np.dtype(self.nest.dtype).itemsize > machine.cache_bytes(2):
            return most
        return max(1, min(most, self.nest.images // engine.get_threads()))

    def pack(self, w: np.ndarray, b: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Contiguous weights (filters, channels, r, r) transformed, and the bias, in the kernel's panels."""
        filters = (self.panels - 1) * self.panel + self.last_panel
        transformed = np.empty(self.nest.groups * filters * SIDE**2 * self.nest.channels, self.nest.dtype)
        self.transform_step(transformed, w)
        return transformed, packed_bias(self.nest, filters, b)


def chunk_tiles(nest: Nest) -> int:
    """Tiles that go through all stages together; the filters are read again for each such chunk.

    More tiles make fewer passes over the filters, but their transforms should not outgrow the second-level cache by far.
    """
    transformed = SIDE**2 * nest.channels * np.dtype(nest.dtype).itemsize
    return max(LEAST_TILES, min(MOST_TILES, 2 * machine.cache_bytes(2) // transformed))


# Register operations of a transform, loads and stores included, for one tile of one channel or filter.
INPUT_OPERATIONS, OUTPUT_OPERATIONS = 240, 150


def winograd_flops(nest: Nest) -> int:
    """Multiplications and additions of the products and the transforms."""
    tiles, _ = _tiles(nest)
    products = 2 * SIDE**2 * tiles * nest.channels * nest.filters
    return nest.groups * (products + 168 * tiles * nest.channels + 100 * tiles * nest.filters)


def winograd_seconds(nest: Nest) -> float:
    """Predicted time on one thread; the transformed weights may take longer to come than to be used."""
    tile = family("conv", nest.dtype).TILE
    lanes, half = tile["lanes"], tile["half_panel"]
    tiles, across = _tiles(nest)
    filters = ceil(nest.filters / half) * half
    itemsize = np.dtype(nest.dtype).itemsize
    per_flop = 1 / peak_flops(nest.dtype)
    filled = across / (ceil(across / lanes) * lanes)
    stored = tiles * (SIDE + 1 - nest.axes[1].kernel) ** 2
    transforms = tiles * nest.channels * INPUT_OPERATIONS / filled + tiles * filters * OUTPUT_OPERATIONS
    transforms += stored * filters * STORE_FILTER_LANES
    products = SIDE**2 * tiles * nest.channels * filters * 1.1
    weights = SIDE**2 * nest.channels * filters * itemsize
    streams = ceil(tiles / chunk_tiles(nest)) if weights > machine.cache_bytes(2) else 1
    arriving = weights * streams / CACHE_BYTES_PER_SECOND
    return nest.groups * (2 * transforms * per_flop + max(2 * products * per_flop, arriving))


def _tiles(nest: Nest) -> tuple[int, int]:
    """Tiles of all images, and tiles across one."""
    m = SIDE + 1 - nest.axes[1].kernel
    down, across = (ceil(axis.output / m) for axis in nest.axes[1:])
    return nest.images * down * across, across
