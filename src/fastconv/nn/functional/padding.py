"""Padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.arrays import as_array
from fastconv.nn.annotations import ArrayLike
from fastconv.ops.pad import pad_plan

__all__ = ["pad"]


def pad(
    input: ArrayLike, pad: Sequence[int], mode: str = "constant", value: float | None = None, *, algorithm: str = "auto"
) -> np.ndarray:
    """`input` with `pad` positions more on either side of its last axes; a new array of the same element type.

    `pad` is ``(before, after)`` of the **last** axis, then of the one before it, and so on; negative numbers crop.
    Modes: ``"constant"`` (filled with `value`, 0 where it is None; any axes), and on the last axes of (C, *size) or
    (N, C, *size) ``"reflect"`` (mirrored without the border, by less than the size), ``"replicate"`` (the border
    repeated) and ``"circular"`` (wrapped around what is left after cropping, by at most the size).

    Raises :class:`ArgumentError` for an odd number of amounts, more than the mode allows, an unknown mode, and a value
    that the element type cannot hold.  `algorithm` forces a row of the op table, ``"direct"`` or ``"reference"``.
    """
    x = as_array(input, "input")
    return pad_plan(x, pad, mode, value, algorithm)(x)
