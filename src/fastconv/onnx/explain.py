"""What a session will do and why: the algorithm of every step, and what the others would have cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastconv._kernels.engine import Step
from fastconv.graph.ir import Node
from fastconv.graph.lower import Call, arrival_seconds
from fastconv.onnx.compiled import Compiled
from fastconv.onnx.report import Column, Report, bytes_text, seconds_text, shapes_text
from fastconv.ops.table import Candidate, Op

__all__ = ["Explanation", "StepPlan", "explain", "planned_steps"]

WITHOUT_KERNEL = {
    "numpy": "no kernel computes this operator with these inputs; NumPy does",
    "copy": "a part of the result is computed elsewhere, or read by others, and is copied into its place",
}


@dataclass(frozen=True)
class StepPlan:
    """One step of a program, or a node outside of it.

    `flops` are multiplications and additions of the direct method, `algorithm_flops` those of the algorithm that was chosen,
    `bytes` those of arguments and result, `scratch_bytes` of each thread; `seconds` is the prediction for one thread.
    They are None where nothing is predicted.  `candidates` are the op table's answers, the fastest first.
    """

    index: int
    op: str
    nodes: list[str]
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    dtype: str
    algorithm: str
    why: str
    refused: dict[str, str] = field(default_factory=dict)
    flops: int | None = None
    algorithm_flops: int | None = None
    bytes: int | None = None
    scratch_bytes: int | None = None
    seconds: float | None = None
    candidates: list[Candidate] = field(default_factory=list)


class Explanation(Report):
    """The steps as they are planned, a :class:`StepPlan` each."""

    title = "The plan of every step"
    columns = (
        Column("step", lambda row: str(row.index)),
        Column("op", lambda row: row.op, False),
        Column("nodes", lambda row: ", ".join(row.nodes), False),
        Column("inputs", lambda row: shapes_text(row.inputs[:1]), False),
        Column("output", lambda row: shapes_text(row.outputs), False),
        Column("algorithm", lambda row: row.algorithm, False),
        Column("predicted", lambda row: seconds_text(row.seconds)),
        Column("MFLOP", lambda row: "-" if row.flops is None else f"{row.flops / 1e6:.2f}"),
        Column("bytes", lambda row: bytes_text(row.bytes)),
        Column("scratch", lambda row: bytes_text(row.scratch_bytes)),
        Column("why", lambda row: row.why, False),
    )

    def bar(self, row):
        return row.seconds

    def note(self, row):
        refusals = "; ".join(f"{name} refused: {reason}" for name, reason in row.refused.items())
        return f"{row.why}. {refusals}" if refusals else row.why

    def __str__(self):
        reasons: dict[str, list[int]] = {}
        for row in self.rows:
            for name, reason in row.refused.items():
                reasons.setdefault(f"{name} refused: {reason}", []).append(row.index)
        lines = [f"{text} (step {', '.join(map(str, steps))})" for text, steps in reasons.items()]
        return "\n".join([super().__str__(), *lines])


def explain(compiled: Compiled, origins: dict[Node, list[Node]], precision: str, summary: dict) -> Explanation:
    """The explanation of a compiled graph; `origins` tells which nodes of the file a node stands for."""
    rows = planned_steps(compiled, origins, precision)
    for node, reason in compiled.dynamic.items():
        label, names = describe(node, origins)
        rows.append(StepPlan(len(rows), label, names, [], [], "", "node by node", f"it {reason}"))
    count = {name: sum(row.algorithm == name for row in rows) for name in sorted({row.algorithm for row in rows})}
    summary = summary | {
        "steps": f"{len(rows)} (" + ", ".join(f"{n} {name}" for name, n in count.items()) + ")",
        "work": f"{sum(row.flops or 0 for row in rows) / 1e9:.3f} GFLOP by direct sums, "
        f"{sum(row.algorithm_flops or 0 for row in rows) / 1e9:.3f} GFLOP by the algorithms chosen",
        "predicted": f"{seconds_text(sum(row.seconds or 0.0 for row in rows))} on one thread, steps with a prediction",
    }
    return Explanation(rows, summary)


def planned_steps(compiled: Compiled, origins: dict[Node, list[Node]], precision: str) -> list[StepPlan]:
    return [_step(i, call, origins, precision) for i, call in enumerate(compiled.executable.calls)]


def describe(node: Node, origins: dict[Node, list[Node]]) -> tuple[str, list[str]]:
    """The operators that a node stands for, and the names of those nodes, or of their results where they have none."""
    nodes = origins.get(node.original or node, [node])
    return "+".join(n.op_type for n in nodes), [n.name or next(filter(None, n.outputs), "") for n in nodes]


def _step(index: int, call: Call, origins, precision: str) -> StepPlan:
    label, names = describe(call.node, origins)
    arrays = [value for value in call.inputs if value is not None]
    shapes = [tuple(value.shape) for value in arrays], [tuple(value.shape) for value in call.outputs]
    dtype = call.outputs[0].dtype.name if call.outputs else ""
    if call.detail is None:
        moved = sum(int(np.prod(v.shape)) * v.dtype.itemsize for v in (*arrays, *call.outputs))
        scratch = call.work.scratch if isinstance(call.work, Step) else None
        why = WITHOUT_KERNEL.get(call.algorithm, "the only way there is")
        return StepPlan(index, label, names, *shapes, dtype, call.algorithm, why, bytes=moved, scratch_bytes=scratch)
    op, spec = call.detail
    candidates = op.candidates(spec)
    chosen = next((c for c in candidates if c.algorithm == call.algorithm), None)
    return StepPlan(
        index,
        label,
        names,
        *shapes,
        dtype,
        call.algorithm,
        _why(call.algorithm, candidates, precision, op, spec),
        {c.algorithm: c.refusal for c in candidates if c.refusal},
        spec.flops if hasattr(spec, "flops") else chosen and chosen.flops,
        chosen and chosen.flops,
        chosen and chosen.bytes,
        call.work.scratch if isinstance(call.work, Step) else chosen and chosen.scratch_bytes,
        chosen and chosen.seconds,
        candidates,
    )


def _why(chosen: str, candidates: list[Candidate], precision: str, op: Op, spec) -> str:
    """How the chosen algorithm's prediction compares with those of the others that can compute the step."""
    accepted = {c.algorithm: c.seconds for c in candidates if not c.refusal}
    if chosen not in accepted:
        return "the lowering's own way"
    others = {name: seconds / accepted[chosen] for name, seconds in accepted.items() if name != chosen}
    if not others:
        return "the only algorithm that can"
    text = ", ".join(f"{name} {ratio:.3g}×" for name, ratio in others.items())
    faster = [name for name, ratio in others.items() if ratio < 1]
    if not faster:
        return f"fastest; {text}"
    if precision == "strict":
        return f"strict rules out {', '.join(faster)}; {text}"
    rows = {row.name: row for row in op.rows if row.name in accepted}
    if precision == "default":
        larger, faster = faster, [name for name in faster if rows[name].automatic]
        if not faster:
            return f"default rules out {', '.join(larger)}; {text}"
    total = {name: accepted[name] + arrival_seconds(row, spec) for name, row in rows.items()}
    outweighed = [name for name in faster if total[name] > total[chosen]]
    if outweighed == faster:
        return f"the packed weights of {', '.join(faster)} take longer to come from memory; {text}"
    return f"sessions leave out {', '.join(faster)}; {text}"
