"""Memory for many arrays that live about as long as each other.

The system hands out memory page by page, on first touch, and for a network's weights that takes longer than to copy
them.  NumPy asks for large pages, hundreds of times fewer, but only for arrays of 4 MiB and more: hence one piece for
many smaller arrays.
"""

from __future__ import annotations

import numpy as np

from fastconv.graph.memory import ALIGNMENT

__all__ = ["Slab", "slab_bytes"]


class Slab:
    """``empty`` arrays side by side in a piece of memory of `size` bytes, which is released with the last of them."""

    def __init__(self, size: int):
        memory = np.empty(size and size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self._free = memory[start : start + size]
        self._spare = memory[:0]

    def empty(self, count: int, dtype) -> np.ndarray:
        """`count` elements, whose contents are undefined; of their own where the piece is used up."""
        size = count * np.dtype(dtype).itemsize
        if size > len(self._free):
            return np.empty(count, dtype)
        array = self._free[:size].view(dtype)
        self._free = self._free[slab_bytes(size) :]
        return array

    def temporary(self, shape, dtype) -> np.ndarray:
        """An array outside of the piece, which holds until the next one is asked for."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > len(self._spare):
            self._spare = np.empty(size, np.uint8)
        return self._spare[:size].view(dtype).reshape(shape)


def slab_bytes(size: int) -> int:
    """What an array of `size` bytes takes of a slab."""
    return -(-size // ALIGNMENT) * ALIGNMENT
