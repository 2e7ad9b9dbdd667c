"""Sessions in many threads, in children, pickled, interrupted, and out of memory."""

import copy
import multiprocessing
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import session_models as models

import fastconv as fc
from fastconv import config
from fastconv.errors import ModelError
from fastconv.graph import program
from fastconv.onnx import session as session_module


@pytest.fixture
def model(rng):
    return models.residual(rng)


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 12, 10)).astype(np.float32)


class TestCopies:
    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
    def test_they_run_as_the_original_does(self, model, x, make):
        session = fc.InferenceSession(model, threads=2, precision="strict", passes=["canonical_convolutions"])
        expected = session.run(None, {"x": x})[0]
        other = make(session)
        assert np.array_equal(other.run(None, {"x": x})[0], expected)
        assert (other._threads, other._precision, other._passes) == (2, "strict", ("canonical_convolutions",))

    def test_a_file_is_read_again(self, model, x, tmp_path, monkeypatch):
        (tmp_path / "model.onnx").write_bytes(model)
        monkeypatch.chdir(tmp_path)
        data = pickle.dumps(fc.InferenceSession("model.onnx"))
        assert len(data) < 1000
        monkeypatch.chdir("/")
        assert pickle.loads(data).run(None, {"x": x})[0].shape == (2, 10)
        (tmp_path / "model.onnx").unlink()
        with pytest.raises(FileNotFoundError):
            pickle.loads(data)


class TestThreads:
    @pytest.mark.parametrize("threads", [None, 1])
    def test_sixteen_at_once(self, rng, threads):
        session = fc.InferenceSession(models.residual(rng), threads)
        feeds = [rng.standard_normal((1 + i % 3, 3, 9 + i % 2, 8)).astype(np.float32) for i in range(16)]
        expected = [fc.InferenceSession(session._source).run(None, {"x": x})[0] for x in feeds]
        start = threading.Barrier(16)

        def work(x):
            start.wait()
            return [session.run(None, {"x": x})[0] for _ in range(20)]

        before = config.get_num_threads()
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(work, feeds))
        assert config.get_num_threads() == before
        for alone, runs in zip(expected, results, strict=True):
            assert all(np.array_equal(run, alone) for run in runs)

    def test_they_share_one_program_for_a_shape(self, model, x, monkeypatch):
        session = fc.InferenceSession(model)
        compiled = []
        compile_once = session_module.Compiler.compile
        monkeypatch.setattr(
            session_module.Compiler, "compile", lambda self, *args: (compiled.append(1), compile_once(self, *args))[1]
        )
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: session.run(None, {"x": x}), range(32)))
        assert len(compiled) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of every fork beside threads")
class TestFork:
    def test_a_child_runs_what_its_parent_did(self, model, x):
        session = fc.InferenceSession(model, threads=2)
        expected = session.run(None, {"x": x})[0]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            (result, *others) = pool.map(_Run(session), [x, x, x])
        assert all(np.array_equal(other, expected) for other in (result, *others))

    def test_locks_of_threads_that_a_child_lacks(self, model, x):
        session = fc.InferenceSession(model, threads=2)
        with session._lock, session_module.team_limit(2):
            context = multiprocessing.get_context("fork")
            child = context.Process(target=_exit_with_run, args=(session, x))
            child.start()
            child.join(60)
        assert child.exitcode == 0


def test_spawned_children(model, x):
    session = fc.InferenceSession(model, threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (result,) = pool.map(_Run(session), [x])
    assert np.array_equal(result, session.run(None, {"x": x})[0])


class _Run:
    def __init__(self, session):
        self.session = session

    def __call__(self, x):
        return self.session.run(None, {"x": x})[0]


def _exit_with_run(session, x):
    session.run(None, {"x": x})


class TestInterruption:
    def test_between_steps(self, model, x):
        session = fc.InferenceSession(model)
        expected = session.run(None, {"x": x})[0]
        compiled, _ = session._prepared({"x": x})
        (context,) = compiled.executable._free

        def interrupted(arrays):
            raise KeyboardInterrupt

        context.segments.insert(1, interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.run(None, {"x": x})
        assert not compiled.executable._free
        assert np.array_equal(session.run(None, {"x": x})[0], expected)

    def test_while_a_shape_is_compiled(self, model, x, monkeypatch):
        session = fc.InferenceSession(model)
        with monkeypatch.context() as patch:
            patch.setattr(program, "plan_arena", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                session.run(None, {"x": x})
        assert session.run(None, {"x": x})[0].shape == (2, 10)


class TestMemory:
    """Every allocation of a run fails in turn; afterwards the session works."""

    def test_no_memory_for_the_arena_or_the_results(self, model, x, monkeypatch):
        session = fc.InferenceSession(model)
        expected = fc.InferenceSession(model).run(None, {"x": x})[0]
        for failing in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(program.np, "empty", _failing(np.empty, failing))
                with pytest.raises(MemoryError, match="no memory"):
                    session.run(None, {"x": x})
            session._programs.clear()
        assert np.array_equal(session.run(None, {"x": x})[0], expected)

    def test_sizes_that_no_machine_has(self, model):
        session = fc.InferenceSession(model)
        x = np.broadcast_to(np.float32(0), (2**20, 3, 2**12, 2**12))
        with pytest.raises((MemoryError, ValueError, ModelError)):
            session.run(None, {"x": x})
        small = np.zeros((1, 3, 8, 8), np.float32)
        assert session.run(None, {"x": small})[0].shape == (1, 10)


def _failing(allocate, after):
    """`allocate`, which fails at its call number `after`."""
    calls = iter(range(10**9))

    def wrapped(*args, **kwargs):
        if next(calls) == after:
            raise MemoryError("no memory")
        return allocate(*args, **kwargs)

    return wrapped
