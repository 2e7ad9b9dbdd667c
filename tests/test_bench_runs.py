"""Runs with engines that are made up: what fails, differs or crashes is reported, and the run goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastconv import get_num_threads
from fastconv._kernels import levels
from fastconv.errors import ArgumentError
from fastconv.roof import Roof
from fastconv.tools.bench import process, runs
from fastconv.tools.bench.aims import AUTO, DENORMAL, Aim, Timed
from fastconv.tools.bench.data import make_arrays
from fastconv.tools.bench.engines import ENGINES, Engine, find_engines
from fastconv.tools.bench.picks import failed_picks
from fastconv.tools.bench.process import EngineError, EngineProcess
from fastconv.tools.bench.progress import Progress
from fastconv.tools.bench.results import Results
from fastconv.tools.bench.runs import (
    Plan,
    describe_engines,
    measure_roofs,
    repeat_slow_modules,
    repeat_slow_picks,
    run_aims,
    run_kernels,
    run_layers,
)
from fastconv.tools.bench.suites import find_problems

TESTS = Path(__file__).parent
LINES = ["conv2d 1x4x6x6 -> 4 k3 p1", "linear 1x8 -> 8"]


@pytest.fixture(autouse=True)
def fakes_are_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *filter(None, sys.path)]))


def fake(variant, library="bench_fakes"):
    return Engine(variant, "bench_fakes", library, "bench-fakes", variant)


def run(variants, lines=LINES, threads=(1,)):
    plan = Plan([fake(v) for v in variants], list(threads))
    for line in lines:
        plan.add(*find_problems(line))
    results = Results(["test"])
    run_layers(plan, 0.5, results)
    return {(row.problem, row.engine, row.threads): row for row in results.rows}


def test_every_engine_gets_a_row_and_the_run_goes_on():
    variants = ["right", "fails", "wrong", "inexact", "crashes", "refuses", "reshapes"]
    rows = run(variants)
    assert len(rows) == len(LINES) * len(variants)
    for line in LINES:
        status = {variant: rows[line, variant, 1].status for variant in variants}
        assert status == {
            "right": "ok",
            "fails": "failed",
            "wrong": "differs",
            "inexact": "inexact",
            "crashes": "failed",
            "refuses": "refused",
            "reshapes": "differs",
        }
        reasons = {variant: rows[line, variant, 1].reason for variant in variants}
        assert reasons["fails"] == "ValueError: no such luck"
        assert reasons["refuses"] == "it is only a fake"
        assert reasons["crashes"].startswith("the process was killed by SIGKILL")
        assert reasons["wrong"].startswith("largest error ")
        for variant in variants:
            row = rows[line, variant, 1]
            assert row.is_timed == (row.status in ("ok", "inexact")), variant
    right = rows[LINES[0], "right", 1]
    assert 0 < right.minimum <= right.median
    assert right.samples >= 15
    assert right.load > 0
    assert right.peak_bytes > 1 << 20
    assert right.flops == 2 * 4 * 36 * 36


def test_threads_and_multiplicity():
    rows = run(["right"], ["conv2d 1x4x6x6 -> 4 k3 p1 *3 # a", "conv2d 1x4x6x6 -> 4 k3 p1 # b"], threads=(1, 2))
    assert [key[2] for key in rows] == [1, 2]
    assert rows[LINES[0], "right", 2].appearances == [["line", "a", 3], ["line", "b", 1]]


def test_a_peer_that_is_not_installed_is_absent():
    plan = Plan([fake("right"), fake("gone", library="no_such_library")], [1])
    plan.add(*find_problems(LINES[0]))
    results = Results(["test"])
    run_layers(plan, 0.1, results)
    assert [row.status for row in results.rows] == ["ok", "absent"]
    assert results.rows[1].reason == "no_such_library is not installed"
    describe_engines(plan, results)
    assert results.engines["right"]["import_seconds"] >= 0
    assert results.engines["gone"] == {"version": "", "import_seconds": None, "installed_bytes": None}


def test_an_engine_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(process, "SECONDS_TO_ANSWER", 1)
    engine = EngineProcess(fake("hangs"), 1)
    arguments = {"problem": LINES[1], "folder": str(TESTS / "nowhere"), "threads": 1, "variant": "hangs"}
    with pytest.raises(EngineError):
        engine.ask("layer", **arguments)  # no arrays there
    with pytest.raises(EngineError, match="no answer within 0 s"):
        engine.ask("memory", timeout=0)
    assert engine.ask("memory")["peak_bytes"] > 0
    engine.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stopping processes: not on this system")
def test_a_process_is_stopped_between_requests():
    engine = EngineProcess(fake("right"), 1)
    engine.ask("memory")
    status = Path(f"/proc/{engine._process.pid}/stat")
    if not status.exists():
        pytest.skip("process states: no /proc on this system")
    for _ in range(100):
        if status.read_text().split()[2] == "T":
            break
        time.sleep(0.01)
    assert status.read_text().split()[2] == "T"
    engine.close()


def test_mistrusted_problems_are_not_timed():
    rows = run(["right"], ["pad 1x1x2x2 p9"])
    (row,) = rows.values()
    assert row.status == "mistrusted"
    assert row.reason.endswith("of the expected output is zero")
    assert not row.is_timed


def kernel_plan(**settings):
    plan = Plan([fake("right")], [1], **settings)
    plan.add(*find_problems(LINES[0]))
    return plan


def test_kernels_have_a_row_per_algorithm():
    results = Results(["test"])
    run_kernels(kernel_plan(dtypes=["float32", "float64"]), 0.2, results)
    rows = {(row.engine, row.dtype): row for row in results.rows}
    assert len(rows) == 8
    assert rows["no", "float64"].reason == "it has a cold"
    assert rows["wrong", "float32"].status == "differs"
    assert rows["wrong", "float32"].reason.startswith("on whole numbers: ")
    slow, right = rows["slow", "float32"], rows["right", "float32"]
    assert (slow.picked, right.picked) == (True, False)
    assert slow.median > right.median
    assert slow.scratch_bytes == 1024


def test_an_unknown_algorithm_lists_what_exists():
    with pytest.raises(ArgumentError, match="algorithms: 'fast' is none of right, slow, wrong, no"):
        run_kernels(kernel_plan(algorithms=["fast"]), 0.2, Results(["test"]))


def test_an_unknown_peer_lists_what_exists():
    with pytest.raises(ArgumentError, match=r"peers: 'tensorflow' is none of fastconv, torch, .*all, default"):
        find_engines(["fastconv", "tensorflow"])
    assert [engine.name for engine in find_engines(["scipy", "fastconv", "scipy"])] == ["scipy", "fastconv"]
    assert find_engines(["all"])[0].name == "fastconv"


def test_networks_without_torch_are_compared_with_the_first_engine(monkeypatch, tmp_path):
    from fastconv.tools.bench import network_runs

    file = tmp_path / "net.onnx"
    file.write_bytes(b"network")
    monkeypatch.setattr(network_runs, "network_file", lambda name: file)
    monkeypatch.setattr(network_runs, "network_feeds", lambda path: {"x": np.zeros((1, 3), np.float32)})
    monkeypatch.setitem(ENGINES, "torch", Engine("torch", "no_such_module", "no_such_library", "none"))
    results = Results(["test"])
    plan = Plan([fake(v) for v in ("right", "fails", "wrong", "crashes")], [1])
    network_runs.run_networks(["net"], plan, 0.2, results)
    assert [row.status for row in results.rows] == ["ok", "failed", "differs", "failed"]
    right, *others = results.rows
    assert right.starts >= network_runs.LEAST_STARTS
    assert right.start >= max(right.load, right.first_run) > 0
    assert right.plan is None
    assert [row.starts for row in others] == [0, 0, 0]


def test_an_interrupted_run_keeps_what_is_finished(tmp_path):
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored\n"
        "from fastconv.tools.bench import commands, runs\n"
        "kept = runs.Progress.advance\n"
        "def advance(self, seconds):\n"
        "    kept(self, seconds)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "runs.Progress.advance = advance\n"
        "runs.roof.measure = lambda threads: runs.roof.Roof(threads, {}, {'L2': 1.0, 'L3': 1.0, 'memory': 1.0}, {})\n"
        "import argparse\n"
        "parser = argparse.ArgumentParser()\n"
        "commands.add_arguments(parser)\n"
        f"arguments = ['layers', '--shapes', *{LINES!r}, '--peers', 'fastconv', '--threads', '1', '--budget', '1',"
        f" '--json', {str(tmp_path / 'r.json')!r}]\n"
        "sys.exit(commands.run(parser.parse_args(arguments)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stdout
    from fastconv.tools.bench.results import load_results

    results = load_results(tmp_path / "r.json")
    assert not results.complete
    assert [row.problem for row in results.rows] == LINES[:1]


def test_what_misses_its_aim_is_timed_again_and_the_fastest_time_stays(monkeypatch):
    line, isa = LINES[0], levels[-1]
    right, denormal, slow = (Timed(line, engine, 1, isa) for engine in ("right", DENORMAL, "slow"))
    aims = [Aim("met", right, slow, 2.0), Aim("missed", slow, right, 2.0), Aim("denormal", denormal, slow, 0.0)]
    monkeypatch.setattr("fastconv.tools.bench.runs.aims_of", lambda isas, dtypes, threads: aims)
    monkeypatch.setattr("fastconv.roof.measure", lambda threads: Roof(threads))
    timings = []
    contest = runs.contest

    def listening(contenders, *arguments):
        contest(contenders, *arguments)
        timings.append([(contender.variant, contender.row.minimum) for contender in contenders])

    monkeypatch.setattr(runs, "contest", listening)
    results = Results(["test"])
    run_aims(Plan([fake("right")], [1], isas=[isa], dtypes=["float32"]), 4.0, results)
    assert [aim["met"] for aim in results.aims] == [True, False, True]
    assert [[name for name, _ in contenders] for contenders in timings[:3]] == [
        ["right", "slow"],
        [AUTO],
        ["slow", "right"],
    ]
    assert len(timings) == 5  # the missed pair three times more
    for row in results.rows:
        assert row.kind == "aim"
        assert row.status == "ok"
        name = AUTO if row.engine == DENORMAL else row.engine
        assert row.minimum == min(least for contenders in timings for variant, least in contenders if variant == name)
    assert len(results.rows) == 3


def test_the_roof_bounds_what_is_possible():
    roof = Roof(2, {"avx2 float32": 100.0, "avx512 float32": 200.0}, {"L2": 100.0, "L3": 50.0, "memory": 10.0}, {})
    assert roof.peak("float32") == 200
    assert roof.peak("float32", "avx2") == 100
    assert roof.peak("float64") is None
    assert roof.least_seconds(2 * 10**9, 1000, "float32") == pytest.approx(0.01)
    assert roof.least_seconds(0, 10**9, "float32") == pytest.approx(0.1)
    assert roof.least_seconds(1, 1000, "float64") is None
    assert roof.bandwidth(1000) == 100
    assert Roof(1, copy_gbps={"L2": 90.0, "L3": 40.0, "memory": 9.0}).copy_bandwidth(1 << 40) == 9


def test_the_roof_is_measured(monkeypatch):
    for name, value in {"SECONDS": 0.001, "CHAIN_STEPS": 100, "STEP_BYTES": 1 << 20, "LARGE_BYTES": 4 << 20}.items():
        monkeypatch.setattr(f"fastconv.roof.{name}", value)
    monkeypatch.setattr("fastconv.roof.cache_bytes", lambda level: (32 << 10) << level)
    before = get_num_threads()
    results = Results(["test"])
    measure_roofs(Plan([], [1, 3]), results)
    assert get_num_threads() == before
    first = [dict(fields) for fields in results.roofs]
    measure_roofs(Plan([], [1]), results)
    results.roofs.sort(key=lambda fields: fields["threads"])
    assert all(results.roofs[0]["read_gbps"][level] >= rate for level, rate in first[0]["read_gbps"].items())
    for threads, fields in zip((1, 3), results.roofs, strict=True):
        roof = Roof(**fields)
        assert roof.threads == threads
        assert roof.read_gbps.keys() == roof.copy_gbps.keys() == {"L2", "L3", "memory"}
        assert all(rate > 0 for rate in (*roof.read_gbps.values(), *roof.copy_gbps.values()))
        assert roof.fma_gflops.keys() == {f"{isa} {dtype}" for isa in levels for dtype in ("float32", "float64")}
        assert all(rate > 0 for rate in roof.fma_gflops.values())


def test_what_surrounds_the_measurements_is_set_aside(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fastconv.tools.bench.progress.time.monotonic", lambda: now[0])
    progress = Progress([(3.0, 10), (1.0, 10), (2.0, 10)], 36.0, most=5.0)
    assert progress.seconds == pytest.approx((36 - 6) / 30)
    assert progress.left == pytest.approx(36)
    assert Progress([(3.0, 10)], 60.0, most=2.0).left == pytest.approx(23)
    progress.show("first")
    now[0] += 6 + 10  # twice as long as predicted: the doubt is shared with the prior
    progress.advance(1.0)
    assert progress.seconds == pytest.approx((20 - 3 * (6 + 3) / (3 + 3)) / 20)
    assert progress.left == pytest.approx(20)
    now[0] += 40
    progress.show("too late")
    assert progress.seconds == 0.02
    assert progress.left == pytest.approx(20 * 0.02 + 3 * (46 + 3) / (3 + 3))
    assert capsys.readouterr().err == "[1/3, 36 s left] first\n[2/3, 25 s left] too late\n"


def test_the_budget_holds_for_the_whole_run():
    plan = Plan([fake("right"), fake("slow")], [1])
    for line in LINES:
        plan.add(*find_problems(line))
    begun = time.monotonic()
    run_layers(plan, 4.0, Results(["test"]))
    assert time.monotonic() - begun < 5.0


def test_a_pick_that_looks_slow_is_timed_again():
    results = Results(["test"])
    plan = kernel_plan()
    run_kernels(plan, 0.2, results)
    right, slow = (next(row for row in results.rows if row.engine == name) for name in ("right", "slow"))
    right.picked, slow.picked = True, False
    right.median = 2 * slow.median  # as if something had disturbed it
    assert failed_picks(results.rows) == [right]
    repeat_slow_picks(plan, 1.0, results)
    assert failed_picks(results.rows) == []
    assert right.median < slow.median
    right.picked, slow.picked = False, True
    repeat_slow_picks(plan, 1.0, results)
    assert failed_picks(results.rows) == [slow]


def test_a_module_that_looks_slow_is_timed_again():
    own = fake("right")
    own = Engine("fastconv", own.module, own.library, own.distribution, own.variant)
    plan = Plan([own, fake("slow")], [1])
    plan.add(*find_problems(LINES[0]))
    results = Results(["test"])
    run_layers(plan, 0.2, results, kind="module")
    assert {row.kind for row in results.rows} == {"module"}
    right, slow = results.rows
    assert right.median < slow.median
    right.median = 2 * slow.median  # as if something had disturbed it
    repeat_slow_modules(plan, 1.0, results)
    assert right.median < slow.median


def test_the_worker_lays_the_input_out_as_the_problem_says(tmp_path):
    from fastconv.tools.bench.worker import Worker

    problem = find_problems("conv2d 1x4x6x6 -> 4 k3 p1 nhwc")[1][0]
    for name, array in make_arrays(problem).items():
        np.save(tmp_path / f"{name}.npy", array)
    worker = Worker("bench_fakes")
    worker.layer(str(problem), str(tmp_path), 1, "right")
    (arrays,) = worker.arrays
    assert arrays["x"].strides[1] == 4
    assert {type(array) for array in arrays.values()} == {np.ndarray}


def test_a_hopeless_algorithm_is_timed_in_one_round():
    results = Results(["test"])
    run_kernels(kernel_plan(), 0.2, results)
    samples = {row.engine: row.samples for row in results.rows}
    assert samples["slow"] <= 3  # a call takes longer than its share of a round
    assert samples["right"] >= 15
