"""What a reader wants to know first: how fastconv stands against the best peer, and against each."""

from __future__ import annotations

from statistics import quantiles

from fastconv.tools.bench.aims import aim_table
from fastconv.tools.bench.modules import module_tables
from fastconv.tools.bench.picks import pick_summary
from fastconv.tools.bench.results import OWN, Results, Row
from fastconv.tools.bench.tables import (
    Table,
    best_peer,
    engine_names,
    geometric_mean,
    network_table,
    ratio_text,
    rows_by_problem,
    speed_ratio,
    suite_rows,
    thread_text,
)

__all__ = ["noise", "summary_tables"]

NOT_UNDER = 0.95  # what a layer may take of the best peer's speed


def summary_tables(results: Results) -> list[Table]:
    """Per number of threads: suites, modules, networks and peers; then the planner's picks and the aims."""
    found = []
    for threads in sorted({row.threads for row in results.rows}):
        layers = [row for row in results.rows if row.threads == threads and row.kind == "layer"]
        networks = [row for row in results.rows if row.threads == threads and row.kind == "network"]
        if any(map(speed_ratio, rows_by_problem(layers).values())):
            found.append(_suite_table(layers, threads))
        if modules := [row for row in results.rows if row.threads == threads and row.kind == "module"]:
            found += module_tables(modules, threads)
        if networks:
            found.append(network_table(networks, threads))
        if any(map(speed_ratio, rows_by_problem([*layers, *networks]).values())):
            found.append(_peer_table(layers, networks, threads))
    if any(row.picked for row in results.rows):
        found.append(pick_summary(results.rows))
    if results.aims:
        found.append(aim_table(results))
    return found


def noise(rows: list[Row]) -> str:
    """How far the figures spread, in words; empty without rows."""
    spreads = [row.spread for row in rows if row.is_timed]
    if len(spreads) < 2:
        return ""
    tenths = quantiles(spreads, n=10, method="inclusive")
    return (
        f"half of the times spread by {tenths[4]:.1%} or less, nine of ten by {tenths[8]:.1%} or less (interquartile "
        f"range over the median, of single samples or of the rounds, whichever is larger)"
    )


def _suite_table(rows: list[Row], threads: int) -> Table:
    """A line per suite: how fastconv stands against the best peer of every layer."""
    suites = suite_rows(rows)
    lines = [[suite, *_against_best(by_engine)] for suite, (_, by_engine) in suites.items()]
    if len(suites) > 1:
        lines.append(["all layers, each once", *_against_best(rows_by_problem(rows))])
    columns = ["suite", "layers", "geometric mean", f"under {NOT_UNDER}", "least", "against", "layer with the least"]
    notes = ["Time of the fastest peer over fastconv's, layer by layer: above 1, fastconv is faster."]
    return Table(f"× best peer of every layer, {thread_text(threads)}", columns, lines, notes, words=5)


def _against_best(by_problem: dict[str, dict[str, Row]]) -> list[str]:
    ratios = {problem: ratio for problem, rows in by_problem.items() if (ratio := speed_ratio(rows))}
    if not ratios:
        return ["0", "", "", "", "", ""]
    slowest = min(ratios, key=ratios.__getitem__)
    under = sum(ratio < NOT_UNDER for ratio in ratios.values())
    peer = best_peer(by_problem[slowest])
    mean = geometric_mean(ratios.values())
    return [str(len(ratios)), ratio_text(mean), str(under), ratio_text(ratios[slowest]), peer.engine, slowest]


def _peer_table(layers: list[Row], networks: list[Row], threads: int) -> Table:
    """A line per peer: the geometric mean of its time over fastconv's, where both have one."""
    groups = {"layers": rows_by_problem(layers), "networks": rows_by_problem(networks)}
    groups = {name: by_problem for name, by_problem in groups.items() if by_problem}
    lines = []
    for peer in engine_names([*layers, *networks]):
        if peer == OWN:
            continue
        line = [peer]
        for by_problem in groups.values():
            ratios = [ratio for rows in by_problem.values() if (ratio := _over_own(rows, peer))]
            line += [str(len(ratios)), ratio_text(geometric_mean(ratios)), str(sum(ratio < 1 for ratio in ratios))]
        lines.append(line)
    columns = [column for name in groups for column in (name, "geometric mean", "peer faster")]
    return Table(f"× each peer, {thread_text(threads)}", ["peer", *columns], lines)


def _over_own(rows: dict[str, Row], peer: str) -> float | None:
    return speed_ratio({name: row for name, row in rows.items() if name in (OWN, peer)})
