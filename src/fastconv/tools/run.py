"""``fastconv run``: a model on files or random numbers."""

import argparse
import re
import time
from pathlib import Path
from statistics import median

import numpy as np

from fastconv.geometry import integer
from fastconv.onnx.report import seconds_text
from fastconv.tools.model_inputs import add_input_arguments, add_model_arguments, feeds_of, open_session
from fastconv.tools.output_files import check_folder

__all__ = ["add_arguments", "run"]

BEST = 5
FEWEST_CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run an ONNX model and show its outputs."
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--output", metavar="FOLDER", help="write every output there, as NAME.npy")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run so often, and tell the times")


def run(arguments: argparse.Namespace) -> int:
    """Print shape, type and range of every output, and the best classes of scores.  Return 0."""
    repeat = integer(arguments.repeat, "--repeat", 1)
    check_folder("--output", arguments.output)
    start = time.perf_counter()
    session = open_session(arguments)
    loaded = time.perf_counter() - start
    feeds = feeds_of(session, arguments)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        results = session.run(None, feeds)
        seconds.append(time.perf_counter() - start)
    names = [info.name for info in session.get_outputs()]
    if arguments.output:
        _write(Path(arguments.output), names, results)
    for name, result in zip(names, results, strict=True):
        print(_described(name, result))
    line = f"loaded in {seconds_text(loaded)}, first run {seconds_text(seconds[0])}"
    if len(seconds) > 1:
        later = seconds[1:]
        line += f", then {seconds_text(median(later))} (median of {len(later)}; least {seconds_text(min(later))})"
    print(line)
    return 0


def _write(folder: Path, names: list[str], results: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in zip(names, results, strict=True):
        if isinstance(result, np.ndarray):
            np.save(folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.npy", result, allow_pickle=False)


def _described(name: str, result) -> str:
    if not isinstance(result, np.ndarray):
        return f"output {name}: {'nothing' if result is None else f'a sequence of {len(result)} tensors'}"
    text = f"output {name}: {result.dtype} {'×'.join(map(str, result.shape)) or 'scalar'}"
    if not result.size or result.dtype.kind not in "fiub":
        return text
    numbers = result.astype(np.float64)
    text += f", from {numbers.min():.6g} to {numbers.max():.6g}, mean {numbers.mean():.6g}"
    scores = result.reshape(-1)
    if result.dtype.kind == "f" and result.shape[:1] == (1,) and FEWEST_CLASSES <= scores.size == max(result.shape):
        best = np.argsort(-scores, kind="stable")[:BEST]
        text += "\n  best: " + ", ".join(f"{i} ({scores[i]:.4g})" for i in best)
    return text
