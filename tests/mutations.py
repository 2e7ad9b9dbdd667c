"""Damaged and hostile ONNX files: each must give an answer or a clear error, in little time and memory.

    python tests/mutations.py --count 20000 [--seed 0] [--only NUMBER] [--model FILE.onnx]

File `number` of a seed is always the same.  Workers of their own run the files, so that a crash, a hang or the system's
killer hits one file, is counted, and does not end the run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import mutation_seeds
import numpy as np
from mutation_kinds import mutated

SECONDS = 5.0  # of processor time, for one file
MEMORY = 2**30  # bytes that a file may add to what a fresh worker holds
PATIENCE = 8  # wall-clock seconds for each allowed second: other processes may have the cores
WORKER_FILES = 500  # after which a worker is replaced


def feeds_of(session) -> dict[str, np.ndarray]:
    """Small arrays of the declared shapes, where these are small; symbolic sizes are 2."""
    feeds = {}
    for info in session.get_inputs():
        shape = [size if isinstance(size, int) and 0 <= size <= 4096 else 2 for size in info.shape]
        while np.prod(shape, dtype=float) > 2**20:
            shape[int(np.argmax(shape))] //= 2
        dtype = np.dtype(np.float32) if info.dtype is None else info.dtype
        values = np.random.default_rng(0).random(shape) * 3
        feeds[info.name] = values.astype(str).astype(object) if dtype.kind == "O" else values.astype(dtype)
    return feeds


def run_file(seed: int, number: int) -> dict:
    """The outcome of one file in this process: what happened, seconds of processor time, bytes added at the peak."""
    import fastconv as fc
    from fastconv.errors import ArgumentError, ArgumentTypeError

    what, data, files = mutated(seed, number)
    before = _reset_peak()
    start = time.process_time()
    outcome, text = "answer", ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            source: object = data
            if files:
                for path, content in files.items():
                    Path(folder, path).write_bytes(content)
                source = Path(folder, "model.onnx")
                source.write_bytes(data)
            session = fc.InferenceSession(source)
            session.run(None, feeds_of(session))
        except (ArgumentError, ArgumentTypeError, MemoryError) as error:
            outcome, text = "error", f"{type(error).__name__}: {error}"
            if not str(error).strip():
                outcome = "error without a text"
        except BaseException as error:
            outcome, text = "unforeseen exception", f"{type(error).__name__}: {error}"
        session = None
    seconds = time.process_time() - start
    return {
        "number": number,
        "what": what,
        "outcome": outcome,
        "text": text[:300],
        "seconds": seconds,
        "bytes": _peak() - before,
    }


def _reset_peak() -> int:
    """Bytes resident now; the peak is counted from here where the system can do that."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass
    return _peak()


def _peak() -> int:
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) << 10
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def work() -> None:
    """A worker: numbers of files on standard input, outcomes on standard output."""
    import resource  # which Windows lacks

    limit = 6 * MEMORY  # of address space: what goes far beyond the bound must not take the machine with it
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        seed, number = json.loads(line)
        print(json.dumps(run_file(seed, number)), flush=True)


class Worker:
    def __init__(self):
        environment = os.environ | {"FASTCONV_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-W", "ignore", __file__, "--work"]
        command += [f"--model={name}" for name in mutation_seeds.MODELS if name.endswith(".onnx")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self.files = 0

    def run(self, seed: int, number: int) -> dict:
        self.files += 1
        timer = threading.Timer(PATIENCE * SECONDS, self.process.kill)
        timer.start()
        start = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps([seed, number]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        code = self.process.wait()
        late = time.perf_counter() - start >= PATIENCE * SECONDS
        text = self.process.stderr.read()[-500:]
        self.close()
        outcome = "hang" if late else f"crash ({code})"
        what = mutated(seed, number)[0]
        return {"number": number, "what": what, "outcome": outcome, "text": text, "seconds": 0.0, "bytes": 0}

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@dataclass
class Summary:
    """How many files ended in which way, what was worst, and every file that broke the promise."""

    outcomes: Counter = field(default_factory=Counter)
    failures: list[dict] = field(default_factory=list)
    slowest: dict = field(default_factory=lambda: {"seconds": 0.0})
    largest: dict = field(default_factory=lambda: {"bytes": 0})

    def add(self, result: dict) -> None:
        self.outcomes[result["outcome"]] += 1
        self.slowest = max(self.slowest, result, key=lambda r: r["seconds"])
        self.largest = max(self.largest, result, key=lambda r: r["bytes"])
        if result["outcome"] not in ("answer", "error") or result["seconds"] > SECONDS or result["bytes"] > MEMORY:
            self.failures.append(result)

    def __str__(self) -> str:
        total = sum(self.outcomes.values())
        lines = [f"{total} files: " + ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())]
        lines.append(
            f"slowest: {self.slowest['seconds']:.2f} s, file {self.slowest.get('number')} ({self.slowest.get('what')})"
        )
        lines.append(
            f"largest: {self.largest['bytes'] / 1e6:.0f} MB, file {self.largest.get('number')} ({self.largest.get('what')})"
        )
        lines += [f"FAILED {json.dumps(failure)}" for failure in self.failures]
        return "\n".join(lines)


def run(count: int, seed: int = 0, first: int = 0, progress: bool = False) -> Summary:
    summary, worker = Summary(), Worker()
    for number in range(first, first + count):
        result = worker.run(seed, number)
        summary.add(result)
        if progress and (number + 1) % 1000 == 0:
            print(f"{number + 1 - first} files, {len(summary.failures)} failures", file=sys.stderr, flush=True)
        if worker.files >= WORKER_FILES or worker.process.poll() is not None:
            worker.close()
            worker = Worker()
    worker.close()
    return summary


def _file(path: str) -> tuple[bytes, dict]:
    return Path(path).read_bytes(), {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--only", type=int, help="run this file here, and show what it does")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--model", action="append", default=[], help="damage this file, not the small models")
    arguments = parser.parse_args()
    if arguments.model:
        mutation_seeds.MODELS = {path: partial(_file, path) for path in arguments.model}
    if arguments.work:
        work()
        return 0
    if arguments.only is not None:
        print(json.dumps(run_file(arguments.seed, arguments.only), indent=2))
        return 0
    start = time.perf_counter()
    summary = run(arguments.count, arguments.seed, arguments.first, progress=True)
    print(summary)
    print(f"{time.perf_counter() - start:.0f} s")
    return bool(summary.failures)


if __name__ == "__main__":
    sys.exit(main())
