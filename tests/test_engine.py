"""The team of threads, the instruction-set choice, and what a process may use."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from fastconv._kernels.array_memory import fingerprint
from fastconv._kernels.engine import Step

import fastconv
from fastconv import _kernels, config, machine, reference
from fastconv.nn import functional as F


@pytest.fixture
def problem(rng):
    x = rng.standard_normal((2, 16, 40, 40), np.float32)
    w = rng.standard_normal((32, 16, 3, 3), np.float32)
    return x, w, F.conv2d(x, w, padding=1)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


def test_many_python_threads_at_once(team, problem):
    x, w, expected = problem
    wrong = []

    def work():
        for _ in range(30):
            if F.conv2d(x, w, padding=1).tobytes() != expected.tobytes():
                wrong.append(threading.get_ident())

    workers = [threading.Thread(target=work) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _child(x, w, results):
    results.put(F.conv2d(x, w, padding=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_computes(problem):
    x, w, expected = problem
    context = multiprocessing.get_context("fork")
    with config.threads(2):
        F.conv2d(x, w, padding=1)  # the parent's team exists before the fork
        for _ in range(5):
            results = context.Queue()
            child = context.Process(target=_child, args=(x, w, results))
            child.start()
            assert results.get(timeout=60).tobytes() == expected.tobytes()
            child.join(60)
            assert child.exitcode == 0


def test_no_thread_spins_when_idle(problem):
    x, w, _ = problem
    with config.threads(3):
        F.conv2d(x, w, padding=1)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.02


def test_a_step_refuses_what_does_not_fit():
    sizes = {"images": 1, "inputs": 2, "outputs": 1, "task_outputs": 1}
    kernel = _kernels.family("linear", "float32").KERNELS["few_images"]
    step = Step(kernel, sizes, inputs=3, tasks=1)
    x, w, b = np.ones((1, 2), "f"), np.ones((1, 2), "f"), np.zeros(1, "f")
    y = np.zeros((1, 1), "f")
    step(y, x, w, b)
    assert y[0, 0] == 2
    with pytest.raises(TypeError, match="expected 4 arrays, got 3"):
        step(y, x, w)
    y.flags.writeable = False
    with pytest.raises((BufferError, ValueError), match=r"(read-only|not writable)"):
        step(y, x, w, b)
    with pytest.raises(ValueError, match="inputs"):
        Step(kernel, {"images": 1}, inputs=3, tasks=1)
    with pytest.raises(TypeError):
        Step.__new__(Step)


def test_fingerprint_sees_every_change(rng):
    array = rng.standard_normal(1000).astype(np.float32)
    seen = {fingerprint(array)}
    data = array.view(np.uint8)
    for position in (0, 1, 7, 63, 64, 1023, 2048, 3996, 3999):
        for bit in (1, 128):
            data[position] ^= bit
            seen.add(fingerprint(array))
            data[position] ^= bit
    assert len(seen) == 19
    assert fingerprint(array) == fingerprint(array.copy())
    assert fingerprint(np.zeros(8, "f")) != fingerprint(np.zeros(9, "f"))


def test_fingerprint_sees_signs_that_change_together(rng):
    array = rng.standard_normal(256).astype(np.float32)
    before = fingerprint(array)
    for first in range(1, 16, 2):  # the upper number of a word, and both of the one that meets it 64 bytes on
        other = array.copy()
        other[[first, first + 15, first + 16]] *= -1
        assert fingerprint(other) != before
    seen = {before} | {
        fingerprint(array * sign) for sign in (-1, np.where(np.arange(256) % 2, -1, 1).astype(np.float32))
    }
    assert len(seen) == 3


def test_threads_setting_and_restoring():
    before = fastconv.get_num_threads()
    with fastconv.threads(3):
        assert fastconv.get_num_threads() == 3
        assert "set by set_num_threads" in fastconv.show_config()
    assert fastconv.get_num_threads() == before
    for wrong in (0, -1):
        with pytest.raises(fastconv.ArgumentError, match="n: expected at least 1"):
            fastconv.set_num_threads(wrong)
    with pytest.raises(TypeError, match=r"n: expected an integer, got 1.5"):
        fastconv.set_num_threads(1.5)


def test_a_thread_may_have_a_limit_of_its_own():
    team = _kernels.team
    before = fastconv.get_num_threads()
    others = []
    assert team.limit_threads(7) == 0
    try:
        assert fastconv.get_num_threads() == 7
        assert team.process_threads() == before
        worker = threading.Thread(target=lambda: others.append(fastconv.get_num_threads()))
        worker.start()
        worker.join()
        assert others == [before]
        with fastconv.threads(2):
            assert (fastconv.get_num_threads(), team.process_threads()) == (2, 2)
        assert (fastconv.get_num_threads(), team.process_threads()) == (7, before)
    finally:
        assert team.limit_threads(0) == 7
    assert fastconv.get_num_threads() == before


@pytest.mark.parametrize("level", _kernels.levels)
def test_a_level_can_be_forced(level):
    done = run_python("import fastconv; print(fastconv.show_config())", FASTCONV_ISA=level)
    assert f"{level} (forced by FASTCONV_ISA" in done.stdout, done.stderr


@pytest.mark.parametrize(("level", "text"), [("avx9", "expected one of baseline, avx2, avx512, got 'avx9'")])
def test_an_unknown_level_is_a_clear_error(level, text):
    done = run_python("from fastconv.cli import main; raise SystemExit(main(['run', 'x.onnx']))", FASTCONV_ISA=level)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastconv: FASTCONV_ISA: ")
    done = run_python("import fastconv.nn.functional", FASTCONV_ISA=level)
    assert done.returncode == 1
    assert text in done.stderr


def test_a_level_that_the_machine_lacks_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(_kernels, "levels", ("baseline",))
    monkeypatch.setenv("FASTCONV_ISA", "avx512")
    with pytest.raises(fastconv.ArgumentError, match="FASTCONV_ISA: this processor lacks 'avx512'; it has baseline"):
        _kernels._choose()


def files(root, contents):
    for path, text in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_threads_from_the_environment():
    assert machine.available_threads({"FASTCONV_NUM_THREADS": "3", "OMP_NUM_THREADS": "7"}).count == 3
    assert machine.available_threads({"OMP_NUM_THREADS": "5,2"}) == machine.Threads(5, "OMP_NUM_THREADS=5")
    assert machine.available_threads({"FASTCONV_NUM_THREADS": "many"}).reason == machine.available_threads({}).reason


@pytest.mark.parametrize(
    ("contents", "cores"),
    [
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "max 100000"}, None),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        ({"proc/self/cgroup": "1:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, None),
        ({}, None),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "nonsense"}, None),
    ],
)
def test_cgroup_quota(tmp_path, contents, cores):
    assert machine._cgroup_cores(files(tmp_path, contents)) == cores


def test_a_quota_below_one_core_leaves_one_thread(tmp_path):
    root = files(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000"})
    assert machine.available_threads({}, root) == machine.Threads(1, "the cgroup quota of 0.2 cores")


def test_import_is_cheap_and_lazy():
    code = (
        "import time, numpy, sys; start = time.perf_counter(); import fastconv; print(time.perf_counter() - start);"
        "print([m for m in sys.modules if m.startswith('fastconv.')])"
    )
    times = []
    for _ in range(3):
        seconds, modules = run_python(code).stdout.splitlines()
        times.append(float(seconds))
    assert min(times) < 0.05
    assert "fastconv.nn" not in modules
    assert "fastconv.models" not in modules


def test_reference_needs_numpy_alone():
    code = "import sys, fastconv.reference; print([m for m in sys.modules if m.startswith('fastconv._kernels')])"
    assert run_python(code).stdout.strip() == "[]"
    assert reference.conv(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)))[0, 0, 0, 0] == 4


def test_a_program_runs_its_steps_in_order(rng):
    kernel = _kernels.family("linear", "float32").KERNELS["few_images"]
    w = [rng.standard_normal((n, m)).astype(np.float32) for n, m in ((5, 7), (3, 5))]
    b = [np.zeros(5, np.float32), np.zeros(3, np.float32)]
    steps = [
        Step(kernel, {"images": 1, "inputs": m, "outputs": n, "task_outputs": 2}, inputs=3, tasks=-(-n // 2))
        for n, m in ((5, 7), (3, 5))
    ]
    between = np.zeros((1, 5), np.float32)
    program = _kernels.engine.Program([(steps[0], (between, "x", w[0], b[0])), (steps[1], ("y", between, w[1], b[1]))])
    for _ in range(3):
        x, y = rng.standard_normal((1, 7)).astype(np.float32), np.zeros((1, 3), np.float32)
        program({"x": x, "y": y})
        np.testing.assert_allclose(y[0], w[1] @ (w[0] @ x[0]), rtol=1e-4, atol=1e-5)
    with pytest.raises(KeyError, match="y"):
        program({"x": x})
    with pytest.raises(TypeError, match="step 0: expected 4 arrays, got 2"):
        _kernels.engine.Program([(steps[0], (between, "x"))])


def test_a_program_finds_parts_of_the_arrays_that_a_run_brings(rng):
    kernel = _kernels.family("linear", "float32").KERNELS["few_images"]
    w, b = rng.standard_normal((3, 5)).astype(np.float32), np.zeros(3, np.float32)
    step = Step(kernel, {"images": 1, "inputs": 5, "outputs": 3, "task_outputs": 2}, inputs=3, tasks=2)
    program = _kernels.engine.Program([(step, (("y", 8), ("x", 4 * place), w, b)) for place in (0, 3)])
    x, y = rng.standard_normal(9).astype(np.float32), np.full(7, 9, np.float32)
    program({"x": x, "y": y})
    np.testing.assert_allclose(y[2:5], w @ x[3:8], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(y[[0, 1, 5, 6]], 9)
    y.flags.writeable = x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        program({"x": x, "y": y})
    program({"x": x, "y": memoryview(bytearray(28))})


AFFINITY = """
import os
import sys

import numpy as np

from fastconv import config, nn

first, second = sorted(os.sched_getaffinity(0))[:2]
everywhere = os.sched_getaffinity(0)
layer, x = nn.Conv2d(64, 64, 3, padding=1).eval(), np.ones((1, 64, 56, 56), np.float32)


def worker_after_call(caller):
    os.sched_setaffinity(0, {caller})
    layer(x)
    return os.sched_getaffinity(worker)


before = set(os.listdir("/proc/self/task"))
with config.threads(2):
    layer(x)
    (worker,) = map(int, set(os.listdir("/proc/self/task")) - before)
    while worker_after_call(first) != everywhere - {first}:  # until the worker has told what it is
        pass
    assert worker_after_call(second) == everywhere - {second}
    os.sched_setaffinity(worker, {second})  # somebody else confines it
    assert worker_after_call(first) == {second}
    assert worker_after_call(second) == {second}
    assert worker_after_call(first) == {second}
"""


@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2,
    reason="threads are kept off a processor on Linux with two",
)
def test_workers_keep_off_the_caller_s_processor():
    done = run_python(AFFINITY)
    assert done.returncode == 0, done.stderr
