"""The bytes of a file, read where they are wanted: what is large goes straight from the file into its array.

Nothing is mapped: an export over the same file must not pull it from under a session.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from fastconv.errors import ModelError
from fastconv.graph.slab import Slab

__all__ = ["FileBytes"]

BLOCK = 1 << 16
PART = 1 << 21  # read at once: what the system clears of fresh memory is still in the cache when it is written


class _Reader:
    """An open file, and the block of it that was read last."""

    def __init__(self, file: BinaryIO, size: int):
        self.file = file
        self.memory = Slab(size)
        self.start = 0
        self.block = memoryview(b"")

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

    def read(self) -> np.ndarray:
        """All of them, as an array of bytes, in memory that those of the same file share."""
        array = self._reader.memory.empty(len(self), np.uint8)
        self._reader.file.seek(self._start)
        left = memoryview(array)
        while left:
            count = self._reader.file.readinto(left[:PART])
            if not count:
                raise ModelError("the file became shorter while it was read")
            left = left[count:]
        return array
