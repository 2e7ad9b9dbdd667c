"""What the algorithms' predictions have in common.

The rates are nominal, per instruction set, and not measured: a choice that depended on a measurement would change from run
to run, and with it the last bits of the results.
"""

from __future__ import annotations

import numpy as np

from fastconv import _kernels, machine

__all__ = ["CACHE_BYTES_PER_SECOND", "CALL_SECONDS", "moving_seconds", "peak_flops", "sum_error"]

CACHE_BYTES_PER_SECOND = 25e9  # what one core streams from the last-level cache
CALL_SECONDS = 0.7e-6  # of a kernel
MOVED_BYTES_PER_SECOND = 70e9, 17e9  # beside products, of the last-level cache and of memory
_PEAK = {"avx512": 140e9, "avx2": 105e9, "baseline": 25e9}  # float32, one core


def peak_flops(dtype: str) -> float:
    """Nominal multiplications and additions per second of one core."""
    return _PEAK[_kernels.ISA] * 4 / np.dtype(dtype).itemsize


def moving_seconds(size: int) -> float:
    """What input and output of so many bytes add to the time of one core that computes: nothing in its own cache."""
    if size <= machine.cache_bytes(2):
        return 0.0
    return size / MOVED_BYTES_PER_SECOND[size > machine.cache_bytes(3) // 4]  # others use it, too


def sum_error(terms: int, dtype: str) -> float:
    """Bound of the error of a sum of `terms` products, relative to the sum of their magnitudes.

    gamma(n) = n u / (1 - n u) with the unit roundoff u (Higham, Accuracy and Stability of Numerical Algorithms, 3.1);
    float16 is summed in float32 and rounded once more.
    """
    kind = np.dtype(dtype)
    if kind.kind not in "fc":
        return 0.0
    unit = np.finfo(np.promote_types(kind, np.float32)).eps / 2
    bound = terms * unit / (1 - terms * unit) if terms * unit < 1 else float("inf")
    return float(bound + (np.finfo(kind).eps / 2 if kind == np.float16 else 0.0))
