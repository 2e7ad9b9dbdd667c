"""Resampling of the spatial axes: its spec, and the algorithms that compute it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv import reference
from fastconv._kernels import family
from fastconv._kernels.engine import Step
from fastconv.ops.table import Op, plan_cache
from fastconv.ops.vectorised import MemorySpec, NumpyReference, Vectorised, thread_limit
from fastconv.reference.resize import axis_taps

__all__ = ["RESAMPLE", "ResampleSpec", "resample"]

CHUNK_ELEMENTS = 16_384  # of one task's output, about


@dataclass(frozen=True)
class ResampleSpec(MemorySpec):
    """`planes` arrays of `sizes` resampled to `outputs`; `factors` are the scales that were asked for, if any."""

    planes: int
    sizes: tuple[int, ...]
    outputs: tuple[int, ...]
    dtype: str
    mode: str = "nearest"
    factors: tuple[float, ...] | None = None
    align_corners: bool = False
    antialias: bool = False

    @property
    def elements(self) -> int:
        return self.planes * max(prod(self.sizes), prod(self.outputs))

    def taps(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per axis the input positions and their weights, both (output, taps)."""
        scales = (None,) * len(self.sizes) if self.factors is None else [1 / factor for factor in self.factors]
        return [
            axis_taps(*axis, self.mode, self.align_corners, self.antialias, len(self.sizes))
            for axis in zip(self.sizes, self.outputs, scales, strict=True)
        ]


class RowsThenColumns(Vectorised):
    """Each output row adds up input rows, then columns."""

    name = "direct"
    passes = 3

    def refusal(self, spec):
        if spec.mode == "area":
            return "an area is an average over a window, not a sum with one set of weights per axis"
        if max(spec.sizes) >= 2**31:
            return "its tables hold positions below 2^31"
        return super().refusal(spec)

    def step(self, spec):
        offsets, row_weights = row_taps(spec)
        columns, column_weights = spec.taps()[-1]
        out_columns = spec.outputs[-1]
        chunk_rows = max(1, CHUNK_ELEMENTS // out_columns)
        chunks = -(-len(offsets) // chunk_rows)
        return Step(
            family("resample", spec.dtype).KERNELS["resample"],
            {
                "in_plane": prod(spec.sizes),
                "in_columns": spec.sizes[-1],
                "out_rows": len(offsets),
                "out_columns": out_columns,
                "row_taps": offsets.shape[1],
                "column_taps": columns.shape[1],
                "chunk_rows": chunk_rows,
                "chunks": chunks,
            },
            constants=(
                offsets,
                np.ascontiguousarray(row_weights, spec.dtype),
                np.ascontiguousarray(columns.T, np.int32),
                np.ascontiguousarray(column_weights.T, spec.dtype),
            ),
            tasks=spec.planes * chunks,
            scratch=self.scratch_bytes(spec),
            threads=thread_limit(spec, 2),
        )

    def scratch_bytes(self, spec):
        return spec.sizes[-1] * spec.itemsize

    def roundings(self, spec):
        return 2 * sum(weights.shape[1] for _, weights in spec.taps())


def row_taps(spec: ResampleSpec) -> tuple[np.ndarray, np.ndarray]:
    """Where the input rows begin that every output row adds up, and their weights, both (output rows, taps)."""
    offsets, weights = np.zeros((1, 1), np.int64), np.ones((1, 1))
    for size, (positions, axis_weights) in zip(spec.sizes[:-1], spec.taps()[:-1], strict=True):
        rows, taps = len(offsets) * len(positions), offsets.shape[1] * positions.shape[1]
        offsets = (offsets[:, None, :, None] * size + positions[:, None, :]).reshape(rows, taps)
        weights = (weights[:, None, :, None] * axis_weights[:, None, :]).reshape(rows, taps)
    return offsets * spec.sizes[-1], weights


def _reference(spec, x):
    scaled = spec.factors is not None
    return reference.interpolate(
        x,
        size=None if scaled else spec.outputs,
        scale_factor=spec.factors,
        mode=spec.mode,
        align_corners=spec.align_corners,
        antialias=spec.antialias,
    )


RESAMPLE = Op("resampling", (RowsThenColumns(), NumpyReference(_reference)))


def resample(x, outputs, factors, mode: str, align_corners: bool, antialias: bool) -> np.ndarray:
    """`x` (N, C, *spatial) resampled to `outputs`; `factors` are the scales that were asked for, or None."""
    y = np.empty((*x.shape[:2], *outputs), x.dtype)
    plan = _plan(x.shape, outputs, x.dtype.char, mode, factors, align_corners, antialias)
    plan(y, x if x.flags.c_contiguous else np.ascontiguousarray(x))
    return y


@plan_cache
def _plan(shape, outputs, char, mode, factors, align_corners, antialias):
    spec = ResampleSpec(
        shape[0] * shape[1], shape[2:], outputs, np.dtype(char).name, mode, factors, align_corners, antialias
    )
    return RESAMPLE.choose(spec).plan(spec)
