"""The runs: kernels against kernels, layers against peers, and what an engine costs besides.

Every run appends its rows to the results as soon as a problem is finished, so an interrupted run keeps them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from statistics import median

import numpy as np

import fastconv
from fastconv import roof
from fastconv.errors import ArgumentError
from fastconv.tools.bench.aims import AUTO, DENORMAL, Aim, Timed, aims_of, missed, set_aims
from fastconv.tools.bench.contest import Contender, contest
from fastconv.tools.bench.data import error_bound, exact_output, judge, make_arrays, mistrust
from fastconv.tools.bench.engines import Engine, is_installed
from fastconv.tools.bench.facts import distribution_version, installed_bytes, package_bytes
from fastconv.tools.bench.modules import slow_module_pairs
from fastconv.tools.bench.picks import slow_pairs
from fastconv.tools.bench.problem import Problem, parse_problem
from fastconv.tools.bench.process import EngineError, EngineProcess
from fastconv.tools.bench.progress import Progress
from fastconv.tools.bench.results import OWN, Results, Row

__all__ = [
    "Plan",
    "describe_engines",
    "measure_roofs",
    "repeat_slow_modules",
    "repeat_slow_picks",
    "run_aims",
    "run_kernels",
    "run_layers",
    "set_roof_shares",
    "started",
]

IMPORTS = 5
MOST_SECONDS = 1.0  # of a contender's timing
# What a problem takes beside its timing: multiply-adds per second of the reference; per contender: seconds at least,
# operations per second of the calls that come before the timing or have to be finished, and bytes per second.
REFERENCE_RATE, CALL_SECONDS, FIRST_RATE, BYTE_RATE = 10e9, 0.015, 10e9, 0.2e9
ALGORITHMS = 4  # of a problem, about
HOPELESS = 3.0  # times slower than the fastest algorithm: one round of timing is enough
REPEATS, REPEAT_SECONDS, LEAST_REPEAT_SECONDS = 3, 0.5, 0.1  # of what looks slow
ROUNDING_ALGORITHMS = ("winograd", "fft")  # those whose sums are not exact even on whole numbers
DIVIDING = ("avg_pool", "batch_norm")  # families that divide: whole numbers do not stay whole
IMPORT_SECONDS = "import numpy, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


@dataclass
class Plan:
    """What to measure.  `problems` maps each distinct problem to where it appears: (suite, layer, count)."""

    engines: list[Engine]
    threads: list[int]
    problems: dict[Problem, list[list]] = field(default_factory=dict)
    isas: list[str] = field(default_factory=lambda: [""])
    dtypes: list[str] = field(default_factory=lambda: ["float32"])
    algorithms: list[str] = field(default_factory=list)  # empty: all
    with_cold: bool = False
    batch: int = 1  # images of a run of a network

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
    seconds: dict[str, float | None] = {}
    for engine in plan.engines:
        version = distribution_version(engine.distribution) or (fastconv.__version__ if engine.name == OWN else "")
        if engine.library not in seconds:
            seconds[engine.library] = _import_seconds(engine.library) if is_installed(engine) else None
        size = installed_bytes(engine.distribution)
        if size is None and engine.name == OWN:
            size = package_bytes(Path(fastconv.__file__).parent)
        known = {"version": version, "import_seconds": seconds[engine.library], "installed_bytes": size}
        results.engines[engine.name] = known


def _import_seconds(library: str) -> float | None:
    command = [sys.executable, "-c", IMPORT_SECONDS.format(library)]
    runs = [subprocess.run(command, capture_output=True, text=True) for _ in range(IMPORTS)]
    if any(run.returncode for run in runs):
        return None
    return median(float(run.stdout.split()[-1]) for run in runs)


def run_layers(plan: Plan, seconds: float, results: Results, kind: str = "layer") -> None:
    """Every engine on every problem, with every number of threads, in about `seconds`; rows of the `kind`."""
    end = time.monotonic() + seconds
    count = len(plan.engines) * len(plan.threads)
    with ExitStack() as stack:
        processes = _processes(stack, plan.engines, plan.threads, [""])
        progress = Progress([(_cost(p, count), count) for p in plan.problems], end - time.monotonic(), MOST_SECONDS)
        for problem, appearances in plan.problems.items():
            progress.show(str(problem))
            rows = []
            contenders = []
            for engine in plan.engines:
                for threads in plan.threads:
                    row = _row(kind, problem, engine.name, threads, appearances)
                    rows.append(row)
                    process = processes[engine.name, threads, ""]
                    contenders.append(Contender(row, process, engine.variant, error_bound(problem, engine.growth)))
            share = progress.seconds
            _run_problem(problem, contenders, share, plan.with_cold)
            results.rows += rows
            progress.advance(share)
    progress.finish()


def run_kernels(plan: Plan, seconds: float, results: Results) -> None:
    """Every algorithm of fastconv that accepts the problem, per element type, instruction set and number of threads.

    Rows of kind ``kernel``; `engine` is the algorithm.  Those that refuse get a row with the reason.
    """
    (own,) = plan.engines
    problems = [(p.replace(dtype=dtype), where) for p, where in plan.problems.items() for dtype in plan.dtypes]
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        processes = _processes(stack, [own], plan.threads, plan.isas)
        count = ALGORITHMS * len(processes)
        progress = Progress([(_cost(p, count), count) for p, _ in problems], end - time.monotonic(), MOST_SECONDS)
        _check_algorithms(plan, [problem for problem, _ in problems], next(iter(processes.values())))
        for problem, appearances in problems:
            progress.show(str(problem))
            rows: list[Row] = []
            contenders: list[Contender] = []
            for (_, threads, isa), process in processes.items():
                found = [
                    contender
                    for contender in _candidates(problem, process, isa, threads, appearances, own)
                    if not plan.algorithms or contender.row.engine in plan.algorithms
                ]
                rows += [contender.row for contender in found]
                contenders += [contender for contender in found if contender.row.status == "ok"]
            summing = [c for c in contenders if c.variant not in ROUNDING_ALGORITHMS and problem.family not in DIVIDING]
            _check_integers(problem, summing)
            contenders = [contender for contender in contenders if contender.row.status == "ok"]
            share = progress.seconds
            _run_problem(problem, contenders, share, plan.with_cold, HOPELESS)
            results.rows += rows
            progress.advance(share)
    progress.finish()


def run_aims(plan: Plan, seconds: float, results: Results) -> None:
    """Time what the aims compare, in about `seconds`, and hold it against them; what is missed is timed again."""
    (own,) = plan.engines
    end = time.monotonic() + seconds
    aims = wanted = aims_of(plan.isas, plan.dtypes, plan.threads)
    with ExitStack() as stack:
        processes = _processes(stack, [own], plan.threads, plan.isas)
        for turn in range(1 + REPEATS):
            left = end - time.monotonic()
            if wanted and (not turn or left > 0):
                _time_aims(wanted, own, processes, left / (2 if turn < REPEATS else 1), results)
                measure_roofs(plan, results)
                set_aims(results, aims)
                wanted = missed(results, aims)


def _time_aims(aims: list[Aim], own: Engine, processes: dict, seconds: float, results: Results) -> None:
    """Time every row of the `aims` once, those of one problem in turn; of rows timed before the fastest time stays."""
    groups: dict[tuple[str, str], dict[Timed, None]] = {}
    for timed in (timed for aim in aims for timed in aim.rows()):
        kind = "denormal" if timed.engine == DENORMAL else "float"
        groups.setdefault((timed.problem, kind), {})[timed] = None
    costs = [(_cost(parse_problem(line), len(group)), len(group)) for (line, _), group in groups.items()]
    progress = Progress(costs, seconds, MOST_SECONDS)
    known = {row.key: row for row in results.rows}
    for (line, kind), group in groups.items():
        progress.show(line)
        problem = parse_problem(line)
        contenders = []
        for timed in group:
            row = _row("aim", problem, timed.engine, timed.threads, [], timed.isa)
            variant = AUTO if timed.engine == DENORMAL else timed.engine
            process = processes[own.name, timed.threads, timed.isa]
            contenders.append(Contender(row, process, variant, error_bound(problem, own.growth_of(variant))))
        share = progress.seconds
        _run_problem(problem, contenders, share, with_cold=False, kind=kind)
        for row in (contender.row for contender in contenders):
            earlier = known.get(row.key)
            if earlier is None or (row.is_timed and not (earlier.is_timed and earlier.minimum <= row.minimum)):
                results.rows = [other for other in results.rows if other is not earlier] + [row]
        progress.advance(share)
    progress.finish()


def repeat_slow_picks(plan: Plan, seconds: float, results: Results) -> None:
    """Time picks that look slow again, each with the fastest algorithm alone: what is slow afterwards was so every time.

    In about `seconds`, or what three short repetitions take.
    """
    (own,) = plan.engines
    _repeat(seconds, partial(slow_pairs, results.rows), lambda row: (own, row.engine))


def repeat_slow_modules(plan: Plan, seconds: float, results: Results) -> None:
    """The same for modules that look slow, each with torch's alone."""
    engines = {engine.name: engine for engine in plan.engines}
    _repeat(
        seconds,
        partial(slow_module_pairs, results.rows),
        lambda row: (engines[row.engine], engines[row.engine].variant),
    )


def _repeat(seconds: float, find_slow: Callable, engine_of: Callable[[Row], tuple[Engine, str]]) -> None:
    """Time the pairs of rows that `find_slow` returns again; `engine_of` a row are its engine and variant."""
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        processes: dict[tuple, EngineProcess] = {}
        for turn in range(REPEATS):
            slow = find_slow()
            for number, pair in enumerate(slow):
                contenders = []
                for row in pair:
                    engine, variant = engine_of(row)
                    key = engine.name, row.threads, row.isa or ""
                    if key not in processes:
                        processes[key] = EngineProcess(engine, *key[1:])
                        started(stack, [processes[key]])
                    contenders.append(Contender(row, processes[key], variant, row.bound))
                left = end - time.monotonic()
                share = left / (2 * (len(slow) * (REPEATS - turn) - number))
                share = max(min(share, REPEAT_SECONDS), LEAST_REPEAT_SECONDS)
                _run_problem(parse_problem(pair[0].problem), contenders, share, with_cold=False)


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


def _candidates(problem, process, isa, threads, appearances, own: Engine) -> list[Contender]:
    """A contender per algorithm, those that refuse with the status already set."""
    try:
        listed = process.ask("candidates", problem=str(problem))["candidates"]
    except EngineError as error:
        row = _row("kernel", problem, "any", threads, appearances, isa)
        row.status, row.reason = error.status, str(error)
        return [Contender(row, process, "", 0.0)]
    accepted = [candidate for candidate in listed if not candidate["refusal"] and candidate["automatic"]]
    pick = min(accepted, key=lambda candidate: candidate["seconds"], default=None)
    contenders = []
    for candidate in listed:
        row = _row("kernel", problem, candidate["algorithm"], threads, appearances, isa)
        if candidate["refusal"]:
            row.status, row.reason = "refused", candidate["refusal"]
        else:
            row.scratch_bytes, row.predicted = candidate["scratch_bytes"], candidate["seconds"]
            row.picked = candidate is pick if candidate["automatic"] else None
        bound = error_bound(problem, own.growth_of(candidate["algorithm"]))
        contenders.append(Contender(row, process, candidate["algorithm"], bound))
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


def _run_problem(
    problem: Problem,
    contenders: list[Contender],
    seconds: float,
    with_cold: bool,
    hopeless: float = inf,
    kind: str = "float",
) -> None:
    arrays = make_arrays(problem, kind)
    exact = exact_output(problem, arrays)
    if distrust := mistrust(exact):
        for contender in contenders:
            contender.row.status, contender.row.reason = "mistrusted", distrust
        return
    with _shared(arrays) as (folder, inputs):
        contest(
            contenders, partial(_prepare, problem=problem, inputs=inputs), exact, folder, seconds, with_cold, hopeless
        )


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
    """Running processes by engine, number of threads and instruction set, until the stack is left."""
    processes = {(e.name, t, isa): EngineProcess(e, t, isa) for e in engines for t in threads for isa in isas}
    started(stack, processes.values())
    return processes


def started(stack: ExitStack, processes: Iterable[EngineProcess]) -> None:
    """Start the processes all at once, to be closed with the stack, and wait until each has imported its library."""
    for process in processes:
        stack.callback(process.close)
        process.start()
    for process in processes:
        with suppress(EngineError):  # which the first request meets again
            process.ask("memory")


def _cost(problem: Problem, contenders: int) -> float:
    """About the seconds that a problem takes beside its timing: the exact result, and each contender's first call."""
    return problem.macs / REFERENCE_RATE + contenders * (
        CALL_SECONDS + problem.flops / FIRST_RATE + problem.bytes / BYTE_RATE
    )


def _row(kind, problem: Problem, engine, threads, appearances, isa="") -> Row:
    return Row(
        kind, problem.line, engine, threads, problem.dtype, isa or None, appearances,
        flops=problem.flops, bytes=problem.bytes,
    )  # fmt: skip
