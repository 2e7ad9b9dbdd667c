"""What each step of a program fetches for later ones.

The weights of a network seldom stay in the caches from one run to the next.  Layers that multiply leave the memory idle,
and those after them wait for it: fully connected ones all the time, convolutions of small maps for a quarter of theirs.
So the former fetch what the latter read.  No value depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv import machine

__all__ = ["plan_ahead"]

LEAST_BYTES = 2048  # of an array that is worth a record
BYTES_PER_FETCH = 56  # of a line of the cache, on average: the memory delivers no more
CACHE_SHARE = 3  # part of the last-level cache that waits for later steps


def plan_ahead(steps: Sequence[tuple[int, Sequence[np.ndarray]]]) -> list[list[tuple[np.ndarray, int, int]]]:
    """For each of the steps, parts (array, first, bytes) of the constants of later ones.

    A step is how often it can fetch, and the constants that it reads.  A part is fetched by the last step before its
    reader that has the time; where the time is short, the nearest reader comes first.
    """
    room = machine.cache_bytes(3) // CACHE_SHARE
    ahead: list[list] = [[] for _ in steps]
    # Arrays, the nearest reader's last, and how many bytes of each, from its start on, are to be fetched.
    waiting: list[tuple[np.ndarray, int]] = []
    for place in range(len(steps) - 1, -1, -1):
        fetches, constants = steps[place]
        left = fetches * BYTES_PER_FETCH
        while left > 0 and waiting:
            array, size = waiting.pop()
            part = min(size, left)
            ahead[place].append((array, size - part, part))
            left -= part
            if part < size:
                waiting.append((array, size - part))
        waiting += [(array, array.nbytes) for array in reversed(constants) if array.nbytes >= LEAST_BYTES]
        waiting = _nearest(waiting, room)
    return ahead


def _nearest(waiting: list[tuple[np.ndarray, int]], room: int) -> list[tuple[np.ndarray, int]]:
    """The last of them, as many bytes as there is room for."""
    kept = []
    for array, size in reversed(waiting):
        if room <= 0:
            break
        kept.append((array, min(size, room)))
        room -= size
    return kept[::-1]
