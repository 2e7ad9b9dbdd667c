"""Softmax and log-softmax along one axis: their spec, and the algorithms that compute them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv import reference
from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.vectorised import MemorySpec, NumpyReference, Vectorised, thread_limit

__all__ = ["SOFTMAX", "SoftmaxSpec", "softmax"]


@dataclass(frozen=True)
class SoftmaxSpec(MemorySpec):
    """Softmax along the middle axis of (outer, length, inner), or with `logarithm` its logarithm."""

    outer: int
    length: int
    inner: int
    dtype: str
    logarithm: bool = False

    @property
    def elements(self) -> int:
        return self.outer * self.length * self.inner


class ThreePasses(Vectorised):
    """Rows, or strips of neighbouring rows, while they are in the cache."""

    passes = 3

    def step(self, spec):
        kernels = family("softmax", spec.dtype)
        strips = 1 if spec.inner == 1 else -(-spec.inner // kernels.STRIP_ELEMENTS)
        return Step(
            kernels.KERNELS["softmax"],
            {"length": spec.length, "inner": spec.inner, "strips": strips, "logarithm": spec.logarithm},
            tasks=spec.outer * strips,
            scratch=self.scratch_bytes(spec),
            threads=thread_limit(spec, 4),
        )

    def scratch_bytes(self, spec):
        strip = family("softmax", "float32").STRIP_ELEMENTS
        return 0 if spec.inner == 1 else 2 * strip * spec.itemsize

    def roundings(self, spec):
        return spec.length + 8


def _reference(spec, x):
    function = reference.log_softmax if spec.logarithm else reference.softmax
    return function(x.reshape(spec.outer, spec.length, spec.inner), 1).reshape(x.shape)


SOFTMAX = Op("softmax", (ThreePasses(), NumpyReference(_reference)))


def softmax(x: np.ndarray, axis: int, logarithm: bool = False) -> np.ndarray:
    """Softmax of `x` along `axis`, which counts from the front; the result is C-contiguous."""
    y = np.empty(x.shape, x.dtype)
    _plan(x.shape, axis, x.dtype.char, logarithm)(y, x if x.flags.c_contiguous else np.ascontiguousarray(x))
    return y


@plan_cache
def _plan(shape: tuple[int, ...], axis: int, char: str, logarithm: bool):
    sizes = prod(shape[:axis]), prod(shape[axis : axis + 1]), prod(shape[axis + 1 :])
    spec = SoftmaxSpec(*sizes, np.dtype(char).name, logarithm)
    return SOFTMAX.choose(spec).plan(spec)
