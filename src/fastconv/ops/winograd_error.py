"""How far rounding can take Winograd's results from the exact ones."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from fastconv.geometry import Window
from fastconv.ops.cost import sum_error
from fastconv.ops.winograd_forms import (
    BLOCK_TAPS,
    LARGE_FORMS,
    SMALL_FORMS,
    UNCHANGED,
    AxisForm,
    Forms,
    block_forms,
    taps_in_blocks,
)

__all__ = ["winograd_error", "winograd_errors", "winograd_forms"]

# Roundings on the longest path through one pass of a transform in `_kernels/winograd.pyx`, where a multiplication counts
# as one even if the machine fuses it, and so does an irrational coefficient.  The filter transform computes in float64,
# with coefficients two roundings off, and rounds once to the kernel's type.
INPUT_ROUNDINGS, OUTPUT_ROUNDINGS, FILTER_ROUNDINGS = 4, 5, 7
BLOCK = 16  # channels between two exact partial sums

MOST_CHANNELS = 1024  # of F(4×4, 3×3), by whose bound in float32 other forms are measured:
LARGE_CHANNELS = 83  # so many sums of F(4×4, 5×5) have no larger one


@cache
def winograd_forms(kernel: tuple[int, int], channels: int, large: bool = False) -> Forms:
    """The forms of a kernel's rows and columns.

    A 5×5 kernel has its large form where this has no larger bound than F(4×4, 3×3) of many channels has.  So has one that the
    tables do not have, a sum of blocks, where that makes fewer products.  With `large`, every kernel has its large form if
    there is one.
    """
    if kernel not in SMALL_FORMS:
        small, most = (block_forms(kernel, taps) for taps in BLOCK_TAPS)
        if _count_products(most) >= _count_products(small):
            return small
        return most if large or winograd_error(most, channels, "float32") <= _most_error() else small
    if large or (kernel == (5, 5) and channels <= LARGE_CHANNELS):
        return LARGE_FORMS.get(kernel, SMALL_FORMS[kernel])
    return SMALL_FORMS[kernel]


def _count_products(forms: Forms) -> float:
    """Of an output and a channel."""
    return prod(form.blocks * form.points / form.outputs for form in forms)


@cache
def _most_error() -> float:
    return winograd_error(SMALL_FORMS[3, 3], MOST_CHANNELS, "float32")


def winograd_error(forms: Forms, channels: int, dtype: str) -> float:
    """Bound of the error relative to max|x| · Σ|w|, whatever the values.

    Each stage is a sum with fixed coefficients; its rounding errors are at most gamma(n) times the same stage applied to
    magnitudes (Higham, 3.5).  Magnitudes grow by at most Σₚ |A[o, p]| |G[p, k]| Σ|B[p, :]| along each dimension.  A path
    has the roundings of each transform along each axis that has one, one per channel of each block, and one of the bias.
    """
    filter_roundings = FILTER_ROUNDINGS if dtype == "float64" else 1
    blocks = forms[0].blocks * forms[1].blocks
    roundings = _passes(forms) * (INPUT_ROUNDINGS + OUTPUT_ROUNDINGS + filter_roundings) + blocks * channels + 1
    return sum_error(roundings, dtype) * _growth(forms[0]) * _growth(forms[1])


@cache
def _growth(form: AxisForm) -> float:
    input_growth = np.abs(form.input_transform()).sum(1)
    return float(((np.abs(form.output_transform()) * input_growth) @ np.abs(form.filter_transform())).max())


def _passes(forms: Forms) -> int:
    return sum(form != UNCHANGED for form in forms)


def winograd_errors(x, w, b, window: Window, groups: int, dtype: str, forms: Forms) -> np.ndarray:
    """Bound of the error of each output element for these arrays, in float64: (N, O, *window.output).

    `x` (N, C, *window.input), `w` (O, C / groups, [[depth,] rows,] columns), `b` (O,) or None.  The taps along
    the depth are further channels, ahead of the others in the sum.
    """
    plane = min(len(window.kernel), 2)
    if window.kernel[-plane:] != tuple(form.taps for form in forms[-plane:]):
        x, w, window = _in_blocks(x, w, window, groups, forms)
    if len(window.kernel) == 1:
        pads, dilation = ((0, 0), *window.pads), (1, *window.dilation)
        return _dilated_errors(x[:, :, None], w[:, :, None], b, pads, dilation, groups, dtype, forms)[:, :, 0]
    if len(window.kernel) == 2:
        return _dilated_errors(x, w, b, window.pads, window.dilation, groups, dtype, forms)
    (taps, *_), (stride, *_), (dilation, *_), ((before, _), *pads) = (
        window.kernel, window.stride, window.dilation, window.pads,
    )  # fmt: skip
    by_depth = w.swapaxes(1, 2).reshape(len(w), -1, *w.shape[3:])
    bounds = np.empty((len(x), len(w), *window.output))
    for depth in range(window.output[0]):
        planes = depth * stride - before + np.arange(taps) * dilation
        inside = (planes >= 0) & (planes < x.shape[2])
        part = np.zeros((*x.shape[:2], taps, *x.shape[3:]), x.dtype)
        part[:, :, inside] = x[:, :, planes[inside]]
        part = part.reshape(len(x), groups, w.shape[1], *part.shape[2:]).swapaxes(2, 3)
        part = part.reshape(len(x), groups * by_depth.shape[1], *x.shape[3:])
        bounds[:, :, depth] = _dilated_errors(part, by_depth, b, pads, window.dilation[1:], groups, dtype, forms)
    return bounds


def _in_blocks(x, w, window: Window, groups: int, forms: Forms) -> tuple[np.ndarray, np.ndarray, Window]:
    """The same convolution with kernels of one block, which are further channels; planes have no padding left."""
    plane = min(len(window.kernel), 2)
    others = window.pads[:-plane]
    used = forms[-plane:]
    pads = [
        (before, after + form.blocks * form.taps - taps)
        for (before, after), form, taps in zip(window.pads[-plane:], used, window.kernel[-plane:], strict=True)
    ]
    padded = np.pad(x, [(0, 0)] * (x.ndim - plane) + pads)
    sizes = [count + form.taps - 1 for count, form in zip(window.output[-plane:], used, strict=True)]
    parts = []
    for block in np.ndindex(*(form.blocks for form in used)):
        firsts = [index * form.taps for index, form in zip(block, used, strict=True)]
        part = padded[(..., *(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True)))]
        parts.append(part.reshape(len(x), groups, w.shape[1], *part.shape[2:]))
    x = np.stack(parts, 2).reshape(len(x), -1, *parts[0].shape[3:])
    by_rows = np.moveaxis(w[:, :, None] if plane == 1 else w, 1, -3)  # channels next to the rows
    w = np.moveaxis(taps_in_blocks(by_rows, forms), -3, 1)
    w = w[:, :, 0] if plane == 1 else w
    pads = (*others, *(((0, 0),) * plane))
    return x, w, Window.of(x.shape[2:], w.shape[2:], window.stride, pads, window.dilation)


def _dilated_errors(x, w, b, pads, dilation, groups: int, dtype: str, forms: Forms) -> np.ndarray:
    """The same in two dimensions: (N, O, rows, columns).  Every d-th output needs every d-th input alone."""
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    if any(form.stride > 1 for form in forms):  # then there is no dilation
        return _plane_errors(padded, w, b, groups, dtype, forms)
    outputs = [n - d * (k - 1) for n, d, k in zip(padded.shape[2:], dilation, w.shape[2:], strict=True)]
    bounds = np.empty((len(x), len(w), *outputs))
    for first in np.ndindex(*(min(d, n) for d, n in zip(dilation, outputs, strict=True))):
        every = (..., *(slice(start, None, d) for start, d in zip(first, dilation, strict=True)))
        bounds[every] = _plane_errors(padded[every], w, b, groups, dtype, forms)
    return bounds


def _plane_errors(x, w, b, groups: int, dtype: str, forms: Forms) -> np.ndarray:
    """The same without dilation and padding.

    Follows the computation in float64 and adds up what each stage can lose, where cancellation has made the values small:
    a rounding errs by at most u times what it rounds, so a pass of n roundings over values d by a matrix T errs by at most
    n u |T| |d|, an error e that it receives leaves it as at most |T| e, and the sum of products by at most u times the sum
    of its partial sums' and its products' magnitudes (Higham, 3.3).  Partial sums are known exactly every BLOCK channels and
    bounded by the triangle inequality in between.  All this is of first order in u; the computed values that are rounded
    differ from the exact ones by the bound itself, hence the quotient 1 - n u at the end, n being the roundings on a path.
    """
    unit = np.finfo(np.promote_types(dtype, np.float32)).eps / 2
    stored = np.finfo(dtype).eps / 2 if dtype == "float16" else 0.0
    g = [form.filter_transform() for form in forms]
    wide = w.astype(np.float64)
    u = _along_both(*g, wide)
    filter_unit = _passes(forms) * FILTER_ROUNDINGS * np.finfo(np.float64).eps / 2
    u_error = filter_unit * _along_both(*map(np.abs, (*g, wide))) + unit * np.abs(u)
    u, u_error = (part.reshape(groups, -1, *part.shape[1:]).transpose(0, 3, 4, 2, 1) for part in (u, u_error))
    rows, columns = ((size - form.taps) // form.stride + 1 for size, form in zip(x.shape[2:], forms, strict=True))
    bounds = np.empty((len(x), len(w), rows, columns))
    filters = len(w) // groups
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity spread over their tile
        for image, group in np.ndindex(len(x), groups):
            channels = slice(group * w.shape[1], (group + 1) * w.shape[1])
            d = _tiles(x[image, channels].astype(np.float64), rows, columns, forms)
            m, m_error = _products(*_transformed(d, forms, unit), u[group], u_error[group], unit)
            error, y = _inverse(m, m_error, forms, unit)
            which = slice(group * filters, (group + 1) * filters)
            error, y = (_image(part, d.shape[1:3])[:, :rows, :columns] for part in (error, y))
            shift = np.zeros((filters, 1, 1)) if b is None else b[which].astype(np.float64)[:, None, None]
            bounds[image, which] = error + (unit + stored) * np.abs(y + shift)
    roundings = _passes(forms) * (INPUT_ROUNDINGS + OUTPUT_ROUNDINGS) + w.shape[1] + 4
    return bounds / (1 - roundings * unit)


def _along_both(down: np.ndarray, across: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Transforms along the last two axes."""
    return down @ values @ across.T


def _tiles(x, rows: int, columns: int, forms: Forms) -> np.ndarray:
    """(C, tiles down, tiles across, points down, points across)."""
    sides = tuple(form.points for form in forms)
    down, across = (form.step for form in forms)
    tiles = (-(-size // form.outputs) for size, form in zip((rows, columns), forms, strict=True))
    height, width = ((count - 1) * form.step + form.points for count, form in zip(tiles, forms, strict=True))
    padded = np.zeros((len(x), height, width))
    x = x[:, :height, :width]  # a stride may leave some out
    padded[:, : x.shape[1], : x.shape[2]] = x
    return np.lib.stride_tricks.sliding_window_view(padded, sides, axis=(1, 2))[:, ::down, ::across]


def _transformed(d, forms: Forms, unit: float):
    """The transformed input and its error bound."""
    return _two_passes([form.input_transform() for form in forms], d, 0, INPUT_ROUNDINGS * unit, forms)


def _two_passes(transforms, values, error, unit: float, forms: Forms):
    """Values transformed along the last two axes, and their error bounds; `unit` times magnitudes is what a pass can lose."""
    (down, across), (rows, columns) = transforms, (unit * (form != UNCHANGED) for form in forms)
    half = down @ values
    half_error = np.abs(down) @ (error + rows * np.abs(values))
    return half @ across.T, (half_error + columns * np.abs(half)) @ np.abs(across).T


def _products(v, v_error, u, u_error, unit: float):
    """Σ over channels of U · V for each point, tile and filter, and its error bound; u (points, points, channel, filter)."""
    v, v_error = (part.transpose(3, 4, 1, 2, 0).reshape(*part.shape[3:], -1, len(part)) for part in (v, v_error))
    channels = v.shape[-1]
    index = np.arange(channels)
    left = (
        np.minimum(index // BLOCK * BLOCK + BLOCK, channels) - index
    )  # partial sums of its block that a product is part of
    error = (v_error + unit * (1 + left) * np.abs(v)) @ np.abs(u) + np.abs(v) @ u_error
    total = np.zeros((*v.shape[:3], u.shape[-1]))
    for first in range(0, channels, BLOCK):
        block = slice(first, min(first + BLOCK, channels))
        error += unit * (block.stop - first) * np.abs(total)
        total += v[..., block] @ u[:, :, block]
    return total, error


def _inverse(m, m_error, forms: Forms, unit: float):
    """Error bound and values of the tiles' outputs, (tiles, filters, outputs, outputs)."""
    m, m_error = (part.transpose(2, 3, 0, 1) for part in (m, m_error))
    y, error = _two_passes([form.output_transform() for form in forms], m, m_error, OUTPUT_ROUNDINGS * unit, forms)
    return error, y


def _image(tiles: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """From (tiles, filters, outputs, outputs) to (filters, rows, columns)."""
    _, filters, down, across = tiles.shape
    by_place = tiles.reshape(*grid, filters, down, across).transpose(2, 0, 3, 1, 4)
    return by_place.reshape(filters, grid[0] * down, grid[1] * across)
