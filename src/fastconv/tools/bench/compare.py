"""Two runs side by side: the ratio of every row's times, beside the noise that both runs state."""

from __future__ import annotations

from math import hypot

from fastconv.tools.bench.results import Results
from fastconv.tools.bench.tables import Table, geometric_mean

__all__ = ["comparison"]


def comparison(old: Results, new: Results) -> Table:
    """A row for everything that both runs have timed, slowest change first.

    The ratio is old over new time, so above 1 is faster; `noise` joins both spreads, as independent, and a change
    within it is marked with ``=``.
    """
    before = {row.key: row for row in old.rows if row.is_timed}
    changes = []
    for row in new.rows:
        earlier = before.get(row.key)
        if row.is_timed and earlier:
            changes.append((earlier.median / row.median, hypot(earlier.spread, row.spread), earlier, row))
    changes.sort(key=lambda change: change[0])
    lines = [
        [
            row.problem, row.engine, row.isa or "", str(row.threads), f"{earlier.median * 1e6:.1f}",
            f"{row.median * 1e6:.1f}", f"{ratio:.2f}", f"{noise:.0%}",
            "=" if abs(ratio - 1) <= noise else "faster" if ratio > 1 else "slower",
        ]
        for ratio, noise, earlier, row in changes
    ]  # fmt: skip
    mean = geometric_mean(ratio for ratio, *_ in changes)
    within = sum(abs(ratio - 1) <= noise for ratio, noise, *_ in changes)
    notes = [f"{within} of {len(changes)} within the noise" + (f"; geometric mean {mean:.2f}" if mean else "")]
    notes += _not_in_both(before, new)
    if old.machine != new.machine:
        notes.append(f"the machines differ: {old.machine['processor']}, now {new.machine['processor']}")
    columns = ["problem", "engine", "ISA", "threads", "old µs", "new µs", "old/new", "noise", ""]
    return Table(f"Against the run of {old.date}", columns, lines, notes, left=3)


def _not_in_both(before: dict, new: Results) -> list[str]:
    now = {row.key for row in new.rows if row.is_timed}
    return [
        f"{len(keys)} timed only in the {which} run"
        for which, keys in (("old", before.keys() - now), ("new", now - before.keys()))
        if keys
    ]
