"""Whole networks from ONNX files: load time, first run, steady run and peak memory of every engine."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fastconv.tools.bench.contest import Contender, contest
from fastconv.tools.bench.data import mistrust
from fastconv.tools.bench.engines import ENGINES, Engine
from fastconv.tools.bench.facts import available_memory
from fastconv.tools.bench.networks import network_feeds, network_file
from fastconv.tools.bench.process import EngineError, EngineProcess
from fastconv.tools.bench.progress import Progress
from fastconv.tools.bench.results import Results, Row
from fastconv.tools.bench.runs import Plan

__all__ = ["run_networks"]

BOUND = 1e-4  # of the largest output: a network's rounding errors, Winograd's included
MEMORY_PER_WEIGHT_BYTE = 4  # what an engine takes at its peak, roughly: the file, the weights, their packed copy


def run_networks(names: list[str], plan: Plan, results: Results) -> None:
    """Every engine on every network; rows of kind ``network``, whose `first_run` and `load` are of a fresh process.

    The outputs are compared with those of torch in float64, or without torch with the first engine's.
    """
    progress = Progress(len(names) * len(plan.engines) * len(plan.threads), plan.budget)
    for name in names:
        progress.show(name)
        path = network_file(name)
        with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as temporary:
            folder = Path(temporary)
            feeds = {}
            for number, (value, array) in enumerate(network_feeds(path).items()):
                feeds[value] = str(folder / f"feed{number}.npy")
                np.save(feeds[value], array)
            modules = {engine.module: engine for engine in (*plan.engines, ENGINES["torch"])}
            files = {module: _convert(engine, path, folder) for module, engine in modules.items()}
            exact = _exact_output(files, feeds, folder)
            for threads in plan.threads:
                rows = [Row("network", name, engine.name, threads) for engine in plan.engines]
                _run_network(rows, plan, files, feeds, exact, folder, progress)
                results.rows += rows
                progress.advance(len(rows))
    progress.finish()


def _run_network(rows, plan: Plan, files, feeds, exact, folder: Path, progress: Progress) -> None:
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
    for group in [everyone] if _fit_together(files, len(rows)) else [[one] for one in everyone]:
        with ExitStack() as stack:
            contenders = []
            for row, engine in group:
                progress.show(f"{row.problem}, {'1 thread' if row.threads == 1 else f'{row.threads} threads'}")
                process = EngineProcess(engine, row.threads)
                stack.callback(process.close)
                contenders.append(Contender(row, process, engine.variant, BOUND))
            contest(contenders, prepare, exact, folder, progress.seconds, plan.with_cold)


def _convert(engine: Engine, path: Path, folder: Path) -> str | EngineError:
    """The engine's own form of the file, made in a process of its own so that its memory is not the engine's."""
    target = folder / engine.name
    target.mkdir()
    process = EngineProcess(engine, 1)
    try:
        return process.ask("convert", path=str(path), folder=str(target))["path"]
    except EngineError as error:
        return error
    finally:
        process.close()


def _exact_output(files: dict, feeds: dict[str, str], folder: Path) -> np.ndarray | None:
    """The output in float64 by torch; None without torch."""
    torch = ENGINES["torch"]
    process = EngineProcess(torch, os.cpu_count() or 1)
    output = folder / "exact.npy"
    try:
        if isinstance(files[torch.module], EngineError):
            return None
        path, threads = files[torch.module], process.threads
        process.ask("network", path=path, feeds=feeds, threads=threads, variant="float64")
        process.ask("check", variant="float64", output=str(output))
        return np.load(output)
    except EngineError:
        return None
    finally:
        process.close()


def _fit_together(files: dict, count: int) -> bool:
    """Whether `count` engines can hold the network at once in three quarters of the memory that is available."""
    largest = max((_size(Path(path)) for path in files.values() if isinstance(path, str)), default=0)
    available = available_memory()
    return available is not None and largest * MEMORY_PER_WEIGHT_BYTE * count < available * 3 // 4


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
