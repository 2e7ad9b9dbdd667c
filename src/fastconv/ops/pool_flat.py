"""Loops over small planes as one long row, and with large windows: groups, masks and steps.

`_kernels/pool_flat.pyx` says how they are used.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from fastconv import _kernels
from fastconv._kernels.engine import Step
from fastconv.arrays import aligned_empty
from fastconv.ops.pool_loops import Planes, SlidingAxis

__all__ = ["FlatLoops", "GrownLoops", "flat_cost", "grown_cost", "is_flat", "is_grown"]

GROUP_POSITIONS = 2048  # the most in a group of planes, unless one is larger
MAX_POSITIONS = 4096  # of a plane: it is reduced twice, and stays in the first-level cache meanwhile
VECTOR = 13  # cycles for both passes
MAX_ROWS = 128  # of planes with large windows, which are in the scratch twice
GROWN = 6.5  # cycles of a vector for each step in which its windows grow


def is_flat(planes: Planes) -> bool:
    """Whether there is a kernel: windows of 3×3, planes without gaps, and lanes that a register masks."""
    _, down, across = planes.axes
    return (
        all(is_centred(axis) and axis.kernel == 3 for axis in (down, across))
        and follow_one_another(planes)
        and down.input * across.input <= MAX_POSITIONS
        and _kernels.has("pool_flat", planes.dtype)
    )


def follow_one_another(planes: Planes) -> bool:
    """Whether planes that are never padded in depth have no gaps in or between them."""
    depth, down, across = planes.axes
    size = down.input * across.input
    x_image, x_channel = planes.x_strides
    return (
        depth.input == depth.output == depth.windows()[0, 1] == planes.unit == 1
        and across.x_stride == 1
        and (down.input == 1 or down.x_stride == across.input)
        and (planes.channels == 1 or x_channel == size)
        and (planes.images == 1 or x_image == planes.channels * size)
    )


def is_centred(axis) -> bool:
    """Whether windows of an odd size lie around every position."""
    if not isinstance(axis, SlidingAxis) or axis.kernel % 2 == 0:
        return False
    return axis.stride == axis.dilation == 1 and axis.before == axis.after == axis.kernel // 2


def flat_cost(planes: Planes) -> float:
    """Cycles of one plane, roughly, in `FlatLoops`."""
    _, down, across = planes.axes
    return 4 + VECTOR * down.input * across.input / _kernels.family("pool_flat", planes.dtype).SLOTS


class FlatLoops:
    """Windows of 3×3 around every position of planes that follow one another: ``step(y, x)``; see :func:`is_flat`."""

    def __init__(self, planes: Planes, divisors: list[np.ndarray] | None = None):
        kernels = _kernels.family("pool_flat", planes.dtype)
        _, down, across = planes.axes
        size, count = down.input * across.input, planes.images * planes.channels
        most = min(max(GROUP_POSITIONS // size, 1), count)
        group = min(range(1, most + 1), key=lambda n: (ceil(n * size / kernels.SLOTS) + 1) / n)  # few lanes left over
        shape = (group, down.input, across.input)
        constants = [tap_masks(shape, axis, kernels.SLOTS) for axis in (2, 1)]
        if divisors is not None:
            table = np.tile(np.outer(divisors[0] * divisors[1], divisors[2]).reshape(-1), group)
            constants.append(np.append(table, np.ones(kernels.SLOTS)).astype(planes.dtype))
        self.step = Step(
            kernels.KERNELS["max_pool" if divisors is None else "average_pool"],
            {"planes": count, "group": group, "columns": across.input, "positions": size},
            constants=constants,
            tasks=ceil(count / group),
            scratch=64 + (group * size + kernels.SLOTS) * planes.itemsize,
            threads=planes.threads,
        )


def is_grown(planes: Planes) -> bool:
    """Whether there is a kernel for maxima: square windows of 5 or more, planes without gaps, rows of up to two vectors."""
    _, down, across = planes.axes
    if not (is_centred(down) and is_centred(across) and follow_one_another(planes)):
        return False
    if not _kernels.has("pool_flat", planes.dtype):
        return False
    lanes = _kernels.family("pool_flat", planes.dtype).SLOTS
    return 5 <= down.kernel == across.kernel and across.input <= 2 * lanes and down.input <= MAX_ROWS


def grown_cost(planes: Planes) -> float:
    """The same in `GrownLoops`."""
    _, down, across = planes.axes
    vectors = ceil(across.input / _kernels.family("pool_flat", planes.dtype).SLOTS)
    return 30 + down.input * vectors * (5 + GROWN * len(growth(down.kernel)))


def growth(kernel: int) -> list[int]:
    """The steps in which windows around a position grow from a single value to so many."""
    steps, radius = [], 0
    while radius < kernel // 2:
        steps.append(min(2 * radius + 1, kernel // 2 - radius))
        radius += steps[-1]
    return steps


class GrownLoops:
    """Maxima of large square windows around every position: ``step(y, x)``; see :func:`is_grown`."""

    def __init__(self, planes: Planes, divisors=None):
        kernels = _kernels.family("pool_flat", planes.dtype)
        _, down, across = planes.axes
        steps = growth(down.kernel)
        vectors = ceil(across.input / kernels.SLOTS)
        moves = [sign * step for step in steps for sign in (-1, 1)] + [*range(-across.before, across.after + 1)]
        lanes = np.arange(vectors * kernels.SLOTS) + np.array(moves)[:, None]
        picks = aligned_empty(lanes.size, f"i{planes.itemsize}")
        picks[:] = lanes.clip(0, across.input - 1).reshape(-1)
        self.step = Step(
            kernels.KERNELS["max_pool_grown"],
            {
                "rows": down.input,
                "columns": across.input,
                "kernel": down.kernel,
                "vectors": vectors,
                "steps": len(steps),
            },
            constants=[np.array(steps, np.int64), picks],
            tasks=planes.images * planes.channels,
            scratch=64 + 2 * down.input * vectors * kernels.SLOTS * planes.itemsize,
            threads=planes.threads,
        )


def tap_masks(shape: tuple[int, int, int], axis: int, lanes: int) -> np.ndarray:
    """Of each vector the lanes whose tap before, and whose tap behind, lies in the plane, as bits."""
    at = np.indices(shape)[axis].reshape(-1)
    inside = np.stack([at > 0, at < shape[axis] - 1])
    inside = np.pad(inside, ((0, 0), (0, -len(at) % lanes))).reshape(2, -1, lanes)
    return np.packbits(inside.swapaxes(0, 1), axis=2, bitorder="little")
