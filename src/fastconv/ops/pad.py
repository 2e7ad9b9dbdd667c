"""Padding and cropping: its spec, and the algorithms that compute it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from fastconv import reference
from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import element_count, is_sequence
from fastconv.ops.arguments import settled, word
from fastconv.ops.pad_units import NOWHERE, WORD, largest_unit
from fastconv.ops.table import Algorithm, Op, plan_cache

__all__ = ["MODES", "PAD", "PadSpec", "pad_plan"]

MODES = ("constant", "reflect", "replicate", "circular")
ROW_BYTES = 1024  # shorter runs of bytes than this become one row with the padded axis around them
TASK_BYTES = 32 << 10
THREAD_BYTES = 100_000


@dataclass(frozen=True)
class PadSpec:
    """`x` with (before, after) positions more around every axis; negative ones crop."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]  # bytes, as NumPy gives them
    dtype: str
    pairs: tuple[tuple[int, int], ...]
    mode: str
    value: bytes  # one element, what constant padding writes

    @property
    def y_shape(self) -> tuple[int, ...]:
        return tuple(before + size + after for size, (before, after) in zip(self.shape, self.pairs, strict=True))

    @property
    def itemsize(self) -> int:
        return len(self.value)

    @property
    def flops(self) -> int:
        return 0

    @property
    def bytes(self) -> int:
        """Read and written by one call."""
        return (prod(self.shape) + prod(self.y_shape)) * self.itemsize

    @property
    def memory_order(self) -> tuple[int, ...]:
        """The axes from the outermost to the innermost in memory, of the result: channels stay last where they are."""
        channels_last = (
            len(self.shape) > 3 and self.shape[1] > 1 and self.strides[1] == self.itemsize != self.strides[-1]
        )
        spatial = range(2, len(self.shape))
        return (0, *spatial, 1) if channels_last else tuple(range(len(self.shape)))

    def axes(self) -> list[PadAxis]:
        """The axes in memory order, as few as possible."""
        merged = []
        for i in self.memory_order:
            axis = PadAxis.of(self.shape[i], self.strides[i], *self.pairs[i], self.mode)
            if axis.size == axis.run == 1 and not axis.start:
                continue
            merged.append(axis)
            while len(merged) > 1 and merged[-2].takes_in(merged[-1]):
                inner = merged.pop()
                merged[-1] = merged[-1].around(inner)
        return merged or [PadAxis.of(1, self.itemsize, 0, 0, self.mode)]


@dataclass(frozen=True)
class PadAxis:
    """One axis of the result: positions that are looked up, around a run in the order of the input.

    Offsets are bytes; `start` is that of the run, which goes in steps of `step`.
    """

    before: np.ndarray
    after: np.ndarray
    run: int
    start: int
    step: int

    @classmethod
    def of(cls, size: int, stride: int, before: int, after: int, mode: str) -> PadAxis:
        first, end = max(-before, 0), size - max(-after, 0)
        positions = [np.arange(-max(before, 0), 0) + first, np.arange(max(after, 0)) + end]
        sources = [offsets(source(p, size, first, end, mode), stride) for p in positions]
        return cls(*sources, max(end - first, 0), first * stride, stride)

    @property
    def size(self) -> int:
        return len(self.before) + self.run + len(self.after)

    def takes_in(self, inner: PadAxis) -> bool:
        """Whether this axis and the next one inside are one: `inner` is not padded, and follows on or is short."""
        if inner.run != inner.size or inner.start:
            return False
        follows = self.run == 1 or self.step == inner.run * inner.step
        return follows and (self.run == self.size or inner.run * abs(inner.step) < ROW_BYTES)

    def around(self, inner: PadAxis) -> PadAxis:
        positions = np.arange(inner.run) * inner.step
        before, after = (spread(table, positions) for table in (self.before, self.after))
        return PadAxis(before, after, self.run * inner.run, self.start, inner.step)

    def table(self) -> np.ndarray:
        """Where every position of this axis comes from."""
        return np.concatenate([self.before, self.start + np.arange(self.run) * self.step, self.after])


def source(positions: np.ndarray, size: int, first: int, end: int, mode: str) -> np.ndarray:
    """The input position that stands at each of `positions` outside [first, end); -1 is nowhere."""
    if mode == "constant":
        return np.full(len(positions), -1)
    if mode == "replicate":
        return positions.clip(0, size - 1)
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        folded = positions % period
        return np.minimum(folded, period - folded) if size > 1 else folded * 0
    return first + (positions - first) % max(end - first, 1)


def offsets(positions: np.ndarray, stride: int) -> np.ndarray:
    return np.where(positions < 0, NOWHERE, positions * stride).astype(np.int64)


def spread(table: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A table of an outer axis over the `positions` of an inner one."""
    grid = np.where(table[:, None] == NOWHERE, NOWHERE, table[:, None] + positions)
    return grid.reshape(-1)


class Direct(Algorithm[PadSpec]):
    """Rows copied whole, borders looked up: one pass over the memory."""

    name = "direct"

    def refusal(self, spec):
        kernel = family("pad", "float32")
        if spec.itemsize not in kernel.ITEM_SIZES:
            return f"the kernel moves elements of 1, 2, 4, 8 or 16 bytes, the input has {spec.dtype}"
        if len(spec.axes()) > kernel.OUTER_AXES + 1:
            return f"the kernel has {kernel.OUTER_AXES + 1} loops, too few for strides of {spec.strides} bytes"
        return ""

    def plan(self, spec):
        return DirectPlan(spec)

    def seconds(self, spec):
        return 2e-6 + 2 * prod(spec.y_shape) * spec.itemsize / 10e9


class DirectPlan:
    def __init__(self, spec: PadSpec):
        kernel = family("pad", "float32")
        self.dtype = np.dtype(spec.dtype)
        order = spec.memory_order
        self.memory_shape = tuple(spec.y_shape[axis] for axis in order)
        self.back = None if order == tuple(range(len(order))) else tuple(int(axis) for axis in np.argsort(order))
        axes = spec.axes()
        outer, unit = largest_unit([axis.table() for axis in axes], spec.itemsize, kernel.SLOTS)
        outer = [PadAxis.of(1, 0, 0, 0, "constant").table()] * (kernel.OUTER_AXES - len(outer)) + outer
        rows = prod(len(table) for table in outer)
        task_rows = max(TASK_BYTES * rows // (prod(spec.y_shape) * spec.itemsize), 1)
        row = axes[-1]
        filling = np.frombuffer(spec.value, np.uint8)
        self.step = Step(
            kernel.KERNELS["pad"],
            {
                "itemsize": spec.itemsize,
                **{f"size_{i}": len(table) for i, table in enumerate(outer)},
                "before": len(row.before),
                "run": row.run,
                "after": len(row.after),
                "run_start": row.start,
                "run_step": row.step,
                "words": unit.words,
                "groups": len(unit.groups),
                "last_loads": unit.last_loads,
                "readable": unit.readable,
                "task_rows": task_rows,
            },
            constants=(
                np.concatenate(outer),
                np.concatenate([row.before, row.after]),
                np.tile(filling, max(kernel.SLOTS * WORD // len(filling), 1)),
                unit.groups,
                unit.entries,
                unit.picks,
            ),
            tasks=ceil(rows / task_rows),
            threads=1 + prod(spec.y_shape) * spec.itemsize // THREAD_BYTES,
        )

    def __call__(self, x):
        y = np.empty(self.memory_shape, self.dtype)
        self.step(y, x)
        return y if self.back is None else y.transpose(self.back)


class Reference(Algorithm[PadSpec]):
    """The specification, in NumPy: any element type and number of axes."""

    name = "reference"

    def plan(self, spec):
        return ReferencePlan(spec)

    def seconds(self, spec):
        return 2e-5 + 4 * prod(spec.y_shape) * spec.itemsize / 10e9


class ReferencePlan:
    def __init__(self, spec: PadSpec):
        self.mode = spec.mode
        self.pad = [n for pair in reversed(spec.pairs) for n in pair]
        self.value = np.frombuffer(spec.value, spec.dtype)[0]

    def __call__(self, x):
        return reference.pad(x, self.pad, self.mode, self.value)


PAD = Op("padding", (Direct(), Reference()))


def pad_plan(x, pad, mode, value, algorithm):
    """The plan for `x`, checked and chosen once per combination; ``plan(x)`` is the result.

    Raises :class:`ArgumentError` and :class:`ArgumentTypeError`.
    """
    element = None if value is None else element_bytes(value, x.dtype, mode)
    return _plan(
        x.shape, x.strides, x.dtype, settled(pad, "pad"), word(mode, "mode"), element, word(algorithm, "algorithm")
    )


@plan_cache
def _plan(shape, strides, dtype, pad, mode, element, algorithm):
    if mode not in MODES:
        raise ArgumentError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if not is_sequence(pad) or len(pad) % 2:
        raise ArgumentError(f"pad: expected pairs (before, after), the last axis first, got {pad!r}")
    if len(pad) > 2 * len(shape):
        raise ArgumentError(f"pad: {len(pad) // 2} pairs for an input of {len(shape)} axes, shape {shape}")
    if any(amount is None or isinstance(amount, (str, tuple)) for amount in pad):
        raise ArgumentTypeError(f"pad: expected integers, got {pad!r}")
    pairs = [(0, 0)] * (len(shape) - len(pad) // 2) + [*zip(pad[::2], pad[1::2], strict=True)][::-1]
    if mode != "constant":
        check_mirror(shape, pairs, len(pad), mode)
    for axis, (size, pair) in enumerate(zip(shape, pairs, strict=True)):
        cropped = sum(max(-amount, 0) for amount in pair)
        if cropped > size or (cropped == size and mode == "circular" and max(pair) > 0):
            raise ArgumentError(f"pad: {pair} crops {cropped} of the {size} positions of axis {axis} in shape {shape}")
    element_count([before + size + after for size, (before, after) in zip(shape, pairs, strict=True)], "output")
    spec = PadSpec(shape, strides, dtype.str, tuple(pairs), mode, element or bytes(dtype.itemsize))
    if 0 in spec.y_shape:
        return lambda x: np.empty(spec.y_shape, dtype)
    return PAD.choose(spec, algorithm).plan(spec)


def check_mirror(shape, pairs, count: int, mode: str) -> None:
    """What torch asks of reflect, replicate and circular."""
    axes = count // 2
    if axes not in (1, 2, 3) or len(shape) not in (axes + 1, axes + 2):
        expected = "; ".join(f"{2 * n} values for {n + 1} or {n + 2} axes" for n in (1, 2, 3))
        raise ArgumentError(f"pad: {mode} padding takes {expected}, got {count} values for shape {shape}")
    for axis, (size, pair) in [*enumerate(zip(shape, pairs, strict=True))][-axes:]:
        if size == 0:
            raise ArgumentError(f"input: {mode} padding of axis {axis}, which is empty in shape {shape}")
        most = size - 1 if mode == "reflect" else size
        if mode != "replicate" and max(pair) > most:
            reason = "the border itself is not repeated" if mode == "reflect" else "it wraps around once"
            raise ArgumentError(
                f"pad: {mode} padding of axis {axis} takes at most {most} in shape {shape} ({reason}), got {pair}"
            )
    if all(size + sum(pair) < 1 for size, pair in zip(shape[-axes:], pairs[-axes:], strict=True)):
        raise ArgumentError(f"pad: {pairs[-axes:]} leaves nothing of the last axes of shape {shape}")


def element_bytes(value, dtype: np.dtype, mode: str) -> bytes | None:
    """`value` as one element of `dtype`, integers rounded towards zero as torch does; None is zero.

    As bytes, because -0.0 and 0.0 are equal as keys of the plan cache.
    """
    if mode != "constant":
        if value != 0:
            raise ArgumentError(f"value: {mode} padding takes no value, got {value!r}")
        return None
    try:
        with np.errstate(all="ignore"):
            number = int(value) if dtype.kind in "iu" else value
            element = dtype.type(number)
        overflow = np.isfinite(number) and not np.isfinite(element)
    except (TypeError, ValueError, OverflowError):
        overflow = True
    if overflow:
        raise ArgumentError(f"value: {value!r} does not fit into an element of type {dtype}")
    return element.tobytes()
