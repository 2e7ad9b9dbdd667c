"""The machine's limit: multiply-adds per second of each instruction set, and bandwidth of L2, L3 and memory.

The loops are the kernels ``fastconv._kernels.*.roof``, run by fastconv's own team of threads.  The bytes of a copy are
those read plus those written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from fastconv import _kernels, config
from fastconv.machine import cache_bytes

__all__ = ["Roof", "measure"]

LEVELS = ("L2", "L3", "memory")
ELEMENTS = ("float32", "float64")
ROUNDS, SECONDS = 5, 0.05
LARGE_BYTES, MOST_BYTES = 128 << 20, 512 << 20
STEP_BYTES = 64 << 20  # read by one call, so that waking the threads costs nothing beside it
CHAIN_STEPS = 20_000  # multiply-adds of a chain in one task
TASKS_PER_THREAD = 8
GRAIN = 1024  # elements; the kernels take whole blocks of vectors


@dataclass
class Roof:
    """Rates in 10⁹ per second for a number of threads: multiplications and additions, bytes read, bytes copied.

    `fma_gflops` is keyed by instruction set and element type: ``"avx512 float32"``.
    """

    threads: int
    fma_gflops: dict[str, float] = field(default_factory=dict)
    read_gbps: dict[str, float] = field(default_factory=dict)
    copy_gbps: dict[str, float] = field(default_factory=dict)

    def larger(self, other: Roof) -> Roof:
        """The larger of every rate."""
        rates = [
            {name: max(rate, second.get(name, 0.0)) for name, rate in first.items()}
            for first, second in (
                (self.fma_gflops, other.fma_gflops),
                (self.read_gbps, other.read_gbps),
                (self.copy_gbps, other.copy_gbps),
            )
        ]
        return Roof(self.threads, *rates)

    def peak(self, dtype: str, isa: str | None = None) -> float | None:
        """Peak in GFLOP/s of an instruction set, or of the best."""
        rates = [rate for key, rate in self.fma_gflops.items() if key.endswith(dtype) and key.startswith(isa or "")]
        return max(rates, default=None)

    def bandwidth(self, size: int) -> float:
        """Read bandwidth in GB/s for a working set of `size` bytes: that of the smallest level that holds it."""
        return self.read_gbps[self._level(size)]

    def copy_bandwidth(self, size: int) -> float:
        """The same of a copy whose source and destination together have `size` bytes."""
        return self.copy_gbps[self._level(size)]

    def _level(self, size: int) -> str:
        if size <= cache_bytes(2) * self.threads:
            return "L2"
        return "L3" if size <= cache_bytes(3) else "memory"

    def least_seconds(self, flops: int, size: int, dtype: str, isa: str | None = None) -> float | None:
        """Time below which no direct method can stay: its operations at the peak, or its bytes at the bandwidth."""
        peak = self.peak(dtype, isa)
        if flops and peak is None:
            return None
        return max(flops / (peak * 1e9) if flops else 0.0, size / (self.bandwidth(size) * 1e9))


def measure(threads: int, isas: Iterable[str] = _kernels.levels) -> Roof:
    """Measure the instruction sets `isas`, and the caches and memory, for some seconds."""
    roof = Roof(threads)
    with config.threads(threads):
        for isa in isas:
            for element in ELEMENTS:
                roof.fma_gflops[f"{isa} {element}"] = _multiply_adds(_module(isa, element), element, threads) / 1e9
        streams = _module(_kernels.ISA, "float32").KERNELS
        for level, size in zip(LEVELS, _sizes(threads), strict=True):
            roof.read_gbps[level] = _read(streams["read"], size, threads) / 1e9
            roof.copy_gbps[level] = _copy(streams["copy"], size, threads) / 1e9
    return roof


def _sizes(threads: int) -> tuple[int, int, int]:
    """Working sets in bytes, all threads together, that lie well inside L2 and L3 and well outside both."""
    l2, l3 = cache_bytes(2) * threads, cache_bytes(3)
    return l2 // 2, max(min(l3 // 2, 8 * l2), 2 * l2), min(max(4 * l3, LARGE_BYTES), MOST_BYTES)


def _module(isa: str, element: str):
    return import_module(f"fastconv._kernels.{isa}_{element}.roof")


def _multiply_adds(module, element: str, threads: int) -> float:
    tasks = threads * TASKS_PER_THREAD
    sizes = {"count": CHAIN_STEPS, "repeats": 1}
    step = _kernels.engine.Step(module.KERNELS["multiply_adds"], sizes, tasks=tasks)
    results, factor = np.empty(tasks, element), np.ones(1, element)
    return _best_rate(lambda: step(results, factor), tasks * CHAIN_STEPS * module.CHAIN_FLOPS)


def _read(kernel, size: int, threads: int) -> float:
    count, repeats = _slice(size, threads)
    step = _kernels.engine.Step(kernel, {"count": count, "repeats": repeats}, tasks=threads)
    results, x = np.empty(threads, np.float32), np.ones(threads * count, np.float32)
    return _best_rate(lambda: step(results, x), repeats * x.nbytes)


def _copy(kernel, size: int, threads: int) -> float:
    count, repeats = _slice(size // 2, threads)
    step = _kernels.engine.Step(kernel, {"count": count, "repeats": repeats}, tasks=threads)
    y, x = np.zeros(threads * count, np.float32), np.ones(threads * count, np.float32)
    return _best_rate(lambda: step(y, x), 2 * repeats * x.nbytes)


def _slice(size: int, threads: int) -> tuple[int, int]:
    """Elements of float32 for each thread, and how often to go over them in one call."""
    count = max(size // 4 // threads // GRAIN, 1) * GRAIN
    return count, max(STEP_BYTES // (4 * count * threads), 1)


def _best_rate(call, work: int) -> float:
    """Largest work per second over some rounds."""
    rates = []
    for _ in range(ROUNDS):
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SECONDS or not calls:
            call()
            calls += 1
        rates.append(calls * work / elapsed)
    return max(rates)
