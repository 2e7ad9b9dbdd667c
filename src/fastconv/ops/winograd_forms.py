"""The forms that Winograd's transforms have: F(m, r) computes m outputs of r taps from their product at m + r - 1 points.

An axis of r taps is computed in tiles of m outputs from m + r - 1 values: Aᵀ [(G g) · (Bᵀ d)], all products element by
element.  Each axis of an image has a form of its own; their transforms are applied one after the other.

With a stride of 2, taps 0 and 2 of three meet every second value, a correlation of its own, F(m, 2); tap 1 meets the others
in m plain products.  The sum of both takes 2 m + 1 points, as many as there are values, for 3 m products.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = [
    "BLOCK_TAPS",
    "LARGE_FORMS",
    "SMALL_FORMS",
    "STRIDED_FORMS",
    "UNCHANGED",
    "AxisForm",
    "Forms",
    "TransposedForm",
    "block_forms",
]

# Squares of the points beside 0 and infinity, which come in pairs ±p, by the number of all.  Of six, these err a quarter
# of what the textbook's ±1, ±2 do; of eight, the best that a search over all finds is 1 % better than these.  Three and five
# do without 0; their coefficients are exact, and they err less than six.
# Seven, too, have the pairs of the smallest bound among fractions whose products are exact in float32.
SQUARES = {
    1: (),
    3: (1.0,),
    5: (0.25, 1.5625),
    6: (0.5, 2.0),
    7: (0.3125**2, 0.875**2, 1.6875**2),
    8: (0.25, 1.0, 4.0),
}


@dataclass(frozen=True)
class AxisForm:
    """F(outputs, taps) of one axis; F(1, 1) leaves its values as they are.  A stride is 2, of 3 taps.

    A sum of several `blocks` has as many outputs as each has taps: one reads what the next tile has transformed.
    """

    taps: int
    outputs: int
    stride: int = 1
    blocks: int = 1

    @property
    def points(self) -> int:
        return self.taps + self.stride * (self.outputs - 1)

    @property
    def values(self) -> int:
        """Of the input of a tile."""
        return self.points

    @property
    def step(self) -> int:
        """Values from one tile to the next."""
        return self.stride * self.outputs

    @property
    def lone_points(self) -> int:
        """The last points, each of which contributes to one output alone: plain products of a stride, and infinity."""
        return 1 if self.stride == 1 else self.outputs + 1

    @property
    def _evens(self) -> AxisForm:
        return AxisForm((self.taps + 1) // 2, self.outputs)

    def _with_odds(self, evens: np.ndarray, odds: np.ndarray) -> np.ndarray:
        """A transform to points, of every second value and of the others, whose points come before infinity."""
        whole = np.zeros((self.points, evens.shape[1] + odds.shape[1]))
        last = len(evens) - 1
        whole[:last, ::2], whole[-1, ::2] = evens[:-1], evens[-1]
        whole[last:-1, 1::2] = odds
        return whole

    def filter_transform(self) -> np.ndarray:
        """G (points, taps): a filter's values at the points, divided by what Lagrange interpolation divides by."""
        if self.stride == 2:
            return self._with_odds(self._evens.filter_transform(), np.ones((self.outputs, 1)))
        squares = SQUARES[self.points]
        if not squares:
            return np.ones((1, 1))
        has_zero = len(squares) * 2 + 2 == self.points
        rows = [[1.0 / prod(-square for square in squares)] + [0.0] * (self.taps - 1)] if has_zero else []
        for square in squares:
            for sign in (1, -1):
                scale = 2 * (square if has_zero else sign * square**0.5)
                scale *= prod(square - other for other in squares if other != square)
                powers = [square ** (k // 2) * (sign * square**0.5 if k % 2 else 1) for k in range(self.taps)]
                rows.append([power / scale for power in powers])
        return np.array([*rows, [0.0] * (self.taps - 1) + [1.0]])

    def input_transform(self) -> np.ndarray:
        """Bᵀ (points, points): row p holds the coefficients of the product of (x - q) over all points q but p."""
        if self.stride == 2:
            return self._with_odds(self._evens.input_transform(), np.eye(self.outputs))
        finite = self._finite_points()
        if not finite:
            return np.ones((1, 1))
        rows = [[*_product(q for q in finite if q != p), 0.0] for p in finite]
        return np.array([*rows, _product(finite)])

    def output_transform(self) -> np.ndarray:
        """Aᵀ (outputs, points): powers of the points; infinity contributes to the last output alone."""
        if self.stride == 2:
            evens = self._evens.output_transform()
            return np.hstack([evens[:, :-1], np.eye(self.outputs), evens[:, -1:]])
        finite = self._finite_points()
        if not finite:
            return np.ones((1, 1))
        powers = np.array([[p**i for p in finite] for i in range(self.outputs)])
        return np.column_stack([powers, np.arange(self.outputs) == self.outputs - 1])

    def _finite_points(self) -> tuple[float, ...]:
        squares = SQUARES[self.points]
        zero = (0.0,) if squares and len(squares) * 2 + 2 == self.points else ()
        return (*zero, *(sign * square**0.5 for square in squares for sign in (1, -1)))


def _product(roots: Iterable[float]) -> list[float]:
    """The coefficients of the product of (x - root), the constant one first."""
    coefficients = [1.0]
    for root in roots:
        coefficients = [a - root * b for a, b in zip([0.0, *coefficients], [*coefficients, 0.0], strict=True)]
    return coefficients


@dataclass(frozen=True)
class TransposedForm:
    """One axis of a transposed convolution of 3 or 4 taps with a stride of 2: its even and its odd outputs are phases.

    Output o is Σ x[q] · w[k] over 2 q + k = o + before.  A phase has every second tap: F(4, 2) of two, or plain products of
    one.  A tile has four outputs of each phase, from values of which both begin with the first, or one of them with the next.
    Matrices have the points of even outputs, then those of odd ones.
    """

    taps: int
    before: int  # outputs that padding takes away

    outputs = 8
    step = 4  # values from one tile to the next
    blocks = 1
    lone_points = 0  # none are left out

    @property
    def phases(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The taps of even outputs and those of odd ones, in the order of the input."""
        first, second = (
            tuple(k for k in reversed(range(self.taps)) if (output + self.before - k) % 2 == 0) for output in (0, 1)
        )
        return first, second

    @property
    def starts(self) -> tuple[int, int]:
        """The input that the first tap of the first output of each phase meets."""
        first, second = ((output + self.before - taps[0]) // 2 for output, taps in enumerate(self.phases))
        return first, second

    @property
    def shifts(self) -> tuple[int, int]:
        """The value of a tile at which each phase begins."""
        first, second = (start - min(self.starts) for start in self.starts)
        return first, second

    @property
    def values(self) -> int:
        return max(shift + form.values for shift, form in zip(self.shifts, self._forms, strict=True))

    @property
    def points(self) -> int:
        return sum(form.points for form in self._forms)

    @property
    def layout(self) -> int:
        """Its number in `_kernels/winograd_transposed.pxd`."""
        return TRANSPOSED_LAYOUTS.index((*map(len, self.phases), self.shifts[1])) + 1

    @property
    def _forms(self) -> tuple[_Phase, _Phase]:
        first, second = (_Phase(len(taps)) for taps in self.phases)
        return first, second

    def filter_transform(self) -> np.ndarray:
        whole, point = np.zeros((self.points, self.taps)), 0
        for form, taps in zip(self._forms, self.phases, strict=True):
            whole[point : point + form.points, list(taps)] = form.filter_transform()
            point += form.points
        return whole

    def input_transform(self) -> np.ndarray:
        whole, point = np.zeros((self.points, self.values)), 0
        for form, shift in zip(self._forms, self.shifts, strict=True):
            whole[point : point + form.points, shift : shift + form.values] = form.input_transform()
            point += form.points
        return whole

    def output_transform(self) -> np.ndarray:
        whole, point = np.zeros((self.outputs, self.points)), 0
        for phase, form in enumerate(self._forms):
            whole[phase::2, point : point + form.points] = form.output_transform()
            point += form.points
        return whole


@dataclass(frozen=True)
class _Phase:
    """Four outputs of one or two taps."""

    taps: int

    @property
    def points(self) -> int:
        return 3 + self.taps

    values = points

    def filter_transform(self) -> np.ndarray:
        return np.ones((4, 1)) if self.taps == 1 else AxisForm(2, 4).filter_transform()

    def input_transform(self) -> np.ndarray:
        return np.eye(4) if self.taps == 1 else AxisForm(2, 4).input_transform()

    def output_transform(self) -> np.ndarray:
        return np.eye(4) if self.taps == 1 else AxisForm(2, 4).output_transform()


# Those of the kernel: taps of even and of odd outputs, and the value at which the second begin.
TRANSPOSED_LAYOUTS = ((2, 2, 1), (2, 2, 0), (1, 2, 0))

Forms = tuple[AxisForm, AxisForm] | tuple[TransposedForm, TransposedForm]  # of rows and columns


def block_forms(kernel: tuple[int, int], taps: int) -> Forms:
    """F(taps, taps) along each axis of several taps, as a sum of blocks."""
    down, across = (AxisForm(taps, taps, blocks=-(-size // taps)) if size > 1 else UNCHANGED for size in kernel)
    return down, across


def taps_in_blocks(w: np.ndarray, forms: Forms) -> np.ndarray:
    """Weights (..., channels, rows, columns) with blocks of taps ahead of the channels, which are further channels then."""
    *others, channels, rows, columns = w.shape
    down, across = forms
    if down.blocks * across.blocks == 1 and w.shape[-2:] == (down.taps, across.taps):
        return w
    missing = (down.blocks * down.taps - rows, across.blocks * across.taps - columns)
    padded = np.pad(w, [(0, 0)] * (w.ndim - 2) + [(0, count) for count in missing])
    parts = padded.reshape(*others, channels, down.blocks, down.taps, across.blocks, across.taps)
    return np.moveaxis(parts, (-4, -2), (-5, -4)).reshape(*others, -1, down.taps, across.taps)


UNCHANGED = AxisForm(1, 1)

BLOCK_TAPS = 3, 4  # of an axis, of kernels that the tables do not have: small and large

# By taps of rows and columns.  Large forms make fewer products and larger errors.
SMALL_FORMS: dict[tuple[int, int], Forms] = {
    (3, 3): (AxisForm(3, 4),) * 2,
    (5, 5): (AxisForm(5, 2),) * 2,
    (1, 3): (UNCHANGED, AxisForm(3, 4)),
    (3, 1): (AxisForm(3, 4), UNCHANGED),
    (1, 5): (UNCHANGED, AxisForm(5, 4)),
    (5, 1): (AxisForm(5, 4), UNCHANGED),
    (1, 7): (UNCHANGED, AxisForm(7, 2)),
    (7, 1): (AxisForm(7, 2), UNCHANGED),
}
# For a stride of 2 along both axes, in small tiles and in large ones.
STRIDED_FORMS: dict[tuple[int, int], tuple[Forms, Forms]] = {
    (3, 3): ((AxisForm(3, 2, 2),) * 2, (AxisForm(3, 4, 2),) * 2)
}
LARGE_FORMS: dict[tuple[int, int], Forms] = {
    (3, 3): (AxisForm(3, 6),) * 2,
    (5, 5): (AxisForm(5, 4),) * 2,
}
