"""Damaged and hostile files give an answer or a clear error; `python tests/mutations.py --count 20000` tries many more."""

import sys

import mutation_kinds
import mutation_seeds
import mutations
import numpy as np
import pytest

import fastconv as fc
from fastconv.onnx.proto import decode

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")


@pytest.mark.parametrize("name", mutation_seeds.MODELS)
def test_the_models_themselves_run(name, tmp_path):
    data, files = mutation_seeds.MODELS[name]()
    assert mutation_kinds.encoded(decode("ModelProto", data)) == data
    for path, content in {**files, "model.onnx": data}.items():
        (tmp_path / path).write_bytes(content)
    session = fc.InferenceSession(tmp_path / "model.onnx")
    results = session.run(None, mutations.feeds_of(session))
    assert all(np.isfinite(result).all() for result in results)


def test_a_number_is_always_the_same_file():
    assert mutation_kinds.mutated(3, 14) == mutation_kinds.mutated(3, 14)
    assert len({mutation_kinds.mutated(3, number)[1] for number in range(50)}) > 45


def test_damaged_files():
    summary = mutations.run(600, seed=1)
    assert not summary.failures, str(summary)
    assert summary.outcomes["answer"] > 50
    assert summary.outcomes["error"] > 200


def test_what_the_runner_counts():
    """A worker that dies or takes long is a failure, and the next file has a new worker."""
    summary = mutations.Summary()
    for result in (
        {"outcome": "answer", "seconds": 0.1, "bytes": 5},
        {"outcome": "error", "seconds": mutations.SECONDS + 1, "bytes": 5},
        {"outcome": "answer", "seconds": 0.1, "bytes": mutations.MEMORY + 1},
        {"outcome": "crash (-11)", "seconds": 0.0, "bytes": 0},
        {"outcome": "unforeseen exception", "seconds": 0.0, "bytes": 0},
    ):
        summary.add(result)
    assert len(summary.failures) == 4
    worker = mutations.Worker()
    worker.process.kill()
    assert worker.run(0, 0)["outcome"] == "crash (-9)"
