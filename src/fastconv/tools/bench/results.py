"""Results: a list of rows and the circumstances, as JSON.

Schema ``fastconv-bench/1``::

    {"schema": "fastconv-bench/1", "date": ISO 8601 with offset, "command": [argument, …], "seconds": total,
     "complete": false if the run was interrupted,
     "machine": {"processor", "cores", "l1_bytes", "l2_bytes", "l3_bytes", "memory_bytes", "system", "python"},
     "engines": {name: {"version", "import_seconds", "installed_bytes"}},
     "roofs": [{"threads", "fma_gflops": {"avx512 float32": …}, "read_gbps": {"L2", "L3", "memory"}, "copy_gbps": …}],
     "rows": [{the fields of Row}],
     "aims": [{"aim", "problem", "isa", "threads", "seconds", "figure", "wanted", "met"}]}

Times are seconds, sizes bytes, rates 10⁹ per second.  A field that does not apply is null.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path

from fastconv.errors import ArgumentError
from fastconv.tools.bench.facts import describe_machine
from fastconv.tools.bench.timing import Timing

__all__ = ["OWN", "Results", "Row", "load_results"]

SCHEMA = "fastconv-bench/1"
OWN = "fastconv"


@dataclass
class Row:
    """One engine (or algorithm) on one problem or network.

    `status` is ok; inexact (error beyond the derived bound, timed all the same); refused, failed, differs, mistrusted
    or absent, with the sentence in `reason` and no time.
    """

    kind: str  # kernel, layer, module, network, aim
    problem: str  # the problem's line, or the network's name
    engine: str
    threads: int
    dtype: str = "float32"
    isa: str | None = None
    appearances: list[list] = field(default_factory=list)  # [suite, layer, count] wherever the networks have it
    status: str = "ok"
    reason: str = ""
    error: float | None = None  # largest, as a share of the largest output
    bound: float | None = None
    median: float | None = None
    minimum: float | None = None
    spread: float | None = None  # share of the median
    samples: int = 0
    cold: float | None = None  # median with weights and activations out of the caches
    flops: int = 0
    bytes: int = 0
    scratch_bytes: int | None = None
    predicted: float | None = None  # the planner's time
    picked: bool | None = None  # whether the planner picks this algorithm; None where it never does
    roof_share: float | None = None  # least time that the machine allows the direct method, over the median
    load: float | None = None
    plan: float | None = None  # what is done for new shapes, where that is apart from loading
    first_run: float | None = None  # after the plan
    start: float | None = None  # load, plan and first run together; of all four the median of some fresh processes
    starts: int = 0  # how many
    peak_bytes: int | None = None

    @property
    def is_timed(self) -> bool:
        return self.median is not None

    @property
    def gflops(self) -> float | None:
        """Operations of the direct method per second."""
        return self.flops / self.median / 1e9 if self.median and self.flops else None

    @property
    def gbps(self) -> float | None:
        return self.bytes / self.median / 1e9 if self.median and self.bytes else None

    @property
    def key(self) -> tuple:
        """What a row is compared by between runs."""
        return (self.kind, self.problem, self.engine, self.threads, self.dtype, self.isa)

    def set_timing(self, timing: Timing) -> None:
        self.median, self.minimum, self.spread = timing.median, timing.minimum, timing.spread
        self.samples = len(timing.samples)


@dataclass
class Results:
    """A run: circumstances and rows."""

    command: list[str]
    date: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))
    machine: dict = field(default_factory=describe_machine)
    seconds: float = 0.0
    complete: bool = True
    engines: dict[str, dict] = field(default_factory=dict)
    roofs: list[dict] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    aims: list[dict] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all."""
        part = Path(f"{path}.part")
        part.write_text(json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)


def load_results(path: str | Path) -> Results:
    """Read a file that :meth:`Results.save` wrote; raises :class:`ArgumentError` for anything else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path}: no results of a benchmark run: {error}") from None
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise ArgumentError(f"{path}: no results of a benchmark run: its schema is not {SCHEMA}")
    known = {f.name for f in fields(Row)}
    if lacking := set(describe_machine()) - set(content.get("machine") or ()):
        raise ArgumentError(f"{path}: no results of a benchmark run: machine lacks {', '.join(sorted(lacking))}")
    try:
        rows = [Row(**{name: value for name, value in row.items() if name in known}) for row in content.pop("rows")]
        return Results(**content, rows=rows)
    except (TypeError, KeyError, AttributeError) as error:
        raise ArgumentError(f"{path}: no results of a benchmark run: {error}") from None
