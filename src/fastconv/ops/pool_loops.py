"""Loops of the pooling kernels: chunks, tables and sizes.

`_kernels/pool.pyx`, `_kernels/pool_boxes.pyx` and `_kernels/pool_indices.pyx` say how they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import numpy as np

from fastconv import _kernels
from fastconv._kernels import pool_indices
from fastconv._kernels.engine import Step
from fastconv.ops.pool_strips import PICKED_SQUARES, Strips, strips_of

__all__ = ["AdaptiveAxis", "Axis", "BoxLoops", "IndexLoops", "Planes", "SlidingAxis", "SlidingLoops", "TurnedLoops"]

CHUNK_BYTES = 16 << 10  # input or reduced rows of one chunk: half of a small first-level cache
CHUNK_ROWS = 8  # output rows of a chunk at least: the rows that neighbouring chunks share are reduced twice
MEMORY_BYTES = 8 << 20  # what a call moves beyond this comes from memory
SHARING_ROWS = 6  # of input, where they are pages apart: they share the sets of the cache, eight lines in each
LINE = 16  # a chunk is so many columns or a multiple, which keeps channels-last memory aligned
PAGE_BYTES = 4 << 10  # of input that comes from memory: read in order, page by page, it arrives almost twice as fast
PICKED_BYTES = 8 << 10  # then, where the kernel picks lanes, which is faster
BLOCK = 32  # planes that are picked at a time: they are done again where there is a NaN
BLOCK_BYTES = 16 << 10  # of them, read and written, where they are walked down several times
WIDEST = 400  # columns of picked windows that move by one: wider chunks leave the first-level cache
PAGE_ROWS = 4  # then, or half as many where chunks share no rows
THREAD_BYTES = 100_000  # with less to move than this for each thread, one has finished before another wakes up
SQUARES = ((2, 2), (2, 1), (3, 2), (3, 1), (5, 1))  # kernel and stride of the windows that stay in registers
VECTOR_STRIDES = (1, 2)  # and 4 without dilation; others are reduced one value at a time
TURNED_BYTES = 96 << 10  # scratch of one task that turns planes, and of one output row where a row takes more
TURNED_ROW_BYTES = 256 << 10
PLANE, PICK = 20, 2.2  # cycles for each plane and for each pick of lanes, with all that goes with it
TURN, GATHER = 7, 9  # cycles for each vector of pixels that comes from planes, or as it is
AXES = ("depth", "row", "column")
PLURALS = ("depth", "rows", "columns")


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes, and the stride of the input in elements."""

    input: int
    output: int
    x_stride: int

    @property
    def step(self) -> int:
        """From tap to tap."""
        return 1

    def windows(self) -> np.ndarray:
        """(output, 2): first position inside the input and number of taps there, of every window; read-only."""
        raise NotImplementedError


@dataclass(frozen=True)
class SlidingAxis(Axis):
    kernel: int
    stride: int
    dilation: int
    before: int  # positions of padding
    after: int

    @property
    def step(self) -> int:
        return self.dilation

    def windows(self) -> np.ndarray:
        return _between(self, 0, self.input)

    def padded_windows(self) -> np.ndarray:
        """The same inside the padded input."""
        return _between(self, -self.before, self.input + self.after)

    @property
    def is_tiled(self) -> bool:
        """Whether the windows cover the input without gap, overlap or padding."""
        dense = self.dilation == 1 or self.kernel == 1
        return dense and self.kernel == self.stride and self.before == 0 and self.output * self.stride == self.input

    @property
    def tap_positions(self) -> list[tuple[int, int]]:
        """Per tap, the stride phase and the slot, relative to the output position, where it finds its input."""
        return [(k * self.dilation % self.stride, k * self.dilation // self.stride) for k in range(self.kernel)]


@lru_cache(maxsize=64)
def _between(axis: SlidingAxis, start: int, end: int) -> np.ndarray:
    at = np.arange(axis.output, dtype=np.int64) * axis.stride - axis.before
    first = np.maximum(-((at - start) // axis.dilation), 0)
    last = np.minimum(-((at - end) // axis.dilation), axis.kernel)
    windows = np.stack([at + first * axis.dilation, np.maximum(last - first, 0)], axis=1)
    windows.flags.writeable = False
    return windows


@dataclass(frozen=True)
class AdaptiveAxis(Axis):
    def windows(self) -> np.ndarray:
        i = np.arange(self.output, dtype=np.int64)
        first = i * self.input // self.output
        return np.stack([first, -(-(i + 1) * self.input // self.output) - first], axis=1)


@dataclass(frozen=True)
class Planes:
    """Pooling as loops over images, channels and three axes; `unit` channels lie side by side in memory."""

    dtype: str
    images: int
    channels: int
    unit: int
    x_strides: tuple[int, int]  # image, channel; elements
    axes: tuple[Axis, Axis, Axis]

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

    def sizes(self) -> dict[str, int]:
        """The fields that all kernels share."""
        x_image, x_channel = self.x_strides
        sizes = {"channels": self.channels, "x_image": x_image, "x_channel": x_channel}
        for name, plural, axis in zip(AXES, PLURALS, self.axes, strict=True):
            sizes |= {f"x_{name}": axis.x_stride, f"in_{plural}": axis.input, f"out_{plural}": axis.output}
        return sizes

    def windows(self) -> list[np.ndarray]:
        return [axis.windows().copy() for axis in self.axes]


class SlidingLoops:
    """Sliding windows over planes whose columns are contiguous: ``step(y, x)``.

    `divisors` of a mean are a table for each axis.  Channels-last pixels are planes too where the windows move by one
    column: those columns are `unit` times as many, with a dilation of `unit`.
    """

    def __init__(self, planes: Planes, divisors: list[np.ndarray] | None = None):
        depth, down, across = planes.axes
        phases = sorted({phase for phase, _ in down.tap_positions})
        reaches = [max(slot for p, slot in down.tap_positions if p == phase) for phase in phases]
        square = usual_square(planes.axes)
        strips = picked_strips(planes, divisors is not None)
        count, block = planes.images * planes.channels, 1
        kernels = _kernels.family("pool" if strips is None else "pool_picked", planes.dtype)
        rows, columns = chunk_of(
            planes, len(phases), max(reaches), square, PAGE_BYTES if strips is None else PICKED_BYTES
        )
        if strips is not None:
            rows, columns = rows + (strips.paired and rows % 2), across.output
            if rows >= down.output and depth.output == 1:
                block = max(BLOCK if len(strips.table) == 1 else BLOCK_BYTES // (planes.bytes // count), 1)
        phase_size = (rows + max(reaches)) * columns + kernels.SLOTS
        plane = len(phases) * phase_size
        chunks = ceil(down.output / rows), ceil(across.output / columns)
        offsets = [
            tap * plane + phases.index(phase) * phase_size + slot * columns
            for tap in range(depth.kernel)
            for phase, slot in down.tap_positions
        ]
        if strips is None:
            constants = [np.array(offsets, np.int64), np.array([*zip(phases, reaches, strict=True)], np.int64)]
        else:
            constants = [strips.table.copy(), strips.picks.astype(f"i{planes.itemsize}", order="C")]
        if divisors is not None:
            constants.append(divisors[0].astype(planes.dtype))
            constants += [np.append(table, np.ones(kernels.SLOTS)).astype(planes.dtype) for table in divisors[1:]]
        sizes = planes.sizes()
        for name, axis in zip(AXES, planes.axes, strict=True):
            sizes |= {f"pad_{name}": axis.before, f"stride_{name}": axis.stride}
        self.step = Step(
            kernels.KERNELS["max_pool" if divisors is None else "average_pool"],
            {
                **sizes,
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
                "strips": 0 if strips is None else len(strips.table),
                "paired": strips is not None and strips.paired,
                "block": block,
            },
            constants=constants,
            tasks=planes.images * planes.channels * depth.output * prod(chunks),
            scratch=64 + (0 if square else depth.kernel * plane * planes.itemsize),
            threads=planes.threads,
        )


def picked_strips(planes: Planes, mean: bool) -> Strips | None:
    """The strips of the usual windows, where the kernels can pick any lanes."""
    _, down, across = planes.axes
    picks = across.dilation == 1 and usual_square(planes.axes) and (down.kernel, down.stride) in PICKED_SQUARES
    if across.stride == 1 and across.output > WIDEST:
        return None
    if not (picks and _kernels.has("pool_picked", planes.dtype)):
        return None
    return strips_of(across, mean, _kernels.family("pool_picked", planes.dtype).SLOTS)


def usual_square(axes: tuple[SlidingAxis, SlidingAxis, SlidingAxis]) -> int:
    """The size of the kernel where there is a loop that keeps its window in registers, else 0."""
    depth, down, across = axes
    same = (down.kernel, down.stride) == (across.kernel, across.stride) in SQUARES
    flat = depth.kernel == 1 and depth.before == 0 and down.dilation == 1
    return down.kernel if same and flat and (across.dilation == 1 or across.stride == 1) else 0


def chunk_of(planes: Planes, phases: int, reach: int, square: int, page: int) -> tuple[int, int]:
    """Output rows and columns of a chunk: its input (of the usual windows) or its reduced rows fill so many bytes.

    `page` are those of the usual windows whose input comes from memory.
    """
    depth, down, across = planes.axes
    size, least = CHUNK_BYTES, CHUNK_ROWS
    if square and planes.bytes > MEMORY_BYTES:
        size, least = page, PAGE_ROWS if reach else PAGE_ROWS // 2
    elements = size // ((across.stride if square else depth.kernel) * planes.itemsize)
    widest = max(elements // (phases * least + reach), across.dilation * (across.kernel - 1), LINE)
    columns = across.output if across.output <= widest else ceil(even_part(across.output, widest) / LINE) * LINE
    most = elements // columns
    if down.x_stride * planes.itemsize % PAGE_BYTES == 0:
        most = min(most, SHARING_ROWS)
    rows = even_part(down.output, max((most - reach) // phases, PAGE_ROWS if reach else 1))
    return rows, columns


def even_part(size: int, most: int) -> int:
    """The size of equal parts of at most `most`."""
    return ceil(size / ceil(size / most))


def sliding_cost(planes: Planes) -> float:
    """Cycles of one plane, roughly, in `SlidingLoops`."""
    lanes = _kernels.family("pool", planes.dtype).SLOTS
    depth, down, across = planes.axes
    strips = picked_strips(planes, mean=False)
    if strips is not None:
        steps = ceil(down.output / (1 + strips.paired)) * len(strips.table) + 1
        return depth.output * (PLANE + PICK * across.kernel * steps)
    rows = depth.output * depth.kernel * min(down.output * min(down.kernel, down.stride) + down.kernel, down.input)
    vector = across.stride in VECTOR_STRIDES or (across.stride == 4 and across.dilation == 1)
    row = ceil(across.output / lanes) * (across.kernel + 3) if vector else 3 * across.output * across.kernel
    cycles = rows * row + ceil(planes.outputs / lanes) * depth.kernel * down.kernel
    if not usual_square(planes.axes):
        return 60 + (3 if vector else 1) * cycles
    narrow = across.before + across.input <= lanes  # then a row is loaded once
    return 40 + 0.85 * cycles if narrow else 60 + 1.2 * cycles


def whole_line(planes: Planes) -> int:
    """Values of a plane if it is one window and all planes are lines at equal distances, else 0."""
    size, x_image, x_channel = 1, *planes.x_strides
    for axis in reversed(planes.axes):
        ((first, taps),) = axis.windows() if axis.output == 1 else ((0, 0),)
        if first or taps != axis.input or (taps > 1 and (axis.step != 1 or axis.x_stride != size)):
            return 0
        size *= taps
    even = planes.images == 1 or x_image == planes.channels * x_channel
    return size if even and planes.unit == 1 else 0


def box_cost(planes: Planes) -> float:
    """The same in `BoxLoops`."""
    lanes = _kernels.family("pool", planes.dtype).SLOTS
    line = whole_line(planes)
    if line:
        return 6 + 2 * ceil(line / lanes)
    depth, rows, columns = (axis.windows()[:, 1] for axis in planes.axes)
    if (columns == planes.axes[2].input).all():  # whole rows are one line
        lines = len(rows) * 3 + (2 * -(-rows * columns[0] // lanes)).sum()
    else:
        lines = rows.sum() * (3 + 2 * -(-columns // lanes)).sum()
    return depth.sum() * 1.3 * lines + 14 * planes.outputs


class BoxLoops:
    """Windows as listed boxes, over contiguous columns or channels-last pixels: ``step(y, [indices,] x)``.

    There are indices for pixels only.
    """

    def __init__(self, planes: Planes, divisors: list[np.ndarray] | None = None, indices: bool = False):
        kernels = _kernels.family("pool_boxes", planes.dtype)
        depth, down, _ = planes.axes
        sizes = planes.sizes() | {f"step_{name}": axis.step for name, axis in zip(AXES, planes.axes, strict=True)}
        pixels = planes.unit > 1
        operation = "max_pool" if divisors is None else "average_pool"
        form = "pixel_places" if indices else "pixels" if pixels else "boxes"
        rows = planes.images * planes.channels * depth.output * down.output
        self.step = Step(
            kernels.KERNELS[f"{operation}_{form}"],
            {**sizes, "images": planes.images, "unit": planes.unit, "line": whole_line(planes)},
            outputs=1 + indices,
            constants=planes.windows() + [table.astype(planes.dtype) for table in divisors or ()],
            tasks=rows if pixels else ceil(planes.images * planes.channels * planes.outputs / kernels.BOXES_PER_TASK),
            threads=planes.threads,
        )


def turned_cost(planes: Planes) -> float:
    """The same in `TurnedLoops`; of pixels for each channel."""
    lanes = _kernels.family("pool_turned", planes.dtype).GROUP
    _, down, across = planes.axes
    rows, columns = down.windows()[:, 1], across.windows()[:, 1]
    turned = (TURN if planes.unit == 1 else GATHER) * (down.input * across.input + down.output * across.output)
    reduced = down.input * (columns + 3).sum() + across.output * (rows + 3).sum()
    return 8 + (turned + reduced) / min(lanes, planes.channels * planes.unit)


def pixel_cost(planes: Planes) -> float:
    """The same in `BoxLoops` of pixels, for each channel."""
    lanes = _kernels.family("pool", planes.dtype).SLOTS
    depth, rows, columns = (axis.windows()[:, 1] for axis in planes.axes)
    vectors = ceil(planes.unit / lanes)
    taps = depth.sum() * rows.sum() * columns.sum()
    return (2.5 * taps * (1 + vectors) + 50 * planes.outputs / planes.unit) / planes.unit


class TurnedLoops:
    """Any windows, LANES channels at a time, over contiguous columns or channels-last pixels: ``step(y, [indices,] x)``.

    The depth is a single position.
    """

    def __init__(self, planes: Planes, divisors: list[np.ndarray] | None = None, indices: bool = False):
        kernels = _kernels.family("pool_turned", planes.dtype)
        _, down, across = planes.axes
        channels = planes.channels * planes.unit
        groups = ceil(channels / kernels.GROUP)
        rows = down.windows()
        entry = kernels.GROUP * planes.itemsize

        block = down.output
        while block > 1 and turned_bytes(planes, block) > TURNED_BYTES:
            block = ceil(block / 2)
        height = highest(planes, block)
        turned = height * across.input + kernels.GROUP
        reduced = height * across.output
        results = reduced + block * across.output + kernels.GROUP
        sizes = planes.sizes()
        shared = ("x_image", "x_channel", "x_row", "in_rows", "in_columns", "out_rows", "out_columns")
        constants = [rows.copy(), across.windows().copy()]
        if divisors is not None:
            constants += [(divisors[0] * divisors[1]).astype(planes.dtype), divisors[2].astype(planes.dtype)]
        self.step = Step(
            kernels.KERNELS["max_pool_places" if indices else "max_pool" if divisors is None else "average_pool"],
            {
                **{name: sizes[name] for name in shared},
                "channels": channels,
                "groups": groups,
                "pixels": 0 if planes.unit == 1 else across.x_stride,
                "step_row": down.step,
                "step_column": across.step,
                "block_rows": block,
                "blocks": ceil(down.output / block),
                "h": turned * kernels.GROUP,
                "y": (turned + reduced) * kernels.GROUP,
                "places": results * kernels.GROUP,
            },
            outputs=1 + indices,
            constants=constants,
            tasks=planes.images * groups * ceil(down.output / block),
            scratch=64 + (turned + results * (1 + indices)) * entry,
            threads=planes.threads,
        )


def highest(planes: Planes, block: int) -> int:
    """Input rows that `block` output rows need at most."""
    down = planes.axes[1]
    windows, blocks = down.windows(), np.arange(0, down.output, block)
    ends = np.maximum.reduceat(spanned(windows, down.step), blocks)
    return int((ends - np.minimum.reduceat(windows[:, 0], blocks)).max())


def turned_bytes(planes: Planes, block: int = 1) -> int:
    """Of the scratch in `TurnedLoops` for tasks of so many output rows."""
    across = planes.axes[2]
    entries = highest(planes, block) * (across.input + across.output) + block * across.output
    return entries * _kernels.family("pool_turned", planes.dtype).GROUP * planes.itemsize


def spanned(windows: np.ndarray, step: int) -> np.ndarray:
    """Behind the last position of every window; of an empty one, its first."""
    first, taps = windows[:, 0], windows[:, 1]
    return first + np.maximum((taps - 1) * step + 1, 0)


class IndexLoops:
    """Maxima of any number type and any strides, with indices or without: ``step(y, [indices,] x)``."""

    def __init__(self, planes: Planes, y_strides: tuple[int, ...], indices: bool):
        depth, down, _ = planes.axes
        sizes = planes.sizes() | {f"step_{name}": axis.step for name, axis in zip(AXES, planes.axes, strict=True)}
        y_names = ("image", "channel", *AXES)
        sizes |= {f"y_{name}": stride for name, stride in zip(y_names, y_strides, strict=True)}
        dtype = np.dtype(planes.dtype)
        lowest = -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
        self.step = Step(
            pool_indices.KERNELS["max_pool_indices"],
            {**sizes, "element": pool_indices.ELEMENTS.index(planes.dtype), "indices": indices},
            outputs=1 + indices,
            constants=[*planes.windows(), np.array([lowest], dtype)],
            tasks=planes.images * planes.channels * depth.output * down.output,
            threads=planes.threads,
        )
