"""The tables of a report: what stands in them, for the terminal and for HTML alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from math import exp, log

from fastconv.tools.bench.results import OWN, Results, Row

__all__ = [
    "Table",
    "best_peer",
    "engine_names",
    "geometric_mean",
    "network_table",
    "ratio_text",
    "rows_by_problem",
    "speed_ratio",
    "suite_rows",
    "tables",
    "thread_text",
]

MARKS = {"refused": "–", "absent": "–", "failed": "fails", "differs": "differs", "mistrusted": "mistrusted"}


@dataclass
class Table:
    """Texts in rows; the first `left` columns are aligned left, those from `words` on too, all others right."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    left: int = 1
    words: int = 1000

    def is_left(self, column: int) -> bool:
        return column < self.left or column >= self.words

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if self.is_left(number) else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [self.columns, *self.rows]
        ]
        rule = "─" * max(map(len, lines))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], *(f"  {note}" for note in self.notes)]) + "\n"

    def html(self) -> str:
        def cells(row: list[str], tag: str) -> str:
            return "".join(
                f"<{tag}{' class=left' if self.is_left(number) else ''}>{escape(cell)}</{tag}>"
                for number, cell in enumerate(row)
            )

        head = f"<thead><tr>{cells(self.columns, 'th')}</tr></thead>"
        body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in self.rows)
        notes = "".join(f"<p class=note>{escape(note)}</p>" for note in self.notes)
        return (
            f"<details open><summary>{escape(self.title)}</summary>\n"
            f"<div class=wide><table>{head}\n<tbody>\n{body}\n</tbody></table></div>{notes}</details>\n"
        )

    def markdown(self) -> str:
        rule = [":--" if self.is_left(number) else "--:" for number in range(len(self.columns))]
        lines = [" | ".join(row) for row in (self.columns, rule, *self.rows)]
        notes = [text for note in self.notes for text in (note, "")]
        return "\n".join([f"**{self.title}**", "", *(f"| {line} |" for line in lines), "", *notes])


def tables(results: Results) -> list[Table]:
    """Every table that the results have rows for, the summary apart."""
    found = [_roof_table(results)] if results.roofs else []
    found += [_engine_table(results)] if results.engines else []
    for threads in sorted({row.threads for row in results.rows}):
        rows = [row for row in results.rows if row.threads == threads]
        networks = [row for row in rows if row.kind == "network"]
        if networks:
            found += [_cost_table(networks, threads)]
        layers = [row for row in rows if row.kind in ("layer", "module")]
        found += [_layer_table(suite, *content, threads) for suite, content in suite_rows(layers).items()]
    kernels = [row for row in results.rows if row.kind == "kernel"]
    if kernels:
        found.append(_kernel_table(kernels))
    return found


def engine_names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.engine for row in rows))


def suite_rows(rows: list[Row]) -> dict[str, tuple[list[tuple[str, int]], dict[str, dict[str, Row]]]]:
    """Per suite: its layers as (problem, count) in order, and the rows by problem and engine."""
    suites: dict[str, tuple[list[tuple[str, int]], dict[str, dict[str, Row]]]] = {}
    for row in rows:
        for suite, _, count in row.appearances:
            layers, by_engine = suites.setdefault(suite, ([], {}))
            if row.problem not in by_engine:
                layers.append((row.problem, count))
            by_engine.setdefault(row.problem, {})[row.engine] = row
    return suites


def best_peer(rows: dict[str, Row]) -> Row | None:
    """The fastest engine that is not fastconv; inexact ones count."""
    timed = [row for name, row in rows.items() if name != OWN and row.is_timed]
    return min(timed, key=lambda row: row.median, default=None)


def speed_ratio(rows: dict[str, Row]) -> float | None:
    """How many times faster fastconv is than the best peer."""
    peer, own = best_peer(rows), rows.get(OWN)
    return peer.median / own.median if peer and own and own.is_timed else None


def geometric_mean(values: Iterable[float]) -> float | None:
    logarithms = [log(value) for value in values]
    return exp(sum(logarithms) / len(logarithms)) if logarithms else None


def _layer_table(suite: str, layers, by_engine, threads: int) -> Table:
    engines = engine_names(row for rows in by_engine.values() for row in rows.values())
    lines = []
    for problem, count in layers:
        rows = by_engine[problem]
        layer = f"{problem} *{count}" if count > 1 else problem
        cells = [_time_cell(rows.get(engine), 1e6) for engine in engines]
        lines.append([layer, *cells, *_against_peers(rows)])
    totals = [_total([(by_engine[problem].get(engine), count) for problem, count in layers]) for engine in engines]
    mean = geometric_mean(filter(None, map(speed_ratio, by_engine.values())))
    lines.append(["sum of all layers", *(_number(total, 1e6) for total in totals), "geometric mean", ratio_text(mean)])
    return Table(
        f"{suite}: µs per layer, {thread_text(threads)}",
        ["layer", *engines, "best peer", "× best peer"],
        lines,
        _notes(row for rows in by_engine.values() for row in rows.values()),
    )


def network_table(rows: list[Row], threads: int) -> Table:
    """Milliseconds of every engine on every network, and the ratio to the best peer."""
    engines = engine_names(rows)
    lines = []
    for name, by_engine in rows_by_problem(rows).items():
        cells = [_time_cell(by_engine.get(engine), 1e3) for engine in engines]
        lines.append([name, *cells, *_against_peers(by_engine)])
    mean = geometric_mean(filter(None, map(speed_ratio, rows_by_problem(rows).values())))
    lines.append(["", *[""] * len(engines), "geometric mean", ratio_text(mean)])
    return Table(
        f"Networks: ms per run, of one image unless said, {thread_text(threads)}",
        ["network", *engines, "best peer", "× best peer"], lines, _notes(rows),
    )  # fmt: skip


def _cost_table(rows: list[Row], threads: int) -> Table:
    lines = [
        [
            row.problem, row.engine, _number(row.start, 1e3), _number(row.load, 1e3), _number(row.plan, 1e3),
            _number(row.first_run, 1e3), _number(row.median, 1e3), _percent(row.spread),
            _number(row.peak_bytes, 1e-6, 0), _error(row),
        ]
        for row in rows if row.is_timed
    ]  # fmt: skip
    columns = [
        "network", "engine", "start ms", "load ms", "plan ms", "first run ms", "median ms", "spread", "peak MB", "error",
    ]  # fmt: skip
    notes = []
    if starts := sorted({row.starts for row in rows if row.starts}):
        counts = f"{starts[0]} to {starts[-1]}" if len(starts) > 1 else f"{starts[0]}"
        notes.append(
            f"Start is all from the file to the first output: load, plan and first run, each the median of {counts} fresh "
            "processes, the engines in turn. Engines without a plan plan when they load or run first."
        )
    return Table(f"Networks: start, memory, {thread_text(threads)}", columns, lines, notes, left=2)


def _kernel_table(rows: list[Row]) -> Table:
    lines = [
        [
            row.problem, row.engine, row.isa or "best", str(row.threads), _time_cell(row, 1e6), _number(row.cold, 1e6),
            _number(row.minimum, 1e6), _percent(row.spread), _number(row.gflops, 1), _number(row.gbps, 1),
            _number(row.scratch_bytes, 1 / 1024, 0), _error(row), _percent(row.roof_share), "◀" if row.picked else "",
        ]
        for row in rows
    ]  # fmt: skip
    columns = [
        "problem", "algorithm", "ISA", "threads", "µs", "cold µs", "min µs", "spread", "GFLOP/s", "GB/s",
        "scratch KiB", "error", "of roof", "pick",
    ]  # fmt: skip
    return Table("Algorithms", columns, lines, _notes(rows), left=3)


def _roof_table(results: Results) -> Table:
    lines = []
    for roof in results.roofs:
        for name, rate in roof["fma_gflops"].items():
            lines.append([f"multiply-add, {name}", str(roof["threads"]), f"{rate:.0f} GFLOP/s"])
        for kind in ("read", "copy"):
            for level, rate in roof[f"{kind}_gbps"].items():
                lines.append([f"{kind}, {level}", str(roof["threads"]), f"{rate:.0f} GB/s"])
    notes = ["A copy counts the bytes read and the bytes written."]
    return Table("The machine's limits", ["limit", "threads", "rate"], lines, notes)


def _engine_table(results: Results) -> Table:
    lines = [
        [
            name, facts["version"] or "–", _number(facts["import_seconds"], 1e3, 0),
            _number(facts["installed_bytes"], 1e-6, 0),
        ]
        for name, facts in results.engines.items()
    ]  # fmt: skip
    notes = ["Import time and size are those beyond NumPy's; size counts what the distribution requires."]
    return Table("Engines", ["engine", "version", "import ms", "installed MB"], lines, notes, left=2)


def _against_peers(rows: dict[str, Row]) -> list[str]:
    peer = best_peer(rows)
    return [peer.engine if peer else "", ratio_text(speed_ratio(rows))]


def rows_by_problem(rows: list[Row]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.problem, {})[row.engine] = row
    return found


def _total(rows: list[tuple[Row | None, int]]) -> float | None:
    """Seconds of all layers, or None if one has no time."""
    if not all(row and row.is_timed for row, _ in rows):
        return None
    return sum(row.median * count for row, count in rows)


def _time_cell(row: Row | None, factor: float) -> str:
    if row is None:
        return ""
    if not row.is_timed:
        return MARKS.get(row.status, row.status)
    return _number(row.median, factor) + ("~" if row.status == "inexact" else "")


def _notes(rows: Iterable[Row]) -> list[str]:
    """The reasons behind the cells without a time, each once."""
    reasons: dict[tuple[str, str, str], int] = {}
    for row in rows:
        if row.reason and row.status != "inexact":
            key = (row.engine, row.status, row.reason)
            reasons[key] = reasons.get(key, 0) + 1
    notes = [f"{engine} {status} ({count}×): {reason}" for (engine, status, reason), count in reasons.items()]
    inexact = [row for row in rows if row.status == "inexact"] if isinstance(rows, list) else []
    if inexact:
        worst = max(inexact, key=lambda row: row.error)
        notes.append(f"~ error beyond the bound, at most {worst.error:.0e} of the largest output ({worst.engine})")
    return notes


def thread_text(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _number(value: float | None, factor: float, digits: int | None = None) -> str:
    """`value` times `factor` with three significant digits, or with `digits` decimals."""
    if value is None:
        return ""
    value *= factor
    if digits is None:
        digits = next((digits for digits, least in enumerate((100, 10, 1, 0.1)) if value >= least), 4)
    return f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def ratio_text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _error(row: Row) -> str:
    return "" if row.error is None else f"{row.error:.0e}"
