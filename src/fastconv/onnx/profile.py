"""Where the time of a run goes: every step timed, and held against the machine's measured limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from time import perf_counter

import numpy as np

from fastconv import _kernels
from fastconv.graph.memory import Tensor
from fastconv.onnx.compiled import Compiled, side_by_side
from fastconv.onnx.explain import StepPlan, describe, planned_steps
from fastconv.onnx.report import Column, Report, seconds_text, shapes_text
from fastconv.onnx.steps import aligned_bytes, bound
from fastconv.roof import Roof, measure

__all__ = ["Profile", "StepTime", "profile"]


@dataclass(frozen=True)
class StepTime:
    """One step as it was measured.

    `seconds` is the median, `share` its part of all steps.  `gflops` counts the operations of the direct method, `gbps`
    the bytes of arguments and result.  `roof_share` is the least time that the machine's limits allow for the operations of
    the algorithm and those bytes, divided by the time taken.  They are None where nothing is known.
    """

    index: int
    op: str
    nodes: list[str]
    output: tuple[int, ...]
    algorithm: str
    seconds: float
    share: float
    gflops: float | None
    gbps: float | None
    roof_share: float | None
    predicted: float | None


class Profile(Report):
    """The steps as they were measured, a :class:`StepTime` each."""

    title = "The time of every step"
    columns = (
        Column("step", lambda row: str(row.index)),
        Column("op", lambda row: row.op, False),
        Column("nodes", lambda row: ", ".join(row.nodes), False),
        Column("output", lambda row: shapes_text([row.output]), False),
        Column("algorithm", lambda row: row.algorithm, False),
        Column("time", lambda row: seconds_text(row.seconds)),
        Column("share", lambda row: f"{row.share:.1%}"),
        Column("GFLOP/s", lambda row: "-" if row.gflops is None else f"{row.gflops:.1f}"),
        Column("GB/s", lambda row: "-" if row.gbps is None else f"{row.gbps:.1f}"),
        Column("of roof", lambda row: "-" if row.roof_share is None else f"{row.roof_share:.0%}"),
        Column("predicted", lambda row: seconds_text(row.predicted)),
    )

    def bar(self, row):
        return row.seconds

    def note(self, row):
        return f"{seconds_text(row.seconds)}, {row.share:.1%} of all steps"


def profile(
    compiled: Compiled, feeds: dict, origins: dict, precision: str, repeats: int, summary: dict, limit: Callable
) -> Profile:
    """Run the steps `repeats` times, in the memory and the order of a run, and as often without looking.

    ``limit()`` is the context of one run, with what it may take.
    """
    plans = planned_steps(compiled, origins, precision)
    times, outside, whole = [[] for _ in plans], {}, []
    steps, static = _bound_calls(compiled, feeds)

    def observe(node, inputs, results, seconds):
        outside.setdefault(node, []).append((seconds, results))

    for _ in range(repeats):
        start = perf_counter()
        with limit():
            compiled.run(feeds)
        whole.append(perf_counter() - start)
        for i, step in enumerate(steps):
            start = perf_counter()
            step()
            times[i].append(perf_counter() - start)
        with limit():
            compiled.run_rest(feeds, static(), observe)
    seconds = [median(t) for t in times]
    seconds += [sum(s for s, _ in runs) / repeats for runs in outside.values()]
    total = sum(seconds) or 1.0
    threads = _kernels.team.get_threads()
    roof = machine_roof(threads)
    rows = [_row(plan, s, s / total, roof) for plan, s in zip(plans, seconds, strict=False)]
    for (node, runs), s in zip(outside.items(), seconds[len(plans) :], strict=True):
        label, names = describe(node, origins)
        shape = next((r.shape for r in runs[-1][1] if isinstance(r, np.ndarray)), ())
        rows.append(StepTime(len(rows), label, names, shape, "node by node", s, s / total, None, None, None, None))
    peak = roof.peak("float32", _kernels.ISA)
    summary = summary | {
        "a run": f"{seconds_text(median(whole))}, median of {repeats}; the steps alone {seconds_text(sum(seconds))}",
        "machine": f"{peak:.0f} GFLOP/s in float32 on {threads} threads ({_kernels.ISA}), "
        + ", ".join(f"{rate:.0f} GB/s from {level}" for level, rate in roof.read_gbps.items()),
    }
    return Profile(rows, summary)


@lru_cache
def machine_roof(threads: int) -> Roof:
    """The limits of the instruction set in use, measured once in about two seconds."""
    return measure(threads, [_kernels.ISA])


def _bound_calls(compiled: Compiled, feeds: dict):
    """The program's calls on one arena, and a function that tells the values it hands on."""
    executable = compiled.executable
    arena = aligned_bytes(executable.arena_bytes)
    arrays = side_by_side(feeds)
    for name, value in zip(executable.direct, executable.outputs, strict=True):
        if name:
            arrays[name] = np.empty(value.shape, value.dtype)

    def view(value):
        return value.view(arena, arrays) if isinstance(value, Tensor) else value

    steps = [bound(call, view) for call in executable.calls]
    return steps, lambda: {
        name: view(value) for name, value in zip(compiled.handed_on, executable.outputs, strict=True)
    }


def _row(plan: StepPlan, seconds: float, share: float, roof: Roof) -> StepTime:
    gflops = plan.flops / seconds / 1e9 if plan.flops else None
    gbps = plan.bytes / seconds / 1e9 if plan.bytes else None
    least = roof.least_seconds(plan.algorithm_flops or 0, plan.bytes or 0, plan.dtype, _kernels.ISA)
    return StepTime(
        plan.index,
        plan.op,
        plan.nodes,
        plan.outputs[0] if plan.outputs else (),
        plan.algorithm,
        seconds,
        share,
        gflops,
        gbps,
        least / seconds if least else None,
        plan.seconds,
    )
