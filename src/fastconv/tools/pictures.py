"""Filters and activation maps as PNG files.

Needs matplotlib, an extra.  Maps are bright where a filter answers, on a perceptually uniform scale; filters are grey or
coloured with zero in the middle.  All tiles of a panel share one scale, so that they can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np

from fastconv.tools.activations import SeenLayer

__all__ = ["check_matplotlib", "draw"]

MOST_MAPS = 64
MOST_MATRIX = (32, 16)  # filters and input channels, where each filter has a tile for each channel
MOST_ROWS = 12  # of the overview
TILES_IN_A_ROW = 8
LEAST_TILE = 32  # pixels
GAP, WIDE_GAP = 0.06, 0.2  # between tiles, as a part of one; the wide one where tiles are drawn small
MOST_CLASSES = 10
PANEL = 5.0  # inches
DOTS_PER_INCH = 130
CLIPPED = 0.2  # percent at either end of a scale, so that one value does not darken the rest
MAPS = "magma"
INK, FAINT, BAR = "#222222", "#777777", "#b5367a"  # the last from the middle of magma


def check_matplotlib() -> None:
    """Raise ModuleNotFoundError, with the command to install it, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'drawing needs matplotlib, which is not installed; pip install "fastconv[plots]"', name="matplotlib"
        ) from None


def draw(
    folder: Path,
    title: str,
    picture: np.ndarray,
    layers: list[SeenLayer],
    probabilities: np.ndarray | None,
    progress: Callable[[int, str], None],
) -> list[Path]:
    """Write ``overview.png`` and a file for every layer into `folder`; returns their paths.

    `picture` is (height, width) or (height, width, 3) in 0..1.  `progress` is told the number and the path of the layer
    that is drawn next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "overview.png"]
    _save(_overview(title, picture, layers, probabilities), written[0])
    digits = len(str(len(layers)))
    for number, layer in enumerate(layers, 1):
        progress(number, layer.path)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", layer.path).strip("_.")
        written.append(folder / f"{number:0{digits}}-{name[:80]}.png")
        _save(_layer(layer), written[-1])
    return written


def _save(figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DOTS_PER_INCH, facecolor="white", bbox_inches="tight", pad_inches=0.15)


def _overview(title: str, picture: np.ndarray, layers: list[SeenLayer], probabilities):
    """The image, a row of the strongest maps per layer, and the probabilities of the classes, from top to bottom."""
    from matplotlib.figure import Figure

    chosen = sorted({round(i) for i in np.linspace(0, len(layers) - 1, min(MOST_ROWS, len(layers)))})
    tall = [_tile_ratio(layers[i]) * 9.0 / TILES_IN_A_ROW + 0.25 for i in chosen]
    heights = [1.9, *tall] + [1.6] * (probabilities is not None)
    figure = Figure(figsize=(11.5, sum(heights) + 0.7), layout="constrained")
    figure.get_layout_engine().set(hspace=0.03, wspace=0.0, h_pad=0.04, w_pad=0.04)
    axes = figure.subplots(len(heights), 2, width_ratios=(2.3, 9), height_ratios=heights, squeeze=False)
    figure.suptitle(title, x=0.012, ha="left", weight="bold", fontsize=13, color=INK)
    some = f", {len(chosen)} of {len(layers)} convolutions" if len(chosen) < len(layers) else ""
    size = f"{picture.shape[0]}×{picture.shape[1]}, {'RGB' if picture.ndim == 3 else 'grey'}"
    _label(axes[0, 0], "input", size)
    _bare(axes[0, 1]).imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[0, 1].set_anchor("W")
    for row, i in zip(axes[1:], chosen, strict=False):
        layer = layers[i]
        strongest = np.argsort(-np.abs(layer.maps).mean(axis=(1, 2)), kind="stable")[:TILES_IN_A_ROW]
        count, height, width = layer.maps.shape
        shown = f"{TILES_IN_A_ROW} strongest of " if count > TILES_IN_A_ROW else ""
        after = f"\nafter {layer.after}" if layer.after else ""
        _label(row[0], _shortened(layer.path, 26), f"{shown}{count} maps, {height}×{width}{after}")
        tiles = layer.maps[np.sort(strongest) if count <= TILES_IN_A_ROW else strongest]
        low, high = _scale(layer.maps)
        _tiles(_bare(row[1]), tiles, TILES_IN_A_ROW, cmap=MAPS, vmin=low, vmax=high)
    if probabilities is not None:
        best = np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]
        if len(probabilities) <= MOST_CLASSES:
            best = np.arange(len(probabilities))
        most = f"{len(best)} likeliest of " if len(best) < len(probabilities) else ""
        _label(axes[-1, 0], "probabilities", f"{most}{len(probabilities)} classes")
        _bars(axes[-1, 1], probabilities, best)
    if some:
        figure.text(0.988, 0.992, some[2:], ha="right", va="top", fontsize=9, color=FAINT)
    return figure


def _tile_ratio(layer: SeenLayer) -> float:
    return min(layer.maps.shape[1] / layer.maps.shape[2], 2.0)


def _label(axes, name: str, text: str) -> None:
    _bare(axes)
    axes.text(0.0, 0.5, f"{name}\n", weight="bold", fontsize=10.5, color=INK, va="center", transform=axes.transAxes)
    lines = "\n" * (1 + text.count("\n"))
    axes.text(0.0, 0.5, f"{lines}{text}", fontsize=8.5, color=FAINT, va="center", transform=axes.transAxes)


def _bars(axes, probabilities: np.ndarray, classes: np.ndarray) -> None:
    values = probabilities[classes]
    axes.bar(range(len(classes)), values, color=[BAR if v == values.max() else "#c9c9c9" for v in values], width=0.72)
    for place, value in enumerate(values):
        text = f"{value:.1%}" if value >= 0.0005 else "0"
        axes.text(place, value, text, ha="center", va="bottom", fontsize=8, color=INK if value >= 0.0005 else FAINT)
    axes.set_xticks(range(len(classes)), [str(c) for c in classes], fontsize=10, color=INK)
    axes.set(ylim=(0, 1.18 * max(values.max(), 0.1)), yticks=[], xlim=(-0.6, MOST_CLASSES - 0.4))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#bbbbbb")
    axes.tick_params(axis="x", length=0)


def _layer(layer: SeenLayer):
    """The filters on the left, the maps on the right, in the same order where a filter has one tile."""
    from matplotlib.figure import Figure

    shown = min(len(layer.maps), MOST_MAPS)
    columns = ceil(shown**0.5)
    maps = _mosaic(layer.maps[:shown], columns)
    weights = layer.weights
    panels = [] if weights is None else [_filter_panel(weights, columns)]
    widths = [min(max(PANEL * image.shape[1] / image.shape[0], 2.2), 9.0) for image in (*[p[0] for p in panels], maps)]
    figure = Figure(figsize=(sum(widths) + 0.7 * len(widths), PANEL + 1.3), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    figure.suptitle(layer.path, x=0.012, ha="left", weight="bold", fontsize=13, color=INK)
    subtitle = layer.description if len(layer.description) < 110 else layer.description[:107] + "…"
    figure.text(0.012, -0.01, subtitle, fontsize=8.5, color=FAINT, ha="left", va="top", family="monospace")
    for place, (image, title, options, decorate) in zip(axes, panels, strict=False):
        drawn = _bare(place).imshow(image, interpolation="nearest", **options)
        _title(place, title)
        decorate(place)
        if image.ndim == 2:
            _colour_bar(figure, drawn, place)
    low, high = _scale(layer.maps)
    drawn = _tiles(_bare(axes[-1]), layer.maps[:shown], columns, cmap=MAPS, vmin=low, vmax=high)
    count, height, width = layer.maps.shape
    after = f" after {layer.after}" if layer.after else ""
    _title(axes[-1], f"{_part(shown, count)} activation maps, {height}×{width}{after}")
    _colour_bar(figure, drawn, axes[-1])
    return figure


def _filter_panel(weights: np.ndarray, columns: int):
    """(image, title, options of imshow, what to write on the axes) of the filters (filters, channels, height, width)."""
    filters, channels, height, width = weights.shape
    reach = max(float(np.percentile(np.abs(weights), 100 - CLIPPED)), 1e-12)
    scale = {"cmap": "gray", "vmin": -reach, "vmax": reach}
    if height * width > 1 and channels in (1, 3):
        shown = min(filters, MOST_MAPS)
        tiles = weights[:shown, 0]
        if channels == 3:
            tiles = np.clip(0.5 + weights[:shown].transpose(0, 2, 3, 1) / (2 * reach), 0, 1)
            scale = {}
        kind = "RGB filters, grey is zero" if channels == 3 else "filters"
        image = _mosaic(tiles, columns)
        return image, f"{_part(shown, filters)} {kind}, {height}×{width}", scale, lambda axes: None
    shown, kept = min(filters, MOST_MATRIX[0]), min(channels, MOST_MATRIX[1])
    image = _mosaic(weights[:shown, :kept].reshape(shown * kept, height, width), kept, WIDE_GAP)

    def decorate(axes):
        factor, gap = _enlarged((height, width), WIDE_GAP)
        for axis, count, size, name in (
            (axes.xaxis, kept, factor * width, "input channel"), (axes.yaxis, shown, factor * height, "filter")
        ):  # fmt: skip
            numbers = list(range(0, count, max(1, ceil(count / 8))))
            axis.set_ticks([n * (size + gap) + (size - 1) / 2 for n in numbers], [str(n) for n in numbers])
            axis.set_label_text(name, fontsize=8.5, color=FAINT)
        axes.tick_params(length=0, labelsize=8, labelcolor=FAINT)

    return (
        image,
        f"{_part(shown, filters)} filters × {_part(kept, channels)} channels, {height}×{width}",
        scale,
        decorate,
    )


def _part(shown: int, count: int) -> str:
    return f"{shown} of {count}" if shown < count else str(count)


def _tiles(axes, maps: np.ndarray, columns: int, **options):
    return axes.imshow(_mosaic(maps, columns), interpolation="nearest", **options)


def _mosaic(tiles: np.ndarray, columns: int, between: float = GAP) -> np.ndarray:
    """Tiles (n, height, width) or (n, height, width, 3) side by side, with gaps of NaN, or of white in colour.

    Small tiles are enlarged, so that the gaps look the same for all sizes.
    """
    factor, gap = _enlarged(tiles.shape[1:3], between)
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width = tiles.shape[:3]
    rows = ceil(count / columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *tiles.shape[3:])
    image = np.full(shape, np.nan if tiles.ndim == 3 else 1.0, np.float32)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        image[top : top + height, left : left + width] = tile
    return image


def _enlarged(size: tuple[int, int], between: float) -> tuple[int, int]:
    """Pixels of the mosaic for one of a tile, and between tiles; 1×1 filters lie without gaps, as a matrix."""
    if size == (1, 1):
        return 1, 0
    factor = max(1, round(LEAST_TILE / max(size)))
    return factor, max(1, round(between * factor * max(size)))


def _scale(maps: np.ndarray) -> tuple[float, float]:
    """The ends of the colours: from zero where nothing is negative, without the last fraction of a percent."""
    finite = maps[np.isfinite(maps)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, [CLIPPED, 100 - CLIPPED])
    low = 0.0 if finite.min() >= 0 else float(low)
    return low, max(float(high), low + 1e-6)


def _bare(axes):
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def _title(axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, color=INK)


def _colour_bar(figure, drawn, axes) -> None:
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.55, aspect=35, pad=0.02, anchor=(0.0, 1.0))
    bar.outline.set(edgecolor="#bbbbbb", linewidth=0.6)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=FAINT)
    bar.ax.locator_params(nbins=4)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else "…" + text[1 - longest :]
