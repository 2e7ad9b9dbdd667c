"""Whether the planner's choice is the fastest algorithm, as the kernel rows measured it."""

from __future__ import annotations

from fastconv.tools.bench.results import Row
from fastconv.tools.bench.tables import Table

__all__ = ["TOLERATED", "failed_picks", "pick_summary", "pick_table", "slow_pairs"]

TOLERATED = 0.10  # share of the fastest algorithm's time by which a pick may be slower


def pick_table(rows: list[Row]) -> Table:
    """A line per problem: the pick, the fastest, and how much slower the pick is."""
    lines = [
        [
            pick.problem, pick.dtype, pick.isa or "best", str(pick.threads), pick.engine, f"{pick.median * 1e6:.1f}",
            fastest.engine, f"{fastest.median * 1e6:.1f}", f"{pick.median / fastest.median - 1:+.0%}",
            "slow" if _is_slow(pick, fastest) else "",
        ]
        for pick, fastest in _pairs(rows)
    ]  # fmt: skip
    slow = len(failed_picks(rows))
    columns = ["problem", "dtype", "ISA", "threads", "pick", "µs", "fastest", "µs", "slower by", ""]
    notes = [f"{slow} of {len(lines)} picks are over {TOLERATED:.0%} slower than the fastest algorithm"]
    return Table("The planner's picks", columns, lines, notes, left=3)


def pick_summary(rows: list[Row]) -> Table:
    """A line per element type, instruction set and number of threads: how many picks are the fastest, or near it."""
    groups: dict[tuple, list[tuple[Row, Row]]] = {}
    for pick, fastest in _pairs(rows):
        groups.setdefault((pick.dtype, pick.isa or "best", str(pick.threads)), []).append((pick, fastest))
    lines = []
    for key, pairs in groups.items():
        worst, fastest = max(pairs, key=lambda pair: pair[0].median / pair[1].median)
        fine = sum(not _is_slow(*pair) for pair in pairs)
        lines.append([*key, f"{fine} of {len(pairs)}", f"{worst.median / fastest.median - 1:+.0%}", worst.problem])
    columns = ["dtype", "ISA", "threads", f"within {TOLERATED:.0%}", "worst", "problem"]
    return Table("The planner's picks against the fastest algorithm", columns, lines, left=2, words=5)


def failed_picks(rows: list[Row]) -> list[Row]:
    """The picks that are slower than tolerated."""
    return [pick for pick, _ in slow_pairs(rows)]


def slow_pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """The picks that are slower than tolerated, each with the fastest algorithm."""
    return [(pick, fastest) for pick, fastest in _pairs(rows) if _is_slow(pick, fastest)]


def _is_slow(pick: Row, fastest: Row) -> bool:
    return pick.median > fastest.median * (1 + TOLERATED)


def _pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """The pick and the fastest of every problem, instruction set and number of threads."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.kind == "kernel" and row.is_timed and row.picked is not None:
            groups.setdefault((row.problem, row.dtype, row.isa, row.threads), []).append(row)
    return [
        (pick, min(group, key=lambda row: row.median)) for group in groups.values() for pick in group if pick.picked
    ]
