"""Timing of a call on a noisy, shared machine: calibrated samples, their median and their spread.

A sample is the mean over enough calls in a row to drown the clock's own cost.  Engines are sampled in turn, round by
round, so a drift of the machine meets all of them.  Samples of one round may agree while the rounds do not: the stated
spread covers both, and leaves one disturbed round in five aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Timing", "sample", "sample_cold"]

SAMPLE_SECONDS = 100e-6
WARM_UP_SHARE = 0.1
MAX_SAMPLES = 2000


@dataclass
class Timing:
    """Samples in seconds per call, a list per round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def samples(self) -> list[float]:
        return sorted(s for samples in self.rounds for s in samples)

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def minimum(self) -> float:
        return self.samples[0]

    @property
    def spread(self) -> float:
        """Interquartile range of all samples or of the rounds' medians, whichever is larger, over the median."""
        medians = sorted(median(samples) for samples in self.rounds if samples)
        return max(_interquartile_range(self.samples), _interquartile_range(medians)) / self.median


def sample(call: Callable[[], object], seconds: float) -> list[float]:
    """Call for about `seconds` after a warm-up, and return seconds per call, one per sample.

    At least three samples are taken, one if a single call takes longer than `seconds`.
    """
    clock = time.perf_counter
    calls = 0
    start = clock()
    while calls < 1 or clock() - start < seconds * WARM_UP_SHARE:
        call()
        calls += 1
    per_call = max((clock() - start) / calls, 1e-9)
    per_sample = max(int(SAMPLE_SECONDS / per_call), 1)
    end = clock() + seconds * (1 - WARM_UP_SHARE)
    least = 3 if per_call < seconds else 1
    samples: list[float] = []
    while len(samples) < least or (clock() < end and len(samples) < MAX_SAMPLES):
        begun = clock()
        for _ in range(per_sample):
            call()
        samples.append((clock() - begun) / per_sample)
    return samples


def sample_cold(call: Callable[[], object], evict: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of at least three single calls, each after `evict` has emptied the caches."""
    clock = time.perf_counter
    end = clock() + seconds
    samples: list[float] = []
    while len(samples) < 3 or (clock() < end and len(samples) < MAX_SAMPLES):
        evict()
        begun = clock()
        call()
        samples.append(clock() - begun)
    return samples


def _interquartile_range(values: list[float]) -> float:
    """Of sorted values; the whole range of fewer than four."""
    quarter = len(values) // 4
    return values[-1 - quarter] - values[quarter]
