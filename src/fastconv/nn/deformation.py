"""The layer of a deformable convolution, which torchvision has among its operators."""

from __future__ import annotations

import numpy as np

from fastconv.nn import functional as F
from fastconv.nn.annotations import ArrayLike, Sizes
from fastconv.nn.conv import Conv2d

__all__ = ["DeformConv2d"]


class DeformConv2d(Conv2d):
    """A convolution whose taps are moved by a second input: ``layer(input, offset, mask=None)``.

    Weight, bias and their names are those of :class:`Conv2d`; offset and mask are described at
    :func:`fastconv.nn.functional.deform_conv2d`.  Arguments are those of ``torchvision.ops.DeformConv2d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)

    def forward(self, input: ArrayLike, offset: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        return F.deform_conv2d(input, offset, weight, bias, self.stride, self.padding, self.dilation, mask)
