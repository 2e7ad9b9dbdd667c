"""Threads, and what was chosen on this machine and why."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import fastconv
from fastconv import _kernels, machine
from fastconv._kernels import probe, team
from fastconv.geometry import integer

__all__ = ["get_num_threads", "set_num_threads", "show_config", "threads"]

_reason = ""


def set_num_threads(n: int) -> None:
    """Use `n` threads (the calling one included) from the next call on, in this process."""
    _use(machine.Threads(integer(n, "n", 1), "set by set_num_threads"))


def get_num_threads() -> int:
    """The number of threads that a call from this thread of Python may use: inside a session's run, the session's."""
    return team.get_threads()


@contextmanager
def threads(n: int):
    """``with fastconv.threads(1): ...`` uses `n` threads inside, and restores the number after."""
    before = machine.Threads(team.process_threads(), _reason)
    set_num_threads(n)
    own = team.limit_threads(0)  # that of a session in whose run this is
    try:
        yield
    finally:
        team.limit_threads(own)
        _use(before)


def show_config() -> str:
    """Version, compiler, instruction set, threads and caches, and why each was chosen, as text."""
    caches = ", ".join(f"L{level} {machine.cache_bytes(level) >> 10} KiB" for level in (1, 2, 3))
    rows = {
        "fastconv": fastconv.__version__,
        "Python": sys.version.split()[0],
        "compiler": probe.compiler(),
        "baseline": probe.baseline(),
        "instruction set": f"{_kernels.ISA} ({_kernels.ISA_REASON}; available: {', '.join(_kernels.levels)})",
        "threads": f"{team.get_threads()} ({_reason})",
        "caches": caches,
    }
    return "\n".join(f"{name:16} {value}" for name, value in rows.items())


def _use(threads: machine.Threads) -> None:
    global _reason
    team.set_threads(threads.count)
    _reason = threads.reason


_use(machine.available_threads())
