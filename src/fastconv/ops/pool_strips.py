"""Strips of pooling windows: which lanes of an input row each vector of output columns picks.

`_kernels/pool_picked.pyx` says how they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["PICKED_SQUARES", "Strips", "strips_of"]

PICKED_SQUARES = ((2, 2), (3, 2), (3, 1), (5, 1))  # kernel and stride


@dataclass(frozen=True)
class Strips:
    """(strips, 6) input column and lanes of two loads, output column in the first lane, and lanes of the output.

    Picks are as `vlanes_of_two` takes them.
    """

    table: np.ndarray
    picks: np.ndarray
    paired: bool


@lru_cache(maxsize=64)
def strips_of(across, mean: bool, lanes: int) -> Strips | None:
    """Of the columns, a :class:`SlidingAxis`, for vectors of so many `lanes`; None where a window lacks its middle.

    What a tap picks outside the input must not matter: a maximum takes its neighbour, a `mean` a lane that is not
    loaded.
    """
    windows = across.windows()
    taps = np.arange(across.output)[:, None] * across.stride - across.before + np.arange(across.kernel)
    middle = taps[:, across.kernel // 2]
    if (windows[:, 1] == 0).any() or (across.stride == 1 and (middle[0] < 0 or middle[-1] >= across.input)):
        return None
    low, high = windows[:, 0], windows[:, 0] + windows[:, 1]
    zeros = (windows[:, 1] < across.kernel) & mean
    if across.stride == 2 and 2 * across.output <= lanes and across.input + int(zeros.any()) <= lanes:
        return pairs(picked(taps, low, high, 0, across.input, mean), across, lanes)
    room = lanes if across.stride == 1 else 2 * lanes
    starts, ends, beside_zeros = low.tolist(), high.tolist(), zeros.tolist()
    table, picks, first = [], [], 0
    while first < across.output:
        start, end = starts[first], first + 1
        most = min(across.output, first + lanes)
        while end < most and ends[end] - start + any(beside_zeros[first : end + 1]) <= room:
            end += 1
        span = ends[end - 1] - start
        lane = int(middle[first]) - start if across.stride == 1 else 0  # of the first output
        table.append((start, min(span, lanes), max(span - lanes, 0), first - lane, lane, lane + end - first))
        part = slice(first, end)
        picks.append(filled(picked(taps[part], low[part], high[part], start, span, mean), lane, lanes))
        first = end
    return Strips(np.array(table, np.int64), np.concatenate(picks), False)


def pairs(row: np.ndarray, across, lanes: int) -> Strips:
    """Two output rows in a vector, whose input rows have a load each; behind the taps is the first load, then the second."""
    both = np.concatenate([np.arange(across.output), np.arange(across.output) + lanes])[:, None]
    picks = np.hstack([np.concatenate([row, row + lanes]), both])
    table = [(0, across.input, 0, 0, 0, 2 * across.output)]
    return Strips(np.array(table, np.int64), filled(picks, 0, lanes), True)


def picked(taps: np.ndarray, low: np.ndarray, high: np.ndarray, start: int, span: int, mean: bool) -> np.ndarray:
    """(output, kernel): the lane of every tap, of a load that begins at column `start` and has `span` columns."""
    inside = np.clip(taps, low[:, None], high[:, None] - 1)
    return np.where((taps == inside) | (not mean), inside - start, span)


def filled(picks: np.ndarray, lane: int, lanes: int) -> np.ndarray:
    """A vector for each tap out of (output, kernel), from a `lane` on."""
    vectors = np.zeros((picks.shape[1], lanes), picks.dtype)
    vectors[:, lane : lane + len(picks)] = picks.T
    return vectors
