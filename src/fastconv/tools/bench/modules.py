"""Layers called alone against torch's: convolutions, max pooling, and batch norm of what the convolutions return."""

from __future__ import annotations

from collections.abc import Iterable

from fastconv.tools.bench.problem import Problem, parse_problem
from fastconv.tools.bench.results import OWN, Row
from fastconv.tools.bench.tables import (
    Table,
    best_peer,
    geometric_mean,
    ratio_text,
    rows_by_problem,
    speed_ratio,
    thread_text,
)

__all__ = ["PEER", "TIMES_FASTER", "module_problems", "module_tables", "slow_module_pairs"]

PEER = "torch"
TIMES_FASTER = {"max_pool2d": 10.0}  # what a module is held to; others to be faster at all
FAMILIES = {"conv": "Conv", "conv_transpose": "ConvTranspose", "batch_norm": "BatchNorm", "max_pool": "MaxPool"}
NORMALISED = ("conv", "conv_transpose")


def module_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Those whose modules are compared, and a batch norm after every convolution among them, each once."""
    found: dict[str, Problem] = {}
    for problem in problems:
        if problem.family not in FAMILIES:
            continue
        found.setdefault(problem.line, problem)
        if problem.family in NORMALISED:
            norm = _norm_after(problem)
            found.setdefault(norm.line, norm)
    return list(found.values())


def module_tables(rows: list[Row], threads: int) -> list[Table]:
    """A line per kind of module with its ratios to torch; then every module that falls short."""
    by_problem = rows_by_problem(rows)
    kinds: dict[str, dict[str, float]] = {}
    for problem, engines in by_problem.items():
        if ratio := speed_ratio(engines):
            kinds.setdefault(_module_name(problem), {})[problem] = ratio
    lines = []
    for name, ratios in kinds.items():
        least = min(ratios, key=ratios.__getitem__)
        under = sum(ratio < 1 for ratio in ratios.values())
        short = sum(ratio < _wanted(problem) for problem, ratio in ratios.items())
        mean = geometric_mean(ratios.values())
        lines.append([
            name, str(len(ratios)), ratio_text(mean), ratio_text(ratios[least]), str(under), str(short), least,
        ])  # fmt: skip
    summary = Table(
        f"Modules called alone: time of torch's over fastconv's, {thread_text(threads)}",
        ["module", "shapes", "geometric mean", "least", "under 1", "short of aim", "shape with the least"],
        lines,
        [
            f"Above 1, fastconv is faster; the aim is {TIMES_FASTER['max_pool2d']:g} for MaxPool2d, and 1 for all others."
        ],
        words=6,
    )
    return [summary, _slow_table(by_problem, threads)]


def slow_module_pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """fastconv's rows that fall short of what they are held to, each with torch's."""
    return [
        (engines[OWN], best_peer(engines))
        for threads in {row.threads for row in rows if row.kind == "module"}
        for problem, engines in rows_by_problem(_of(rows, threads)).items()
        if (ratio := speed_ratio(engines)) and ratio < _wanted(problem)
    ]


def _of(rows: list[Row], threads: int) -> list[Row]:
    return [row for row in rows if row.kind == "module" and row.threads == threads]


def _slow_table(by_problem: dict[str, dict[str, Row]], threads: int) -> Table:
    ratios = {problem: ratio for problem, engines in by_problem.items() if (ratio := speed_ratio(engines))}
    lines = [
        [
            problem, f"{by_problem[problem][OWN].median * 1e6:.1f}", f"{best_peer(by_problem[problem]).median * 1e6:.1f}",
            ratio_text(ratios[problem]), f"{by_problem[problem][OWN].spread:.0%}",
        ]
        for problem in sorted(ratios, key=ratios.__getitem__) if ratios[problem] < _wanted(problem)
    ]  # fmt: skip
    columns = ["module", "fastconv µs", "torch µs", "×", "spread"]
    return Table(f"Modules short of their aim, {thread_text(threads)}", columns, lines, [] if lines else ["none"])


def _norm_after(problem: Problem) -> Problem:
    sizes = "x".join(map(str, problem.output))
    words = (f"batch_norm{problem.rank}d", sizes, "f64" * (problem.dtype == "float64"), problem.layout)
    return parse_problem(" ".join(words)).replace(count=problem.count, name=problem.name)


def _module_name(line: str) -> str:
    problem = parse_problem(line)
    return f"{FAMILIES[problem.family]}{problem.rank}d"


def _wanted(line: str) -> float:
    return TIMES_FASTER.get(parse_problem(line).op, 1.0)
