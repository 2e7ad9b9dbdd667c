"""Winograd's transforms as matrices, and how far rounding can take its results from the exact ones.

An axis of r taps is computed in tiles of m outputs from m + r - 1 values: Aᵀ [(G g) · (Bᵀ d)], all products element by
element.  Both axes of an image have their own transforms, applied one after the other.
"""

from __future__ import annotations

import numpy as np

from fastconv.geometry import Window
from fastconv.ops.cost import sum_error

__all__ = [
    "POINTS",
    "SIDE",
    "filter_transform",
    "input_transform",
    "output_transform",
    "winograd_error",
    "winograd_errors",
]

SQUARES = (0.5, 2.0)  # of the points beside 0 and infinity, which come in pairs ±p
POINTS = (0.0, *(sign * square**0.5 for square in SQUARES for sign in (1, -1)))  # and infinity
SIDE = len(POINTS) + 1

# Roundings on the longest path through one pass of a transform in `_kernels/winograd.pyx`, where a multiplication counts
# as one even if the machine fuses it, and so does an irrational coefficient.  The filter transform computes in float64,
# with coefficients two roundings off, and rounds once to the kernel's type.
INPUT_ROUNDINGS, OUTPUT_ROUNDINGS, FILTER_ROUNDINGS = 4, 5, 6
BLOCK = 16  # channels between two exact partial sums


def filter_transform(taps: int) -> np.ndarray:
    """G (6, taps): a filter's values at the points, divided by what Lagrange interpolation divides by."""
    rows = [[1.0 / np.prod(SQUARES)] + [0.0] * (taps - 1)]
    for square, other in (SQUARES, SQUARES[::-1]):
        for sign in (1, -1):
            powers = [square ** (k // 2) * (sign * square**0.5 if k % 2 else 1) for k in range(taps)]
            rows.append([power / (2 * square * (square - other)) for power in powers])
    return np.array([*rows, [0.0] * (taps - 1) + [1.0]])


def input_transform() -> np.ndarray:
    """Bᵀ (6, 6): row p holds the coefficients of the product of (x - q) over all points q but p."""
    rows = [[*np.poly([q for q in POINTS if q != p])[::-1], 0.0] for p in POINTS]
    return np.array([*rows, np.poly(POINTS)[::-1]])


def output_transform(outputs: int) -> np.ndarray:
    """Aᵀ (outputs, 6): powers of the points; infinity contributes to the last output alone."""
    finite = np.array([[p**i for p in POINTS] for i in range(outputs)])
    return np.column_stack([finite, np.arange(outputs) == outputs - 1])


def winograd_error(taps: int, channels: int, dtype: str) -> float:
    """Bound of the error relative to max|x| · Σ|w|, whatever the values.

    Each stage is a sum with fixed coefficients; its rounding errors are at most gamma(n) times the same stage applied to
    magnitudes (Higham, 3.5).  Magnitudes grow by at most Σₚ |A[o, p]| |G[p, k]| Σ|B[p, :]| along each dimension.  A path
    has the roundings of two passes of each transform, one per channel, and one of the bias.
    """
    input_growth = np.abs(input_transform()).sum(1)
    growth = ((np.abs(output_transform(SIDE + 1 - taps)) * input_growth) @ np.abs(filter_transform(taps))).max()
    filter_roundings = 2 * FILTER_ROUNDINGS if dtype == "float64" else 2
    roundings = 2 * INPUT_ROUNDINGS + 2 * OUTPUT_ROUNDINGS + filter_roundings + channels + 1
    return sum_error(roundings, dtype) * float(growth) ** 2


def winograd_errors(x, w, b, window: Window, groups: int, dtype: str) -> np.ndarray:
    """Bound of the error of each output element for these arrays, in float64: (N, O, *window.output).

    `x` (N, C, *window.input), `w` (O, C / groups, [depth,] r, r), `b` (O,) or None.  The taps along the depth are further
    channels, ahead of the others in the sum.
    """
    if len(window.kernel) == 2:
        return _plane_errors(x, w, b, window.pads, groups, dtype)
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
        bounds[:, :, depth] = _plane_errors(part, by_depth, b, pads, groups, dtype)
    return bounds


def _plane_errors(x, w, b, pads, groups: int, dtype: str) -> np.ndarray:
    """The same in two dimensions: (N, O, rows, columns).

    Follows the computation in float64 and adds up what each stage can lose, where cancellation has made the values small:
    a rounding errs by at most u times what it rounds, so a pass of n roundings over values d by a matrix T errs by at most
    n u |T| |d|, an error e that it receives leaves it as at most |T| e, and the sum of products by at most u times the sum
    of its partial sums' and its products' magnitudes (Higham, 3.3).  Partial sums are known exactly every BLOCK channels and
    bounded by the triangle inequality in between.  All this is of first order in u; the computed values that are rounded
    differ from the exact ones by the bound itself, hence the quotient 1 - n u at the end, n being the roundings on a path.
    """
    taps = w.shape[-1]
    outputs = SIDE + 1 - taps
    unit = np.finfo(np.promote_types(dtype, np.float32)).eps / 2
    stored = np.finfo(dtype).eps / 2 if dtype == "float16" else 0.0
    a, bt, g = output_transform(outputs), input_transform(), filter_transform(taps)
    wide = w.astype(np.float64)
    u = _both(g, wide)
    u_error = unit * np.abs(u) + 2 * FILTER_ROUNDINGS * np.finfo(np.float64).eps / 2 * _both(np.abs(g), np.abs(wide))
    u, u_error = (part.reshape(groups, -1, *part.shape[1:]).transpose(0, 3, 4, 2, 1) for part in (u, u_error))
    rows, columns = (size + before + after - taps + 1 for size, (before, after) in zip(x.shape[2:], pads, strict=True))
    bounds = np.empty((len(x), len(w), rows, columns))
    filters = len(w) // groups
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity spread over their tile
        for image, group in np.ndindex(len(x), groups):
            channels = slice(group * w.shape[1], (group + 1) * w.shape[1])
            d = _tiles(x[image, channels].astype(np.float64), pads, rows, columns, outputs)
            m, m_error = _products(*_transformed(d, bt, unit), u[group], u_error[group], unit)
            error, y = _inverse(m, m_error, a, unit)
            which = slice(group * filters, (group + 1) * filters)
            error, y = (_image(part, d.shape[1:3])[:, :rows, :columns] for part in (error, y))
            shift = np.zeros((filters, 1, 1)) if b is None else b[which].astype(np.float64)[:, None, None]
            bounds[image, which] = error + (unit + stored) * np.abs(y + shift)
    roundings = 2 * (INPUT_ROUNDINGS + OUTPUT_ROUNDINGS) + w.shape[1] + 4
    return bounds / (1 - roundings * unit)


def _both(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A transform along the last two axes."""
    return matrix @ values @ matrix.T


def _tiles(x, pads, rows: int, columns: int, outputs: int) -> np.ndarray:
    """(C, tiles down, tiles across, 6, 6) of the padded image."""
    down, across = -(-rows // outputs), -(-columns // outputs)
    padded = np.zeros((len(x), (down - 1) * outputs + SIDE, (across - 1) * outputs + SIDE))
    (top, _), (left, _) = pads
    inside = padded[:, top : top + x.shape[1], left : left + x.shape[2]]
    inside[...] = x[:, : inside.shape[1], : inside.shape[2]]
    return np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))[:, ::outputs, ::outputs]


def _transformed(d, bt, unit: float):
    """The transformed input and its error bound."""
    half = bt @ d
    magnitude = np.abs(bt)
    error = INPUT_ROUNDINGS * unit * (magnitude @ np.abs(d) @ magnitude.T + np.abs(half) @ magnitude.T)
    return half @ bt.T, error


def _products(v, v_error, u, u_error, unit: float):
    """Σ over channels of U · V for each point, tile and filter, and its error bound; u (6, 6, channel, filter)."""
    v, v_error = (part.transpose(3, 4, 1, 2, 0).reshape(SIDE, SIDE, -1, len(part)) for part in (v, v_error))
    channels = v.shape[-1]
    left = BLOCK - np.arange(channels) % BLOCK  # partial sums of its block that a product is part of
    error = (v_error + unit * (1 + left) * np.abs(v)) @ np.abs(u) + np.abs(v) @ u_error
    total = np.zeros((SIDE, SIDE, v.shape[2], u.shape[-1]))
    for first in range(0, channels, BLOCK):
        block = slice(first, min(first + BLOCK, channels))
        error += unit * (block.stop - first) * np.abs(total)
        total += v[..., block] @ u[:, :, block]
    return total, error


def _inverse(m, m_error, a, unit: float):
    """Error bound and values of the tiles' outputs, (tiles, filters, outputs, outputs)."""
    m, m_error = (part.transpose(2, 3, 0, 1) for part in (m, m_error))
    magnitude = np.abs(a)
    half = a @ m
    half_error = magnitude @ m_error + OUTPUT_ROUNDINGS * unit * (magnitude @ np.abs(m))
    error = half_error @ magnitude.T + OUTPUT_ROUNDINGS * unit * (np.abs(half) @ magnitude.T)
    return error, half @ a.T


def _image(tiles: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """From (tiles, filters, m, m) to (filters, rows, columns)."""
    _, filters, m, _ = tiles.shape
    return tiles.reshape(*grid, filters, m, m).transpose(2, 0, 3, 1, 4).reshape(filters, grid[0] * m, grid[1] * m)
