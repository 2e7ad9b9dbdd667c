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

from fastconv.errors import ArgumentError

__all__ = ["Algorithm", "Candidate", "Op", "forget_plans", "plan_cache"]

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


class Algorithm(ABC, Generic[Spec]):
    """One way to compute an operation."""

    name: str

    def refusal(self, spec: Spec) -> str:
        """The sentence that says why this algorithm cannot compute `spec`; empty where it can."""
        return ""

    @abstractmethod
    def plan(self, spec: Spec):
        """Decide everything that `spec` lets one decide; the result only runs."""

    @abstractmethod
    def seconds(self, spec: Spec) -> float:
        """Predicted time of one call on one thread, for comparing algorithms with each other."""

    def scratch_bytes(self, spec: Spec) -> int:
        """Bytes that a call needs beside its arguments, packed weights and result, on one thread."""
        return 0


@dataclass(frozen=True)
class Candidate:
    """One algorithm's answer to a spec, as ``fastconv.algorithms`` lists it."""

    algorithm: str
    refusal: str
    seconds: float
    scratch_bytes: int

    def __str__(self):
        if self.refusal:
            return f"{self.algorithm:10} refused: {self.refusal}"
        return f"{self.algorithm:10} {self.seconds * 1e3:9.3f} ms predicted, {self.scratch_bytes / 1024:8.1f} KiB scratch"


@dataclass(frozen=True)
class Op(Generic[Spec]):
    """An operation's name and its rows."""

    name: str
    rows: Sequence[Algorithm[Spec]]

    def candidates(self, spec: Spec) -> list[Candidate]:
        listed = []
        for row in self.rows:
            if refusal := row.refusal(spec):
                listed.append(Candidate(row.name, refusal, float("inf"), 0))
            else:
                listed.append(Candidate(row.name, "", row.seconds(spec), row.scratch_bytes(spec)))
        return listed

    def choose(self, spec: Spec, algorithm: str = "auto") -> Algorithm[Spec]:
        """The named row, or the one predicted fastest; ArgumentError for an unknown name and for a refusal."""
        if algorithm == "auto":
            accepted = [row for row in self.rows if not row.refusal(spec)]
            return min(accepted, key=lambda row: row.seconds(spec))
        for row in self.rows:
            if row.name == algorithm:
                if refusal := row.refusal(spec):
                    raise ArgumentError(f"algorithm: {algorithm!r} refuses this {self.name}: {refusal}")
                return row
        known = ", ".join(repr(row.name) for row in self.rows)
        raise ArgumentError(f"algorithm: expected 'auto' or one of {known} for {self.name}, got {algorithm!r}")
