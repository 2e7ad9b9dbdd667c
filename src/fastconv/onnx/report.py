"""Reports: rows about the steps of a network, as text for a terminal, as one HTML file, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

__all__ = ["Column", "Report", "bytes_text", "seconds_text", "shapes_text"]

NAME_WIDTH = 44  # characters of a column of text on the terminal
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#222;margin:2em auto;max-width:1400px;padding:0 1em}
h1{font-size:1.4em}dl{display:grid;grid-template-columns:max-content auto;gap:.15em 1em}dt{color:#666}dd{margin:0}
table{border-collapse:collapse;width:100%}th{position:sticky;top:0;background:#fff;border-bottom:2px solid #333}
td,th{padding:.2em .6em;text-align:left;vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}
tr:nth-child(even){background:#f5f7f9}tr.bad{background:#fbe0dc}td.bar{width:16em}
td.bar svg{display:block;width:100%;height:1.1em}.note{color:#555}
"""


@dataclass(frozen=True)
class Column:
    """A column of a report: `text` turns a row into a cell.  Numbers stand on the right."""

    title: str
    text: Callable[[Any], str]
    is_number: bool = True


class Report:
    """What a session tells of its steps.

    ``rows`` holds a dataclass per step and ``summary`` the facts about the whole by name; ``str()`` is a table,
    :meth:`to_html` writes one self-contained file with a bar per step, :meth:`to_json` is a string.
    """

    title = ""
    columns: tuple[Column, ...] = ()

    def __init__(self, rows: list, summary: dict[str, str]):
        self.rows = rows
        self.summary = summary

    def bar(self, row) -> float | None:
        """What the length of a row's bar stands for; None for a row without one."""
        return None

    def note(self, row) -> str:
        """A sentence about the row, for the HTML file."""
        return ""

    def is_marked(self, row) -> bool:
        """Whether the row is one to look at first."""
        return False

    def __str__(self) -> str:
        cells = [[column.title for column in self.columns]]
        cells += [[column.text(row) for column in self.columns] for row in self.rows]
        for line in cells:
            for i, column in enumerate(self.columns):
                if not column.is_number and len(line[i]) > NAME_WIDTH:
                    line[i] = line[i][: NAME_WIDTH - 1] + "…"
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if column.is_number else cell.ljust(width)
                for cell, width, column in zip(line, widths, self.columns, strict=True)
            ).rstrip()
            for line in cells
        ]
        rule = "-" * max(map(len, lines))
        facts = [f"{name}: {value}" for name, value in self.summary.items()]
        return "\n".join([self.title, lines[0], rule, *lines[1:], rule, *facts])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.rows)} steps; print() shows it>"

    def to_json(self) -> str:
        """``{"title", "summary", "rows"}``; numbers that JSON lacks (infinity, NaN) are null."""
        content = {"title": self.title, "summary": self.summary, "rows": [asdict(row) for row in self.rows]}
        return json.dumps(_plain(content), indent=1, allow_nan=False)

    def to_html(self, path) -> None:
        """Write the report to `path` as one HTML file that refers to nothing outside of itself."""
        longest = max((self.bar(row) or 0.0 for row in self.rows), default=0.0)
        head = "".join(f"<th{_kind(column)}>{escape(column.title)}</th>" for column in self.columns)
        facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in self.summary.items())
        body = "".join(self._html_row(row, longest) for row in self.rows)
        text = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{escape(self.title)}</h1><dl>{facts}</dl>"
            f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{body}</tbody></table></body></html>\n"
        )
        Path(path).write_text(text, encoding="utf-8")

    def _html_row(self, row, longest: float) -> str:
        cells = "".join(f"<td{_kind(column)}>{escape(column.text(row))}</td>" for column in self.columns)
        share = 100 * (self.bar(row) or 0.0) / longest if longest else 0.0
        colour = "#c0392b" if self.is_marked(row) else "#2a78b8"
        bar = (
            f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img"><title>{escape(self.note(row))}</title>'
            f'<rect width="{share:.2f}" height="10" fill="{colour}"/></svg>'
        )
        note = f'<div class="note">{escape(self.note(row))}</div>' if self.note(row) else ""
        mark = ' class="bad"' if self.is_marked(row) else ""
        return f'<tr{mark}>{cells}<td class="bar">{bar}{note}</td></tr>'


def _kind(column: Column) -> str:
    return ' class="n"' if column.is_number else ""


def _plain(value):
    """`value` in JSON's types."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def seconds_text(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def bytes_text(count: float | None) -> str:
    if count is None:
        return "-"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


def shapes_text(shapes) -> str:
    return ", ".join("×".join(map(str, shape)) or "scalar" for shape in shapes)
