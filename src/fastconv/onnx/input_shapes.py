"""Shapes of a model's inputs where no arrays are at hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer, is_sequence
from fastconv.graph.ir import Graph, ValueInfo

__all__ = ["resolved_shapes"]


def resolved_shapes(graph: Graph, given: Mapping[str, object] | None = None) -> dict[str, tuple]:
    """(shape, dtype) of every tensor input, sizes from the file and from `given`.

    `given` holds shapes by input name, or sizes by symbolic name; a first axis of unknown size is 1.  Inputs that are no
    tensors, or have no element type, are left out.  Raises ArgumentError for sizes that are missing or do not fit.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ArgumentTypeError(f"shapes: expected a mapping of inputs to shapes, got {given!r}")
    given = {name: _sizes(name, value) for name, value in (given or {}).items()}
    names = {info.name for info in graph.inputs}
    symbols = {size for info in graph.inputs for size in info.shape if isinstance(size, str)}
    unknown = given.keys() - names - symbols
    if unknown:
        expected = ", ".join([*sorted(names), *sorted(symbols)])
        raise ArgumentError(f"shapes: expected inputs or symbolic sizes ({expected}), got {', '.join(sorted(unknown))}")
    sizes = {name: given[name] for name in symbols if name in given and not isinstance(given[name], tuple)}
    for info in graph.inputs:
        if info.name in given and not isinstance(given[info.name], tuple):
            raise ArgumentTypeError(
                f"shapes: expected a tuple of sizes for input {info.name!r}, got {given[info.name]}"
            )
        if info.name in given and info.has_rank:
            sizes |= {s: n for s, n in zip(info.shape, given[info.name], strict=False) if isinstance(s, str)}
    return {
        info.name: (_resolved(info, given.get(info.name), sizes), info.dtype)
        for info in graph.inputs
        if info.type.startswith("tensor") and info.dtype is not None and info.dtype != np.dtype(object)
    }


def _sizes(name: str, value) -> int | tuple[int, ...]:
    """A size, or a shape."""
    if not is_sequence(value):
        return integer(value, f"shapes: {name!r}", 0)
    return tuple(integer(size, f"shapes: {name!r}", 0) for size in value)


def _resolved(info: ValueInfo, given, sizes: dict[str, int]) -> tuple[int, ...]:
    if given is not None:
        shape = given
        fits = len(shape) == len(info.shape) and all(
            not isinstance(expected, int) or expected in (-1, size)
            for expected, size in zip(info.shape, shape, strict=True)
        )
        if info.has_rank and not fits:
            raise ArgumentError(f"shapes: input {info.name!r} has shape {_text(info.shape)}, got {shape}")
        return shape
    if not info.has_rank:
        raise ArgumentError(
            f"shapes: the file gives no shape for input {info.name!r}: pass shapes={{{info.name!r}: …}}"
        )
    shape = []
    for axis, size in enumerate(info.shape):
        if isinstance(size, int) and size >= 0:
            shape.append(size)
        elif size in sizes:
            shape.append(sizes[size])
        elif axis == 0:
            shape.append(1)
        else:
            called = f"the symbolic size {size!r}" if isinstance(size, str) else "an unknown size"
            raise ArgumentError(
                f"shapes: input {info.name!r} {_text(info.shape)} has {called} on axis {axis}: "
                f"pass shapes={{{info.name!r}: (…)}}, on the command line --shape {info.name}=…"
            )
    return tuple(shape)


def _text(shape) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
