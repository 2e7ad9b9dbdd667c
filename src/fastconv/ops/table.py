"""What a row of the op table is, and how one is chosen.

An operation has a *spec*: a frozen, hashable value with every fact that a decision may depend on.  Its rows are the
algorithms that can compute it, in order of preference; the last is the NumPy reference, so there is always an answer.
Dispatch, ``fastconv.algorithms``, tests and benchmarks all iterate the rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from fastconv._kernels import recent
from fastconv.errors import ArgumentError

__all__ = ["KERNEL_ELEMENTS", "Algorithm", "Candidate", "Compiled", "Op", "forget_plans", "plan_cache"]

KERNEL_ELEMENTS = ("float32", "float64")

Spec = TypeVar("Spec")

_caches = []


def plan_cache(function):
    """Remember the plans that `function` makes, by its arguments."""
    _caches.append(lru_cache(maxsize=4096)(function))
    return _caches[-1]


def forget_plans() -> None:
    """Drop every remembered plan, and the tables it holds."""
    for cached in _caches:
        cached.cache_clear()
    recent.forget_recent()


class Algorithm(ABC, Generic[Spec]):
    """One way to compute an operation."""

    name: str
    automatic = True  # may be chosen without being named

    def refusal(self, spec: Spec) -> str:
        """The sentence that says why this algorithm cannot compute `spec`; empty where it can."""
        return ""

    @abstractmethod
    def plan(self, spec: Spec):
        """Decide everything that `spec` lets one decide; the result only runs.

        Where there are weights, a plan has ``pack(w, b)`` and a ``layout``: what the packed form depends on beside the
        weights, or None where ``pack`` returns the arrays themselves.
        """

    @abstractmethod
    def seconds(self, spec: Spec) -> float:
        """Predicted time of one call on one thread, for comparing algorithms with each other."""

    def pack_seconds(self, spec: Spec) -> float:
        """Predicted time of packing the weights, which a layer does once and a function on every call."""
        return 0.0

    def flops(self, spec: Spec) -> int:
        """Multiplications and additions that this algorithm does."""
        return spec.flops

    def scratch_bytes(self, spec: Spec) -> int:
        """Bytes that a call needs beside its arguments, packed weights and result, on one thread."""
        return 0

    def error_bound(self, spec: Spec) -> float:
        """Largest possible error of an output element, as a multiple of its magnitude; the op says what that is."""
        return 0.0

    def errors(self, spec: Spec, *arrays):
        """Largest possible error of each output element for these arrays; None where `error_bound` is all one knows."""
        return None


class Compiled(Algorithm[Spec]):
    """What compiled algorithms have in common: the element types they take, float16 by way of float32."""

    elements = (*KERNEL_ELEMENTS, "float16")

    def refusal(self, spec):
        if spec.dtype not in self.elements:
            return f"the kernels compute {' and '.join(KERNEL_ELEMENTS)}, the input is {spec.dtype}"
        return ""


@dataclass(frozen=True)
class Candidate:
    """One algorithm's answer to a spec.

    `seconds` and `scratch_bytes` are for one thread; `bytes` are those of arguments and result; `error_bound` is the
    largest possible error of an output element as a multiple of its magnitude (for a convolution or linear layer:
    max|x| · Σ|w|).  `refusal` is empty where the algorithm accepts, and the numbers are None where it refuses.  An algorithm
    that is not `automatic` is taken by name, and in sessions of fast precision.
    """

    algorithm: str
    refusal: str
    seconds: float | None = None
    flops: int | None = None
    bytes: int | None = None
    scratch_bytes: int | None = None
    error_bound: float | None = None
    automatic: bool = True

    def __str__(self):
        if self.refusal:
            return f"{self.algorithm:10} refused: {self.refusal}"
        return (
            f"{self.algorithm:10} {self.seconds * 1e3:9.3f} ms predicted, {self.flops / 1e6:.1f} MFLOP, "
            f"{self.bytes / 1e6:.2f} MB, scratch {self.scratch_bytes / 1024:.0f} KiB, "
            f"error <= {self.error_bound:.1e} of the magnitude" + ("" if self.automatic else ", by name alone")
        )


@dataclass(frozen=True)
class Op(Generic[Spec]):
    """An operation's name and its rows."""

    name: str
    rows: Sequence[Algorithm[Spec]]

    def candidates(self, spec: Spec) -> list[Candidate]:
        """Every row's answer, the accepted ones first, fastest first by prediction."""
        answers = [
            Candidate(row.name, refusal)
            if (refusal := row.refusal(spec))
            else Candidate(
                row.name,
                "",
                row.seconds(spec),
                row.flops(spec),
                spec.bytes,
                row.scratch_bytes(spec),
                row.error_bound(spec),
                row.automatic,
            )
            for row in self.rows
        ]
        return sorted(answers, key=lambda answer: float("inf") if answer.seconds is None else answer.seconds)

    def choose(self, spec: Spec, algorithm: str = "auto", packed: bool = True) -> Algorithm[Spec]:
        """The named row, or the one predicted fastest; ArgumentError for an unknown name and for a refusal.

        With `packed` False the weights are packed for this call alone, and that time counts.
        """
        if algorithm == "auto":
            accepted = [row for row in self.rows if row.automatic and not row.refusal(spec)]
            return min(accepted, key=lambda row: row.seconds(spec) + (0 if packed else row.pack_seconds(spec)))
        for row in self.rows:
            if row.name == algorithm:
                if refusal := row.refusal(spec):
                    raise ArgumentError(f"algorithm: {algorithm!r} refuses this {self.name}: {refusal}")
                return row
        known = ", ".join(repr(row.name) for row in self.rows)
        raise ArgumentError(f"algorithm: expected 'auto' or one of {known} for {self.name}, got {algorithm!r}")
