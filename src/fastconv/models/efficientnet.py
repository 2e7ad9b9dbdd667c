"""EfficientNet: depth, width and resolution scaled together.

Inputs are (n, 3, height, width), made for 224 × 224 (b0), 240 × 240 (b1) and 288 × 288 (b2); outputs are logits
(n, num_classes).  Every constructor takes `weights` (None, or the path of a file for
:func:`fastconv.load_state_dict`), torchvision's `progress`, which is ignored, and the options of
:class:`EfficientNet`.

Source: M. Tan, Q. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", arXiv:1905.11946,
2019.
"""

from functools import partial
from math import ceil

from fastconv import nn
from fastconv.models.blocks import (
    Conv2dNormActivation,
    SqueezeExcitation,
    StochasticDepth,
    build,
    divisible,
    flatten,
)

__all__ = ["EfficientNet", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2"]

# Per stage: expansion, kernel, stride of the first block, channels, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class MBConv(nn.Module):
    """An inverted residual with squeeze-and-excitation."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, expansion, drop_probability, norm_layer):
        super().__init__()
        hidden = divisible(in_channels * expansion)
        self.use_res_connect = stride == 1 and in_channels == out_channels
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.SiLU)
        layers = [conv(in_channels, hidden, 1)] if hidden != in_channels else []
        self.block = nn.Sequential(
            *layers,
            conv(hidden, hidden, kernel_size, stride, groups=hidden),
            SqueezeExcitation(hidden, max(1, in_channels // 4), partial(nn.SiLU, inplace=True)),
            conv(hidden, out_channels, 1, activation_layer=None),
        )
        self.stochastic_depth = StochasticDepth(drop_probability)

    def forward(self, x):
        return self.stochastic_depth(self.block(x)) + x if self.use_res_connect else self.block(x)


class EfficientNet(nn.Module):
    """EfficientNet with `width_mult` times the channels and `depth_mult` times the blocks of b0.

    Args:
        width_mult, depth_mult: the scales.
        dropout: before the last layer.
        stochastic_depth_prob: of dropping the last block in training; earlier ones are dropped less often.
        num_classes: the number of logits.
        norm_layer: makes a normalisation for a number of channels.
    """

    def __init__(
        self,
        width_mult,
        depth_mult,
        dropout,
        stochastic_depth_prob=0.2,
        num_classes=1000,
        norm_layer=nn.BatchNorm2d,
    ):
        super().__init__()
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.SiLU)
        channels = divisible(32 * width_mult)
        features = [conv(3, channels, stride=2)]
        depths = [ceil(blocks * depth_mult) for *_, blocks in STAGES]
        built = 0
        for (expansion, kernel_size, stride, width, _), depth in zip(STAGES, depths, strict=True):
            width = divisible(width * width_mult)
            stage = []
            for i in range(depth):
                drop = stochastic_depth_prob * built / sum(depths)
                stage.append(MBConv(channels, width, kernel_size, 1 if i else stride, expansion, drop, norm_layer))
                channels, built = width, built + 1
            features.append(nn.Sequential(*stage))
        features.append(conv(channels, 4 * channels, 1))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(4 * channels, num_classes))

    def forward(self, x):
        return self.classifier(flatten(self.avgpool(self.features(x))))


def efficientnet_b0(*, weights=None, progress=True, dropout=0.2, **options):
    """EfficientNet b0; 5,288,548 parameters."""
    return build(EfficientNet, 1.0, 1.0, dropout, weights=weights, **options)


def efficientnet_b1(*, weights=None, progress=True, dropout=0.2, **options):
    """EfficientNet b1; 7,794,184 parameters."""
    return build(EfficientNet, 1.0, 1.1, dropout, weights=weights, **options)


def efficientnet_b2(*, weights=None, progress=True, dropout=0.3, **options):
    """EfficientNet b2; 9,109,994 parameters."""
    return build(EfficientNet, 1.1, 1.2, dropout, weights=weights, **options)
