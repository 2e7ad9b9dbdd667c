"""Resizing of the spatial axes."""

from __future__ import annotations

from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.nn.annotations import Factors, Sizes
from fastconv.nn.functional.arguments import number
from fastconv.nn.module import Module

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area")


class Upsample(Module):
    """Resizes (N, C, *spatial) to `size`, or by `scale_factor`; each is one number or one per spatial axis."""

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: Factors | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ArgumentError(f"size, scale_factor: expected one of the two, got {size} and {scale_factor}")
        if mode not in MODES:
            raise ArgumentError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        self.size = size
        if isinstance(scale_factor, tuple):
            self.scale_factor = tuple(number(factor, "scale_factor") for factor in scale_factor)
        else:
            self.scale_factor = None if scale_factor is None else number(scale_factor, "scale_factor")
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        target = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{target}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` with mode nearest."""

    def __init__(self, size: Sizes | None = None, scale_factor: Factors | None = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` with mode bilinear and aligned corners."""

    def __init__(self, size: Sizes | None = None, scale_factor: Factors | None = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)
