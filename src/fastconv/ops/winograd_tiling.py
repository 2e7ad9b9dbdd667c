"""How Winograd divides a convolution into tiles, chunks and tasks, and what that is predicted to take."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, inf, prod

import numpy as np

from fastconv import machine
from fastconv._kernels import family, team
from fastconv.ops.cost import moving_seconds, peak_flops
from fastconv.ops.nest import (
    THREAD_FLOPS,
    Nest,
    aligned,
    chunk_shape,
    even_part,
    filter_panels,
    nest_bytes,
    packed_sizes,
)
from fastconv.ops.table import plan_cache
from fastconv.ops.winograd_error import winograd_forms
from fastconv.ops.winograd_forms import BLOCK_TAPS, STRIDED_FORMS, UNCHANGED, Forms

__all__ = [
    "MAX_REACH",
    "MOST_DEPTH",
    "MOST_SPREAD",
    "MOST_TAPS",
    "Tiling",
    "count_tasks",
    "count_tiles",
    "strided_forms",
    "tiling_of",
    "winograd_flops",
    "winograd_seconds",
]

MOST_DEPTH = 8  # taps along the depth: the kernel has so many tags
MOST_TAPS = 32  # of an axis: the tiles that its blocks need beyond a chunk are few beside the chunk's
MOST_SPREAD = 64  # dilation of columns: so many tiles share a chunk

MAX_REACH = 3  # tiles that a tile's columns reach beyond it
LEAST_TILES, MOST_TILES = 16, 32  # of a chunk, the most no more than MAX_COLUMNS of the kernel
MOST_BLOCK_TILES = 64  # where blocks need tiles beyond a chunk, too
BLOCK_POINTS = tuple(2 * taps - 1 for taps in BLOCK_TAPS)
CHUNKS_PER_THREAD = 16  # keep the threads equally busy, as do so many panels of shared inputs:
PANELS_PER_THREAD = 8
PIECES_PER_THREAD = 4  # of the channels of shared inputs
LEAST_CHANNELS = 4  # of a piece
STREAMED_TILES = 16  # whose products take no longer than filters that fill much of the last-level cache
RUNS_PER_THREAD = 4  # of chunks of neighbouring depths, which share planes


def strided_forms(nest: Nest) -> Forms:
    """Those of a stride of 2: small tiles where an image has few large ones, whose many filters would be late."""
    small, large = STRIDED_FORMS[tuple(axis.kernel for axis in nest.axes[1:])]
    tiles = prod(ceil(axis.output / form.outputs) for axis, form in zip(nest.axes[1:], large, strict=True))
    elements = prod(form.points for form in large) * nest.axes[0].kernel * nest.channels * nest.filters
    streams = elements * np.dtype(nest.dtype).itemsize > machine.cache_bytes(3) // 4
    return small if streams and tiles <= STREAMED_TILES else large


class Tiling:
    """How a nest is cut into tiles of some outputs, and those into chunks of some tiles of one image or all of several."""

    def __init__(self, nest: Nest, large: bool = False, transposed: Forms | None = None):
        rows = nest.axes[0].kernel * nest.channels
        self.strided = transposed is not None or nest.axes[1].stride > 1
        kernel = tuple(axis.kernel for axis in nest.axes[1:])
        if transposed:
            self.forms: Forms = transposed
        else:
            self.forms = strided_forms(nest) if self.strided else winograd_forms(kernel, rows, large)
        self.layout = transposed[0].layout if transposed else 0
        self.points = prod(form.points for form in self.forms)
        self.blocks = prod(form.blocks for form in self.forms)
        self.more = tuple(form.blocks - 1 for form in self.forms)  # tiles beyond a chunk that its last tiles need
        self.outputs = [axis.output for axis in nest.axes[1:]]
        self.threads = 1 + nest.flops // THREAD_FLOPS  # worth waking
        pairs = list(zip(nest.axes[1:], self.forms, strict=True))
        self.spreads = tuple(axis.dilation if form.taps > 1 else 1 for axis, form in pairs)
        axes = (
            replace(
                axis,
                output=count_tiles(axis.output, form.outputs, spread),
                kernel=form.values,
                stride=form.step,
                dilation=1,
            )
            for (axis, form), spread in zip(pairs, self.spreads, strict=True)
        )
        self.nest = replace(nest, axes=(nest.axes[0], *axes))
        self.lanes = family("conv", nest.dtype).TILE["lanes"]
        itemsize = np.dtype(nest.dtype).itemsize
        self.weight_bytes = self.points * self.blocks * rows * nest.filters * itemsize  # of one group, transformed
        # More tiles make fewer passes over the filters, but what they become should not outgrow the cache by far.
        room = 2 * machine.cache_bytes(2) // (self.points * rows * itemsize)
        most = LEAST_TILES if transposed else max(LEAST_TILES, min(MOST_TILES, room))
        widest = None
        if self.blocks > 1:
            most = max(LEAST_TILES, min(MOST_BLOCK_TILES, room))
            widest = min(most, MOST_TILES - self.more[1])
        together = self.spreads[1]  # columns of tiles that interleave
        most = max(most // together, 1) * together
        self.sizes = packed_sizes(self.nest, *chunk_shape(self.nest, most, together, inf, widest=widest))
        self.chunks = self.sizes["chunks_down"] * self.sizes["chunks_across"]
        self.images = 1
        if self.chunks == 1:
            most //= self.sizes["chunk_rows"] * self.sizes["chunk_columns"]
            self.images = even_part(max(nest.images, 1), most)
        self.units = ceil(nest.images / self.images) * nest.groups * nest.axes[0].output * self.chunks
        self.chunk_tiles = self.images * self.sizes["chunk_rows"] * self.sizes["chunk_columns"]
        self.transformed_tiles = self.images * prod(self.transformed_shape)
        # Room for products; with many points, an odd number spreads them over the sets of the cache.
        self.product_tiles = self.chunk_tiles | 1 if transposed else self.chunk_tiles
        operations = self.tile_lanes_operations, self.channel_lanes_operations
        # Lanes of the input transform are channels, not tiles; for channels, nothing interleaves, for tiles nothing strides.
        self.channel_lanes = self.strided or (
            self.spreads == (1, 1) and not self.in_blocks and operations[1] <= operations[0]
        )

    def cuts(self, panels: int, half: bool) -> dict[str, int]:
        """How chunks become tasks: the last are cut where there are few for each thread.

        They are those that are left over when each thread has taken the same number, or one for each.  Where filters are
        streamed, the threads share one transformed input, so that each filter is read once; else each has its own tiles.
        `half`: the last panel is one.
        """
        threads = min(team.get_threads(), self.threads)
        cut = 0
        if threads > 1 and self.units < threads * CHUNKS_PER_THREAD:
            cut = self.units % threads or min(threads, self.units)
        pieces = 0
        if self.streams and cut:
            pieces = min(ceil(threads * PIECES_PER_THREAD / cut), ceil(self.nest.channels / LEAST_CHANNELS))
        channels = ceil(self.nest.channels / max(pieces, 1))
        if self.channel_lanes:
            channels = aligned(channels, self.lanes)
        whole = self.units - cut
        along_depth = max(1, whole // (threads * RUNS_PER_THREAD)) if self.nest.axes[0].kernel > 1 else 1
        left = 0
        if cut * panels < threads * PANELS_PER_THREAD:
            left = cut * panels % threads or min(half * threads, cut * panels)
        across = self.cut_across(threads, pieces > 0)
        lines = self.images if self.images > 1 else self.sizes["chunk_columns" if across else "chunk_rows"]
        return {
            "whole_chunks": whole,
            "task_chunks": along_depth,
            "cut_chunks": cut,
            "pieces": ceil(self.nest.channels / channels) if pieces else 0,
            "piece_channels": channels,
            "whole_panels": cut * panels - left,
            "bands": min(threads, lines),
            "bands_across": across,
        }

    def cut_across(self, threads: int, shared: bool) -> bool:
        """Whether parts of chunks are columns of tiles: where these are more equal; of a shared input, only a single row."""
        sizes, (down, across) = self.sizes, (axis.output for axis in self.nest.axes[1:])
        rows, columns = (
            {sizes["chunk_rows"], down - (sizes["chunks_down"] - 1) * sizes["chunk_rows"]},
            {sizes["chunk_columns"], across - (sizes["chunks_across"] - 1) * sizes["chunk_columns"]},
        )
        if self.spreads[1] > 1:  # they interleave
            return False
        if shared:
            return max(rows) == 1
        return _largest_part(columns, threads) < _largest_part(rows, threads)

    @property
    def in_blocks(self) -> bool:
        """Axes have the forms of blocks, be it of one; lanes are tiles."""
        return not self.strided and any(form.points in BLOCK_POINTS for form in self.forms)

    @property
    def transformed_shape(self) -> tuple[int, int]:
        """Rows and columns of the transformed tiles of a chunk."""
        return self.sizes["chunk_rows"] + self.more[0], self.sizes["chunk_columns"] + self.more[1]

    @property
    def point_tiles(self) -> list[tuple[int, int]]:
        """How many points have products of how many tiles of an image: tiles that end outside may leave out the last."""
        down, across = [], []
        for parts, axis, form, size in zip((down, across), self.nest.axes[1:], self.forms, self.outputs, strict=True):
            beyond = axis.output * form.outputs - size if self.channel_lanes else 0
            left_out = min(beyond + 1, form.lone_points) if beyond else 0
            parts += (form.points - left_out, axis.output), (left_out, axis.output - 1)
        return [(rows * columns, height * width) for rows, height in down for columns, width in across]

    @property
    def products(self) -> int:
        """Of one channel and filter, for one depth of all images."""
        return self.nest.images * self.blocks * sum(points * tiles for points, tiles in self.point_tiles)

    @property
    def product_operations(self) -> float:
        """What the products of one channel take, in multiply-adds: with few tiles the filters are loaded in the same time."""
        if self.blocks > 1:  # each row of tiles has its own
            rows, columns = (axis.output for axis in self.nest.axes[1:])
            across = self.sizes["chunks_across"]
            tiles = self.nest.images * rows * max(columns, across * FEWEST_TILES)
            return self.blocks * self.points * tiles * PRODUCT_OPERATIONS
        chunks = ceil(self.nest.images / self.images)
        multiplied = sum(points * max(self.images * tiles, FEWEST_TILES) for points, tiles in self.point_tiles if tiles)
        return chunks * multiplied * PRODUCT_OPERATIONS

    @property
    def input_operations(self) -> float:
        """Of the transform of one input plane of all images, beside the products: multiply-adds of a register."""
        return self.channel_lanes_operations if self.channel_lanes else self.tile_lanes_operations

    @property
    def channel_lanes_operations(self) -> float:
        tiles = prod(axis.output for axis in self.nest.axes[1:])
        blocks = ceil(self.nest.channels / self.lanes)
        turned = self.squares(self.forms[1].step / self.forms[1].outputs, self.forms[1].taps - 1)
        return self.nest.images * blocks * (tiles * self.points * TILE_OPERATIONS + turned * TURN_OPERATIONS)

    @property
    def tile_lanes_operations(self) -> float:
        rows, columns = self.transformed_shape
        down = self.nest.axes[1].output + self.more[0] * self.sizes["chunks_down"]
        height, width = self.forms
        spread_rows, spread_columns = self.spreads
        beyond = (height.taps - 1) * min(spread_rows, rows) * self.sizes["chunks_down"]
        packed = (down * height.outputs + beyond) * self.sizes["chunks_across"]
        packed *= ceil((columns + (width.points - 1) // width.outputs * spread_columns) / self.lanes)
        if spread_columns > 2:  # runs of columns are copied
            packed *= max(1, self.lanes // spread_columns)
        transformed = self.chunks * ceil(rows * columns / self.lanes) * self.points
        pack_operations = PACK_OPERATIONS * width.points + SIXTHS_OPERATIONS * (width.outputs in (3, 6))
        operations = packed * pack_operations + transformed * INPUT_OPERATIONS[self.both_axes]
        if self.spreads != (1, 1):
            operations *= SPREAD_FACTOR
        return self.nest.images * self.nest.channels * operations

    @property
    def both_axes(self) -> bool:
        """Transforms go along both."""
        return UNCHANGED not in self.forms

    @property
    def output_operations(self) -> float:
        """Of the transform of a register of filters, of one depth of all images."""
        tiles = self.nest.images * prod(axis.output for axis in self.nest.axes[1:])
        operations = tiles * self.points * OUTPUT_OPERATIONS[self.both_axes]
        return operations + self.nest.images * self.squares() * STORE_OPERATIONS

    def squares(self, stride: float = 1, more: int = 0) -> float:
        """Squares of as many pixels as lanes in an image's plane, `stride` times as high and as wide as the output.

        There are `more` columns to a chunk; whole rows have no gaps.
        """
        height, width = (stride * size for size in self.outputs)
        if self.sizes["chunks_across"] == 1:
            return ceil(height * width / self.lanes)
        columns = min(self.sizes["chunk_columns"] * self.forms[1].outputs * stride + more, width)
        return height * self.sizes["chunks_across"] * ceil(columns / self.lanes)

    @property
    def streams(self) -> bool:
        """The filters come from beyond the second-level cache for every chunk."""
        return self.weight_bytes > machine.cache_bytes(2)

    @property
    def depth_taps(self) -> int:
        """Taps along the depth that do not lie in the padding, of all outputs."""
        depth = self.nest.axes[0]
        ends = [depth.before - k * depth.dilation for k in range(depth.kernel)]
        lasts = [min(depth.output - 1, (depth.input - 1 + end) // depth.stride) for end in ends]
        return sum(max(0, last + 1 - max(0, ceil(end / depth.stride))) for end, last in zip(ends, lasts, strict=True))

    @property
    def depth_planes(self) -> int:
        """Input planes that are transformed, at most: the ring keeps what further outputs need if they start whole steps on."""
        depth = self.nest.axes[0]
        if depth.stride % depth.dilation:
            return self.depth_taps
        steps = (depth.output - 1) * depth.stride // depth.dilation + depth.kernel
        last = min(steps - 1, (depth.input - 1 + depth.before) // depth.dilation)
        return min(self.depth_taps, max(0, last + 1 - max(0, ceil(depth.before / depth.dilation))))


@plan_cache
def tiling_of(nest: Nest, large: bool, transposed: Forms | None = None) -> Tiling:
    return Tiling(nest, large, transposed)


def count_tiles(outputs: int, m: int, spread: int) -> int:
    """Tiles of an axis, each m outputs that are `spread` apart; as many interleave."""
    whole, left = divmod(outputs, m * spread)
    return whole * spread + min(left, spread)


def _largest_part(sizes: set[int], parts: int) -> float:
    """The largest share of one of so many parts that some sizes are cut into."""
    return max(ceil(size / parts) / max(size, 1) for size in sizes)


def count_tasks(cuts: dict[str, int], panels: int) -> int:
    """Pieces, runs of whole chunks, and what is made of the others."""
    cut, whole_panels = cuts["cut_chunks"], cuts["whole_panels"]
    tasks = ceil(cuts["whole_chunks"] / cuts["task_chunks"])
    if not cuts["pieces"]:
        return tasks + cut * cuts["bands"]
    return tasks + cut * cuts["pieces"] + whole_panels + (cut * panels - whole_panels) * cuts["bands"]


# What the parts take beside the products, in multiply-adds of a register at the nominal peak.
PACK_OPERATIONS = 5.2  # a register of tiles, one row of one channel, each point across
SIXTHS_OPERATIONS = 50  # the same where every sixth element is picked out
INPUT_OPERATIONS = 5.0, 7.9  # a register of tiles, one channel, each point: transforms along one axis, along both
SPREAD_FACTOR = 1.8  # these where tiles interleave
TURN_OPERATIONS = 125  # a square of as many pixels, and channels, as fill a register
TILE_OPERATIONS = 5.0  # a tile of a register of channels, each point
OUTPUT_OPERATIONS = 8.8, 11.8  # a tile of a register of filters, each point: transforms along one axis, along both
STORE_OPERATIONS = 30  # a square of as many results as fill a register, and filters
PRODUCT_OPERATIONS = 1.27
UNIT_SECONDS = 0.2e-6  # each chunk
SUM_SECONDS = 16e-9  # each point and panel of a chunk: sums begin and end
FEWEST_TILES = 3  # that hide the loads of the filters
FILTER_BYTES_PER_SECOND = 80e9, 40e9, 25e9  # of filters that fill half the last-level cache, three quarters, and more


def winograd_flops(nest: Nest, large: bool = False, transposed: Forms | None = None) -> int:
    """Multiplications and additions of the products and the transforms."""
    tiling = tiling_of(nest, large, transposed)
    tiles = nest.images * prod(axis.output for axis in tiling.nest.axes[1:])  # of one depth
    products = 2 * tiling.products * tiling.depth_taps * nest.channels * nest.filters
    transforms = tiling.points * (4.7 * tiling.depth_planes * nest.channels + 2.8 * nest.axes[0].output * nest.filters)
    return nest.groups * (products + tiles * round(transforms))


def winograd_seconds(nest: Nest, large: bool = False, transposed: Forms | None = None) -> float:
    """Predicted time on one thread; the transformed filters may take longer to come than to be used."""
    tiling = tiling_of(nest, large, transposed)
    registers = ceil(nest.filters / tiling.lanes)
    transforms = tiling.depth_planes * tiling.input_operations
    transforms += nest.axes[0].output * registers * tiling.output_operations
    products = tiling.product_operations * tiling.depth_taps * nest.channels * registers
    second = peak_flops(nest.dtype) / (2 * tiling.lanes)  # operations
    passes = tiling.units // nest.groups if tiling.streams else 0
    quarters = 4 * tiling.weight_bytes / machine.cache_bytes(3)
    arriving = tiling.weight_bytes * passes / FILTER_BYTES_PER_SECOND[(quarters > 2) + (quarters > 3)]
    computing = nest.groups * (transforms / second + max(products / second, arriving))
    panel, _ = filter_panels(nest.filters, family("conv", nest.dtype).TILE)
    sums = tiling.points * ceil(nest.filters / panel)
    return computing + tiling.units * (UNIT_SECONDS + sums * SUM_SECONDS) + moving_seconds(nest_bytes(nest))
