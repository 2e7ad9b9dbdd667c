"""Progress on standard error, and the time that is left for the measurements.

A run has a number of items (layers, networks), each with some measurements.  What surrounds these (references, loading,
comparisons) is predicted in proportion, corrected by what it turns out to take, and set aside; the measurements share
the rest evenly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

__all__ = ["Progress"]

LEAST_SECONDS = 0.02  # of a measurement
SECONDS_BETWEEN_LINES = 10
PRIOR_SECONDS = 3.0  # as much as the prediction weighs


class Progress:
    """Where a run of `items` stands, each (predicted seconds beside its measurements, number of measurements).

    It takes `seconds`, or less where each measurement gets `most`.
    """

    def __init__(self, items: Iterable[tuple[float, int]], seconds: float, most: float, stream=None):
        self._items = list(items)
        self._seconds, self._most = seconds, most
        self._done = 0
        self._measuring = 0.0  # seconds given to measurements so far
        self._stream = sys.stderr if stream is None else stream
        self._start = time.monotonic()
        self._last_line = -SECONDS_BETWEEN_LINES

    @property
    def seconds(self) -> float:
        """Seconds for the next measurement, all its rounds together."""
        measurements = sum(count for _, count in self._items[self._done :])
        share = (self._seconds - self._elapsed - self._beside) / max(measurements, 1)
        return min(max(share, LEAST_SECONDS), self._most)

    def show(self, text: str) -> None:
        """Say what is measured next, with the time that the rest is expected to take."""
        line = f"[{self._done + 1}/{len(self._items)}, {_duration(self.left)} left] {text}"
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line[:118]}")
            self._stream.flush()
        elif self._elapsed - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = self._elapsed
            print(line, file=self._stream, flush=True)

    @property
    def left(self) -> float:
        """Seconds until the end of this run, as far as it can be told."""
        return self._beside + self.seconds * sum(count for _, count in self._items[self._done :])

    def advance(self, seconds: float) -> None:
        """The next item begins; each measurement of the last one was given `seconds`."""
        self._measuring += seconds * self._items[self._done][1]
        self._done += 1

    def finish(self) -> None:
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    @property
    def _beside(self) -> float:
        """Seconds that the items to come will need beside their measurements."""
        predicted = sum(cost for cost, _ in self._items[: self._done])
        taken = self._elapsed - self._measuring if self._done else 0.0
        scale = (max(taken, 0.0) + PRIOR_SECONDS) / (predicted + PRIOR_SECONDS)
        return scale * sum(cost for cost, _ in self._items[self._done :])


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
