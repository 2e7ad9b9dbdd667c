"""Products of pairs of matrices that are both computed, as in attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastconv.ops.cost import CACHE_BYTES_PER_SECOND
from fastconv.ops.direct import FilterLanes, direct_seconds
from fastconv.ops.nest import UNIT_AXIS, Axis, Nest
from fastconv.ops.table import Op
from fastconv.ops.weighted import WeightedKernel

__all__ = ["MATMUL", "MatmulSpec"]


@dataclass(frozen=True)
class MatmulSpec:
    """`count` products of matrices (rows, inner) with the transposes of others (columns, inner), which are contiguous."""

    count: int
    rows: int
    inner: int
    columns: int
    dtype: str
    x_strides: tuple[int, int]  # elements from a matrix to the next, and from one of its rows to the next

    @property
    def taps(self) -> int:
        return self.inner

    @property
    def flops(self) -> int:
        return 2 * self.count * self.rows * self.inner * self.columns

    @property
    def bytes(self) -> int:
        """Bytes of both matrices and the result, each counted once."""
        of_one = self.rows * self.inner + self.columns * self.inner + self.rows * self.columns
        return self.count * of_one * np.dtype(self.dtype).itemsize


class Product(WeightedKernel[MatmulSpec]):
    """The tile of the direct convolution: rows take the place of pixels, the second matrix that of filters."""

    name = "direct"

    def refusal(self, spec):
        return "the kernels that pack take no float16" if spec.dtype == "float16" else super().refusal(spec)

    def plan(self, spec):
        return ProductPlan(spec)

    def seconds(self, spec):
        return direct_seconds(_nest(spec)) + spec.bytes / CACHE_BYTES_PER_SECOND


class ProductPlan:
    """``pack_step(packed, w)`` and then ``step(y, x, packed, bias)``, for `w` (count, columns, inner)."""

    def __init__(self, spec: MatmulSpec):
        loops = FilterLanes(_nest(spec), own_filters=True)
        elements, filters = loops.packed_elements
        self.packed_elements = spec.count * elements
        self.bias = np.zeros(filters, spec.dtype)
        self.pack_step = loops.pack_step(spec.count)
        self.step = loops.step


def _nest(spec: MatmulSpec) -> Nest:
    matrix, row = spec.x_strides
    rows = Axis(spec.rows, spec.rows, 1, 1, 1, 0, row, spec.columns)
    axes = (UNIT_AXIS, UNIT_AXIS, rows)
    return Nest(spec.dtype, spec.count, 1, spec.inner, spec.columns, (matrix, 1), (spec.rows * spec.columns, 1), axes)


MATMUL = Op("matrix product", (Product(),))
