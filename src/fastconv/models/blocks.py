"""What several architectures share: their common blocks, and how a constructor takes weights."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from fastconv import nn
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.nn.random import default_generator
from fastconv.weights import SUFFIXES, load_state_dict

__all__ = [
    "BasicConv2d",
    "Conv2dNormActivation",
    "SqueezeExcitation",
    "StochasticDepth",
    "build",
    "divisible",
    "flatten",
    "global_average",
]


def build(family: Callable, *args, weights, rename: Callable[[str], str] = str, **options) -> nn.Module:
    """``family(*args, **options)``, initialised at random, or with the state dict of the file at the path `weights`.

    `rename` gives the keys in the file their names in the module.  Raises :class:`ArgumentError` for a file that does
    not fit, see :func:`fastconv.load_state_dict`.
    """
    if "pretrained" in options:
        raise ArgumentError(
            "pretrained: trained weights do not come with fastconv; pass weights= and the path of a file"
        )
    if weights is None:
        return family(*args, **options)
    if isinstance(weights, str) and not weights.lower().endswith(SUFFIXES):
        raise ArgumentError(
            f"weights: expected None or the path of a file ({', '.join(SUFFIXES)}), got {weights!r}; "
            "trained weights do not come with fastconv"
        )
    state = load_state_dict(weights)
    with nn.init.skip():
        model = family(*args, **options)
    model.load_state_dict({rename(key): value for key, value in state.items()})
    return model


def divisible(value: float, divisor: int = 8) -> int:
    """`value` rounded to a multiple of `divisor`, and up where rounding down would take more than a tenth."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def flatten(x):
    """(n, *) → (n, product of *)."""
    return x.reshape(x.shape[0], prod(x.shape[1:]))


def global_average(x):
    """(n, channels, height, width) → (n, channels), the means of the planes."""
    return flatten(F.adaptive_avg_pool2d(x, 1))


class Conv2dNormActivation(nn.Sequential):
    """Convolution, normalisation and activation, as children 0, 1 and 2; either of the last two may be None.

    By default the padding keeps the size at stride 1, and the convolution has a bias if no normalisation follows.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size=3,
        stride=1,
        padding=None,
        groups=1,
        norm_layer=nn.BatchNorm2d,
        activation_layer=nn.ReLU,
        dilation=1,
        bias=None,
    ):
        padding = (kernel_size - 1) // 2 * dilation if padding is None else padding
        bias = norm_layer is None if bias is None else bias
        layers = [nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)]
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer(inplace=True))
        super().__init__(*layers)
        self.out_channels = out_channels


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation with eps 0.001, ReLU: the unit of the Inception networks."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate computed from the means of all.  Source: Hu et al. 2018, section 3."""

    def __init__(self, input_channels, squeeze_channels, activation=nn.ReLU, scale_activation=nn.Sigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, x):
        gate = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(gate)) * x


class StochasticDepth(nn.Module):
    """In training mode zeroes a sample's whole branch with probability `p` and scales the others by 1 / (1 − p).

    Source: Huang et al. 2016, Deep Networks with Stochastic Depth.
    """

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        kept = default_generator.random((len(x), *[1] * (x.ndim - 1))) >= self.p
        return x * (kept / (1 - self.p or 1)).astype(x.dtype)

    def extra_repr(self):
        return f"p={self.p}"
