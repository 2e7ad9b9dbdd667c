"""Where values live: buffers, tensors in them, and one arena that buffers share when their lifetimes allow it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

__all__ = ["Buffer", "Tensor", "plan_arena"]

ALIGNMENT = 64


@dataclass(eq=False)
class Buffer:
    """Bytes that live from the first call that writes them to the last that reads them.

    `name` is that of an array which each run brings (an input or output of the graph); otherwise the buffer lies in the
    arena, or at an offset inside `parent`.
    """

    size: int
    name: str = ""
    parent: Buffer | None = None
    shift: int = 0
    first: int | None = None
    last: int = -1
    offset: int = 0
    children: list[Buffer] = field(default_factory=list)

    def root(self) -> tuple[Buffer, int]:
        """The buffer that has memory of its own, and where this one starts in it."""
        buffer, shift = self, 0
        while buffer.parent is not None:
            buffer, shift = buffer.parent, shift + buffer.shift
        return buffer, shift

    def place_in(self, parent: Buffer, shift: int) -> None:
        self.parent, self.shift = parent, shift
        parent.children.append(self)

    def use(self, call: int) -> None:
        buffer, _ = self.root()
        buffer.first = call if buffer.first is None else min(buffer.first, call)
        buffer.last = max(buffer.last, call)


@dataclass(eq=False)
class Tensor:
    """A C-contiguous array at the start of a buffer."""

    shape: tuple[int, ...]
    dtype: np.dtype
    buffer: Buffer

    @classmethod
    def new(cls, shape, dtype, name: str = "") -> Tensor:
        dtype = np.dtype(dtype)
        return cls(tuple(shape), dtype, Buffer(prod(shape) * dtype.itemsize, name))

    @property
    def size(self) -> int:
        return prod(self.shape)

    def reshaped(self, shape) -> Tensor:
        return Tensor(tuple(shape), self.dtype, self.buffer)

    def view(self, arena: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """The array, in the bytes `arena` or in the named one of `arrays`."""
        root, shift = self.buffer.root()
        if root.name:
            return arrays[root.name].reshape(self.shape)
        start = root.offset + shift
        return arena[start : start + self.size * self.dtype.itemsize].view(self.dtype).reshape(self.shape)


def plan_arena(buffers: list[Buffer]) -> int:
    """Set the offset of every root among `buffers` that lives in the arena; the arena's size in bytes.

    The largest go first, each to the lowest place where nothing that lives at the same time lies: the greedy-by-size plan
    of Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020.
    """
    placed: list[Buffer] = []
    size = 0
    roots = [b for b in buffers if b.parent is None and not b.name and b.first is not None]
    for buffer in sorted(roots, key=lambda b: (-b.size, b.first)):
        end = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.first <= buffer.last and buffer.first <= other.last:
                if other.offset - end >= buffer.size:
                    break
                end = max(end, _aligned(other.offset + other.size))
        buffer.offset = end
        placed.append(buffer)
        size = max(size, end + buffer.size)
    return _aligned(size)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
