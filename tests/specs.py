"""Specs of convolutions for tests of what is planned, not computed."""

import numpy as np

from fastconv.ops.conv_spec import conv_spec


def padded_by_one(x_shape, w_shape):
    """A float32 convolution of a contiguous input with padding 1."""
    strides = np.cumprod((4, *x_shape[:0:-1]))[::-1]
    kind = np.dtype(np.float32)
    return conv_spec(x_shape, tuple(map(int, strides)), kind, w_shape, kind, None, 1, 1, 1, 1)
