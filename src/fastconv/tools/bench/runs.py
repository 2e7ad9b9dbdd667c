"""The runs: kernels against kernels, layers and networks against peers, and what an engine costs besides.

Every run appends its rows to the results as soon as a problem is finished, so an interrupted run keeps them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import fastconv
from fastconv import roof
from fastconv.errors import ArgumentError
from fastconv.tools.bench.contest import Contender, contest
from fastconv.tools.bench.data import error_bound, exact_output, judge, make_arrays, mistrust
from fastconv.tools.bench.engines import Engine, is_installed
from fastconv.tools.bench.facts import distribution_version, installed_bytes
from fastconv.tools.bench.problem import Problem
from fastconv.tools.bench.process import EngineError, EngineProcess
from fastconv.tools.bench.progress import Progress
from fastconv.tools.bench.results import OWN, Results, Row

__all__ = ["Plan", "describe_engines", "measure_roofs", "run_kernels", "run_layers", "set_roof_shares"]

IMPORTS = 5
ROUNDING_ALGORITHMS = ("winograd", "fft")  # those whose sums are not exact even on whole numbers
IMPORT_SECONDS = "import numpy, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


@dataclass
class Plan:
    """What to measure.  `problems` maps each distinct problem to where it appears: (suite, layer, count)."""

    engines: list[Engine]
    threads: list[int]
    budget: float
    problems: dict[Problem, list[list]] = field(default_factory=dict)
    isas: list[str] = field(default_factory=lambda: [""])
    dtypes: list[str] = field(default_factory=lambda: ["float32"])
    algorithms: list[str] = field(default_factory=list)  # empty: all
    with_cold: bool = False

    def add(self, suite: str, problems: Iterable[Problem]) -> None:
        for problem in problems:
            alone = problem.replace(count=1, name="")
            self.problems.setdefault(alone, []).append([suite, problem.name, problem.count])


def measure_roofs(plan: Plan, results: Results) -> None:
    """Measure the machine's limits; of a limit measured before, perhaps in a disturbed moment, the larger stays."""
    for threads in plan.threads:
        measured = roof.measure(threads)
        for known in [limit for limit in results.roofs if limit["threads"] == threads]:
            measured = measured.larger(roof.Roof(**known))
            results.roofs.remove(known)
        results.roofs.append(vars(measured))


def set_roof_shares(results: Results) -> None:
    """Hold every timed row against the limits for its number of threads."""
    limits = {limit["threads"]: roof.Roof(**limit) for limit in results.roofs}
    for row in results.rows:
        if row.is_timed and row.flops + row.bytes and row.threads in limits:
            least = limits[row.threads].least_seconds(row.flops, row.bytes, row.dtype, row.isa)
            row.roof_share = least / row.median if least else None


def describe_engines(plan: Plan, results: Results) -> None:
    """Version, seconds to import beyond NumPy (median of a few fresh processes), bytes on disk without NumPy."""
    for engine in plan.engines:
        version = distribution_version(engine.distribution) or (fastconv.__version__ if engine.name == OWN else "")
        known = {"version": version, "import_seconds": None}
        if is_installed(engine):
            command = [sys.executable, "-c", IMPORT_SECONDS.format(engine.library)]
            runs = [subprocess.run(command, capture_output=True, text=True) for _ in range(IMPORTS)]
            if not any(run.returncode for run in runs):
                known["import_seconds"] = median(float(run.stdout.split()[-1]) for run in runs)
        results.engines[engine.name] = known | {"installed_bytes": installed_bytes(engine.distribution)}


def run_layers(plan: Plan, results: Results) -> None:
    """Every engine on every problem, with every number of threads; rows of kind ``layer``."""
    progress = Progress(len(plan.problems) * len(plan.engines) * len(plan.threads), plan.budget)
    with ExitStack() as stack:
        processes = _processes(stack, plan.engines, plan.threads, [""])
        for problem, appearances in plan.problems.items():
            progress.show(str(problem))
            rows = []
            contenders = []
            for engine in plan.engines:
                for threads in plan.threads:
                    row = _row("layer", problem, engine.name, threads, appearances)
                    rows.append(row)
                    process = processes[engine.name, threads, ""]
                    contenders.append(Contender(row, process, engine.variant, error_bound(problem, engine.growth)))
            _run_problem(problem, contenders, progress.seconds, plan.with_cold)
            results.rows += rows
            progress.advance(len(rows))
    progress.finish()


def run_kernels(plan: Plan, results: Results) -> None:
    """Every algorithm of fastconv that accepts the problem, per element type, instruction set and number of threads.

    Rows of kind ``kernel``; `engine` is the algorithm.  Those that refuse get a row with the reason.
    """
    (own,) = plan.engines
    problems = [(p.replace(dtype=dtype), where) for p, where in plan.problems.items() for dtype in plan.dtypes]
    progress = Progress(len(problems), plan.budget)
    with ExitStack() as stack:
        processes = _processes(stack, [own], plan.threads, plan.isas)
        _check_algorithms(plan, [problem for problem, _ in problems], next(iter(processes.values())))
        for problem, appearances in problems:
            progress.show(str(problem))
            rows: list[Row] = []
            contenders: list[Contender] = []
            for (_, threads, isa), process in processes.items():
                found = [
                    contender
                    for contender in _candidates(problem, process, isa, threads, appearances, own.growth)
                    if not plan.algorithms or contender.row.engine in plan.algorithms
                ]
                rows += [contender.row for contender in found]
                contenders += [contender for contender in found if contender.row.status == "ok"]
            summing = [c for c in contenders if c.variant not in ROUNDING_ALGORITHMS and problem.family != "avg_pool"]
            _check_integers(problem, summing)
            contenders = [contender for contender in contenders if contender.row.status == "ok"]
            _run_problem(problem, contenders, progress.seconds / max(len(contenders), 1), plan.with_cold)
            results.rows += rows
            progress.advance(1)
    progress.finish()


def _check_algorithms(plan: Plan, problems: list[Problem], process: EngineProcess) -> None:
    if not plan.algorithms:
        return
    known: dict[str, None] = {}
    for problem in problems:
        try:
            listed = process.ask("candidates", problem=str(problem))["candidates"]
        except EngineError:
            continue
        known |= {candidate["algorithm"]: None for candidate in listed}
    for name in plan.algorithms:
        if name not in known:
            raise ArgumentError(f"algorithms: {name!r} is none of {', '.join(known)}")


def _candidates(problem, process, isa, threads, appearances, growth) -> list[Contender]:
    """A contender per algorithm, those that refuse with the status already set."""
    try:
        listed = process.ask("candidates", problem=str(problem))["candidates"]
    except EngineError as error:
        row = _row("kernel", problem, "any", threads, appearances, isa)
        row.status, row.reason = error.status, str(error)
        return [Contender(row, process, "", 0.0)]
    accepted = [candidate for candidate in listed if not candidate["refusal"]]
    pick = min(accepted, key=lambda candidate: candidate["seconds"], default=None)
    contenders = []
    for candidate in listed:
        row = _row("kernel", problem, candidate["algorithm"], threads, appearances, isa)
        if candidate["refusal"]:
            row.status, row.reason = "refused", candidate["refusal"]
        else:
            row.scratch_bytes, row.predicted = candidate["scratch_bytes"], candidate["seconds"]
            row.picked = candidate is pick
        contenders.append(Contender(row, process, candidate["algorithm"], error_bound(problem, growth)))
    return contenders


def _check_integers(problem: Problem, contenders: list[Contender]) -> None:
    """Small whole numbers, for which every sum is exact, in whatever order: the outputs must be equal."""
    arrays = make_arrays(problem, "integer")
    exact = exact_output(problem, arrays)
    with _shared(arrays) as (folder, inputs):
        for contender in contenders:
            try:
                _prepare(contender, problem, inputs)
                contender.ask("check", output=str(folder / "output.npy"))
                contender.process.ask("drop")
            except EngineError as error:
                contender.fail(error)
                continue
            verdict = judge(np.load(folder / "output.npy"), exact, 0.0)
            if verdict.status != "ok":
                contender.row.status, contender.row.reason = "differs", f"on whole numbers: {verdict.reason}"


def _run_problem(problem: Problem, contenders: list[Contender], seconds: float, with_cold: bool) -> None:
    arrays = make_arrays(problem)
    exact = exact_output(problem, arrays)
    if distrust := mistrust(exact):
        for contender in contenders:
            contender.row.status, contender.row.reason = "mistrusted", distrust
        return
    with _shared(arrays) as (folder, inputs):
        contest(contenders, partial(_prepare, problem=problem, inputs=inputs), exact, folder, seconds, with_cold)


@contextmanager
def _shared(arrays: dict[str, np.ndarray]) -> Iterator[tuple[Path, Path]]:
    """A folder for outputs, and one in it with the arrays as files."""
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        inputs = Path(folder) / "inputs"
        inputs.mkdir()
        for name, array in arrays.items():
            np.save(inputs / f"{name}.npy", array)
        yield Path(folder), inputs


def _prepare(contender: Contender, problem: Problem, inputs: Path) -> dict:
    return contender.ask("layer", problem=str(problem), folder=str(inputs), threads=contender.row.threads)


def _processes(stack: ExitStack, engines, threads, isas) -> dict[tuple, EngineProcess]:
    processes = {(e.name, t, isa): EngineProcess(e, t, isa) for e in engines for t in threads for isa in isas}
    for process in processes.values():
        stack.callback(process.close)
    return processes


def _row(kind, problem: Problem, engine, threads, appearances, isa="") -> Row:
    return Row(
        kind, problem.line, engine, threads, problem.dtype, isa or None, appearances,
        flops=problem.flops, bytes=problem.bytes,
    )  # fmt: skip
