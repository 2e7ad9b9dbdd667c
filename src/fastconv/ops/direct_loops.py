"""What the loops of all direct convolutions have in common: packed weights, and where every tap finds its input."""

from __future__ import annotations

from math import ceil

import numpy as np

from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.arrays import aligned_empty
from fastconv.ops.nest import THREAD_BYTES, THREAD_FLOPS, Nest, packed_bias

__all__ = ["DirectLoops"]

HEAD_BYTES = 64  # of the scratch: what lies packed behind it


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
