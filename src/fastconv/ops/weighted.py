"""What convolutions, transposed convolutions and linear layers have in common: sums of inputs times weights.

Their specs have ``taps``, the number of products in an output, and ``dtype``.
"""

from __future__ import annotations

from fastconv.errors import ArgumentTypeError
from fastconv.ops.cost import sum_error
from fastconv.ops.table import Algorithm, Compiled, Spec

__all__ = ["PACK_BYTES", "Weighted", "WeightedKernel", "WeightedReference", "check_types", "uneven_strides"]

PACK_BYTES = 2e9  # bytes of packed weights written in a second


class Weighted(Algorithm[Spec]):
    """Any row: the error is that of a sum."""

    def error_bound(self, spec):
        return sum_error(spec.taps + 1, spec.dtype)


class WeightedKernel(Weighted[Spec], Compiled[Spec]):
    """A compiled row."""


class WeightedReference(Weighted[Spec]):
    """The specification, in NumPy: any element type."""

    name = "reference"

    def seconds(self, spec):
        return 1e-4 + spec.flops / 1e9


def uneven_strides(spec) -> str:
    """The refusal of an input whose elements do not lie a whole number of elements apart."""
    if any(stride % spec.itemsize for stride in spec.x_strides):
        return f"the input's strides of {spec.x_strides} bytes are no multiples of its {spec.itemsize}-byte elements"
    return ""


def check_types(x_type, w_type, b) -> None:
    """ArgumentTypeError where input, weight and bias, None or (shape, type), differ in their element type."""
    if x_type != w_type or (b is not None and b[1] != x_type):
        types = f"input {x_type}, weight {w_type}" + ("" if b is None else f", bias {b[1]}")
        raise ArgumentTypeError(
            f"input, weight and bias: expected one element type, got {types}; convert with astype()"
        )
