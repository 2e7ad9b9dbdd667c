"""What a model may take: memory for its values, and turns of its loops.

A file of a hundred bytes can ask for any amount of either.  Whoever is about to allocate memory for values claims it
first; while a budget is in force (:class:`limited`), what exceeds it is a :class:`~fastconv.errors.MemoryLimitError`, raised
before anything is allocated.  A budget holds for one thread of Python.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar, Token

import numpy as np

from fastconv import machine
from fastconv.errors import MemoryLimitError, ModelError

__all__ = ["MAX_TURNS", "Budget", "claim", "current", "default_bytes", "limited"]

# Without a `memory_limit`, values may take this many bytes, or more where weights or feeds are large.
LEAST = 2**29
PER_WEIGHT_BYTE = 4
PER_FEED_BYTE = 1024
MAX_TURNS = 2**16  # calls of subgraphs in a run: with a short body they take a second or two


class Budget:
    """`limit` bytes for the values that are there at the same time, and calls of subgraphs that are left.

    Where all values of a model are kept, to be looked at, they may take `whole` bytes, `limit` if it is None.
    """

    __slots__ = ("held", "limit", "turns", "whole")

    def __init__(self, limit: int, turns: int = MAX_TURNS, whole: int | None = None):
        self.limit, self.turns, self.held = limit, turns, 0
        self.whole = limit if whole is None else whole

    def claim(self, size: int, what: str, where: str = "") -> None:
        """Before `size` bytes are allocated for `what`, beside those that are held."""
        if self.held + size > self.limit:
            held = f" beside {self.held} bytes that are in use" if self.held else ""
            raise MemoryLimitError(
                f"{what} would take {size} bytes{held}, and the limit is {self.limit} (memory_limit of the session)",
                where,
            )

    def claim_whole(self, size: int) -> None:
        """Before the values of a model take `size` bytes because all of them are kept."""
        if size > self.whole:
            raise MemoryLimitError(
                f"all values of the model at once would take {size} bytes, and the limit is {self.whole} "
                "(memory_limit of the session)"
            )

    def turn(self) -> None:
        """Before a subgraph is called."""
        self.turns -= 1
        if self.turns < 0:
            raise ModelError(
                "the model's loops have not ended after as many turns as one run may take (max_turns of the session)"
            )


_budget: ContextVar[Budget | None] = ContextVar("fastconv.graph.limits", default=None)
current = _budget.get


class limited:
    """``with limited(budget): ...``; None is no limit."""

    __slots__ = ("budget", "token")

    def __init__(self, budget: Budget | None):
        self.budget = budget

    def __enter__(self) -> None:
        self.token: Token = _budget.set(self.budget)

    def __exit__(self, *exception) -> None:
        _budget.reset(self.token)


def claim(size: int, what: str, where: str = "") -> None:
    """As :meth:`Budget.claim`, of the budget in force, if there is one."""
    budget = _budget.get()
    if budget is not None:
        budget.claim(size, what, where)


def default_bytes(weights: int, feeds: Iterable[np.ndarray]) -> int:
    """The limit for a model with so many bytes of weights, on these arrays: generous, but in proportion."""
    given = sum(array.nbytes for array in feeds)
    return min(max(LEAST, PER_WEIGHT_BYTE * weights, PER_FEED_BYTE * given), machine.memory_bytes())
