"""Sessions in many threads, in children, pickled, interrupted, and out of memory."""

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models
from fastconv._kernels.engine import Program, Step

import fastconv as fc
from fastconv import _kernels, config
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

    def test_children_of_a_parent_whose_threads_are_in_the_middle_of_runs(self, model, x):
        session = fc.InferenceSession(model, threads=2)
        expected = session.run(None, {"x": x})[0]
        stop = threading.Event()

        def keep_running():
            while not stop.is_set():
                session.run(None, {"x": x})
                fc.InferenceSession(model)

        workers = [threading.Thread(target=keep_running) for _ in range(4)]
        for worker in workers:
            worker.start()
        try:
            children = []
            for _ in range(20):
                child = multiprocessing.get_context("fork").Process(target=_exit_with_run, args=(session, x, expected))
                child.start()
                children.append(child)
            for child in children:
                child.join(60)
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        assert [child.exitcode for child in children] == [0] * 20


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


def _exit_with_run(session, x, expected=None):
    result = session.run(None, {"x": x})[0]
    assert expected is None or np.array_equal(result, expected)
    assert fc.InferenceSession(session._source).run(None, {"x": x})[0].shape == result.shape


def chain(rng, layers, channels=64, image=(1, 64, 56, 56)):
    """Convolutions one after the other, each with weights of its own."""
    w = [write.tensor(models._weights(rng, channels, channels, 3, 3), f"w{i}") for i in range(layers)]
    nodes = [write.node("Conv", f"v{i} w{i}", f"v{i + 1}", pads=[1, 1, 1, 1]) for i in range(layers)]
    return write.model(write.graph(nodes, [write.value("v0", ("n", *image[1:]))], [f"v{layers}"], w))


class TestInterruption:
    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
    def test_in_the_middle_of_a_program(self, rng):
        """A signal comes while kernels run without the GIL: the run ends with the step in hand, not with the last one."""
        session = fc.InferenceSession(chain(rng, 12), threads=1)
        x = rng.standard_normal((1, 64, 56, 56)).astype(np.float32)
        start = time.perf_counter()
        expected = session.run(None, {"v0": x})[0]
        images = max(1, round(1.2 / max(time.perf_counter() - start, 1e-3)))
        many = np.repeat(x, images, 0)
        start = time.perf_counter()
        session.run(None, {"v0": many})
        whole = time.perf_counter() - start

        def interrupt(*_):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2 * whole)
            start = time.perf_counter()
            with pytest.raises(KeyboardInterrupt):
                session.run(None, {"v0": many})
            ended = time.perf_counter() - start
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert ended < 0.75 * whole
        assert np.array_equal(session.run(None, {"v0": x})[0], expected)

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

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the address space is limited as Linux does it")
    def test_an_address_space_that_is_full(self):
        """MemoryError in a process whose limit is near, the same results afterwards, and more when the limit is raised."""
        code = """
import sys
sys.path[:0] = {path!r}
import resource
import numpy as np, fastconv as fc, session_models
from fastconv.graph.passes import PASSES
# with the whole batch at a time
session = fc.InferenceSession(session_models.residual(np.random.default_rng(0)), threads=2, passes=PASSES)
small, large = (np.ones((n, 3, 64, 64), np.float32) for n in (1, 500))
expected = session.run(None, {{"x": small}})[0]
now = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (now + 2**26, -1))
for _ in range(3):
    try:
        session.run(None, {{"x": large}})
    except MemoryError as error:
        assert str(error), "no text"
    else:
        raise SystemExit("no MemoryError")
    assert np.array_equal(session.run(None, {{"x": small}})[0], expected)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert session.run(None, {{"x": large}})[0].shape == (500, 10)
"""
        done = subprocess.run(
            [sys.executable, "-c", code.format(path=sys.path)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr

    def test_no_memory_for_scratch(self):
        kernel = engine_kernel()
        sizes = {"images": 1, "inputs": 2, "outputs": 1, "task_outputs": 1}
        step = Step(kernel, sizes, inputs=3, tasks=1, scratch=2**46)
        arrays = [np.zeros((1, 1), np.float32), *(np.ones((1, 2), np.float32) for _ in "xw"), np.zeros(1, np.float32)]
        with pytest.raises(MemoryError, match=f"no memory for {2**46} bytes of scratch per thread"):
            step(*arrays)
        program = Program([(step, tuple(arrays))])
        with pytest.raises(MemoryError, match="bytes of scratch per thread"):
            program({})
        Step(kernel, sizes, inputs=3, tasks=1)(*arrays)
        assert arrays[0][0, 0] == 2

    def test_sizes_that_no_machine_has(self, model):
        session = fc.InferenceSession(model)
        x = np.broadcast_to(np.float32(0), (2**20, 3, 2**12, 2**12))
        with pytest.raises((MemoryError, ValueError, ModelError)):
            session.run(None, {"x": x})
        small = np.zeros((1, 3, 8, 8), np.float32)
        assert session.run(None, {"x": small})[0].shape == (1, 10)


class TestDenormals:
    """Numbers below the smallest normal one keep their values: nothing is flushed, in no thread."""

    @pytest.mark.parametrize("threads", [1, 3])
    def test_they_are_exact(self, rng, threads):
        tiny = np.float32(2.0**-149)
        w = rng.integers(-3, 4, (16, 8, 3, 3)).astype(np.float32)
        node = write.node("Conv", "x w", "y", pads=[1, 1, 1, 1])
        data = write.model(write.graph([node], [write.value("x", (4, 8, 40, 40))], ["y"], [write.tensor(w, "w")]))
        session = fc.InferenceSession(data, threads, "strict")
        whole = rng.integers(-9, 10, (4, 8, 40, 40)).astype(np.float32)
        expected = session.run(None, {"x": whole})[0]
        result = session.run(None, {"x": whole * tiny})[0]
        assert np.abs(result).max() < np.finfo(np.float32).tiny
        assert np.array_equal(result.astype(np.float64), expected.astype(np.float64) * 2.0**-149)

    def test_they_take_no_more_than_twice_the_time(self, rng):
        session = fc.InferenceSession(chain(rng, 3), threads=1)
        x = rng.standard_normal((1, 64, 56, 56)).astype(np.float32)
        feeds = {"normal": x, "denormal": x * np.float32(1e-40)}

        def ratio():
            best = dict.fromkeys(feeds, float("inf"))
            for _ in range(7):
                for name, array in feeds.items():
                    start = time.perf_counter()
                    session.run(None, {"v0": array})
                    best[name] = min(best[name], time.perf_counter() - start)
            return best["denormal"] / best["normal"]

        assert min(ratio() for _ in range(3)) < 2


def engine_kernel():
    return _kernels.family("linear", "float32").KERNELS["few_images"]


def _failing(allocate, after):
    """`allocate`, which fails at its call number `after`."""
    calls = iter(range(10**9))

    def wrapped(*args, **kwargs):
        if next(calls) == after:
            raise MemoryError("no memory")
        return allocate(*args, **kwargs)

    return wrapped
