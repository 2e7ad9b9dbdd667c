"""Loops over small planes as one long row: groups and masks.

`_kernels/pool_flat.pyx` says how they are used.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from fastconv import _kernels
from fastconv._kernels.engine import Step
from fastconv.ops.pool_loops import Planes, SlidingAxis

__all__ = ["FlatLoops", "flat_cost", "is_flat"]

GROUP_POSITIONS = 2048  # the most in a group of planes, unless one is larger
MAX_POSITIONS = 4096  # of a plane: it is reduced twice, and stays in the first-level cache meanwhile
VECTOR = 13  # cycles for both passes


def is_flat(planes: Planes) -> bool:
    """Whether there is a kernel: windows of 3×3, planes without gaps, and lanes that a register masks."""
    depth, down, across = planes.axes
    size = down.input * across.input
    x_image, x_channel = planes.x_strides
    return (
        all(is_centred(axis) for axis in (down, across))
        and depth.input == depth.output == depth.windows()[0, 1] == planes.unit == 1
        and across.x_stride == 1
        and (down.input == 1 or down.x_stride == across.input)
        and (planes.channels == 1 or x_channel == size)
        and (planes.images == 1 or x_image == planes.channels * size)
        and size <= MAX_POSITIONS
        and _kernels.has("pool_flat", planes.dtype)
    )


def is_centred(axis) -> bool:
    return isinstance(axis, SlidingAxis) and (
        (axis.kernel, axis.stride, axis.dilation, axis.before, axis.after) == (3, 1, 1, 1, 1)
    )


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


def tap_masks(shape: tuple[int, int, int], axis: int, lanes: int) -> np.ndarray:
    """Of each vector the lanes whose tap before, and whose tap behind, lies in the plane, as bits."""
    at = np.indices(shape)[axis].reshape(-1)
    inside = np.stack([at > 0, at < shape[axis] - 1])
    inside = np.pad(inside, ((0, 0), (0, -len(at) % lanes))).reshape(2, -1, lanes)
    return np.packbits(inside.swapaxes(0, 1), axis=2, bitorder="little")
