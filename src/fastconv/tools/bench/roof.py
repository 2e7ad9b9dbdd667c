"""The machine's limit: multiply-adds per second of each instruction set, and bandwidth of L2, L3 and memory.

Bandwidth is measured with NumPy's maximum (read) and copy, a slice per thread; bytes of a copy are those read plus
those written.  The multiply-adds come from the kernels ``fastconv._kernels.*.roof``, where they are built.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from fastconv.machine import cache_bytes

__all__ = ["Roof", "measure"]

LEVELS = ("L2", "L3", "memory")
SECONDS = 0.25
ELEMENTS = ("float32", "float64")
LARGE_BYTES, MOST_BYTES = 128 << 20, 512 << 20
READ_AT_ONCE = 64 << 20  # a longer call than one pass over a cache, so that threads do not wait for the interpreter


@dataclass
class Roof:
    """Rates in 10⁹ per second for a number of threads: multiplications and additions, bytes read, bytes copied.

    `fma_gflops` is keyed by instruction set and element type, ``"avx512 float32"``, and empty without the kernels.
    """

    threads: int
    fma_gflops: dict[str, float] = field(default_factory=dict)
    read_gbps: dict[str, float] = field(default_factory=dict)
    copy_gbps: dict[str, float] = field(default_factory=dict)

    def peak(self, dtype: str, isa: str | None = None) -> float | None:
        """Peak in GFLOP/s of an instruction set, or of the best."""
        rates = [rate for key, rate in self.fma_gflops.items() if key.endswith(dtype) and key.startswith(isa or "")]
        return max(rates, default=None)

    def bandwidth(self, size: int) -> float:
        """Read bandwidth in GB/s for a working set of `size` bytes: that of the smallest level that holds it."""
        if size <= cache_bytes(2) * self.threads:
            return self.read_gbps["L2"]
        return self.read_gbps["L3" if size <= cache_bytes(3) else "memory"]

    def least_seconds(self, flops: int, size: int, dtype: str, isa: str | None = None) -> float | None:
        """Time below which no direct method can stay: its operations at the peak, or its bytes at the bandwidth."""
        peak = self.peak(dtype, isa)
        if flops and peak is None:
            return None
        return max(flops / (peak * 1e9) if flops else 0.0, size / (self.bandwidth(size) * 1e9))


def measure(threads: int) -> Roof:
    """Measure for about ten seconds at most."""
    roof = Roof(threads)
    with ThreadPoolExecutor(threads) as pool:
        for name, kernel in _fma_kernels().items():
            roof.fma_gflops[name] = _best_rate(pool, [kernel] * threads) / 1e9
        for level, size in zip(LEVELS, _sizes(threads), strict=True):
            parts = np.array_split(np.ones(size // 4, np.float32), threads)
            roof.read_gbps[level] = _best_rate(pool, [_reader(part) for part in parts]) / 1e9
            halves = [(part[: len(part) // 2], part[-(len(part) // 2) :]) for part in parts]
            roof.copy_gbps[level] = _best_rate(pool, [_copier(*pair) for pair in halves]) / 1e9
    return roof


def _sizes(threads: int) -> tuple[int, int, int]:
    """Working sets in bytes, all threads together, that lie well inside L2 and L3 and well outside both."""
    l2, l3 = cache_bytes(2) * threads, cache_bytes(3)
    return l2 // 2, max(min(l3 // 2, 8 * l2), 2 * l2), min(max(4 * l3, LARGE_BYTES), MOST_BYTES)


def _reader(part: np.ndarray) -> Callable[[], int]:
    repeated = np.broadcast_to(part, (max(READ_AT_ONCE // part.nbytes, 1), part.size))

    def read() -> int:
        repeated.max(axis=1)
        return repeated.shape[0] * part.nbytes

    return read


def _copier(source: np.ndarray, target: np.ndarray) -> Callable[[], int]:
    def copy() -> int:
        np.copyto(target, source)
        return source.nbytes + target.nbytes

    return copy


def _fma_kernels() -> dict[str, Callable[[], int]]:
    """Per instruction set and element type: a function that runs some milliseconds and returns its FLOPs."""
    from fastconv import _kernels

    found = {}
    for isa in _kernels.levels:
        for element in ELEMENTS:
            try:
                found[f"{isa} {element}"] = import_module(f"fastconv._kernels.{isa}_{element}.roof").fma
            except ModuleNotFoundError:
                continue
    return found


def _best_rate(pool: ThreadPoolExecutor, calls: list[Callable[[], int]]) -> float:
    """Largest total per second over repeated rounds in which every call runs on a thread of its own."""

    def repeat(call: Callable[[], int]) -> float:
        done, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SECONDS / 5 or not done:
            done += call()
        return done / elapsed

    return max(sum(pool.map(repeat, calls)) for _ in range(5))
