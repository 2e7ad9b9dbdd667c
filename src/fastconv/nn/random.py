"""The package's random generator: the source of initial weights and of dropout."""

from __future__ import annotations

import numpy as np

from fastconv.errors import ArgumentError

__all__ = ["default_generator", "manual_seed"]

default_generator = np.random.Generator(np.random.PCG64())


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the package's generator from the non-negative integer `seed` and return it."""
    try:
        state = np.random.PCG64(seed).state
    except (TypeError, ValueError):
        raise ArgumentError(f"seed: expected a non-negative integer, got {seed!r}") from None
    default_generator.bit_generator.state = state
    return default_generator
