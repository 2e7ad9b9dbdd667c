"""Plots as PNG files: the roofline with every layer on it, bars per network, speed ratio per layer.

Needs matplotlib, an extra.  The files have a palette, which makes them a third of the size.  The colours are Okabe and
Ito's, told apart by every kind of colour vision; fastconv has the strong one, and nothing is said by colour alone.
"""

from __future__ import annotations

from math import atan, ceil, degrees, log2
from pathlib import Path

from fastconv.roof import Roof
from fastconv.tools.bench.results import OWN, Results, Row
from fastconv.tools.bench.tables import best_peer, geometric_mean, speed_ratio, suite_rows

__all__ = ["write_plots"]

BLUE, ORANGE, GREEN, GREY, DARK = "#0072B2", "#D55E00", "#009E73", "#9a9a9a", "#333333"
DOTS_PER_INCH, COLOURS = 130, 48
PANELS_IN_A_ROW = 3
WIDE_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
NARROW_TICKS = (0.25, 1 / 3, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4)
BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
ROOM = 1.45  # for the names at the ends of the bars
NEAR = 0.1  # limits that lie so close share a line
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e2e2e2",
    "axes.axisbelow": True,
}


def write_plots(results: Results, folder: str | Path) -> dict[str, Path]:
    """Write every plot that the results have rows for into `folder`; returns the files by title."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}

    def keep(title: str, name: str, figure) -> None:
        if figure is not None:
            written[title] = folder / f"{name}.png"
            figure.savefig(written[title], dpi=DOTS_PER_INCH, bbox_inches="tight", facecolor="white")
            pyplot.close(figure)
            _reduce(written[title])

    with pyplot.rc_context(STYLE):
        for threads in sorted({row.threads for row in results.rows}):
            rows = [row for row in results.rows if row.threads == threads]
            ending = "1 thread" if threads == 1 else f"{threads} threads"
            networks = [row for row in rows if row.kind == "network"]
            keep(f"Networks, {ending}", f"networks-{threads}", _networks(pyplot, networks, ending))
            layers = [row for row in rows if row.kind == "layer"]
            limits = [Roof(**roof) for roof in results.roofs if roof["threads"] == threads]
            keep(f"Roofline, {ending}", f"roofline-{threads}", _roofline(pyplot, layers, limits, ending))
            for suite, content in suite_rows(layers).items():
                title = f"Layers of {suite}, {ending}"
                keep(title, f"layers-{suite}-{threads}", _ratios(pyplot, *content, title))
    return written


def _reduce(file: Path) -> None:
    """Rewrite the picture with few colours."""
    from PIL import Image

    with Image.open(file) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(file, optimize=True)


def _networks(pyplot, rows: list[Row], ending: str):
    """A panel per network with a bar per engine, the fastest on top."""
    names = list(dict.fromkeys(row.problem for row in rows if row.is_timed))
    if not names:
        return None
    lines = ceil(len(names) / PANELS_IN_A_ROW)
    engines = max(len({row.engine for row in rows if row.problem == name and row.is_timed}) for name in names)
    figure, panels = pyplot.subplots(
        lines, PANELS_IN_A_ROW, figsize=(11, lines * (0.23 * engines + 0.75)), squeeze=False, layout="constrained"
    )
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels.flat, names, strict=False):
        timed = sorted((row for row in rows if row.problem == name and row.is_timed), key=lambda row: row.median)
        milliseconds = [row.median * 1e3 for row in timed]
        colours = [BLUE if row.engine == OWN else GREY for row in timed]
        panel.barh([row.engine for row in timed], milliseconds, color=colours, height=0.72)
        for position, (row, value) in enumerate(zip(timed, milliseconds, strict=True)):
            mark = "~" if row.status == "inexact" else ""
            weight = "bold" if row.engine == OWN else "normal"
            panel.text(value, position, f" {value:.3g}{mark}", va="center", weight=weight)
        for label in panel.get_yticklabels():
            if label.get_text() == OWN:
                label.set(color=BLUE, weight="bold")
        panel.set(title=name, xlim=(0, max(milliseconds) * 1.18))
        panel.invert_yaxis()
        panel.tick_params(axis="y", length=0)
        panel.xaxis.set_visible(False)
        panel.spines["bottom"].set_visible(False)
    inexact = any(row.status == "inexact" for row in rows if row.is_timed)
    title = f"Milliseconds per image, batch 1, {ending} (shorter is faster{'; ~ error beyond the bound' if inexact else ''})"
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure


def _roofline(pyplot, rows: list[Row], limits: list[Roof], ending: str):
    """Rate over intensity, both logarithmic: fastconv and the best peer of every layer under the machine's limits."""
    by_problem: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.flops and row.dtype == "float32":
            by_problem.setdefault(row.problem, {})[row.engine] = row
    peers = [peer for peer in map(best_peer, by_problem.values()) if peer]
    own = [by_engine[OWN] for by_engine in by_problem.values() if OWN in by_engine and by_engine[OWN].is_timed]
    if not peers and not own:
        return None
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = pyplot.subplots(figsize=(10, 6.6), layout="constrained")
    intensities = [row.flops / row.bytes for row in peers + own]
    left, right = min(intensities) / 6, max(intensities) * 8
    for limit in limits:
        _draw_limit(axes, limit, left, right)
    for row in own:
        peer = best_peer(by_problem[row.problem])
        if peer:
            x = row.flops / row.bytes
            axes.plot([x, x], [peer.gflops, row.gflops], color=GREY, linewidth=0.7, zorder=1)
    for chosen, label, style in (
        (peers, "best peer", {"marker": "D", "facecolors": "none", "edgecolors": ORANGE, "s": 20}),
        (own, OWN, {"marker": "o", "color": BLUE, "s": 22, "edgecolors": "white", "linewidths": 0.4}),
    ):
        if chosen:
            xs = [row.flops / row.bytes for row in chosen]
            axes.scatter(xs, [row.gflops for row in chosen], label=f"{label} ({len(chosen)} layers)", zorder=3, **style)
    axes.set(
        xscale="log", yscale="log", xlim=(left, right),
        xlabel="operations of the direct method per byte moved (FLOP/byte)", ylabel="GFLOP/s of the direct method",
        title=f"Every layer under the machine's limits, {ending} (Winograd needs fewer operations and may lie above)",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(True, which="major")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _draw_limit(axes, limit: Roof, left: float, right: float) -> None:
    line = {"color": DARK, "linewidth": 1, "zorder": 2}
    name_style = {"fontsize": 8, "color": DARK, "zorder": 2}
    peak = limit.peak("float32")
    for number, (level, rate) in enumerate(limit.read_gbps.items()):
        end = min(peak / rate, right) if peak else right
        axes.plot([left, end], [left * rate, end * rate], **line)
        x, beside = left * 1.2, (1 / 1.09 if number else 1.06)  # the widest above its line, the others below theirs
        axes.text(
            x, x * rate * beside, f"{level} {rate:.0f} GB/s", va="top" if number else "bottom", **name_style,
            rotation=degrees(atan(rate)), rotation_mode="anchor", transform_rotates_text=True, bbox=BEHIND,
        )  # fmt: skip
    drawn: list[tuple[float, str]] = []
    for name, rate in limit.fma_gflops.items():
        if not name.endswith("float32"):
            continue
        if drawn and abs(rate / drawn[-1][0] - 1) < NEAR:
            drawn[-1] = (max(rate, drawn[-1][0]), f"{drawn[-1][1]}, {name.split()[0]}")
        else:
            drawn.append((rate, name.split()[0]))
    for rate, names in drawn:
        axes.plot([max(rate / max(limit.read_gbps.values()), left), right], [rate, rate], **line)
        axes.annotate(
            f"{names} multiply-add {rate:.0f} GFLOP/s", (right / 1.05, rate), (0, 4), textcoords="offset points",
            ha="right", bbox=BEHIND, **name_style,
        )  # fmt: skip


def _ratios(pyplot, layers: list[tuple[str, int]], by_engine: dict[str, dict[str, Row]], title: str):
    """A bar per layer: how many times faster than the best peer, best on top."""
    found = [(speed_ratio(by_engine[problem]), problem, count) for problem, count in layers]
    found = sorted((entry for entry in found if entry[0]), reverse=True)
    if not found:
        return None
    ratios = [ratio for ratio, *_ in found]
    figure, axes = pyplot.subplots(figsize=(10, 0.24 * len(found) + 1.1), layout="constrained")
    positions = range(len(found))
    colours = [BLUE if ratio >= 1 else ORANGE for ratio in ratios]
    axes.barh(positions, list(map(log2, ratios)), color=colours, height=0.7)
    labels = [problem + (f" *{count}" if count > 1 else "") for _, problem, count in found]
    axes.set_yticks(positions, labels, fontsize=8)
    for position, (ratio, problem, _) in zip(positions, found, strict=True):
        text = f" {ratio:.2f}× {best_peer(by_engine[problem]).engine} "
        axes.text(log2(ratio), position, text, va="center", ha="left" if ratio >= 1 else "right", fontsize=7.5)
    reach = max(map(abs, map(log2, ratios))) + 0.2
    ticks = [tick for tick in (WIDE_TICKS if reach > 2 else NARROW_TICKS) if abs(log2(tick)) <= reach]
    axes.set_xticks(list(map(log2, ticks)), [f"{tick:.2g}×" if tick < 1 else f"{tick:g}×" for tick in ticks])
    axes.axvline(0, color=DARK, linewidth=1)
    axes.set(
        xlim=(-ROOM * reach, ROOM * reach), ylim=(len(found) - 0.4, -0.6),
        xlabel="speed of fastconv over the best peer",
        title=f"{title}: geometric mean {geometric_mean(ratios):.2f}× the best peer",
    )  # fmt: skip
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    return figure
