"""Whole networks from ONNX files: load time, first run, steady run and peak memory of every engine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from fastconv.tools.bench.contest import Contender, contest
from fastconv.tools.bench.data import mistrust
from fastconv.tools.bench.engines import ENGINES, Engine
from fastconv.tools.bench.facts import available_memory
from fastconv.tools.bench.networks import batched_file, network_feeds, network_file
from fastconv.tools.bench.process import EngineError, EngineProcess
from fastconv.tools.bench.progress import Progress
from fastconv.tools.bench.results import Results, Row
from fastconv.tools.bench.runs import Plan, started

__all__ = ["run_networks"]

BOUND = 1e-4  # of the largest output: a network's rounding errors, Winograd's included
MOST_SECONDS = 3.0  # of an engine's timing
START_SECONDS, BYTE_RATE = 1.6, 0.08e9  # of an engine beside its timing: at least, and bytes of the file per second
LEAST_STARTS, MOST_STARTS = 3, 9  # fresh processes in which an engine loads the network and runs it once
STARTS_SHARE = 0.3  # of an engine's time, unless the least take more
ENOUGH_SECONDS = 5.0  # after which of all engines' starts even the least need not be made
MEMORY_PER_WEIGHT_BYTE = 4  # what an engine takes at its peak, roughly: the file, the weights, their packed copy


def run_networks(names: list[str], plan: Plan, seconds: float, results: Results) -> None:
    """Every engine on every network, in about `seconds`; rows of kind ``network``.

    What a start takes is the median of several fresh processes.  The outputs are compared with those of torch in float64,
    or without torch with the first engine's.
    """
    end = time.monotonic() + seconds
    count = len(plan.engines) * len(plan.threads)
    paths = {name: network_file(name) for name in names}
    costs = [count * (START_SECONDS + _size(path) / BYTE_RATE) for path in paths.values()]
    progress = Progress([(cost, count) for cost in costs], end - time.monotonic(), MOST_SECONDS)
    for name, path in paths.items():
        problem = name if plan.batch == 1 else f"{name}, {plan.batch} images"
        progress.show(problem)
        with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as temporary:
            folder = Path(temporary)
            path = batched_file(path, plan.batch, folder)
            feeds = {}
            for number, (value, array) in enumerate(network_feeds(path).items()):
                feeds[value] = str(folder / f"feed{number}.npy")
                np.save(feeds[value], array)
            files, exact = _convert_all(plan.engines, path, feeds, folder)
            share = progress.seconds
            for threads in plan.threads:
                rows = [Row("network", problem, engine.name, threads) for engine in plan.engines]
                progress.show(f"{problem}, {'1 thread' if threads == 1 else f'{threads} threads'}")
                _run_network(rows, plan, files, feeds, exact, folder, share)
                results.rows += rows
            progress.advance(share)
    progress.finish()


def _run_network(rows, plan: Plan, files, feeds, exact, folder: Path, seconds: float) -> None:
    def prepare(contender: Contender) -> dict:
        path = files[contender.process.engine.module]
        if isinstance(path, EngineError):
            raise path
        return contender.ask("network", path=path, feeds=feeds, threads=contender.row.threads)

    if exact is not None and (distrust := mistrust(exact)):
        for row in rows:
            row.status, row.reason = "mistrusted", distrust
        return
    everyone = list(zip(rows, plan.engines, strict=True))
    for group in [everyone] if _fit_together(files.values(), len(rows)) else [[one] for one in everyone]:
        contenders = [Contender(row, EngineProcess(e, row.threads), e.variant, BOUND) for row, e in group]
        with ExitStack() as stack:
            started(stack, [contender.process for contender in contenders])
            starts = _measure_starts(contenders, files, feeds, STARTS_SHARE * seconds)
            contest(contenders, prepare, exact, folder, (1 - STARTS_SHARE) * seconds, plan.with_cold)
        for contender, answers in zip(contenders, starts, strict=True):
            if answers and contender.row.is_timed:
                contender.row.starts = len(answers)
                for name in answers[0]:
                    setattr(contender.row, name, median(answer[name] for answer in answers))


def _measure_starts(contenders: list[Contender], files, feeds, seconds: float) -> list[list[dict]]:
    """By contender, what a start took in each of some fresh processes; all engines in turn, in about `seconds` for each.

    How long the system takes to find memory changes from minute to minute, by a multiple: single starts say little.
    """
    answers: list[list[dict]] = [[] for _ in contenders]
    able = {i for i, one in enumerate(contenders) if isinstance(files[one.process.engine.module], str)}
    begin = time.monotonic()
    for turn in range(MOST_STARTS):
        taken = time.monotonic() - begin
        late = turn > 0 and taken * (turn + 1) > seconds * len(contenders) * turn
        if late and (turn >= LEAST_STARTS or taken > ENOUGH_SECONDS):
            break
        for i in sorted(able, key=lambda i: (i - turn) % len(contenders)):
            contender = contenders[i]
            path = files[contender.process.engine.module]
            try:
                answers[i].append(contender.ask("start", path=path, feeds=feeds, threads=contender.row.threads))
            except EngineError:  # the contest tells the reason
                able.discard(i)
                answers[i] = []
    return answers


def _convert_all(engines: list[Engine], path: Path, feeds, folder: Path) -> tuple[dict, np.ndarray | None]:
    """Every engine's own form of the file by module (or its error), and the exact output; as many at a time as fit."""
    torch = ENGINES["torch"]
    modules = {engine.module: engine for engine in (torch, *engines)}
    together = _fit_together([str(path)], len(modules))
    with ThreadPoolExecutor((os.cpu_count() or 1) if together else 1) as pool:
        files = {torch.module: pool.submit(_convert, torch, path, folder)}
        exact = pool.submit(lambda: _exact_output(files[torch.module].result(), feeds, folder))
        files |= {
            module: pool.submit(_convert, engine, path, folder)
            for module, engine in modules.items()
            if module not in files
        }
        try:
            return {module: file.result() for module, file in files.items()}, exact.result()
        except BaseException:  # Ctrl-C waits for what is under way, and for no more
            pool.shutdown(cancel_futures=True)
            raise


def _convert(engine: Engine, path: Path, folder: Path) -> str | EngineError:
    """The engine's own form of the file, made in a process of its own so that its memory is not the engine's."""
    if not engine.converts:
        return str(path)
    target = folder / engine.name
    target.mkdir()
    process = EngineProcess(engine, 1)
    try:
        return process.ask("convert", path=str(path), folder=str(target))["path"]
    except EngineError as error:
        return error
    finally:
        process.close()


def _exact_output(path: str | EngineError, feeds: dict[str, str], folder: Path) -> np.ndarray | None:
    """The output in float64 by torch; None without torch."""
    torch = ENGINES["torch"]
    process = EngineProcess(torch, os.cpu_count() or 1)
    output = folder / "exact.npy"
    try:
        if isinstance(path, EngineError):
            return None
        threads = process.threads
        process.ask("network", path=path, feeds=feeds, threads=threads, variant="float64")
        process.ask("check", variant="float64", output=str(output))
        return np.load(output)
    except EngineError:
        return None
    finally:
        process.close()


def _fit_together(files: Iterable, count: int) -> bool:
    """Whether `count` engines can hold the network at once in three quarters of the memory that is available."""
    largest = max((_size(Path(path)) for path in files if isinstance(path, str)), default=0)
    available = available_memory()
    return available is not None and largest * MEMORY_PER_WEIGHT_BYTE * count < available * 3 // 4


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
