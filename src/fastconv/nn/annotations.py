"""Names for the types that public arguments have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

__all__ = ["ArrayLike", "DTypeLike", "Factors", "OutputSizes", "Padding", "Sizes"]


class HasArray(Protocol):
    """A NumPy array, or what NumPy makes one of without a copy where it can: a tensor on the CPU, for one."""

    def __array__(self, *args, **kwargs) -> np.ndarray: ...


class HasDLPack(Protocol):
    """An array of another library that shares its memory by the DLPack protocol."""

    def __dlpack__(self, **kwargs): ...


ArrayLike = HasArray | HasDLPack
DTypeLike = str | type | np.dtype
Sizes = int | Sequence[int]  # one for all axes, or one per axis
OutputSizes = int | Sequence[int | None] | None  # None keeps the size of the input
Padding = str | int | Sequence[int | Sequence[int]]  # as sizes, or a pair (before, after) per axis, or a word
Factors = float | Sequence[float]
