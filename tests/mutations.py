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
import onnx_bytes as write

from fastconv.onnx.proto import MESSAGES, Message, decode

SECONDS = 5.0  # of processor time, for one file
MEMORY = 2**30  # bytes that a file may add to what a fresh worker holds
PATIENCE = 8  # wall-clock seconds for each allowed second: other processes may have the cores
WORKER_FILES = 500  # after which a worker is replaced

EDGES = [
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    65536,
    2**20,
    2**28,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    -(2**31),
    -(2**63),
]
TEXTS = [
    "",
    "x",
    "\0",
    "../weights.bin",
    "/etc/passwd",
    "weights.bin/",
    "a" * 10_000,
    "SAME_UPPER",
    "linear",
    "10",
    "-1",
    "ij->",
]
REALS = [0.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"), 0.5, 1e9]


def mutated(seed: int, number: int) -> tuple[str, bytes, dict[str, bytes]]:
    """What was done to which model, the file, and the files beside it."""
    rng = np.random.default_rng([seed, number])
    names = sorted(mutation_seeds.MODELS)
    name = names[int(rng.integers(len(names)))]
    data, files = mutation_seeds.MODELS[name]()
    kinds = BYTES if rng.random() < 0.4 else FIELDS
    done = []
    for _ in range(int(rng.geometric(0.6))):
        if not data:
            break
        kind = kinds[int(rng.integers(len(kinds)))]
        done.append(kind.__name__)
        if kinds is BYTES:
            data = kind(rng, data)
        else:
            root = decode("ModelProto", data)
            kind(rng, root)
            data = encoded(root)
    if files and rng.random() < 0.5:
        done.append("data file cut")
        files = {path: content[: int(rng.integers(len(content)))] for path, content in files.items()}
    return f"{name}: {', '.join(done)}", data, files


# Mutations of bytes.


def truncated(rng, data):
    return data[: int(rng.integers(len(data)))]


def flipped(rng, data):
    return _with(data, int(rng.integers(len(data))), lambda byte: byte ^ 1 << int(rng.integers(8)))


def replaced(rng, data):
    return _with(data, int(rng.integers(len(data))), lambda byte: int(rng.integers(256)))


def inserted(rng, data):
    place = int(rng.integers(len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 12))) + data[place:]


def removed(rng, data):
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.integers(1, 12)) :]


def moved(rng, data):
    a, b, c = sorted(int(i) for i in rng.integers(len(data), size=3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _with(data, place, change):
    return data[:place] + bytes([change(data[place])]) + data[place + 1 :] if data else data


def nested(rng, data):
    """Graphs in graphs, up to a thousand deep."""
    inner = write.graph([write.node("Identity", "x", "z")], [], ["z"])
    for _ in range(int(rng.integers(1, 1000))):
        inner = write.graph([write.node("If", "x", "z", then_branch=("g", inner))], [], ["z"])
    return write.model(inner)


BYTES = [truncated, flipped, replaced, inserted, removed, moved, nested]

# Mutations of fields: `root` is a decoded ModelProto.


def any_number(rng, root):
    message, name = _pick(rng, root, lambda value: isinstance(value, (int, float)))
    _change(rng, message, name)


def any_shape(rng, root):
    message, name = _pick(rng, root, lambda value: True, ("dims", "dim_value", "ints", "i"))
    _change(rng, message, name)


def tensor_numbers(rng, root):
    """Another value in the contents of a tensor: shapes, pads, trip counts, scales."""
    tensors = [m for m, _ in _fields(root) if type(m).__name__ == "TensorProto" and len(m.raw_data) >= 4]
    if not tensors:
        return
    tensor = tensors[int(rng.integers(len(tensors)))]
    dtype = {7: np.int64, 6: np.int32, 11: np.float64}.get(tensor.data_type, np.float32)
    array = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 8 * 8], dtype).copy()
    if array.size:
        values = [
            v for v in (EDGES if array.dtype.kind == "i" else REALS) if array.dtype.kind == "f" or _holds(dtype, v)
        ]
        array[int(rng.integers(array.size))] = values[int(rng.integers(len(values)))]
        tensor.raw_data = array.tobytes() + bytes(tensor.raw_data[array.nbytes :])


def dropped(rng, root):
    message, name = _pick(rng, root, lambda value: True)
    value = getattr(message, name)
    if isinstance(value, list) and len(value) > 1:
        del value[int(rng.integers(len(value)))]
    else:
        del message.__dict__[name]


def doubled(rng, root):
    message, name = _pick(rng, root, lambda value: isinstance(value, list))
    value = getattr(message, name)
    value.append(value[int(rng.integers(len(value)))])


def swapped(rng, root):
    """Two values of the same field, anywhere, change places."""
    message, name = _pick(rng, root, lambda value: True)
    others = [(m, n) for m, n in _fields(root) if n == name and type(m) is type(message)]
    other, _ = others[int(rng.integers(len(others)))]
    message.__dict__[name], other.__dict__[name] = getattr(other, name), getattr(message, name)


def any_text(rng, root):
    """Another name, place of a data file, or word of an attribute."""
    message, name = _pick(rng, root, lambda value: isinstance(value, (str, bytes)))
    value = getattr(message, name)
    old = value[0] if isinstance(value, list) and value else value
    if isinstance(old, (str, bytes)):
        new = TEXTS[int(rng.integers(len(TEXTS)))]
        new = new.encode() if isinstance(old, bytes) else new
        message.__dict__[name] = [new, *value[1:]] if isinstance(value, list) else new


def renamed(rng, root):
    """A value of another name: circles, missing sources, and two sources of one value."""
    nodes = [m for m, n in _fields(root) if n == "op_type"]
    if not nodes:
        return
    node, other = (nodes[int(rng.integers(len(nodes)))] for _ in range(2))
    names = [*other.input, *other.output, "", "nowhere"]
    side = "input" if rng.random() < 0.7 else "output"
    values = getattr(node, side)
    if values:
        values[int(rng.integers(len(values)))] = names[int(rng.integers(len(names)))]


def retyped(rng, root):
    """Another operator, on the same inputs and attributes."""
    from fastconv.onnx.operators import OPERATORS

    nodes = [m for m, n in _fields(root) if n == "op_type"]
    if nodes:
        names = sorted(name for domain, name in OPERATORS if not domain)
        nodes[int(rng.integers(len(nodes)))].op_type = names[int(rng.integers(len(names)))]


def other_attributes(rng, root):
    """Attributes of another node."""
    nodes = [m for m, n in _fields(root) if n == "op_type" and m.attribute]
    if nodes:
        giver, taker = (nodes[int(rng.integers(len(nodes)))] for _ in range(2))
        taker.attribute = list(giver.attribute)


FIELDS = [
    any_number, any_shape, any_shape, tensor_numbers, tensor_numbers, dropped, doubled, swapped, renamed, renamed, retyped,
    other_attributes, any_text,
]  # fmt: skip


def _fields(message: Message):
    """Every (message, name of a field that it sets), depth first."""
    for name, value in message.__dict__.items():
        yield message, name
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Message):
                yield from _fields(inner)


def _pick(rng, root, wanted, names=None):
    found = [
        (m, n)
        for m, n in _fields(root)
        if (names is None or n in names) and wanted(_first(getattr(m, n)) if names is None else None)
    ] or list(_fields(root))
    return found[int(rng.integers(len(found)))]


def _first(value):
    return value[0] if isinstance(value, list) and value and not isinstance(value[0], Message) else value


def _change(rng, message, name):
    value = getattr(message, name)
    place = int(rng.integers(len(value))) if isinstance(value, list) and value else None
    old = value if place is None else value[place]
    if isinstance(old, float):
        new = REALS[int(rng.integers(len(REALS)))]
    elif isinstance(old, int):
        new = EDGES[int(rng.integers(len(EDGES)))] if rng.random() < 0.7 else old + int(rng.integers(-3, 4))
        new = max(-(2**63), min(new, 2**63 - 1))
    else:
        return
    if place is None:
        message.__dict__[name] = new
    else:
        value[place] = new


def _holds(dtype, value):
    return np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def encoded(message: Message) -> bytes:
    """The bytes of a decoded message."""
    numbers = {name: (number, kind) for number, (name, kind) in MESSAGES[type(message).__name__].items()}
    parts = []
    for name, value in message.__dict__.items():
        number, kind = numbers[name]
        for element in value if isinstance(value, list) else [value]:
            if isinstance(element, Message):
                element = encoded(element)
            if kind.startswith("int") and isinstance(element, int):
                parts.append(write.varint(number << 3) + write.varint(element))
            elif kind == "float" or kind == "float*":
                parts.append(write.field(number, float(element)))
            else:
                parts.append(write.field(number, element))
    return b"".join(parts)


# Running.


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
