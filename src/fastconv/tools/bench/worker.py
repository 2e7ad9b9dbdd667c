"""The process that an engine runs in: ``python -m fastconv.tools.bench.worker MODULE``.

It reads requests from its standard input and answers each on its standard output, one JSON object per line.  Arrays
travel as .npy files.  What a library prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np

from fastconv.machine import cache_bytes
from fastconv.tools.bench.data import in_memory_order
from fastconv.tools.bench.engines import Refusal
from fastconv.tools.bench.facts import peak_memory
from fastconv.tools.bench.problem import parse_problem
from fastconv.tools.bench.timing import sample, sample_cold

MOST_EVICTED_BYTES = 256 << 20
PR_SET_PDEATHSIG = 1


class Worker:
    """What an engine has prepared, and the requests on it; every method answers one kind of request."""

    def __init__(self, module: str):
        self.engine = import_module(module)
        self.engine.available()  # imports the library, outside every timing
        getattr(self.engine, "start", lambda: None)()
        self.calls: dict[str, Callable[[], object]] = {}  # by variant
        self.arrays: list[dict[str, np.ndarray]] = []  # kept, since some engines hold nothing but the address
        self.evicted: np.ndarray | None = None

    def candidates(self, problem):
        return {"candidates": self.engine.candidates(parse_problem(problem))}

    def layer(self, problem, folder, threads, variant):
        problem = parse_problem(problem)
        # Weights are mapped: every engine copies them into a form of its own.  The input is memory like any other.
        arrays = {
            path.stem: np.load(path) if path.stem == "x" else np.asarray(np.load(path, mmap_mode="c"))
            for path in Path(folder).glob("*.npy")
        }
        arrays["x"] = in_memory_order(problem, arrays["x"])
        return self._prepare(self.engine.prepare_layer, problem, arrays, threads, variant)

    def convert(self, path, folder):
        convert = getattr(self.engine, "convert_network", None)
        return {"path": str(convert(Path(path), Path(folder)) if convert else path)}

    def network(self, path, feeds, threads, variant):
        arrays = {name: np.load(file) for name, file in feeds.items()}
        return self._prepare(self.engine.prepare_network, Path(path), arrays, threads, variant)

    def _prepare(self, prepare, what, arrays, threads, variant):
        self.arrays.append(arrays)
        start = time.perf_counter()
        self.calls[variant] = prepare(what, arrays, threads, variant)
        return {"load": time.perf_counter() - start}

    def check(self, variant, output):
        start = time.perf_counter()
        result = self.calls[variant]()
        seconds = time.perf_counter() - start
        np.save(output, np.asarray(result))
        return {"first_run": seconds}

    def time(self, variant, seconds):
        return {"samples": sample(self.calls[variant], seconds)}

    def time_cold(self, variant, seconds):
        if self.evicted is None:
            self.evicted = np.zeros(min(2 * cache_bytes(3), MOST_EVICTED_BYTES) // 4, np.float32)
        samples = sample_cold(self.calls[variant], lambda: np.add(self.evicted, 1, self.evicted), seconds)
        return {"median": median(samples)}

    def memory(self):
        return {"peak_bytes": peak_memory()}

    def drop(self):
        self.calls.clear()
        self.arrays.clear()
        return {}


def answer(worker: Worker, request: dict) -> dict:
    try:
        return getattr(worker, request.pop("do"))(**request)
    except Refusal as refusal:
        return {"refused": str(refusal)}
    except Exception as error:  # whatever a library raises belongs into its row
        text = " ".join(str(error).split())
        return {"failed": f"{type(error).__name__}: {text}"}


def main() -> None:
    if sys.platform == "linux":  # a stopped process would outlive its parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
