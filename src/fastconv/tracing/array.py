"""Arrays that remember how they were computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.errors import ArgumentError

__all__ = ["Traced", "plain"]

HINT = "a compiled module computes the same for every input; leave that part of the forward outside of what is compiled"


class Traced(np.ndarray):
    """An array with the name of a value in the graph that its `recorder` writes; NumPy's operations on it join the graph.

    A view made by an operation that is not followed has no name, and cannot be used further.
    """

    name: str | None
    recorder: object

    def __array_finalize__(self, source) -> None:
        self.name = None
        self.recorder = getattr(source, "recorder", None)

    def __array_ufunc__(self, ufunc, method: str, *inputs, out=None, **kwargs):
        recorder = _recorder(inputs)
        if method != "__call__" or (out is not None and not isinstance(out[0], Traced)):
            raise ArgumentError(
                f"module: its forward uses numpy.{ufunc.__name__}.{method}, which cannot be compiled; {HINT}"
            )
        result = recorder.ufunc(ufunc, inputs, kwargs)
        if out is None:
            return result
        np.ndarray.__setitem__(out[0], ..., plain(result))
        out[0].name = recorder.name_of(result)
        return out[0]

    def __array_function__(self, function, types, args, kwargs):
        return _recorder((args, kwargs)).numpy_function(function, args, kwargs)

    def __getitem__(self, index):
        if any(isinstance(part, Traced) for part in (index if isinstance(index, tuple) else (index,))):
            raise ArgumentError(f"module: its forward indexes with a computed array; {HINT}")
        return self.recorder.item(self, index)

    def __setitem__(self, index, value) -> None:
        raise ArgumentError(f"module: its forward assigns to elements of an array, which cannot be compiled; {HINT}")

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise ArgumentError(f"module: its forward decides by a computed value (if, while, and, or); {HINT}")

    def __float__(self) -> float:
        raise ArgumentError(f"module: its forward turns a computed value into a number; {HINT}")

    __int__ = __index__ = __complex__ = __float__

    def item(self, *args):
        return float(self)

    def tolist(self):
        return float(self)

    @property
    def T(self):
        return self.transpose()

    def reshape(self, *shape, order="C", copy=None):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape
        return self.recorder.reshape(self, tuple(int(size) for size in np.atleast_1d(shape)), order)

    def flatten(self, order="C"):
        return self.reshape(-1, order=order)

    def ravel(self, order="C"):
        return self.reshape(-1, order=order)

    def transpose(self, *axes):
        axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)) else axes
        return self.recorder.transpose(self, axes or None)

    def swapaxes(self, axis1, axis2):
        axes = list(range(self.ndim))
        axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
        return self.transpose(axes)


def _method(name: str) -> Callable:
    def call(self, *args, **kwargs):
        return self.recorder.method(name, self, args, kwargs)

    return call


for _name in (
    "all", "any", "argmax", "argmin", "astype", "clip", "copy", "cumsum", "dot", "max", "mean", "min", "prod", "repeat",
    "round", "squeeze", "std", "sum", "take", "var",
):  # fmt: skip
    setattr(Traced, _name, _method(_name))


def plain(value):
    """`value` with base arrays in the place of traced ones, inside of tuples, lists and dicts, too."""
    if isinstance(value, Traced):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {key: plain(entry) for key, entry in value.items()}
    return value


def _recorder(value):
    """The recorder of the first traced array in `value`."""
    if isinstance(value, Traced):
        return value.recorder
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return None
    return next((recorder for entry in value if (recorder := _recorder(entry)) is not None), None)
