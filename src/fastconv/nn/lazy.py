"""Layers that take the size of their input from the first one.

A lazy layer has torch's repr with that size 0, and :class:`UninitializedParameter` for its arrays.  The first call, or
a state dict that is loaded, gives it its arrays, and from then on it is the plain layer, of that class.
"""

from __future__ import annotations

from inspect import Signature, signature

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.nn.annotations import DTypeLike
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.factory import empty
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module
from fastconv.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from fastconv.nn.parameter import UninitializedBuffer, UninitializedParameter

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class _Lazy(Module):
    """Becomes `becomes` once the attribute `size` is known, which is 0 until then.

    The constructor takes the arguments of `becomes` but the first, the size.
    """

    becomes: type[Module]
    size: str

    def __init_subclass__(cls):
        if hasattr(cls, "becomes") and cls.__init__ is _Lazy.__init__:
            _, *parameters = signature(cls.becomes).parameters.values()
            cls.__signature__ = Signature(parameters)
        if hasattr(cls, "becomes") and cls.__doc__ is None:
            cls.__doc__ = f":class:`{cls.becomes.__name__}` that takes its `{cls.size}` from the first input."

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(0, *args, **kwargs)
        self._wait()

    def _wait(self) -> None:
        """Take away the arrays that the constructor has made."""
        setattr(self, self.size, 0)
        for table, mark in ((self._parameters, UninitializedParameter), (self._buffers, UninitializedBuffer)):
            for name, array in table.items():
                if array is not None and array.ndim:
                    table[name] = mark(dtype=array.dtype)

    def _shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name` for the size that is set."""
        raise NotImplementedError

    def _size_from(self, name: str, shape: tuple[int, ...]) -> int | None:
        """The size that an array `name` of `shape` tells, if it does."""
        raise NotImplementedError

    def _axis_of_size(self, ndim: int) -> int:
        """The axis of an input of `ndim` axes that has the size."""
        raise NotImplementedError

    def _become(self, size: int) -> None:
        groups = getattr(self, "groups", 1)
        if size % groups:
            raise ArgumentError(f"input: expected a multiple of groups ({groups}) channels, got {size}")
        setattr(self, self.size, size)
        for table in (self._parameters, self._buffers):
            for name, array in table.items():
                if isinstance(array, UninitializedParameter):
                    table[name] = empty(self._shape_of(name), None, array.dtype)
        self.__class__ = self.becomes
        self.reset_parameters()
        self.__dict__["_handed_out"] = True

    def _load_from_state_dict(self, state_dict, prefix, *report) -> None:
        super()._load_from_state_dict(state_dict, prefix, *report)
        for name in (*self._parameters, *self._buffers):
            size = self._size_from(name, np.shape(state_dict.get(prefix + name, ())))
            if size is not None:
                self._become(size)
                return

    def __call__(self, input, *args, **kwargs):
        shape = np.shape(input)
        axis = self._axis_of_size(len(shape))
        if not -len(shape) <= axis < len(shape):
            raise ArgumentError(f"input: {type(self).__name__} finds no {self.size} in shape {shape}")
        self._become(shape[axis])
        return self(input, *args, **kwargs)


class _LazyConvNd(_Lazy):
    """A convolution whose in_channels are those of its first input."""

    size = "in_channels"

    def _shape_of(self, name):
        return self._weight_shape() if name == "weight" else (self.out_channels,)

    def _size_from(self, name, shape):
        return shape[1] * self.groups if name == "weight" and len(shape) == self.rank + 2 else None

    def _axis_of_size(self, ndim):
        return -self.rank - 1


class LazyConv1d(_LazyConvNd, Conv1d):
    becomes = Conv1d


class LazyConv2d(_LazyConvNd, Conv2d):
    becomes = Conv2d


class LazyConv3d(_LazyConvNd, Conv3d):
    becomes = Conv3d


class _LazyConvTransposeNd(_LazyConvNd):
    """A transposed convolution whose in_channels are those of its first input."""

    def _size_from(self, name, shape):
        return shape[0] if name == "weight" and len(shape) == self.rank + 2 else None


class LazyConvTranspose1d(_LazyConvTransposeNd, ConvTranspose1d):
    becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTransposeNd, ConvTranspose2d):
    becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTransposeNd, ConvTranspose3d):
    becomes = ConvTranspose3d


class LazyLinear(_Lazy, Linear):
    """A full connection whose in_features are the last axis of its first input."""

    becomes = Linear
    size = "in_features"

    def _shape_of(self, name):
        return (self.out_features, self.in_features) if name == "weight" else (self.out_features,)

    def _size_from(self, name, shape):
        return shape[1] if name == "weight" and len(shape) == 2 else None

    def _axis_of_size(self, ndim):
        return -1


class _LazyNorm(_Lazy):
    """A normalisation whose num_features are the channels of its first input."""

    size = "num_features"

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super(_Lazy, self).__init__(1, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._wait()

    def _shape_of(self, name):
        return (self.num_features,)

    def _size_from(self, name, shape):
        return shape[0] if len(shape) == 1 else None

    def _axis_of_size(self, ndim):
        return 0 if self.layouts[0].startswith("(C") and ndim == self.layouts[0].count(",") + 1 else 1


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    becomes = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    becomes = InstanceNorm3d
