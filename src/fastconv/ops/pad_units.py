"""Units of padding: how the innermost axes of a padded result are put together from vectors of the input.

`_kernels/pad.pyx` says how the lists are used.  A table has, for every position of an axis of the result, the offset in
bytes of where it comes from, or NOWHERE; the offsets of several axes add up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

__all__ = ["NOWHERE", "WORD", "Unit", "largest_unit"]

NOWHERE = np.iinfo(np.int64).min  # the source of what is filled
NEVER = np.iinfo(np.int64).max
WORD = 4  # bytes
UNIT_BYTES = 64 << 10  # of several axes: a plane of 112×112, whose rows alone would end in a vector of two lanes
PART_BYTES = 24 << 10  # where an axis is divided: together with what it reads and its list it stays in the cache
LIST_BYTES = 32 << 10  # of entries and picks
MAX_LOADS = 4  # of one vector; neighbours that lie farther apart move one by one
SHORT_RUN = 5  # vectors; shorter runs of plain ones are loaded like their neighbours
PLAIN = 0  # loads of vectors that are loaded as they are


@dataclass(frozen=True)
class Unit:
    """A list of vectors, as the kernel takes it.  Without words the unit moves element by element."""

    words: int = 0
    readable: int = 0  # words from the first to the last that are read
    groups: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    last_loads: int = 0
    entries: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    picks: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))

    @property
    def list_bytes(self) -> int:
        return self.entries.nbytes + self.picks.nbytes


def largest_unit(tables: list[np.ndarray], itemsize: int, vector: int) -> tuple[list[np.ndarray], Unit]:
    """The unit of the innermost axes that fits, in vectors of so many words, and the tables of what is left outside."""
    *outer, row = tables
    if itemsize % WORD or itemsize > vector * WORD:  # the filling is a vector of whole elements
        return outer, Unit()
    sources = added(row, np.arange(0, itemsize, WORD))
    unit = unit_of(sources, vector)
    while unit.words and outer:
        count = positions_of(outer[-1], len(sources), vector)
        whole = count == len(outer[-1])
        if count == 1 and not whole:
            break
        sources = added(outer[-1][:count], sources)
        larger = unit_of(sources, vector)
        if not larger.words or larger.list_bytes > LIST_BYTES:
            break
        unit, outer = larger, outer[:-1] + ([] if whole else [outer[-1][::count]])
        if not whole:
            break
    return outer, unit


def positions_of(table: np.ndarray, words: int, vector: int) -> int:
    """How many positions of an axis, of so many words each, are best one unit: all, or a part that repeats.

    The best part is the one with the fewest vectors to a word.
    """
    if len(table) <= UNIT_BYTES // (words * WORD):
        return len(table)
    best, least = 1, -(-words // vector)
    for count in range(2, PART_BYTES // (words * WORD) + 1):
        vectors = -(-words * count // vector) / count
        if len(table) % count == 0 and vectors < least and repeats(table, count):
            best, least = count, vectors
    return best


def repeats(table: np.ndarray, count: int) -> bool:
    """Whether every `count` positions are the first ones, farther on."""
    if (table == NOWHERE).any():
        return False
    parts = table.reshape(-1, count)
    return bool((parts - parts[:, :1] == parts[0] - parts[0, 0]).all())


def added(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The table of two axes as one."""
    nowhere = (outer[:, None] == NOWHERE) | (inner == NOWHERE)
    sums = np.where(outer == NOWHERE, 0, outer)[:, None] + np.where(inner == NOWHERE, 0, inner)
    return np.where(nowhere, NOWHERE, sums).reshape(-1)


def unit_of(sources: np.ndarray, vector: int) -> Unit:
    """The list of a unit whose words come from `sources`; one without words where it takes too many loads."""
    somewhere = sources[sources != NOWHERE]
    low, high = (int(somewhere.min()), int(somewhere.max()) + WORD) if len(somewhere) else (0, 0)
    if max(-low, high) > np.iinfo(np.int32).max:
        return Unit()
    latest = max(high - vector * WORD, low)  # a load that starts later leaves what may be read
    lines = np.full(-(-len(sources) // vector) * vector, NOWHERE)
    lines[: len(sources)] = sources
    lines = lines.reshape(-1, vector)

    loads = np.where(plain_lines(lines, low, latest), PLAIN, 1)
    for first, end in groups_of(loads, lines):
        if end - first < SHORT_RUN:
            loads[first:end] = 1
    picked = loads != PLAIN
    found = loads_of(lines[picked], low, latest)
    if found is None:
        return Unit()
    offsets, picks, loads[picked] = found

    picks, which = np.unique(picks.reshape(-1, vector), axis=0, return_inverse=True)
    pairs = np.stack([offsets, which.reshape(offsets.shape) * vector], 2)
    place = np.cumsum(picked) - 1
    groups, entries = [], []
    for first, end in [*groups_of(loads[:-1], lines), (len(lines) - 1, len(lines))]:
        count = int(loads[first])
        groups.append((count, end - first))
        entries.append(lines[first, :1] if count == PLAIN else pairs[place[first:end], :count].reshape(-1))
    return Unit(
        len(sources),
        (high - low) // WORD,
        np.array(groups[:-1], np.int64).reshape(-1, 2),
        groups[-1][0],
        np.concatenate(entries).astype(np.int32),
        picks,
    )


def plain_lines(lines: np.ndarray, low: int, latest: int) -> np.ndarray:
    """Which vectors may be loaded as they are; the last is stored in its own way."""
    start = lines[:, 0]
    plain = (np.diff(lines, axis=1) == WORD).all(1) & (start != NOWHERE) & (start <= latest)
    plain[-1] = False
    return plain & (latest > low or lines.shape[1] == 1)


def groups_of(loads: np.ndarray, lines: np.ndarray) -> list[tuple[int, int]]:
    """(first, end) of neighbours with as many loads; plain ones follow one another in the input."""
    starts, size = lines[: len(loads), 0], lines.shape[1] * WORD
    breaks = (np.diff(loads) != 0) | ((loads[1:] == PLAIN) & (np.diff(starts) != size))
    return [*pairwise([0, *(np.flatnonzero(breaks) + 1).tolist(), len(loads)])] if len(loads) else []


def loads_of(lines: np.ndarray, low: int, latest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Offsets (lines, loads), picks (lines, loads, vector) and the number of loads of each line, at least one.

    Of the words that are still missing, the next load of a line begins at the first; loads behind the last pick nothing.
    None is more than MAX_LOADS.
    """
    vector = lines.shape[1]
    missing = np.where(lines == NOWHERE, NEVER, lines)
    kept, taken = np.arange(vector, dtype=np.int32), np.iinfo(np.int32).min + vector
    offsets, picks, counts = [], [], np.ones(len(lines), np.int64)
    while not offsets or (missing != NEVER).any():
        if len(offsets) == MAX_LOADS:
            return None
        first = missing.min(1, initial=NEVER)
        start = np.minimum(first, latest)
        away = np.where(missing == NEVER, NEVER, missing - start[:, None])
        here = away < vector * WORD
        if (away[here] % WORD).any():
            return None
        offsets.append(np.where(first == NEVER, low, start))
        picks.append(np.where(here, taken + np.where(here, away // WORD, 0), kept).astype(np.int32))
        missing = np.where(here, NEVER, missing)
        counts += (missing != NEVER).any(1)
    return np.stack(offsets, 1), np.stack(picks, 1), counts
