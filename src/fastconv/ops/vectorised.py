"""What the operations that are bound by memory have in common: one vectorised kernel, and the NumPy reference.

Their plans are called ``plan(y, x, …)``: arrays of the spec's shapes, side by side in memory, in one memory order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fastconv.ops.cost import CACHE_BYTES_PER_SECOND, sum_error
from fastconv.ops.table import Algorithm, Compiled

__all__ = ["MemorySpec", "NumpyReference", "Vectorised", "constant", "thread_limit"]

THREAD_BYTES = 200_000  # of memory traffic that keep a thread busy for as long as another takes to wake up
REFERENCE_SLOWNESS = 30


class MemorySpec:
    """An operation that reads and writes so many elements of one type."""

    dtype: str
    elements: int

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Read and written."""
        return 2 * self.elements * self.itemsize


def thread_limit(spec: MemorySpec, cost: float) -> int:
    """The most threads worth waking where an element costs `cost` times what its memory traffic does."""
    return 1 + int(spec.bytes * cost) // THREAD_BYTES


class Vectorised(Compiled):
    """A vector at a time; float16 is computed in float32."""

    name = "direct"
    passes = 1  # over memory

    def plan(self, spec):
        return HalfPlan(self.step(replace(spec, dtype="float32"))) if spec.dtype == "float16" else self.step(spec)

    @abstractmethod
    def step(self, spec) -> Callable:
        """The kernel bound to the sizes of `spec`, which is float32 or float64."""

    @abstractmethod
    def roundings(self, spec) -> int:
        """How many roundings reach one result, one after the other."""

    def flops(self, spec):
        return self.passes * spec.elements

    def seconds(self, spec):
        return 1e-6 + self.passes * spec.bytes / CACHE_BYTES_PER_SECOND

    def error_bound(self, spec):
        return sum_error(self.roundings(spec), spec.dtype)


class HalfPlan:
    def __init__(self, wide: Callable):
        self.wide = wide

    def __call__(self, y, *inputs):
        wide = np.empty_like(y, np.float32)
        self.wide(wide, *(array.astype(np.float32) for array in inputs))
        with np.errstate(over="ignore"):
            y[...] = wide


class NumpyReference(Algorithm):
    """The specification, in NumPy: any element type.  ``function(spec, x, …)`` is the result."""

    name = "reference"

    def __init__(self, function: Callable):
        self.function = function

    def plan(self, spec):
        def run(y, *inputs):
            y[...] = self.function(spec, *inputs)

        return run

    def flops(self, spec):
        return spec.elements

    def seconds(self, spec):
        return 1e-5 + REFERENCE_SLOWNESS * spec.bytes / CACHE_BYTES_PER_SECOND

    def scratch_bytes(self, spec):
        return 2 * spec.bytes


@lru_cache(maxsize=256)
def constant(elements: int, char: str, value: int) -> np.ndarray:
    """An array of one value, for a weight or bias that is not there; not to be written."""
    return np.full(elements, value, char)
