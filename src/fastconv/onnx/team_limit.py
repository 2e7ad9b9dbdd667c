"""The number of threads of a single run, while the engine knows one number for the process."""

from __future__ import annotations

import os
from threading import Lock

from fastconv._kernels import engine

__all__ = ["team_limit"]


class _Team:
    """The runs in hand that ask for a number of threads of their own.

    The first sets the number and the last restores it, so that none leaves its own behind; where runs at the same time ask
    for different numbers, the one that came last gets its wish.
    """

    def __init__(self):
        self.lock = Lock()
        self.runs = 0
        self.before = 1

    def enter(self, threads: int) -> None:
        with self.lock:
            now = engine.get_threads()
            if not self.runs:
                self.before = now
            self.runs += 1
            if now != threads:
                engine.set_threads(threads)

    def leave(self) -> None:
        with self.lock:
            self.runs -= 1
            if not self.runs and engine.get_threads() != self.before:
                engine.set_threads(self.before)

    def forget_runs(self) -> None:
        """In a forked child the runs of other threads do not go on."""
        self.lock = Lock()
        if self.runs:
            self.runs = 0
            engine.set_threads(self.before)


class team_limit:
    """``with team_limit(n):`` around a run; None leaves the number as it is."""

    __slots__ = ("threads",)

    def __init__(self, threads: int | None):
        self.threads = threads

    def __enter__(self) -> None:
        if self.threads is not None:
            _team.enter(self.threads)

    def __exit__(self, *exception) -> None:
        if self.threads is not None:
            _team.leave()


_team = _Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.forget_runs)
