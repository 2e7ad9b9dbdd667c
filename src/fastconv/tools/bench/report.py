"""The report: tables on the terminal, one HTML file with everything in it, a summary in Markdown."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from pathlib import Path

from fastconv.errors import ArgumentError
from fastconv.tools.bench.engines import ENGINES
from fastconv.tools.bench.results import Results
from fastconv.tools.bench.summary import noise, summary_tables
from fastconv.tools.bench.tables import Table, tables

__all__ = ["check_markdown", "circumstances", "terminal_report", "write_html", "write_markdown"]

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --faint: #555; --page: #fff; --line: #e4e4e4; --hover: #f3f6fa }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e4e4; --faint: #a8a8a8; --page: #16181b; --line: #34373b; --hover: #22262b }
}
body {
  font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem
}
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.5rem }
summary { font-weight: 600; margin: 1.2rem 0 .4rem; cursor: pointer }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums }
th, td { padding: .18rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { border-bottom: 2px solid #888 } .left { text-align: left } tbody tr:hover { background: var(--hover) }
.wide { overflow-x: auto } .note { font-size: .82rem; color: var(--faint); margin: .3rem 0 }
img { display: block; max-width: 100%; background: #fff; padding: .6rem; margin: 1rem 0; border-radius: .4rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem }
dt { color: var(--faint) } dd { margin: 0 }
"""


def circumstances(results: Results) -> dict[str, str]:
    """Date, machine, versions and command, in words."""
    machine = results.machine
    caches = ", ".join(f"L{level} {machine[f'l{level}_bytes'] >> 10} KiB" for level in (1, 2, 3))
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB" if machine.get("memory_bytes") else "unknown"
    found = {
        "Date": results.date + ("" if results.complete else " (interrupted: what was finished by then)"),
        "Processor": f"{machine['processor']}, {machine['cores']} cores; {caches}; memory {memory}",
        "System": f"{machine['system']}, Python {machine['python']}",
        "Command": shlex.join(results.command),
        "Duration": f"{results.seconds / 60:.1f} min",
    }
    versions = {
        ENGINES[name].distribution if name in ENGINES else name: facts["version"]
        for name, facts in results.engines.items()
        if facts["version"]
    }
    found |= {"Versions": ", ".join(map(" ".join, versions.items()))} if versions else {}
    return found | ({"Noise": stated} if (stated := noise(results.rows)) else {})


def terminal_report(results: Results, more: Iterable[Table] = ()) -> str:
    """The circumstances and every table as text."""
    facts = "\n".join(f"{name:10} {value}" for name, value in circumstances(results).items())
    return "\n".join([facts, "", *(table.text() for table in (*tables(results), *more, *summary_tables(results)))])


def check_markdown(path: str | Path) -> None:
    """Raise :class:`ArgumentError` for a file that exists and has no place for the summary."""
    if Path(path).exists():
        _around(path)


def write_markdown(path: str | Path, results: Results) -> None:
    """The summary with its circumstances: between the marks of a file that exists, with the marks in a new one."""
    before, after = _around(path) if Path(path).exists() else ("", "\n")
    facts = "\n".join(f"- {name}: {value}" for name, value in circumstances(results).items())
    section = "\n".join(table.markdown() for table in summary_tables(results))
    Path(path).write_text(f"{before}{BEGIN}\n{section}\n{facts}\n{END}{after}", encoding="utf-8")


def _around(path: str | Path) -> tuple[str, str]:
    """The text before and after the summary."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"markdown: {path}: {error}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ArgumentError(f"markdown: {path} has no {BEGIN} and {END}, between which the summary would stand")
    return before, after


def write_html(path: str | Path, results: Results, plots: dict[str, Path], more: Iterable[Table] = ()) -> None:
    """One self-contained file: circumstances, the PNG files `plots` (by title) embedded, every table."""
    facts = circumstances(results).items()
    definitions = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    images = "\n".join(
        f'<img alt="{escape(title)}" src="data:image/png;base64,{b64encode(file.read_bytes()).decode()}">'
        for title, file in plots.items()
    )
    if not images:
        images = "<p class=note>No plots: matplotlib is not installed (pip install fastconv[plots]).</p>"
    summary = "\n".join(table.html() for table in (*summary_tables(results), *more))
    content = "\n".join(table.html() for table in tables(results))
    Path(path).write_text(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>fastconv benchmark</title>\n<style>{STYLE}</style>\n"
        f"<h1>fastconv benchmark</h1>\n<dl>{definitions}</dl>\n"
        f"<h2>Summary</h2>\n{summary}\n<h2>Plots</h2>\n{images}\n<h2>Tables</h2>\n{content}\n</html>\n",
        encoding="utf-8",
    )
