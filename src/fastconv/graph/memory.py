"""Where values live: buffers, tensors in them, and one arena that buffers share when their lifetimes allow it."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np

__all__ = ["ALIGNMENT", "Buffer", "Tensor", "compact_strides", "plan_arena", "reshaped_strides"]

ALIGNMENT = 64


@dataclass(eq=False)
class Buffer:
    """Bytes that live from the first call that writes them to the last that reads them.

    `name` is that of an array which each run brings (an input or output of the graph); otherwise the buffer lies in the
    arena, or at an offset inside `parent`.  `needed` is the last node that reads a value in it.
    """

    size: int
    name: str = ""
    parent: Buffer | None = None
    shift: int = 0
    first: int | None = None
    last: int = -1
    offset: int = 0
    needed: int = -1
    children: list[Buffer] = field(default_factory=list)

    def root(self) -> tuple[Buffer, int]:
        """The buffer that has memory of its own, and where this one starts in it."""
        buffer, shift = self, 0
        while buffer.parent is not None:
            buffer, shift = buffer.parent, shift + buffer.shift
        return buffer, shift

    def place_in(self, parent: Buffer, shift: int) -> None:
        """Move into `parent`, with all that is known of the lifetime."""
        self.parent, self.shift = parent, shift
        parent.children.append(self)
        parent.need(self.needed)
        if self.first is not None:
            parent.use(self.first)
            parent.use(self.last)

    def use(self, call: int) -> None:
        buffer, _ = self.root()
        buffer.first = call if buffer.first is None else min(buffer.first, call)
        buffer.last = max(buffer.last, call)

    def need(self, node: int) -> None:
        buffer, _ = self.root()
        buffer.needed = max(buffer.needed, node)


@dataclass(eq=False)
class Tensor:
    """An array that starts where its buffer does; `strides` in bytes.

    Of contiguous arrays they are those of :func:`compact_strides`, also where an axis of one position could have any.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    buffer: Buffer
    strides: tuple[int, ...]
    copy: Tensor | None = None  # the same values side by side

    def __post_init__(self):
        self.shape, self.strides = tuple(self.shape), tuple(self.strides)
        compact = compact_strides(self.shape, self.dtype.itemsize)
        if self.strides == compact:
            return
        sizes = zip(self.shape, self.strides, compact, strict=True)
        if 0 in self.shape or all(size == 1 or stride == step for size, stride, step in sizes):
            self.strides = compact

    @classmethod
    def new(cls, shape, dtype, name: str = "") -> Tensor:
        shape, dtype = tuple(shape), np.dtype(dtype)
        return cls(shape, dtype, Buffer(prod(shape) * dtype.itemsize, name), compact_strides(shape, dtype.itemsize))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        return self.strides == compact_strides(self.shape, self.dtype.itemsize)

    @property
    def fills_buffer(self) -> bool:
        """Whether it is all that the memory under it holds."""
        return self.buffer.parent is None and self.is_contiguous and self.nbytes == self.buffer.size

    def is_same_array(self, other: Tensor) -> bool:
        return (self.buffer, self.shape, self.strides) == (other.buffer, other.shape, other.strides)

    def reshaped(self, shape) -> Tensor | None:
        """The same values in another shape; None where no strides lead through them in that order."""
        shape = tuple(shape)
        if self.is_contiguous:
            return Tensor(shape, self.dtype, self.buffer, compact_strides(shape, self.dtype.itemsize))
        strides = reshaped_strides(self.shape, self.strides, shape)
        return strides and Tensor(shape, self.dtype, self.buffer, strides)

    def turned(self, order) -> Tensor:
        """The same values with the axes in this order."""
        return Tensor([self.shape[i] for i in order], self.dtype, self.buffer, [self.strides[i] for i in order])

    def turned_back(self, order) -> Tensor:
        """What `turned` makes this of, with the same order."""
        return self.turned(sorted(range(len(order)), key=order.__getitem__))

    def dense_order(self) -> tuple[int, ...] | None:
        """The order of the axes in which the values lie side by side; None where there is none."""
        order = sorted(range(len(self.shape)), key=lambda axis: -self.strides[axis])  # stable: axes of size 1 stay
        return tuple(order) if self.turned(order).is_contiguous else None

    def strided(self, shape, strides, shift: int = 0) -> Tensor:
        """Some of the values, from `shift` bytes on."""
        buffer = Buffer(self.buffer.size - shift)
        buffer.place_in(self.buffer, shift)
        return Tensor(shape, self.dtype, buffer, strides)

    def view(self, arena: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """The array, in the bytes `arena` or in the named one of `arrays`."""
        root, shift = self.buffer.root()
        if self.dtype.hasobject:
            return arrays[root.name]
        if self.size == 0:
            return np.empty(self.shape, self.dtype)
        if root.name:
            return np.ndarray(self.shape, self.dtype, arrays[root.name], shift, self.strides)
        return np.ndarray(self.shape, self.dtype, arena, root.offset + shift, self.strides)


def compact_strides(shape, itemsize: int) -> tuple[int, ...]:
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def reshaped_strides(shape, strides, wanted) -> tuple[int, ...] | None:
    """Strides in `wanted` shape of what has these `strides` in `shape`, neither of them empty; None where there are none.

    Axes of both are taken together until they hold as many positions; those of `shape` have to follow on one another.
    """
    old = [axis for axis in zip(shape, strides, strict=True) if axis[0] != 1]
    result: list[int] = []
    sizes = list(wanted)
    while sizes:
        count, held, group = sizes.pop(0), 1, []
        together = [count]
        while held != count:
            if held < count:
                group.append(old.pop(0))
                held *= group[-1][0]
            else:
                together.append(sizes.pop(0))
                count *= together[-1]
        if any(outer[1] != inner[0] * inner[1] for outer, inner in pairwise(group)):
            return None
        last = group[-1][1] if group else 0
        result += compact_strides(together, last)
    return tuple(result)


def plan_arena(buffers: list[Buffer]) -> int:
    """Set the offset of every root among `buffers` that lives in the arena; the arena's size in bytes.

    The largest go first, each to the lowest place where nothing that lives at the same time lies: the greedy-by-size plan
    of Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020.
    """
    placed: list[Buffer] = []  # by offset
    size = 0
    roots = [b for b in buffers if b.parent is None and not b.name and b.first is not None]
    for buffer in sorted(roots, key=lambda b: (-b.size, b.first)):
        end = 0
        for other in placed:
            if other.first <= buffer.last and buffer.first <= other.last:
                if other.offset - end >= buffer.size:
                    break
                end = max(end, _aligned(other.offset + other.size))
        buffer.offset = end
        insort(placed, buffer, key=lambda b: b.offset)
        size = max(size, end + buffer.size)
    return _aligned(size)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
