"""The number of threads of a single run, while the engine knows one number for the process."""

from __future__ import annotations

import os
from threading import Lock

from fastconv import config

__all__ = ["team_limit"]


class _TeamLimit:
    """``with team_limit(n):`` around a run.

    Of the runs at the same time the first sets the number and the last restores it, so that none leaves its own behind;
    where they ask for different numbers, the one that came last gets its wish.
    """

    def __init__(self):
        self.lock = Lock()
        self.running = 0
        self.before = 1

    def __call__(self, threads: int) -> _Limited:
        return _Limited(self, threads)

    def forget_runs(self) -> None:
        """In a forked child the runs of other threads do not go on."""
        self.lock = Lock()
        if self.running:
            self.running = 0
            config.set_num_threads(self.before)


class _Limited:
    def __init__(self, team: _TeamLimit, threads: int):
        self.team = team
        self.threads = threads

    def __enter__(self) -> None:
        with self.team.lock:
            if not self.team.running:
                self.team.before = config.get_num_threads()
            self.team.running += 1
            if config.get_num_threads() != self.threads:
                config.set_num_threads(self.threads)

    def __exit__(self, *exception) -> None:
        with self.team.lock:
            self.team.running -= 1
            if not self.team.running and config.get_num_threads() != self.team.before:
                config.set_num_threads(self.team.before)


team_limit = _TeamLimit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team_limit.forget_runs)
