"""Normalisation of rows by their own statistics, and by neighbouring channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv import reference
from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.vectorised import MemorySpec, NumpyReference, Vectorised, constant, thread_limit

__all__ = [
    "COLUMN_NORM",
    "LOCAL_RESPONSE",
    "ROW_NORM",
    "ColumnSpec",
    "ResponseSpec",
    "RowSpec",
    "local_response_norm",
    "row_norm",
]


@dataclass(frozen=True)
class RowSpec(MemorySpec):
    """Rows (outer, groups) of (channels, inner), each normalised by its own statistics.

    Weight and bias are (groups * channels,).  Uncentred rows keep their mean and are divided by the root of their mean
    square.
    """

    outer: int
    groups: int
    channels: int
    inner: int
    dtype: str
    eps: float
    centred: bool = True

    @property
    def elements(self) -> int:
        return self.outer * self.groups * self.channels * self.inner


class ThreePasses(Vectorised):
    """Mean, variance and result of a row while it is in the cache."""

    passes = 3

    def step(self, spec):
        return Step(
            family("normalization", spec.dtype).KERNELS["normalise_rows"],
            {
                "groups": spec.groups,
                "channels": spec.channels,
                "inner": spec.inner,
                "centred": spec.centred,
                "eps": spec.eps,
            },
            inputs=3,
            tasks=spec.outer * spec.groups,
            threads=thread_limit(spec, 2),
        )

    def roundings(self, spec):
        return 2 * spec.channels * spec.inner + 8


def _row_norm(spec, x, weight, bias):
    rows = x.reshape(spec.outer, spec.groups * spec.channels, spec.inner)
    if spec.centred:
        return reference.group_norm(rows, spec.groups, weight, bias, spec.eps).reshape(x.shape)
    return reference.rms_norm(rows[..., 0], rows.shape[1], weight, spec.eps).reshape(x.shape)


ROW_NORM = Op("row norm", (ThreePasses(), NumpyReference(_row_norm)))


def row_norm(x, groups: int, channels: int, inner: int, weight, bias, eps: float, centred: bool = True) -> np.ndarray:
    """`x`, read as rows (outer, groups) of (channels, inner), with every row normalised; the shape of `x` stays.

    `weight` and `bias` are contiguous, of groups * channels values of one element type, or None.
    """
    y = np.empty(x.shape, x.dtype)
    char = x.dtype.char
    _row_plan(x.size // (groups * channels * inner), groups, channels, inner, char, eps, centred)(
        y,
        x if x.flags.c_contiguous else np.ascontiguousarray(x),
        constant(groups * channels, char, 1) if weight is None else weight,
        constant(groups * channels, char, 0) if bias is None else bias,
    )
    return y


@plan_cache
def _row_plan(outer: int, groups: int, channels: int, inner: int, char: str, eps: float, centred: bool):
    spec = RowSpec(outer, groups, channels, inner, np.dtype(char).name, eps, centred)
    return ROW_NORM.choose(spec).plan(spec)


@dataclass(frozen=True)
class ColumnSpec(MemorySpec):
    """x (outer, channels, inner), whose channels are normalised at each position; weight and bias are (channels,)."""

    outer: int
    channels: int
    inner: int
    dtype: str
    eps: float

    @property
    def elements(self) -> int:
        return self.outer * self.channels * self.inner


class Strips(Vectorised):
    """Mean, variance and result of neighbouring positions while their channels are in the cache."""

    passes = 3

    def step(self, spec):
        kernels = family("normalization", spec.dtype)
        strips = -(-spec.inner // kernels.COLUMN_STRIP)
        return Step(
            kernels.KERNELS["normalise_columns"],
            {"channels": spec.channels, "inner": spec.inner, "strips": strips, "eps": spec.eps},
            inputs=3,
            tasks=spec.outer * strips,
            threads=thread_limit(spec, 2),
        )

    def roundings(self, spec):
        return 2 * spec.channels + 8


def _column_norm(spec, x, weight, bias):
    columns = x.reshape(spec.outer, spec.channels, spec.inner).swapaxes(1, 2)
    return reference.layer_norm(columns, spec.channels, weight, bias, spec.eps).swapaxes(1, 2).reshape(x.shape)


COLUMN_NORM = Op("column norm", (Strips(), NumpyReference(_column_norm)))


@dataclass(frozen=True)
class ResponseSpec(MemorySpec):
    """Local response norm over `size` neighbours among the channels of x (images, channels, inner)."""

    images: int
    channels: int
    inner: int
    size: int
    alpha: float
    beta: float
    k: float
    dtype: str

    @property
    def elements(self) -> int:
        return self.images * self.channels * self.inner


class Windows(Vectorised):
    """Strips of positions with all their channels: what a window reads is in the cache."""

    passes = 3

    def step(self, spec):
        kernels = family("normalization", spec.dtype)
        strips = -(-spec.inner // kernels.STRIP_ELEMENTS)
        return Step(
            kernels.KERNELS["local_response"],
            {
                "channels": spec.channels,
                "inner": spec.inner,
                "strips": strips,
                "before": spec.size // 2,
                "after": (spec.size - 1) // 2,
                "power": kernels.POWERS.get(spec.beta, kernels.GENERAL_POWER),
                "alpha": spec.alpha / spec.size,
                "beta": spec.beta,
                "k": spec.k,
            },
            tasks=spec.images * strips,
            threads=thread_limit(spec, 3),
        )

    def roundings(self, spec):
        return spec.size + 8


def _response(spec, x):
    sizes = spec.images, spec.channels, spec.inner
    return reference.local_response_norm(x.reshape(sizes), spec.size, spec.alpha, spec.beta, spec.k).reshape(x.shape)


LOCAL_RESPONSE = Op("local response norm", (Windows(), NumpyReference(_response)))


def local_response_norm(x, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """``x / (k + alpha / size * sum of squares) ** beta`` over `size` neighbouring channels of `x` (N, C, ...)."""
    y = np.empty(x.shape, x.dtype)
    plan = _response_plan(x.shape[0], x.shape[1], prod(x.shape[2:]), size, alpha, beta, k, x.dtype.char)
    plan(y, x if x.flags.c_contiguous else np.ascontiguousarray(x))
    return y


@plan_cache
def _response_plan(images, channels, inner, size, alpha, beta, k, char: str):
    spec = ResponseSpec(images, channels, inner, size, alpha, beta, k, np.dtype(char).name)
    return LOCAL_RESPONSE.choose(spec).plan(spec)
