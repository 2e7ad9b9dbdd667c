"""Winograd convolution: fewer products for a stride of 1 or 2, at the price of two transforms."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.nest import LINE, THREAD_BYTES, Nest, aligned, filter_panels, nest_sizes, packed_bias
from fastconv.ops.winograd_forms import Forms, taps_in_blocks
from fastconv.ops.winograd_tiling import MAX_REACH, Tiling, count_tasks, tiling_of

__all__ = ["WinogradLoops", "large_winograd"]

HEAD_BYTES = 64  # of the scratch and of what threads share: tags of V, and a count
RESULT_ELEMENTS = 1 << 12  # results on their way to the output: half the first-level cache


class WinogradLoops:
    """A nest whose rows and columns have forms, computed in tiles of one depth.

    With a dilation, a tile's pixels are so far apart, and as many tiles interleave.
    """

    def __init__(self, nest: Nest, large: bool = False, transposed: Forms | None = None):
        self.nest = nest
        self.panel, self.last_panel = filter_panels(nest.filters, family("conv", nest.dtype).TILE)
        self.panels = ceil(nest.filters / self.panel)
        tiling = tiling_of(nest, large, transposed)
        self.forms, self.points = tiling.forms, tiling.points
        self.kernel = tuple(form.taps for form in self.forms)
        self.blocks = tuple(form.blocks for form in self.forms)
        self.taps = self.kernel if transposed else tuple(axis.kernel for axis in nest.axes[1:])  # of the weights
        self.rows = nest.axes[0].kernel * prod(self.blocks) * nest.channels  # of U
        self.step = self._step(tiling)
        self.transform_step = self._transform_step(tiling)

    def _step(self, tiling: Tiling) -> Step:
        nest, itemsize = self.nest, np.dtype(self.nest.dtype).itemsize
        down = nest.axes[1]
        cuts = tiling.cuts(self.panels, self.last_panel < self.panel)
        transformed = TransformedInput(tiling, cuts)
        scratch = Scratch(tiling, transformed, self.panel, bool(cuts["whole_chunks"] or not cuts["pieces"]))
        return Step(
            family("winograd", nest.dtype).KERNELS["winograd"],
            {
                "chunks": {
                    **nest_sizes(tiling.nest),
                    **tiling.sizes,
                    "task_panels": self.panels,
                    "chunk_tasks": 1,
                    "packed": True,
                    "panel": self.panel,
                    "last_panel": self.last_panel,
                    "panel_scratch": scratch.results,
                    "y_row": down.y_stride * tiling.spreads[0],
                },
                **_both("points", [form.points for form in self.forms], ("down", "across")),
                **_both("tile", [form.outputs for form in self.forms]),
                **_both("spread", tiling.spreads),
                **_both("y", tiling.outputs),
                "y_row": down.y_stride,
                "lone_points": self.forms[0].lone_points,
                "blocks": tiling.blocks,
                **_both("more", tiling.more),
                "images": nest.images,
                "chunk_images": tiling.images,
                "strip": scratch.strip,
                "chunk_tiles": tiling.product_tiles,
                "v_plane": transformed.plane,
                "v_chunk": transformed.chunk,
                **cuts,
                "channel_lanes": tiling.channel_lanes,
                "transposed": tiling.layout,
                "result_rows": scratch.result_rows,
                "line_scratch": scratch.line,
                "v_scratch": scratch.transformed,
                "m_scratch": scratch.products,
            },
            inputs=3 + nest.residual,
            constants=(np.tile(transformed.rows, 2),),
            tasks=count_tasks(cuts, self.panels),
            scratch=HEAD_BYTES + scratch.elements * itemsize,
            shared=HEAD_BYTES + cuts["cut_chunks"] * transformed.chunk * itemsize if cuts["pieces"] else 0,
            grain=1,
            threads=tiling.threads,
        )

    def _transform_step(self, tiling: Tiling) -> Step:
        nest, itemsize = self.nest, np.dtype(self.nest.dtype).itemsize
        return Step(
            family("winograd", nest.dtype).KERNELS["transform_filters"],
            {
                "groups": nest.groups,
                "channels": self.rows,
                "filters": nest.filters,
                "panel": self.panel,
                "last_panel": self.last_panel,
                **_both("kernel", self.kernel),
                **_both("points", [form.points for form in self.forms], ("down", "across")),
                "strided": tiling.strided or tiling.in_blocks,
            },
            constants=tuple(form.filter_transform() for form in self.forms),
            tasks=nest.groups * self.panels * ceil(self.rows / tiling.lanes),
            scratch=tiling.lanes * prod(self.kernel) * self.panel * itemsize,
            threads=1 + nest.groups * nest.filters * self.rows * self.points * itemsize // THREAD_BYTES,
        )

    @property
    def layout(self) -> tuple:
        """What the form of the packed weights depends on, beside the weights."""
        return ("winograd", self.nest.dtype, self.panel, self.last_panel, self.forms)

    @property
    def packed_elements(self) -> tuple[int, int]:
        """Sizes of the packed weights and bias."""
        filters = self.nest.groups * self.group_filters
        return filters * self.points * self.rows, filters

    @property
    def group_filters(self) -> int:
        """Filters of a group, padded to panels."""
        return (self.panels - 1) * self.panel + self.last_panel

    def pack(self, w: np.ndarray, b: np.ndarray | None, empty=np.empty) -> tuple[np.ndarray, np.ndarray]:
        """Contiguous weights (filters, channels, *kernel) transformed, and the bias, in the kernel's panels.

        ``empty(count, dtype)`` gives the memory.
        """
        return self.transformed(w, empty), packed_bias(self.nest, self.group_filters, b, empty)

    def transformed(self, w: np.ndarray, empty=np.empty) -> np.ndarray:
        """The weights alone: U of `_kernels/winograd.pyx`."""
        u = empty(self.nest.groups * self.group_filters * self.points * self.rows, self.nest.dtype)
        by_depth = w.reshape(len(w), self.nest.channels, -1, *self.taps).swapaxes(1, 2)
        self.transform_step(u, np.ascontiguousarray(taps_in_blocks(by_depth, self.forms)))
        return u


def _both(name: str, values, axes: tuple[str, str] = ("rows", "columns")) -> dict[str, int]:
    """A field of the kernel's sizes for each axis."""
    return {f"{name}_{axis}": value for axis, value in zip(axes, values, strict=True)}


class TransformedInput:
    """How V of a chunk lies in memory, all in elements: offsets of its rows, the size of a point, and of all points."""

    def __init__(self, tiling: Tiling, cuts: dict[str, int]):
        lanes, channels = tiling.lanes, cuts["piece_channels"]
        piece, place = divmod(np.arange(tiling.nest.channels), channels)
        if tiling.channel_lanes:
            block = tiling.chunk_tiles * lanes
            piece_size = ceil(channels / lanes) * block
            place = place // lanes * block + place % lanes
        else:
            rounded = aligned(tiling.transformed_tiles, lanes)
            # No register crosses a cache line, unless that takes much space.
            row = rounded if rounded * 4 <= tiling.transformed_tiles * 5 else tiling.transformed_tiles
            piece_size = aligned(channels * row + lanes)
            place = place * row
        slot, depth = max(cuts["pieces"], 1) * piece_size, tiling.nest.axes[0].kernel
        down, across = (np.arange(form.blocks) for form in tiling.forms)
        block = (down[:, None] * tiling.transformed_shape[1] + across).reshape(-1, 1)
        by_depth = np.arange(depth)[:, None, None] * slot
        self.rows = (by_depth + block + piece * piece_size + place).astype(np.int64).reshape(-1)
        self.plane = depth * slot
        if tiling.layout and self.plane * np.dtype(tiling.nest.dtype).itemsize % 1024 == 0:
            self.plane += LINE  # such points would share few sets of the cache
        self.chunk = tiling.points * self.plane


class Scratch:
    """What a thread's scratch holds, each from which element on: a line, V of a chunk (if `own`), M of a panel, results."""

    def __init__(self, tiling: Tiling, transformed: TransformedInput, panel: int, own: bool):
        rows, columns = tiling.transformed_shape
        (spread_rows, spread_columns), lanes = tiling.spreads, tiling.lanes
        height, width = tiling.forms
        reach = (height.points - 1) // height.step * min(spread_rows, rows)
        self.strip = aligned(
            (rows + reach) * columns + lanes + MAX_REACH * spread_columns
        )  # of one column and row phase
        self.line = 2 * width.points * height.outputs * self.strip
        if tiling.channel_lanes:
            self.line = height.values * (columns * width.step + width.values - width.step) * lanes
        line = columns + (1 + MAX_REACH) * spread_columns + 2 * lanes
        self.transformed = aligned(self.line + line * width.outputs)
        self.products = self.transformed + (transformed.chunk if own else 0)
        self.results = self.products + tiling.points * tiling.product_tiles * panel
        row_results = tiling.sizes["chunk_columns"] * height.outputs * width.outputs * lanes
        self.result_rows = min(max(1, RESULT_ELEMENTS // row_results), rows) if spread_rows == 1 else 1
        self.elements = self.results + self.result_rows * row_results


def large_winograd(nest: Nest) -> WinogradLoops:
    return WinogradLoops(nest, large=True)
