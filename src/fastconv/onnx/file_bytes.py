"""The bytes of a file, read where they are wanted: what is large goes straight from the file into its array.

Nothing is mapped: an export over the same file must not pull it from under a session.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from fastconv.errors import ModelError
from fastconv.graph.slab import Slab

__all__ = ["FileBytes", "are_equal"]

BLOCK = 1 << 16
PART = 1 << 21  # read at once: what the system clears of fresh memory is still in the cache when it is written


class _Reader:
    """An open file, and the block of it that was read last."""

    def __init__(self, file: BinaryIO, size: int):
        self.file = file
        self.size = size
        self.memory = Slab(size)
        self.start = 0
        self.block = memoryview(b"")
        self.parts: list[tuple[int, np.ndarray]] = []  # start and bytes of what was read whole

    def fill(self, array: np.ndarray, start: int) -> np.ndarray:
        """`array`, of bytes, with what the file holds from `start` on."""
        self.file.seek(start)
        left = memoryview(array)
        while left:
            count = self.file.readinto(left[:PART])
            if not count:
                raise ModelError("the file became shorter while it was read")
            left = left[count:]
        return array

    def some(self, start: int, stop: int) -> memoryview:
        """At most a block."""
        if not self.start <= start <= stop <= self.start + len(self.block):
            self.file.seek(start)
            self.block, self.start = memoryview(self.file.read(BLOCK)), start
        part = self.block[start - self.start : stop - self.start]
        if len(part) < stop - start:
            raise ModelError("the file became shorter while it was read")
        return part


class FileBytes:
    """Bytes `start` to `stop` of an open file, which answers as a memoryview of bytes does.

    Slices of up to 64 KiB are memoryviews, larger ones are again FileBytes.
    """

    def __init__(self, reader: _Reader, start: int, stop: int):
        self._reader, self._start, self._stop = reader, start, stop

    @classmethod
    def of(cls, file: BinaryIO) -> FileBytes:
        """All bytes of a file that is open for reading, unbuffered, and stays so while they are read."""
        size = file.seek(0, os.SEEK_END)
        return cls(_Reader(file, size), 0, size)

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, place):
        if isinstance(place, slice):
            start, stop, _ = place.indices(len(self))
            start, stop = start + self._start, max(start, stop) + self._start
            if stop - start > BLOCK:
                return FileBytes(self._reader, start, stop)
            return self._reader.some(start, stop)
        if place >= len(self):
            raise IndexError(f"byte {place} of {len(self)}")
        return self._reader.some(self._start + place, self._start + place + 1)[0]

    def onwards(self, place: int, least: int) -> memoryview:
        """What is at hand from `place` on: at least so many bytes, or all that there are."""
        start = self._start + place
        self._reader.some(start, min(start + least, self._stop))
        block, behind = self._reader.block, self._reader.start
        return block[start - behind : self._stop - behind]

    def sample(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on, and no more is read for them."""
        self._reader.file.seek(self._start + start)
        return self._reader.file.read(min(size, len(self) - start))

    def read(self) -> np.ndarray:
        """All of them, as a read-only array of bytes, in memory that those of the same file share."""
        array = self._reader.fill(self._reader.memory.empty(len(self), np.uint8), self._start)
        array.flags.writeable = False
        self._reader.parts.append((self._start, array))
        return array

    def pieces(self) -> list[np.ndarray]:
        """The whole file's bytes: the arrays that have been read, in their order, and what lies between them."""
        pieces, place = [], 0
        for start, array in [*sorted(self._reader.parts, key=lambda part: part[0]), (self._reader.size, None)]:
            if start > place:
                pieces.append(self._reader.fill(np.empty(start - place, np.uint8), place))
            if array is not None and start >= place:
                pieces.append(array)
                place = start + len(array)
        return pieces


def are_equal(pieces, data: bytes | FileBytes) -> bool:
    """Whether the bytes of all `pieces`, one after the other, are those of `data`."""
    data = data if isinstance(data, FileBytes) else memoryview(data)
    place = 0
    for piece in map(memoryview, pieces):
        for start in range(0, len(piece), BLOCK):
            part = piece[start : start + BLOCK]
            if place + len(part) > len(data) or not np.array_equal(part, data[place : place + len(part)]):
                return False
            place += len(part)
    return place == len(data)
