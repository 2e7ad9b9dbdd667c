"""Arithmetic of two arrays that broadcast to each other: its spec, and the algorithms that compute it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, prod

import numpy as np

from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.table import Op
from fastconv.ops.vectorised import MemorySpec, NumpyReference, Vectorised, thread_limit

__all__ = ["BINARY", "BinarySpec"]

CHUNK_ELEMENTS = 8192  # of one task, about
OUTER_AXES = 3

FUNCTIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


@dataclass(frozen=True)
class BinarySpec(MemorySpec):
    """``clamp(a ∘ b)`` over `axes`, (size, step in a, step in b) in elements; the result is contiguous over them.

    A step of 0 repeats.  NaN passes through the clamp, and through max and min.
    """

    operation: str
    axes: tuple[tuple[int, int, int], ...]
    dtype: str
    low: float = -inf
    high: float = inf

    @classmethod
    def of(cls, operation: str, a, b, dtype, low: float = -inf, high: float = inf) -> BinarySpec:
        """For operands `a` and `b`, each (shape, strides in bytes); ValueError where they do not broadcast."""
        dtype = np.dtype(dtype)
        shape = np.broadcast_shapes(a[0], b[0])
        if 0 in shape:
            return cls(operation, ((0, 1, 1),), dtype.name, low, high)
        steps = [_steps(shape, *operand, dtype.itemsize) for operand in (a, b)]
        axes: list[tuple[int, int, int]] = []
        for size, *step in zip(shape, *steps, strict=True):
            if size == 1:
                continue
            if axes and [s * size for s in step] == list(axes[-1][1:]):
                axes[-1] = (axes[-1][0] * size, *step)
            else:
                axes.append((size, *step))
        return cls(operation, tuple(axes), dtype.name, low, high)

    @property
    def elements(self) -> int:
        return prod(size for size, _, _ in self.axes)


def _steps(shape, own_shape, strides, itemsize: int) -> list[int]:
    """Elements from one position to the next along every axis of the result."""
    missing = len(shape) - len(own_shape)
    own = [0 if size == 1 else stride // itemsize for size, stride in zip(own_shape, strides, strict=True)]
    return [0] * missing + own


class OnePass(Vectorised):
    """Reads both, computes and writes a vector at a time; `y` may be an operand of its shape."""

    def refusal(self, spec):
        *outer, (_, a, b) = spec.axes or ((1, 1, 1),)
        if len(outer) > OUTER_AXES:
            return f"the kernel has {OUTER_AXES + 1} loops, the operands need {len(spec.axes)}"
        if (a, b) not in ((1, 1), (1, 0), (0, 1)):
            return f"the innermost axis is contiguous in neither operand, with steps of {a} and {b} elements"
        return super().refusal(spec)

    def step(self, spec):
        kernels = family("binary", spec.dtype)
        *outer, (inner, a_inner, b_inner) = spec.axes or ((1, 1, 1),)
        outer = [(1, 0, 0)] * (OUTER_AXES - len(outer)) + outer
        rows = prod(size for size, _, _ in outer)
        chunks = ceil(inner / CHUNK_ELEMENTS)
        task_rows = max(1, CHUNK_ELEMENTS // (inner or 1))
        sizes = {
            "operation": kernels.OPERATIONS[spec.operation],
            "inner": inner,
            "a_inner": a_inner,
            "b_inner": b_inner,
            "chunk": CHUNK_ELEMENTS,
            "chunks": chunks,
            "task_rows": task_rows,
            "low": spec.low,
            "high": spec.high,
        }
        for i, (size, a, b) in enumerate(outer):
            sizes |= {f"size_{i}": size, f"a_{i}": a, f"b_{i}": b}
        return Step(
            kernels.KERNELS["binary"],
            sizes,
            inputs=2,
            tasks=rows * chunks if chunks != 1 else ceil(rows / task_rows),
            threads=thread_limit(spec, 1.5),
        )

    def roundings(self, spec):
        return 1


def _reference(spec, a, b):
    with np.errstate(all="ignore"):
        y = FUNCTIONS[spec.operation](a, b)
    return y if (spec.low, spec.high) == (-inf, inf) else np.clip(y, y.dtype.type(spec.low), y.dtype.type(spec.high))


BINARY = Op("binary arithmetic", (OnePass(), NumpyReference(_reference)))
