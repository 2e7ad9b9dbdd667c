"""The marks by which a module knows an assigned array as a parameter or a buffer, and those still without a shape."""

from __future__ import annotations

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.nn.annotations import ArrayLike, DTypeLike
from fastconv.nn.factory import float_dtype, state_array

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"]


class Parameter:
    """Marks an array that is assigned to a module as a parameter of it: ``self.scale = nn.Parameter(array)``.

    The module stores and returns the plain array, whose memory is shared with `data`.
    """

    __slots__ = ("data",)

    def __init__(self, data: ArrayLike, requires_grad: bool = True) -> None:
        self.data = state_array(data, "data")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.data, dtype, copy=True) if copy else np.asarray(self.data, dtype)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self.data!r}"


class Buffer:
    """Marks an array that is assigned to a module as a buffer of it, kept in the state dict if `persistent`."""

    __slots__ = ("data", "persistent")

    def __init__(self, data: ArrayLike | None = None, *, persistent: bool = True) -> None:
        self.data = None if data is None else state_array(data, "data")
        self.persistent = persistent

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.data, dtype, copy=True) if copy else np.asarray(self.data, dtype)

    def __repr__(self) -> str:
        return f"Buffer containing:\n{self.data!r}"


class UninitializedParameter:
    """In place of a parameter of a lazy layer until the first input, or a state dict, gives it a shape."""

    def __init__(
        self, requires_grad: bool = True, device: object | None = None, dtype: DTypeLike | None = None
    ) -> None:
        self.dtype = float_dtype(dtype)

    def astype(self, dtype, copy: bool = True):
        """The same, still without a shape, of another element type."""
        return type(self)(dtype=dtype)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ArgumentError(
            f"{type(self).__name__}: it has no {name} before the lazy layer's first call, which gives it a shape"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedBuffer(UninitializedParameter):
    """The same in place of a buffer."""

    def __init__(
        self, requires_grad: bool = False, device: object | None = None, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__(requires_grad, device, dtype)
