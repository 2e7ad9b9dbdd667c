"""Where the windows of a kernel lie on each axis, derived independently of ``fastconv.geometry``."""

from typing import NamedTuple

import numpy as np


class Axis(NamedTuple):
    """The windows along one axis; all sizes in elements."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    output: int

    @property
    def extent(self) -> int:
        """Positions from the first to the last tap of one window."""
        return self.dilation * (self.kernel - 1) + 1

    def positions(self) -> np.ndarray:
        """(output, kernel): the input position of every tap; negative or beyond `size` in the padding."""
        starts = np.arange(self.output)[:, None] * self.stride - self.before
        return starts + np.arange(self.kernel) * self.dilation

    def padded_positions(self, tap: int) -> slice:
        """The positions in the padded input that `tap` visits, one per window."""
        first = tap * self.dilation
        return slice(first, first + (self.output - 1) * self.stride + 1, self.stride)


def per_axis(value, rank: int) -> tuple:
    """`value` for each of `rank` axes: one for all, or a sequence of one or of `rank`."""
    values = tuple(value) if hasattr(value, "__len__") and not isinstance(value, str) else (value,)
    return values * rank if len(values) == 1 else values


def window_axes(sizes, kernel, stride, padding, dilation, ceil_mode=False) -> list[Axis]:
    """The windows of every axis; `padding` is a word, a number for all axes, or per axis a number or a pair."""
    rank = len(sizes)
    settings = (per_axis(setting, rank) for setting in (kernel, stride, dilation, padding))
    return [_axis(*axis, ceil_mode) for axis in zip(sizes, *settings, strict=True)]


def _axis(size, kernel, stride, dilation, padding, ceil_mode) -> Axis:
    extent = dilation * (kernel - 1) + 1
    before, after = _pads(padding, size, extent, stride)
    room = size + before + after - extent
    starts = range(0, room + (stride if ceil_mode else 1), stride)
    if ceil_mode and starts and starts[-1] >= before + size:
        starts = starts[:-1]
    if not starts:
        raise ValueError(f"a kernel over {extent} positions does not fit an axis of {before} + {size} + {after}")
    return Axis(size, kernel, stride, dilation, before, after, len(starts))


def _pads(padding, size, extent, stride) -> tuple[int, int]:
    if not isinstance(padding, str):
        return per_axis(padding, 2)
    if padding == "valid":
        return 0, 0
    if padding not in ("same", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"unknown padding {padding!r}")
    last_start = range(0, size, stride)[-1]
    missing = max(last_start + extent - size, 0)
    half, rest = missing // 2, missing - missing // 2
    return (rest, half) if padding == "SAME_LOWER" else (half, rest)
