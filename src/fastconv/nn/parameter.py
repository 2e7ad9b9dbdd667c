"""The mark by which a module knows an assigned array as a parameter."""

from __future__ import annotations

import numpy as np

from fastconv.nn.factory import state_array

__all__ = ["Parameter"]


class Parameter:
    """Marks an array that is assigned to a module as a parameter of it: ``self.scale = nn.Parameter(array)``.

    The module stores and returns the plain array, whose memory is shared with `data`.
    """

    __slots__ = ("data",)

    def __init__(self, data, requires_grad: bool = True):
        self.data = state_array(data, "data")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.data, dtype, copy=True) if copy else np.asarray(self.data, dtype)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self.data!r}"
