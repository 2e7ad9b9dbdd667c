"""Results, tables, plots, comparison and the command line of the benchmark suite."""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from bench_rows import CONV, POOL, ROOF, command, timed

from fastconv.errors import ArgumentError
from fastconv.tools import bench
from fastconv.tools.bench import commands
from fastconv.tools.bench.compare import comparison
from fastconv.tools.bench.modules import module_problems, module_tables, slow_module_pairs
from fastconv.tools.bench.picks import failed_picks, pick_table
from fastconv.tools.bench.problem import parse_problem
from fastconv.tools.bench.report import terminal_report, write_html, write_markdown
from fastconv.tools.bench.results import SCHEMA, Results, Row, load_results
from fastconv.tools.bench.runs import set_roof_shares
from fastconv.tools.bench.summary import noise, summary_tables
from fastconv.tools.bench.tables import best_peer, speed_ratio, tables

NO_MARKS = str(Path(__file__).with_name("tolerance.py"))


def layer(problem, engine, microseconds, count=1, **more):
    work = {"flops": 231_211_008, "bytes": 1_753_344} if problem == CONV else {"flops": 802_816, "bytes": 1_003_520}
    return timed("layer", problem, engine, microseconds, appearances=[["vgg", "layer", count]], **work, **more)


@pytest.fixture
def results():
    rows = [
        layer(CONV, "fastconv", 500, 3),
        layer(CONV, "torch", 1500, 3),
        layer(CONV, "ncnn", 1000, 3, status="inexact", reason="largest error 1e-3", error=1e-3),
        layer(POOL, "fastconv", 60),
        layer(POOL, "torch", 50),
        Row("layer", POOL, "ncnn", 1, status="failed", reason="ValueError: <no>", appearances=[["vgg", "p", 1]]),
        timed("network", "resnet50", "fastconv", 40_000),
        timed("network", "resnet50", "torch", 90_000),
        timed("kernel", CONV, "winograd", 500, isa="avx512", flops=231_211_008, bytes=1_753_344, picked=True),
        timed("kernel", CONV, "direct", 400, isa="avx512", flops=231_211_008, bytes=1_753_344, picked=False),
        Row("kernel", CONV, "fft", 1, isa="avx512", status="refused", reason="it is not built"),
    ]
    engines = {"fastconv": {"version": "0.1.0", "import_seconds": 0.05, "installed_bytes": 3_000_000}}
    return Results(["fastconv", "bench", "all"], seconds=100.0, engines=engines, roofs=[ROOF], rows=rows)


def test_results_survive_the_file(results, tmp_path):
    results.save(tmp_path / "r.json")
    assert load_results(tmp_path / "r.json") == results
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["schema"] == "fastconv-bench/1"
    assert {"processor", "cores", "python", "l2_bytes"} <= content["machine"].keys()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", content["date"])
    assert content["rows"][0]["median"] == 500e-6


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": "other"}', '{"schema": "fastconv-bench/1"}', "{", '{"rows": 3}']
)
def test_other_files_are_no_results(text, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ArgumentError, match=r"r\.json: no results of a benchmark run"):
        load_results(tmp_path / "r.json")
    with pytest.raises(ArgumentError, match=r"gone\.json: no results of a benchmark run"):
        load_results(tmp_path / "gone.json")


def test_rates_follow_from_times(results):
    row = results.rows[0]
    assert row.gflops == pytest.approx(462.4, rel=1e-3)
    assert row.gbps == pytest.approx(3.507, rel=1e-3)
    assert results.rows[5].gflops is None


def test_rows_are_held_against_the_limits(results):
    set_roof_shares(results)
    winograd, direct, refused = results.rows[8:]
    assert direct.roof_share == pytest.approx(231_211_008 / 170e9 / 400e-6)
    assert winograd.roof_share == pytest.approx(231_211_008 / 170e9 / 500e-6)
    assert refused.roof_share is None
    assert results.rows[6].roof_share is None  # a network, whose work is not counted


def test_the_best_peer_may_be_inexact_but_not_fastconv(results):
    by_engine = {row.engine: row for row in results.rows[:3]}
    assert best_peer(by_engine).engine == "ncnn"
    assert speed_ratio(by_engine) == 2
    assert best_peer({}) is None
    assert speed_ratio({"torch": results.rows[1]}) is None


def test_tables_have_times_totals_marks_and_reasons(results):
    text = terminal_report(results)
    found = {table.title: table for table in (*tables(results), *summary_tables(results))}
    layers = found["vgg: µs per layer, 1 thread"]
    assert layers.rows[0] == [f"{CONV} *3", "500", "1500", "1000~", "ncnn", "2.00"]
    assert layers.rows[1] == [POOL, "60.0", "50.0", "fails", "torch", "0.83"]
    assert layers.rows[2] == ["sum of all layers", "1560", "4550", "", "geometric mean", "1.29"]
    assert "ncnn failed (1×): ValueError: <no>" in layers.notes
    networks = found["Networks: ms per run, of one image unless said, 1 thread"]
    assert networks.rows[0] == ["resnet50", "40.0", "90.0", "torch", "2.25"]
    kernels = found["Algorithms"]
    assert kernels.rows[0][-1] == "◀"
    assert "fft refused (1×): it is not built" in kernels.notes
    assert "multiply-add, avx512 float32" in text
    assert "fastconv bench all" in text
    lines = text.splitlines()
    assert len({len(line) for line in lines if line.startswith("─")}) >= 3
    assert all(line == line.rstrip() for line in lines)


def test_the_pick_is_held_against_the_fastest(results):
    assert pick_table(results.rows).rows[0][-2:] == ["+25%", "slow"]
    assert [row.engine for row in failed_picks(results.rows)] == ["winograd"]
    results.rows[8].median = 430e-6
    assert failed_picks(results.rows) == []


def test_a_comparison_states_ratio_and_noise(results):
    rows = [replace(row) for row in results.rows]
    rows[0].median *= 2
    rows[1].median /= 1.01
    del rows[3]
    table = comparison(results, Results(["new"], rows=rows))
    assert table.rows[0][:-1] == [CONV, "fastconv", "", "1", "500.0", "1000.0", "0.50", "3%"]
    assert table.rows[0][-1] == "slower"
    assert table.rows[-1][-3:] == ["1.01", "3%", "="]
    assert "7 of 8 within the noise" in table.notes[0]
    assert "1 timed only in the old run" in table.notes
    other = Results(["new"], rows=rows, machine=results.machine | {"processor": "another"})
    assert comparison(results, other).notes[-1].endswith("now another")


def test_the_report_is_one_file_without_links(results, tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG")
    write_html(tmp_path / "r.html", results, {"A <plot>": picture})
    html = (tmp_path / "r.html").read_text()
    assert "data:image/png;base64,iVBORw==" in html
    assert "A &lt;plot&gt;" in html
    assert "ValueError: &lt;no&gt;" in html
    assert all(target.startswith("data:") for target in re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", html))
    assert "http" not in html
    write_html(tmp_path / "bare.html", results, {})
    assert "matplotlib is not installed" in (tmp_path / "bare.html").read_text()


def test_the_summary_is_markdown(results, tmp_path):
    results.rows += [replace(row, appearances=[["other", "a", 1]]) for row in results.rows[:2]]
    write_markdown(tmp_path / "r.md", results)
    text = (tmp_path / "r.md").read_text()
    assert f"Processor: {results.machine['processor']}" in text
    assert "Versions: fastconv 0.1.0" in text
    assert "| resnet50 | 40.0 | 90.0 | torch | 2.25 |" in text
    assert f"| vgg | 2 | 1.29 | 1 | 0.83 | torch | {POOL} |" in text
    assert f"| other | 1 | 3.00 | 0 | 3.00 | torch | {CONV} |" in text
    assert "| torch | 2 | 1.58 | 1 | 1 | 2.25 | 0 |" in text
    assert "Noise: half of the times spread by 2.0% or less" in text


def test_the_summary_stands_between_the_marks_of_a_readme(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n\n<!-- bench -->\nold figures\n<!-- /bench -->\n\nThe end.\n")
    for _ in range(2):
        write_markdown(readme, results)
        text = readme.read_text()
        assert text.startswith("# Mine\n\n<!-- bench -->\n**")
        assert text.endswith("\n<!-- /bench -->\n\nThe end.\n")
        assert "old figures" not in text
        assert text.count("| resnet50 | 40.0 | 90.0 | torch | 2.25 |") == 1
    write_markdown(tmp_path / "new.md", results)
    write_markdown(tmp_path / "new.md", results)
    assert (tmp_path / "new.md").read_text().count("<!-- bench -->") == 1


def test_the_picks_are_summed_up(results):
    table = summary_tables(results)[-1]
    assert table.rows == [["float32", "avx512", "1", "0 of 1", "+25%", CONV]]
    results.rows[8].picked = None
    assert all("picks" not in table.title for table in summary_tables(results))


def test_noise_needs_figures(results):
    assert noise(results.rows[:1]) == ""
    assert summary_tables(Results(["nothing"])) == []


def test_plots_are_written(results, tmp_path):
    pytest.importorskip("matplotlib", reason="plots: matplotlib is not installed")
    from fastconv.tools.bench.plots import write_plots

    written = write_plots(results, tmp_path / "plots")
    assert sorted(path.name for path in written.values()) == ["layers-vgg-1.png", "networks-1.png", "roofline-1.png"]
    for path in written.values():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 2000
    assert write_plots(Results(["nothing"]), tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("layers", "--shapes", "resnet5"), "shapes: 'resnet5' is no suite (lenet5, alexnet"),
        (("layers", "--shapes", "conv2d 1x2"), "input: conv2d takes 4 sizes, got 2"),
        (("layers", "--peers", "caffe"), "peers: 'caffe' is none of fastconv, torch"),
        (("networks", "--networks", "lenet6"), "networks: 'lenet6' is none of alexnet-caffe, densenet121"),
        (("layers", "--json", "."), "json: expected a file to write, got the folder ."),
        (("layers", "--budget", "-1"), "budget: expected seconds above 0, got -1"),
        (("kernels", "--isa", "avx1024"), "isa: 'avx1024' is none that this machine has"),
        (("networks", "--batch", "0"), "batch: expected at least 1, got 0"),
        (("layers", "--threads", "1,some"), "threads: expected numbers and 'all'"),
        (("layers", "--threads", "0"), "threads: expected numbers and 'all'"),
        (("layers", "--compare", "gone.json"), "gone.json: no results of a benchmark run"),
        (("layers", "--json", "no/such/folder/r.json"), "json: there is no folder "),
        (("layers", "--markdown", NO_MARKS), f"markdown: {NO_MARKS} has no <!-- bench --> and <!-- /bench -->"),
        (("show",), "from: show needs the JSON file of a run"),
        (("show", "--from", "gone.json"), "gone.json: no results of a benchmark run"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(words, message, capsys, monkeypatch):
    monkeypatch.setattr(commands, "_measure", None)
    assert command(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fastconv bench: {message}")
    assert captured.out == ""


def test_without_onnx_there_are_no_networks(monkeypatch, capsys):
    monkeypatch.setattr(commands, "_measure", lambda kind, plan, networks, end, results: print("networks:", networks))
    monkeypatch.setattr("fastconv.tools.bench.commands.util.find_spec", lambda name: None)
    assert command("networks", "--peers", "fastconv") == 2
    assert "onnx is not installed (pip install onnx)" in capsys.readouterr().err
    assert command("overhead", "--peers", "fastconv") == 0
    captured = capsys.readouterr()
    assert captured.err == "fastconv bench: no networks, onnx is not installed\n"
    assert "networks: []" in captured.out


def test_a_run_writes_everything_asked_for(results, tmp_path, monkeypatch, capsys):
    def measure(kind, plan, networks, end, target):
        target.rows += results.rows
        target.roofs += results.roofs
        target.engines |= results.engines

    monkeypatch.setattr(commands, "_measure", measure)
    results.save(tmp_path / "old.json")
    files = {name: str(tmp_path / name) for name in ("new.json", "new.html", "old.json", "plots")}
    asked = ("--json", files["new.json"], "--html", files["new.html"], "--compare", files["old.json"])
    assert command("all", *asked, "--plots", files["plots"]) == 0
    assert load_results(files["new.json"]).rows == results.rows
    assert "Against the run of" in capsys.readouterr().out
    assert "Against the run of" in (tmp_path / "new.html").read_text()
    assert command("show", "--from", files["new.json"], "--markdown", str(tmp_path / "r.md")) == 0
    assert "| resnet50 | 40.0 |" in (tmp_path / "r.md").read_text()
    assert command("pick") == 0
    assert command("pick", "--assert") == 1
    results.rows[0].status = "differs"
    assert command("layers") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("layers --isa avx2", "isa: bench layers does not use it; it is for kernels"),
        ("layers --networks resnet50", "networks: bench layers does not use it; it is for networks, overhead, all"),
        ("networks --shapes tiny", "shapes: bench networks does not use it; it is for kernels, layers, modules"),
        ("kernels --peers torch", "peers: bench kernels does not use it"),
        ("roof --cold", "cold: bench roof does not use it"),
        ("modules --peers torch", "peers: bench modules does not use it"),
        ("layers --dtypes float32", "dtypes: bench layers does not use it; it is for kernels, pick"),
        ("show --from x.json --threads 1", "threads: bench show does not use it"),
        ("all --from x.json", "from: bench all does not use it; it is for show"),
        ("layers --assert", "assert: bench layers does not use it; it is for pick, modules"),
        ("layers --budget inf", "budget: expected seconds above 0, got inf"),
        ("layers --threads=", "threads: expected numbers and 'all' joined by commas, got ''"),
        ("roof --plots FILE", "plots: expected a folder to write to, got FILE, where FILE is a file"),
        ("roof --json=", "json: expected a file to write, got no name"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, capsys, words, message):
    file = tmp_path / "file"
    file.touch()
    assert command(*(word.replace("FILE", str(file)) for word in words.split())) == 2
    assert message.replace("FILE", str(file)) in capsys.readouterr().err


def test_results_that_lack_a_fact_are_refused(tmp_path, capsys):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"schema": SCHEMA, "command": [], "machine": {}, "rows": []}))
    assert command("show", "--from", str(file)) == 2
    assert "no results of a benchmark run: machine lacks " in capsys.readouterr().err


def test_the_plan_follows_the_kind_of_run():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)

    def plan(*words):
        return commands._plan(parser.parse_args(words))

    kernels = plan("kernels", "--threads", "1", "--isa", "baseline")
    assert ([e.name for e in kernels.engines], kernels.threads, kernels.isas) == (["fastconv"], [1], ["baseline"])
    assert kernels.dtypes == ["float32", "float64"]
    pick = plan("pick")
    assert (pick.isas, pick.dtypes) == ([""], ["float32"])
    pick = plan("pick", "--isa", "baseline", "--dtypes", "float64")
    assert (pick.isas, pick.dtypes) == (["baseline"], ["float64"])
    layers = plan("layers", "--shapes", "resnet18", "resnet50", "--peers", "scipy")
    assert [e.name for e in layers.engines] == ["fastconv", "scipy"]
    shared = [where for where in layers.problems.values() if len(where) == 2]
    assert [suite for suite, *_ in shared[0]] == ["resnet18", "resnet50"]
    assert not plan("networks").problems
    assert {where[0][0] for where in plan("overhead").problems.values()} == {"tiny", "lenet5"}
    aims = plan("aims", "--isa", "baseline")
    assert (aims.isas, aims.dtypes, aims.problems) == (["baseline"], ["float32", "float64"], {})
    modules = plan("modules", "--shapes", "lenet5", POOL, "linear 1x8 -> 8")
    assert [e.name for e in modules.engines] == ["fastconv", "torch"]
    assert [problem.family for problem in modules.problems] == ["conv", "batch_norm", "conv", "batch_norm", "max_pool"]


def test_modules_are_convolutions_max_pools_and_batch_norms_of_what_convolutions_return():
    lines = [f"{CONV} *3 # a", "conv_transpose2d 1x8x4x4 -> 64 k2 s2 f64", "linear 1x8 -> 8", POOL, f"{CONV} # again"]
    assert [str(problem) for problem in module_problems(map(parse_problem, lines))] == [
        lines[0],
        "batch_norm2d 1x64x56x56 *3 # a",
        lines[1],
        "batch_norm2d 1x64x8x8 f64",
        lines[3],
    ]


def test_modules_are_held_to_torch_and_max_pooling_to_a_tenth_of_it(tmp_path, monkeypatch, capsys):
    def module(problem, engine, microseconds):
        return timed("module", problem, engine, microseconds, appearances=[["vgg", "layer", 1]])

    other = CONV.replace("k3 p1", "k1")
    rows = [module(CONV, "fastconv", 50), module(CONV, "torch", 100), module(other, "fastconv", 100)]
    rows += [module(other, "torch", 50), module(POOL, "fastconv", 10), module(POOL, "torch", 90)]
    summary, slow = module_tables(rows, 1)
    assert summary.rows == [
        ["Conv2d", "2", "1.00", "0.50", "1", "1", other],
        ["MaxPool2d", "1", "9.00", "9.00", "0", "1", POOL],
    ]
    assert [line[:4] for line in slow.rows] == [[other, "100.0", "50.0", "0.50"], [POOL, "10.0", "90.0", "9.00"]]
    assert slow_module_pairs(rows) == [(rows[2], rows[3]), (rows[4], rows[5])]
    assert module_tables(rows[:2], 1)[1].notes == ["none"]

    def measure(kind, plan, networks, end, target):
        target.rows += rows

    monkeypatch.setattr(commands, "_measure", measure)
    assert command("modules", "--markdown", str(tmp_path / "r.md")) == 0
    assert f"| MaxPool2d | 1 | 9.00 | 9.00 | 0 | 1 | {POOL} |" in (tmp_path / "r.md").read_text()
    assert "Modules short of their aim, 1 thread" in capsys.readouterr().out
    assert command("modules", "--assert") == 1
    del rows[2:]
    assert command("modules", "--assert") == 0
