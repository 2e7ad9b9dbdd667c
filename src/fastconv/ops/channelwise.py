"""One set of numbers per channel: batch norm by given statistics, the statistics themselves, and PReLU."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv import reference
from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.arrays import is_channels_last
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.vectorised import MemorySpec, NumpyReference, Vectorised, constant, thread_limit

__all__ = ["BATCH_NORM", "MOMENTS", "PRELU", "ChannelSpec", "MomentSpec", "batch_norm", "moments", "prelu"]

CHUNK_ELEMENTS = 8192  # of one task, about
TAG_BYTES = 64  # before the scales in the scratch


@dataclass(frozen=True)
class ChannelSpec(MemorySpec):
    """An operation with numbers per channel on x (outer, channels, inner)."""

    outer: int
    channels: int
    inner: int
    dtype: str
    eps: float = 0.0
    relu: bool = False

    @property
    def elements(self) -> int:
        return self.outer * self.channels * self.inner


class OnePass(Vectorised):
    """Rows of one channel each; or, where the channels lie side by side, all channels of a position."""

    def __init__(self, operation: str, numbers: int):
        self.operation = operation
        self.numbers = numbers  # arrays of one value per channel

    def step(self, spec):
        kernels = family("normalization", spec.dtype)
        if spec.inner == 1:
            chunk, chunks = max(1, CHUNK_ELEMENTS // max(spec.channels, 1)), 1
            tasks = -(-spec.outer // chunk)
        else:
            chunk, chunks = CHUNK_ELEMENTS, -(-spec.inner // CHUNK_ELEMENTS)
            tasks = spec.outer * spec.channels * chunks
        return Step(
            kernels.KERNELS["per_channel"],
            {
                "operation": kernels.OPERATIONS[self.operation + ("_relu" if spec.relu else "")],
                "outer": spec.outer,
                "channels": spec.channels,
                "inner": spec.inner,
                "chunk": chunk,
                "chunks": chunks,
                "eps": spec.eps,
            },
            inputs=1 + self.numbers,
            tasks=tasks,
            scratch=self.scratch_bytes(spec),
            threads=thread_limit(spec, 1),
        )

    def scratch_bytes(self, spec):
        return TAG_BYTES + spec.channels * spec.itemsize

    def roundings(self, spec):
        return 6


def _batch_norm(spec, x, mean, var, weight, bias):
    y = reference.batch_norm(x, mean, var, weight, bias, spec.eps)
    return reference.relu(y) if spec.relu else y


BATCH_NORM = Op("batch norm", (OnePass("normalise", 4), NumpyReference(_batch_norm)))
PRELU = Op("PReLU", (OnePass("prelu", 1), NumpyReference(lambda spec, x, slope: reference.prelu(x, slope))))


def batch_norm(x, mean, var, weight, bias, eps: float, relu: bool = False) -> np.ndarray:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` per channel (axis 1), then `relu`; in the memory order of `x`.

    The statistics and, where they are given, `weight` and `bias` are contiguous (C,) of one element type.
    """
    x, y, sizes = _laid_out(x)
    _plan(BATCH_NORM, sizes, x.dtype.char, eps, relu)(
        y,
        x,
        mean,
        var,
        constant(sizes[1], x.dtype.char, 1) if weight is None else weight,
        constant(sizes[1], x.dtype.char, 0) if bias is None else bias,
    )
    return y


def prelu(x, slope) -> np.ndarray:
    """`x` where it is positive, else `x` times the slope of its channel (axis 1); `slope` is contiguous (C,)."""
    x, y, sizes = _laid_out(x)
    _plan(PRELU, sizes, x.dtype.char)(y, x, slope)
    return y


def _laid_out(x):
    """`x` and an empty result in a memory order that the kernels know, and their sizes (outer, channels, inner)."""
    shape = x.shape
    if x.flags.c_contiguous:
        return x, np.empty(shape, x.dtype), (shape[0], shape[1], prod(shape[2:]))
    if is_channels_last(x):
        return x, np.empty_like(x), (shape[0] * prod(shape[2:]), shape[1], 1)
    return np.ascontiguousarray(x), np.empty(shape, x.dtype), (shape[0], shape[1], prod(shape[2:]))


@plan_cache
def _plan(op: Op, sizes: tuple[int, int, int], char: str, eps: float = 0.0, relu: bool = False):
    spec = ChannelSpec(*sizes, np.dtype(char).name, eps, relu)
    return op.choose(spec).plan(spec)


@dataclass(frozen=True)
class MomentSpec(MemorySpec):
    """Mean and variance of every channel of x (images, channels, inner)."""

    images: int
    channels: int
    inner: int
    dtype: str

    @property
    def elements(self) -> int:
        return self.images * self.channels * self.inner


class TwoPasses(Vectorised):
    """The mean, then the squares of the differences from it; one task per channel."""

    passes = 2

    def step(self, spec):
        return Step(
            family("normalization", spec.dtype).KERNELS["moments"],
            {"images": spec.images, "channels": spec.channels, "inner": spec.inner},
            outputs=2,
            tasks=spec.channels,
            threads=thread_limit(spec, 2),
        )

    def roundings(self, spec):
        return 2 * spec.images * spec.inner + 2


class MomentReference(NumpyReference):
    """Two results at once."""

    def plan(self, spec):
        def run(mean, var, x):
            _, mean[...], var[...] = reference.batch_norm_training(x.reshape(spec.images, spec.channels, spec.inner))

        return run


MOMENTS = Op("moments", (TwoPasses(), MomentReference(reference.batch_norm_training)))


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance (C,) of every channel (axis 1) of `x`, in the type that sums of `x` are formed in."""
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    images, channels, inner = x.shape[0], x.shape[1], prod(x.shape[2:])
    if inner == 1:  # the values of a channel lie a row apart: turned, they lie side by side
        x = x.reshape(images, channels).T
        images, inner = 1, images
    mean, var = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    _moments_plan(images, channels, inner, x.dtype.char)(mean, var, np.ascontiguousarray(x))
    return mean, var


@plan_cache
def _moments_plan(images: int, channels: int, inner: int, char: str):
    spec = MomentSpec(images, channels, inner, np.dtype(char).name)
    return MOMENTS.choose(spec).plan(spec)
