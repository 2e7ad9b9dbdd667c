"""The number of threads of a session's calls."""

from __future__ import annotations

from fastconv._kernels import team

__all__ = ["team_limit"]


class team_limit:
    """``with team_limit(n):`` calls of this thread use `n` threads; None leaves the number as it is.

    Other threads of Python, and the number that they see, are not affected.
    """

    __slots__ = ("before", "threads")

    def __init__(self, threads: int | None):
        self.threads = threads

    def __enter__(self) -> None:
        if self.threads is not None:
            self.before = team.limit_threads(self.threads)

    def __exit__(self, *exception) -> None:
        if self.threads is not None:
            team.limit_threads(self.before)
