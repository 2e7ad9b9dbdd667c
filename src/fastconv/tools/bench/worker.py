"""The process that an engine runs in: ``python -m fastconv.tools.bench.worker MODULE``.

It reads requests from its standard input and answers each on its standard output, one JSON object per line.  Arrays
travel as .npy files.  What a library prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
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
MADV_POPULATE_WRITE = 23  # of Linux 5.14
SECONDS_OF_A_START = 60


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

    def start(self, path, feeds, threads, variant):
        """Seconds from the file to the first output, in a process that has imported the library and done nothing else."""
        if not hasattr(os, "fork"):
            raise Refusal("this system has no fork()")

        def work():
            arrays = {name: np.load(file) for name, file in feeds.items()}
            begin = time.perf_counter()
            call = self.engine.prepare_network(Path(path), arrays, threads, variant)
            loaded = time.perf_counter()
            plan = getattr(call, "plan", None)
            if plan is not None:
                plan()
            planned = time.perf_counter()
            call()
            end = time.perf_counter()
            apart = {} if plan is None else {"plan": planned - loaded}
            return {"load": loaded - begin, **apart, "first_run": end - planned, "start": end - begin}

        return _in_a_child(work)

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
    return _answered(lambda: getattr(worker, request.pop("do"))(**request))


def _answered(work: Callable[[], dict]) -> dict:
    try:
        return work()
    except Refusal as refusal:
        return {"refused": str(refusal)}
    except Exception as error:  # whatever a library raises belongs into its row
        text = " ".join(str(error).split())
        return {"failed": f"{type(error).__name__}: {text}"}


def _in_a_child(work: Callable[[], dict]) -> dict:
    """What `work` returns in a process of its own, as this one is now."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        _end_with_parent()
        _own_pages()
        os.write(sender, json.dumps(_answered(work)).encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as stream:
        if not select.select([stream], [], [], SECONDS_OF_A_START)[0]:
            os.kill(child, signal.SIGKILL)
        text = stream.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"failed": "the process ended, or was stopped, without an answer"}


def _end_with_parent() -> None:
    if sys.platform == "linux":  # a stopped process would outlive its parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_pages() -> None:
    """Copy what a child shares with its parent now, not page by page inside of a timing."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions = line.split()[:2]
        if permissions == "rw-p":
            start, stop = (int(address, 16) for address in addresses.split("-"))
            madvise(start, stop - start, MADV_POPULATE_WRITE)


def main() -> None:
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
