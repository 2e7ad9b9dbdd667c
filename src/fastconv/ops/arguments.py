"""Arguments as keys of the plan caches."""

from __future__ import annotations

from fastconv.errors import ArgumentTypeError
from fastconv.geometry import MAX_ELEMENTS, integer, is_sequence

__all__ = ["settled", "word"]

_INTEGERS = {int}


def settled(value, name: str):
    """`value` as an int, a tuple or None: lists and arrays become tuples, NumPy integers ints, words stay.

    Raises :class:`ArgumentTypeError` for anything else.  ``True`` and ``1.0`` in particular are equal to 1 as keys, and
    would find its plan.
    """
    if type(value) is int or value is None or type(value) is str:
        return value
    if type(value) is tuple and {*map(type, value)} == _INTEGERS:
        return value
    if is_sequence(value):
        return tuple(settled(v, name) for v in value)
    return integer(value, name, -MAX_ELEMENTS)


def word(value, name: str) -> str:
    """`value`, which has to be a string; ArgumentTypeError for anything else, which may be no key at all."""
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name}: expected a string, got {value!r} ({type(value).__name__})")
    return value
