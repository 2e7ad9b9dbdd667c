"""Engines on the same work: each compared with the exact result, then all timed in turn, round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from fastconv.tools.bench.data import judge
from fastconv.tools.bench.process import EngineError, EngineProcess
from fastconv.tools.bench.results import Row
from fastconv.tools.bench.timing import Timing

__all__ = ["ROUNDS", "Contender", "contest"]

ROUNDS = 5


@dataclass
class Contender:
    """An engine's process, the row that its result goes into, and the error it is allowed."""

    row: Row
    process: EngineProcess
    variant: str
    bound: float

    def ask(self, do: str, **arguments) -> dict:
        return self.process.ask(do, variant=self.variant, **arguments)

    def fail(self, error: EngineError) -> None:
        self.row.status, self.row.reason = error.status, str(error)
        self.row.median = self.row.minimum = self.row.spread = self.row.cold = None


def contest(
    contenders: list[Contender],
    prepare: Callable[[Contender], dict],
    exact: np.ndarray | None,
    folder: Path,
    seconds: float,
    with_cold: bool = False,
    hopeless: float = inf,
) -> None:
    """Fill in the contenders' rows.  What fails or differs is not timed, and keeps nobody else from being timed.

    `prepare` asks a contender's process for the work and returns its answer; `exact` is the expected output, or None
    to take the first contender's; `seconds` is the time for each, all rounds together.  Who is `hopeless` times slower
    than the fastest is timed in one round only.
    """
    timed = []
    for contender in contenders:
        try:
            output = _first_output(contender, prepare, folder)
        except EngineError as error:
            contender.fail(error)
            continue
        exact = output if exact is None else exact
        verdict = judge(output, exact, contender.bound)
        row = contender.row
        row.status, row.reason, row.error, row.bound = verdict.status, verdict.reason, verdict.error, contender.bound
        if verdict.status != "differs":
            timed.append((contender, Timing()))
    for turn in range(ROUNDS):
        for contender, timing in timed[turn % len(timed) :] + timed[: turn % len(timed)] if timed else ():
            fastest = min((other.median for _, other in timed if other.rounds), default=inf)
            if not timing.rounds or timing.median < hopeless * fastest:
                _time_round(contender, timing, seconds / ROUNDS)
    for contender, timing in timed:
        if contender.row.status in ("ok", "inexact"):
            contender.row.set_timing(timing)
            _finish(contender, seconds / ROUNDS if with_cold else 0.0)
    for contender in contenders:
        _release(contender)


def _first_output(contender: Contender, prepare, folder: Path) -> np.ndarray:
    contender.row.load = prepare(contender)["load"]
    file = folder / "output.npy"
    contender.row.first_run = contender.ask("check", output=str(file))["first_run"]
    return np.load(file)


def _time_round(contender: Contender, timing: Timing, seconds: float) -> None:
    if contender.row.status not in ("ok", "inexact"):
        return
    try:
        timing.rounds.append(contender.ask("time", seconds=seconds)["samples"])
    except EngineError as error:
        contender.fail(error)


def _finish(contender: Contender, cold_seconds: float) -> None:
    try:
        if cold_seconds:
            contender.row.cold = contender.ask("time_cold", seconds=cold_seconds)["median"]
        contender.row.peak_bytes = contender.process.ask("memory")["peak_bytes"]
    except EngineError as error:
        contender.fail(error)


def _release(contender: Contender) -> None:
    try:
        contender.process.ask("drop")
    except EngineError as error:
        contender.fail(error)
