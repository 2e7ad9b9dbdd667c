"""What a model does to one input: per layer its output shape, parameters, work and receptive field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from math import prod

import numpy as np

from fastconv.errors import ArgumentTypeError
from fastconv.geometry import Window, element_count, integer, is_sequence
from fastconv.nn.attention import MultiheadAttention
from fastconv.nn.conv import _ConvNd, _ConvTransposeNd
from fastconv.nn.factory import float_dtype
from fastconv.nn.linear import Bilinear, Linear
from fastconv.nn.module import Module
from fastconv.nn.pooling import _AvgPoolNd, _LPPoolNd, _MaxPoolNd
from fastconv.nn.receptive_field import FieldTracker

__all__ = ["Summary", "SummaryRow", "summary"]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One call of one layer.

    `macs` are multiply-accumulates, taps in the padding included and the bias not.  `receptive_field` is how many input
    positions per spatial axis one output value can depend on, padding included, or None where operations outside the
    layers have changed the size; statistics of normalisation layers do not count.  `dropped` are the positions at the
    end of each axis of the layer's input that no window reaches because the stride does not divide.
    """

    path: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: tuple[int, ...] | None
    dropped: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows in the order of the calls, and totals; ``str()`` is a table.

    `parameters` counts every array of the model once, also one that no row shows because no layer owns it.
    """

    model: str
    input_shape: tuple
    rows: tuple[SummaryRow, ...]
    parameters: int

    @property
    def macs(self) -> int:
        """Multiplications with additions of one forward, of all layers."""
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "type", "output shape", "parameters", "MACs", "receptive field", "dropped")
        table = [
            (
                row.path,
                row.type,
                str(row.output_shape),
                f"{row.parameters:,}",
                f"{row.macs:,}",
                "?" if row.receptive_field is None else " × ".join(map(str, row.receptive_field)),
                " × ".join(map(str, row.dropped)) if any(row.dropped) else "",
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *table, strict=True)]
        numeric = (3, 4)
        lines = [
            "  ".join(
                cell.rjust(width) if column in numeric else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in (head, *table)
        ]
        lines.insert(1, "─" * max(map(len, lines)))
        lines += [
            lines[1],
            f"{self.model} on input {self.input_shape}: {self.parameters:,} parameters, {self.macs:,} MACs",
        ]
        if any(any(row.dropped) for row in self.rows):
            lines.append("dropped: input positions at the end of each axis that no window reaches")
        return "\n".join(lines)


def summary(module: Module, input_shape, dtype=None) -> Summary:
    """Run `module` on zeros of `input_shape`, batch axis included, and report every layer it calls.

    A layer is a module without child modules; functions called between the layers have no row.  `input_shape` is a
    tuple of sizes, or a list of such tuples for several inputs; `dtype` is that of the first parameter by default.
    The module runs in evaluation mode and is left as it was.
    """
    if not isinstance(module, Module):
        raise ArgumentTypeError(f"module: expected a Module, got {type(module).__name__}")
    shapes = _shapes(input_shape)
    arrays = _arrays(module)
    kind = float_dtype(dtype) if dtype is not None or not arrays else arrays[0].dtype
    inputs = [np.zeros(shape, kind) for shape in shapes]
    tracker = FieldTracker(inputs)
    rows = []

    def record(path):
        def hook(layer, args, kwargs, output):
            consumed = [value for value in (*args, *kwargs.values()) if isinstance(value, np.ndarray)]
            produced = [
                value for value in (output if isinstance(output, tuple) else [output]) if isinstance(value, np.ndarray)
            ]
            if not produced:
                return
            field = tracker.call(layer, consumed, produced)
            parameters = sum(array.size for array in _arrays(layer))
            rows.append(
                SummaryRow(
                    path,
                    type(layer).__name__,
                    produced[0].shape,
                    parameters,
                    _macs(layer, consumed, produced[0]),
                    field,
                    _dropped(layer, consumed[0].shape if consumed else ()),
                )
            )

        return hook

    layers = [(path, layer) for path, layer in module.named_modules() if _is_layer(layer)]
    handles = [layer.register_forward_hook(record(path), with_kwargs=True) for path, layer in layers]
    try:
        with _evaluating(module):
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    total = sum({id(array): array.size for array in _arrays(module)}.values())  # lazy layers have theirs by now
    return Summary(type(module).__name__, shapes[0] if len(shapes) == 1 else tuple(shapes), tuple(rows), total)


def _is_layer(module: Module) -> bool:
    return not module._modules or isinstance(module, MultiheadAttention)  # which never calls the module in it


def _arrays(module: Module) -> list[np.ndarray]:
    return [array for layer in module.modules() for array in layer._parameters.values() if array is not None]


def _shapes(input_shape) -> list[tuple[int, ...]]:
    if not is_sequence(input_shape):
        raise ArgumentTypeError(f"input_shape: expected a tuple of sizes, batch included, got {input_shape!r}")
    several = len(input_shape) and all(is_sequence(shape) for shape in input_shape)
    shapes = [
        tuple(integer(size, "input_shape", 1) for size in shape)
        for shape in (input_shape if several else [input_shape])
    ]
    for shape in shapes:
        element_count(shape, "input_shape")
    return shapes


@contextmanager
def _evaluating(module: Module) -> Iterator[None]:
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


@singledispatch
def _macs(layer, inputs: list[np.ndarray], output: np.ndarray) -> int:
    return 0


@_macs.register
def _(layer: _ConvNd, inputs, output) -> int:
    return output.size * prod(layer.kernel_size) * (layer.in_channels // layer.groups)


@_macs.register
def _(layer: _ConvTransposeNd, inputs, output) -> int:
    return inputs[0].size * prod(layer.kernel_size) * (layer.out_channels // layer.groups)


@_macs.register
def _(layer: Linear, inputs, output) -> int:
    return output.size * layer.in_features


@_macs.register
def _(layer: Bilinear, inputs, output) -> int:
    return output.size * layer.in1_features * layer.in2_features


@_macs.register
def _(layer: MultiheadAttention, inputs, output) -> int:
    query, key, value = inputs[:3]
    pairs = query.size // layer.embed_dim * key.shape[key.ndim - 2 if layer.batch_first else 0]
    return 2 * pairs * layer.embed_dim + layer.embed_dim * (2 * query.size + key.size + value.size)


@singledispatch
def _dropped(layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    return ()


@_dropped.register(_ConvNd)
@_dropped.register(_MaxPoolNd)
@_dropped.register(_AvgPoolNd)
@_dropped.register(_LPPoolNd)
def _(layer, shape) -> tuple[int, ...]:
    return Window.of(
        shape[-layer.rank :],
        layer.kernel_size,
        layer.stride or layer.kernel_size,
        layer.padding,
        getattr(layer, "dilation", 1),
        getattr(layer, "ceil_mode", False),
    ).dropped


@_dropped.register
def _(layer: _ConvTransposeNd, shape) -> tuple[int, ...]:
    return ()
