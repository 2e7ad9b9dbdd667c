"""Progress on standard error, and the time that is left for the measurements."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]

MEASURING_SHARE = 0.6  # the rest goes to loading, references and comparisons
LEAST_SECONDS, MOST_SECONDS = 0.02, 1.0
SECONDS_BETWEEN_LINES = 10


class Progress:
    """Counts `total` measurements that share `budget` seconds, and says where the run stands."""

    def __init__(self, total: int, budget: float, stream=None):
        self.total, self.budget = total, budget
        self.done = 0
        self.stream = sys.stderr if stream is None else stream
        self._start = time.monotonic()
        self._last_line = -SECONDS_BETWEEN_LINES

    @property
    def seconds(self) -> float:
        """Seconds for the next measurement, all its rounds together."""
        left = self.budget - (time.monotonic() - self._start)
        return min(max(MEASURING_SHARE * left / max(self.total - self.done, 1), LEAST_SECONDS), MOST_SECONDS)

    def show(self, text: str) -> None:
        """Say what is measured next, with the time that the rest is expected to take."""
        elapsed = time.monotonic() - self._start
        left = elapsed / self.done * (self.total - self.done) if self.done else self.budget
        line = f"[{self.done}/{self.total}, {_duration(left)} left] {text}"
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[K{line[:118]}")
            self.stream.flush()
        elif elapsed - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = elapsed
            print(line, file=self.stream, flush=True)

    def advance(self, count: int) -> None:
        self.done += count

    def finish(self) -> None:
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")
            self.stream.flush()


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
