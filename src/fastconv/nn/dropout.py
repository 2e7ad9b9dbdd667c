"""Dropout: in training mode random values become zero and the others grow; in evaluation mode nothing happens.

The randomness comes from the package's generator, which :func:`fastconv.manual_seed` restarts.
"""

from __future__ import annotations

from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.nn.functional.arguments import number
from fastconv.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _DropoutNd(Module):
    """`p` is the probability of a value, or of a whole channel, to be dropped.  In evaluation mode the input itself."""

    function: str

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= number(p, "p") <= 1:
            raise ArgumentError(f"p: expected a probability from 0 to 1, got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input):
        return getattr(F, self.function)(input, self.p, True, self.inplace) if self.training else input

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_DropoutNd):
    """Drops single values.  Source: Hinton et al. 2012."""

    function = "dropout"


class Dropout1d(_DropoutNd):
    """Drops whole channels of (N, C, L) or (C, L)."""

    function = "dropout1d"


class Dropout2d(_DropoutNd):
    """Drops whole channels of (N, C, H, W)."""

    function = "dropout2d"


class Dropout3d(_DropoutNd):
    """Drops whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    function = "dropout3d"


class AlphaDropout(_DropoutNd):
    """Drops single values to SELU's negative limit and keeps mean and variance.  Source: Klambauer et al. 2017."""

    function = "alpha_dropout"


class FeatureAlphaDropout(_DropoutNd):
    """Drops whole channels to SELU's negative limit and keeps mean and variance."""

    function = "feature_alpha_dropout"
