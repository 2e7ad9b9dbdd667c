"""Loops of the pooling kernels: chunks, tables and sizes.

`_kernels/pool.pyx`, `_kernels/boxes.pyx` and `_kernels/pool_indices.pyx` draw what is sized here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from fastconv._kernels import family
from fastconv._kernels.engine import Step

__all__ = ["Planes", "PoolAxis", "SlidingLoops"]

CHUNK_BYTES = 16 << 10  # reduced rows of one chunk: half of a small first-level cache
CHUNK_ROWS = 8  # output rows of a chunk at least: the rows that neighbouring chunks share are reduced twice
THREAD_BYTES = 100_000  # with less to move than this for each thread, one has finished before another wakes up
AXES = ("depth", "row", "column")
PLURALS = ("depth", "rows", "columns")


@dataclass(frozen=True)
class PoolAxis:
    """One spatial axis: sizes, window, positions before the input, and the stride of the input in elements."""

    input: int
    output: int
    kernel: int
    stride: int
    dilation: int
    before: int
    x_stride: int

    @property
    def tap_positions(self) -> list[tuple[int, int]]:
        """Per tap, the stride phase and the slot, relative to the output position, where it finds its input."""
        return [(k * self.dilation % self.stride, k * self.dilation // self.stride) for k in range(self.kernel)]


UNIT_AXIS = PoolAxis(1, 1, 1, 1, 1, 0, 0)


@dataclass(frozen=True)
class Planes:
    """Pooling as loops over images, channels and three axes.  `unit` channels lie side by side in memory."""

    dtype: str
    images: int
    channels: int
    unit: int
    x_strides: tuple[int, int]  # image, channel; elements
    axes: tuple[PoolAxis, PoolAxis, PoolAxis]

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def outputs(self) -> int:
        """Values of one plane of the result."""
        return prod(axis.output for axis in self.axes) * self.unit

    @property
    def bytes(self) -> int:
        """Read and written by one call."""
        inputs = prod(axis.input for axis in self.axes) * self.unit
        return self.images * self.channels * (inputs + self.outputs) * self.itemsize

    @property
    def threads(self) -> int:
        """The most that are worth waking."""
        return 1 + self.bytes // THREAD_BYTES


class SlidingLoops:
    """Sliding windows over planes, rows first: ``step(y, x)``.  `divisors` of a mean are one table per axis."""

    def __init__(self, planes: Planes, divisors: list[np.ndarray] | None = None):
        kernels = family("pool", planes.dtype)
        depth, down, across = planes.axes
        phases = sorted({phase for phase, _ in down.tap_positions})
        reaches = [max(slot for p, slot in down.tap_positions if p == phase) for phase in phases]
        square = usual_square(planes.axes)
        rows, columns = chunk_of(planes, len(phases), max(reaches), square)
        phase_size = (rows + max(reaches)) * columns + kernels.SLOTS
        plane = len(phases) * phase_size
        chunks = ceil(down.output / rows), ceil(across.output / columns)
        offsets = [
            tap * plane + phases.index(phase) * phase_size + slot * columns
            for tap in range(depth.kernel)
            for phase, slot in down.tap_positions
        ]
        constants = [np.array(offsets, np.int64), np.array([*zip(phases, reaches, strict=True)], np.int64)]
        if divisors is not None:
            constants += [table.astype(planes.dtype) for table in divisors[:2]]
            constants.append(np.concatenate([divisors[2], np.ones(kernels.SLOTS)]).astype(planes.dtype))
        self.step = Step(
            kernels.KERNELS["max_pool" if divisors is None else "average_pool"],
            {
                **plane_sizes(planes),
                "y_image": planes.channels * planes.outputs,
                "y_channel": planes.outputs,
                "kernel_depth": depth.kernel,
                "dilation_depth": depth.dilation,
                "kernel_column": across.kernel,
                "dilation_column": across.dilation,
                "row_phases": len(phases),
                "row_reach": max(reaches),
                "line": columns,
                "phase": phase_size,
                "plane": plane,
                "taps": len(offsets),
                "chunk_rows": rows,
                "chunk_columns": columns,
                "chunks_down": chunks[0],
                "chunks_across": chunks[1],
                "square": square,
                "one_divisor": divisors is None or all((table == table[0]).all() for table in divisors),
            },
            constants=constants,
            tasks=planes.images * planes.channels * depth.output * prod(chunks),
            scratch=64 + (0 if square else depth.kernel * plane * planes.itemsize),
            threads=planes.threads,
        )


def usual_square(axes: tuple[PoolAxis, PoolAxis, PoolAxis]) -> int:
    """The size of the kernel where the kernel has a loop for it that stays in registers, else 0."""
    depth, down, across = axes
    same = (down.kernel, down.stride) == (across.kernel, across.stride) in ((2, 2), (3, 2), (3, 1), (5, 1))
    flat = depth.kernel == 1 and depth.before == 0 and down.dilation == across.dilation == 1
    return down.kernel if same and flat else 0


def chunk_of(planes: Planes, phases: int, reach: int, square: int) -> tuple[int, int]:
    """Output rows and columns of a chunk: its input (of the usual windows) or its reduced rows fill CHUNK_BYTES."""
    depth, down, across = planes.axes
    width = across.stride if square else depth.kernel
    elements = CHUNK_BYTES // (width * planes.itemsize)
    columns = even_part(across.output, max(elements // (phases * CHUNK_ROWS + reach), 1))
    rows = even_part(down.output, max((elements // columns - reach) // phases, 1))
    return rows, columns


def plane_sizes(planes: Planes) -> dict[str, int]:
    sizes = {
        "channels": planes.channels,
        "x_image": planes.x_strides[0],
        "x_channel": planes.x_strides[1],
        "x_depth": planes.axes[0].x_stride,
        "x_row": planes.axes[1].x_stride,
    }
    for name, plural, axis in zip(AXES, PLURALS, planes.axes, strict=True):
        sizes |= {
            f"in_{plural}": axis.input,
            f"out_{plural}": axis.output,
            f"pad_{name}": axis.before,
            f"stride_{name}": axis.stride,
        }
    return sizes


def even_part(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return ceil(size / ceil(size / most))
