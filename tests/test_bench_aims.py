"""What the kernels are held to: figures from rows and limits, what is met, and the command."""

import json

import pytest
from bench_rows import CONV, POOL, ROOF, command, timed

from fastconv.tools.bench import commands
from fastconv.tools.bench.aims import AUTO, DENORMAL, Aim, Timed, aim_table, aimed_at, aims_of, missed, set_aims
from fastconv.tools.bench.problem import parse_problem
from fastconv.tools.bench.results import Results, Row, load_results


def test_aims_are_held_against_limits_and_against_other_rows(tmp_path, monkeypatch, capsys):
    def row(engine, microseconds, problem=CONV, threads=1, isa="avx512", **more):
        work = {"flops": 340_000_000, "bytes": 4_500_000}
        return timed("aim", problem, engine, microseconds, isa=isa, threads=threads, **(work | more))

    direct, winograd = Timed(CONV, "direct", 1, "avx512"), Timed(CONV, "winograd", 1, "avx512")
    pool, gone = Timed(POOL, AUTO, 1, "avx512"), Timed(CONV, AUTO, 2, "avx512")
    aims = [
        Aim("peak", direct, "peak", 0.88),
        Aim("peak", direct._replace(isa="avx2"), "peak", 0.9),
        Aim("speed", winograd, direct, 2.5),
        Aim("speed", winograd, direct, 2.6),
        Aim("copy", pool, "copy", 0.9),
        Aim("two threads", gone, direct, 1.85),
        Aim("refused", Timed(CONV, "fft", 1, "avx512"), direct, 1.0),
    ]
    monkeypatch.setattr("fastconv.roof.cache_bytes", lambda level: (1 << 20) << (5 * level - 10))
    rows = [row("direct", 2500), row("direct", 5000, isa="avx2"), row("winograd", 1000), row(AUTO, 100, POOL)]
    rows.append(Row("aim", CONV, "fft", 1, isa="avx512", status="refused", reason="no"))
    results = Results(["bench", "aims"], roofs=[ROOF], rows=rows)
    set_aims(results, aims)
    # 340 MFLOP in 2.25 ms and 4.5 ms are 151 and 75.6 GFLOP/s, of 170 and 90; 4.5 MB in 90 µs are 50 GB/s
    figures = [aim["figure"] for aim in results.aims]
    assert figures[:5] == pytest.approx([0.8889, 0.8395, 2.5, 2.5, 1.0], rel=1e-3)
    assert figures[5:] == [None, None]
    assert [aim["met"] for aim in results.aims] == [True, False, True, False, True, False, False]
    assert missed(results, aims) == [aims[1], aims[3], aims[5], aims[6]]
    table = aim_table(results)
    assert table.rows[0] == ["peak", CONV, "avx512", "1", "2250.0", "0.89", "0.88", "met"]
    assert table.rows[6] == ["refused", CONV, "avx512", "1", "", "–", "1.00", "NOT MET"]
    assert table.notes[0] == "3 of 7 are met."

    def measure(kind, plan, networks, end, target):
        target.roofs, target.rows, target.aims = results.roofs, results.rows, results.aims

    monkeypatch.setattr(commands, "_measure", measure)
    file = tmp_path / "aims.json"
    assert command("aims", "--json", str(file)) == 0
    assert "What the kernels are held to" in capsys.readouterr().out
    assert command("aims", "--assert") == 1
    assert load_results(file).aims == results.aims
    assert json.loads(file.read_text())["aims"][0]["wanted"] == 0.88
    del results.aims[1], results.aims[2], results.aims[3:]
    assert command("aims", "--assert") == 0


def test_every_instruction_set_and_element_type_is_held_to_the_peak_and_the_first_to_the_rest():
    aims = aims_of(["avx512", "avx2"], ["float32", "float64"], [1, 2])
    peaks = {(aim.timed.isa, parse_problem(aim.timed.problem).dtype, aim.wanted) for aim in aims if aim.base == "peak"}
    shares = {("avx512", "float32", 0.9), ("avx512", "float32", 0.8), ("avx512", "float64", 0.85)}
    assert peaks == shares | {("avx2", "float32", 0.85), ("avx2", "float64", 0.85)}
    others = [aim for aim in aims if aim.base != "peak"]
    assert {row.isa for aim in others for row in aim.rows()} == {"avx512"}
    assert {row.engine for aim in others for row in aim.rows()} == {AUTO, DENORMAL, "direct", "winograd"}
    pairs = [aim.rows() for aim in others if aim.timed.threads == 2]
    assert pairs
    assert all(one.threads == 1 and one.problem == two.problem for two, one in pairs)
    assert min(parse_problem(two.problem).flops for two, _ in pairs) > 20e6
    assert not any(aim.timed.threads == 2 for aim in aims_of(["avx2"], ["float32"], [1]))
    assert all(aim.base == "peak" for aim in aims_of(["avx2"], ["float64"], [2]))
    assert aimed_at(["avx2", "baseline"]) == ["avx2"]
    assert aimed_at(["baseline"]) == ["baseline"]
