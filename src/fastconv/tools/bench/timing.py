"""Timing of a call on a noisy, shared machine: calibrated samples, their median and their spread.

A sample is the mean over enough calls in a row to drown the clock's own cost.  Engines are sampled in turn, round by
round, so a drift of the machine meets all of them; what a round's own samples agree on and the rounds do not is the
noise between rounds, and the stated spread covers both.
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
        """The larger of: interquartile range of all samples, range of the rounds' medians; as a share of the median."""
        samples = self.samples
        quarter = len(samples) // 4
        within = samples[-1 - quarter] - samples[quarter]
        medians = [median(samples) for samples in self.rounds if samples]
        return max(within, max(medians) - min(medians)) / self.median


def sample(call: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Call for about `seconds`, at least `least` times after a warm-up, and return seconds per call, one per sample."""
    clock = time.perf_counter
    calls = 0
    start = clock()
    while calls < 1 or clock() - start < seconds * WARM_UP_SHARE:
        call()
        calls += 1
    per_call = max((clock() - start) / calls, 1e-9)
    per_sample = max(int(SAMPLE_SECONDS / per_call), 1)
    end = clock() + seconds * (1 - WARM_UP_SHARE)
    samples: list[float] = []
    while len(samples) < least or (clock() < end and len(samples) < MAX_SAMPLES):
        begun = clock()
        for _ in range(per_sample):
            call()
        samples.append((clock() - begun) / per_sample)
    return samples


def sample_cold(call: Callable[[], object], evict: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Seconds of single calls, each after `evict` has emptied the caches of weights and activations."""
    clock = time.perf_counter
    end = clock() + seconds
    samples: list[float] = []
    while len(samples) < least or (clock() < end and len(samples) < MAX_SAMPLES):
        evict()
        begun = clock()
        call()
        samples.append(clock() - begun)
    return samples
