"""What fastconv's kernels are held to on any machine: shares of its limits, and of each other's times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fastconv.roof import Roof
from fastconv.tools.bench.problem import parse_problem
from fastconv.tools.bench.results import Results, Row
from fastconv.tools.bench.tables import Table, ratio_text

__all__ = ["AUTO", "DENORMAL", "Aim", "Timed", "aim_table", "aimed_at", "aims_of", "missed", "set_aims"]

AUTO, DENORMAL = "auto", "auto, denormal inputs"

DIRECT = (
    "conv2d 1x64x56x56 -> 64 k3 p1",
    "conv2d 1x128x28x28 -> 128 k3 p1",
    "conv2d 1x256x14x14 -> 256 k3 p1",
    "conv2d 1x512x7x7 -> 512 k3 p1",
    "conv2d 1x64x56x56 -> 256 k1",
    "conv2d 1x256x56x56 -> 64 k1",
    "conv2d 1x128x28x28 -> 512 k1",
    "conv2d 1x512x28x28 -> 128 k1",
    "conv2d 1x256x14x14 -> 1024 k1",
    "conv2d 1x1024x14x14 -> 256 k1",
    "conv2d 1x512x7x7 -> 2048 k1",
    "conv2d 1x2048x7x7 -> 512 k1",
)
PEAK_SHARE, PEAK_SHARE_SMALL = 0.90, 0.80  # of AVX-512 in float32
PEAK_SHARE_OTHER = 0.85  # of other instruction sets, and in float64
SMALL = 7  # rows of a map for which the second holds

WINOGRAD = {
    "conv2d 1x64x56x56 -> 64 k3 p1": 2.7,
    "conv2d 1x128x28x28 -> 128 k3 p1": 2.7,
    "conv2d 1x256x56x56 -> 256 k3 p1": 2.7,
    "conv2d 1x256x14x14 -> 256 k3 p1": 1.9,
    "conv2d 1x64x27x27 -> 192 k5 p2": 1.5,
    "conv2d 1x32x28x28 -> 96 k5 p2": 1.5,
    "conv2d 1x48x14x14 -> 128 k5 p2": 1.5,
}

TWO_THREADS = (
    *DIRECT,
    "conv2d 1x256x56x56 -> 256 k3 p1",
    "conv2d 1x3x224x224 -> 64 k7 s2 p3",
    "conv2d 1x64x27x27 -> 192 k5 p2",
)  # all of over 20 million operations
OVER_ONE_THREAD = 1.85

DILATED = {
    "conv2d 1x64x56x56 -> 64 k3 p2 d2": "conv2d 1x64x56x56 -> 64 k3 p1",
    "conv2d 1x128x28x28 -> 128 k3 p2 d2": "conv2d 1x128x28x28 -> 128 k3 p1",
    "conv2d 1x256x28x28 -> 256 k3 p2 d2": "conv2d 1x256x28x28 -> 256 k3 p1",
    "conv2d 1x64x56x56 -> 64 k3 p2 d2 g64": "conv2d 1x64x56x56 -> 64 k3 p1 g64",
}
OVER_UNDILATED = 0.95

DENORMALS = (
    "conv2d 1x64x56x56 -> 64 k3 p1",
    "conv2d 1x64x56x56 -> 256 k1",
    "conv2d 1x512x14x14 -> 512 k3 p1 g512",
    "max_pool2d 1x64x112x112 k3 s2 p1",
    "avg_pool2d 1x64x56x56 k3 s1 p1",
    "batch_norm2d 1x64x56x56",
    "linear 1x2048 -> 1000",
)
OVER_NORMAL = 0.5

MOVING = (
    "max_pool2d 1x64x112x112 k3 s2 p1",
    "max_pool2d 1x64x224x224 k2 s2",
    "max_pool2d 1x192x28x28 k3 s1 p1",
    "avg_pool2d 1x256x56x56 k2 s2",
    "avg_pool2d 1x2048x7x7 k7 s1",
    "pad 1x64x56x56 p1",
    "pad 1x3x224x224 p3",
)
COPY_SHARE = 0.80


class Timed(NamedTuple):
    """What is timed: a problem's line, an algorithm or DENORMAL, threads, and the instruction set."""

    problem: str
    engine: str
    threads: int
    isa: str


@dataclass(frozen=True)
class Aim:
    """A figure that has to be `wanted` at least.

    It is the time of `base` over that of `timed`, or the share of the multiply-add peak (``"peak"``), or of a copy's
    bandwidth in the cache that holds input and output (``"copy"``).
    """

    what: str
    timed: Timed
    base: Timed | str
    wanted: float

    def rows(self) -> list[Timed]:
        return [self.timed] if isinstance(self.base, str) else [self.timed, self.base]


def aimed_at(isas: list[str]) -> list[str]:
    """Those that a run without ``--isa`` is about: the baseline, which stands for the oldest processors, only alone."""
    return [isa for isa in isas if isa != "baseline"] or isas


def aims_of(isas: list[str], dtypes: list[str], threads: list[int]) -> list[Aim]:
    """All of them; those beside the peak for the first instruction set and float32 alone."""
    one = 1 if 1 in threads else threads[0]
    found = [aim for isa in isas for dtype in dtypes for aim in _peak_aims(isa, dtype, one)]
    if "float32" in dtypes:
        found += _time_aims(isas[0], one, threads)
    return found


def set_aims(results: Results, aims: Iterable[Aim]) -> None:
    """Hold the rows against the aims; the fastest time of each counts, and the largest limit."""
    rows = {_key(row): row for row in results.rows}
    limits = {limit["threads"]: Roof(**limit) for limit in results.roofs}
    results.aims = [_judged(aim, rows, limits) for aim in aims]


def missed(results: Results, aims: list[Aim]) -> list[Aim]:
    """Those of the `aims` that the results were held against last that are not met."""
    return [aim for aim, judged in zip(aims, results.aims, strict=True) if not judged["met"]]


def aim_table(results: Results) -> Table:
    lines = [
        [
            aim["aim"], aim["problem"], aim["isa"], str(aim["threads"]),
            "" if aim["seconds"] is None else f"{aim['seconds'] * 1e6:.1f}",
            ratio_text(aim["figure"]) or "–", ratio_text(aim["wanted"]), "met" if aim["met"] else "NOT MET",
        ]
        for aim in results.aims
    ]  # fmt: skip
    notes = [
        f"{sum(aim['met'] for aim in results.aims)} of {len(lines)} are met.",
        "Cores are shared with others, so the fastest of several short windows counts, those of one layer in "
        "turn; what is missed is timed again, up to three times.",
        "What the first run of a network costs over later ones stands in the table of bench networks.",
    ]
    columns = ["aim", "problem", "ISA", "threads", "µs", "figure", "at least", ""]
    return Table("What the kernels are held to", columns, lines, notes, left=3, words=7)


def _peak_aims(isa: str, dtype: str, threads: int) -> Iterator[Aim]:
    for line in DIRECT:
        problem = parse_problem(line).replace(dtype=dtype)
        wanted = PEAK_SHARE_OTHER
        if (isa, dtype) == ("avx512", "float32"):
            wanted = PEAK_SHARE_SMALL if problem.input[-1] <= SMALL else PEAK_SHARE
        yield Aim("direct / multiply-add peak", Timed(problem.line, "direct", threads, isa), "peak", wanted)


def _time_aims(isa: str, one: int, threads: list[int]) -> Iterator[Aim]:
    for line, wanted in WINOGRAD.items():
        yield Aim(
            "Winograd / direct, speed", Timed(line, "winograd", one, isa), Timed(line, "direct", one, isa), wanted
        )
    if {1, 2} <= set(threads):
        for line in TWO_THREADS:
            yield Aim("2 threads / 1, speed", Timed(line, AUTO, 2, isa), Timed(line, AUTO, 1, isa), OVER_ONE_THREAD)
    for algorithm, what in ((AUTO, "dilation 2 / 1, speed"), ("direct", "dilation 2 / 1, speed, direct")):
        for line, plain in DILATED.items():
            yield Aim(what, Timed(line, algorithm, one, isa), Timed(plain, algorithm, one, isa), OVER_UNDILATED)
    for line in DENORMALS:
        yield Aim("denormal / normal, speed", Timed(line, DENORMAL, one, isa), Timed(line, AUTO, one, isa), OVER_NORMAL)
    for line in MOVING:
        yield Aim("bandwidth / copy", Timed(line, AUTO, one, isa), "copy", COPY_SHARE)


def _judged(aim: Aim, rows: dict[Timed, Row], limits: dict[int, Roof]) -> dict:
    row = rows.get(aim.timed)
    figure = _figure(aim, rows, limits)
    return {
        "aim": aim.what, "problem": aim.timed.problem, "isa": aim.timed.isa, "threads": aim.timed.threads,
        "seconds": row.minimum if row else None, "figure": figure, "wanted": aim.wanted,
        "met": figure is not None and figure >= aim.wanted,
    }  # fmt: skip


def _figure(aim: Aim, rows: dict[Timed, Row], limits: dict[int, Roof]) -> float | None:
    """None where something was not timed or a limit not measured."""
    known = [rows[key] for key in aim.rows() if key in rows and rows[key].is_timed]
    if len(known) < len(aim.rows()):
        return None
    row = known[0]
    if not isinstance(aim.base, str):
        return known[1].minimum / row.minimum
    limit = limits.get(row.threads)
    if limit is None:
        return None
    if aim.base == "copy":
        return row.bytes / row.minimum / 1e9 / limit.copy_bandwidth(row.bytes)
    peak = limit.peak(row.dtype, row.isa)
    return row.flops / row.minimum / 1e9 / peak if peak else None


def _key(row: Row) -> Timed:
    return Timed(row.problem, row.engine, row.threads, row.isa or "")
