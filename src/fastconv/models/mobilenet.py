"""MobileNet v2 and v3: inverted residuals, which widen, filter each channel by itself, and narrow again.

Inputs are (n, 3, height, width), made for 224 × 224; outputs are logits (n, num_classes).  Every constructor takes
`weights` (None, or the path of a file for :func:`fastconv.load_state_dict`), torchvision's `progress`, which is
ignored, and the options of its class.

Sources: M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", arXiv:1801.04381, 2018;
A. Howard et al., "Searching for MobileNetV3", arXiv:1905.02244, 2019.
"""

from functools import partial

from fastconv import nn
from fastconv.models.blocks import Conv2dNormActivation, SqueezeExcitation, build, divisible, flatten, global_average

__all__ = ["MobileNetV2", "MobileNetV3", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]

# Per stage of version 2: expansion, channels, blocks, stride of the first.
STAGES_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# Per block of version 3: kernel, expanded channels, channels, squeeze-and-excitation, activation, stride.  A reduced
# tail halves the channels of the blocks from `tail` on.
LARGE = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
SMALL = (
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)
_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class InvertedResidualV2(nn.Module):
    def __init__(self, in_channels, out_channels, stride, expand_ratio):
        super().__init__()
        hidden = in_channels * expand_ratio
        self.use_res_connect = stride == 1 and in_channels == out_channels
        conv = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
        self.conv = nn.Sequential(
            *([conv(in_channels, hidden, 1)] if expand_ratio != 1 else []),
            conv(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet v2; `width_mult` scales all channels, which are rounded to multiples of `round_nearest`."""

    def __init__(self, num_classes=1000, width_mult=1.0, round_nearest=8, dropout=0.2):
        super().__init__()
        channels = divisible(32 * width_mult, round_nearest)
        self.last_channel = divisible(1280 * max(1.0, width_mult), round_nearest)
        features = [Conv2dNormActivation(3, channels, stride=2, activation_layer=nn.ReLU6)]
        for expansion, width, blocks, stride in STAGES_V2:
            width = divisible(width * width_mult, round_nearest)
            for i in range(blocks):
                features.append(InvertedResidualV2(channels, width, 1 if i else stride, expansion))
                channels = width
        features.append(Conv2dNormActivation(channels, self.last_channel, 1, activation_layer=nn.ReLU6))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.last_channel, num_classes))

    def forward(self, x):
        return self.classifier(global_average(self.features(x)))


class InvertedResidualV3(nn.Module):
    def __init__(
        self, in_channels, kernel_size, expanded, out_channels, squeezed, activation, stride, dilation, norm_layer
    ):
        super().__init__()
        self.use_res_connect = stride == 1 and in_channels == out_channels
        self.out_channels = out_channels
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=activation)
        layers = [conv(in_channels, expanded, 1)] if expanded != in_channels else []
        depthwise_stride = 1 if dilation > 1 else stride
        layers.append(conv(expanded, expanded, kernel_size, depthwise_stride, groups=expanded, dilation=dilation))
        if squeezed:
            layers.append(SqueezeExcitation(expanded, divisible(expanded // 4), scale_activation=nn.Hardsigmoid))
        layers.append(conv(expanded, out_channels, 1, activation_layer=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.block(x) if self.use_res_connect else self.block(x)


class MobileNetV3(nn.Module):
    """MobileNet v3 from a table of blocks.

    Args:
        blocks: rows (kernel, expanded channels, channels, squeeze-and-excitation, activation, stride).
        last_channel: width of the classifier's hidden layer.
        num_classes: the number of logits.
        dropout: before the last layer.
        width_mult: scales all channels.
        reduced_tail: halves the channels of the last three blocks and of the classifier, for use as a backbone.
        dilated: dilation takes the place of the last stride.
        norm_layer: makes a normalisation for a number of channels.
    """

    def __init__(
        self,
        blocks,
        last_channel,
        num_classes=1000,
        dropout=0.2,
        width_mult=1.0,
        reduced_tail=False,
        dilated=False,
        norm_layer=_norm,
    ):
        super().__init__()
        divider = 2 if reduced_tail else 1
        tail = len(blocks) - 3
        channels = divisible(16 * width_mult)
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.Hardswish)
        features = [conv(3, channels, stride=2)]
        for i, (kernel_size, expanded, width, squeezed, activation, stride) in enumerate(blocks):
            width = divisible(width // (divider if i >= tail else 1) * width_mult)
            expanded = divisible(expanded // (divider if i > tail else 1) * width_mult)
            dilation = 2 if dilated and i >= tail else 1
            features.append(
                InvertedResidualV3(
                    channels, kernel_size, expanded, width, squeezed, activation, stride, dilation, norm_layer
                )
            )
            channels = width
        features.append(conv(channels, 6 * channels, 1))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        hidden = divisible(last_channel // divider * width_mult)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout, inplace=True),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x):
        return self.classifier(flatten(self.avgpool(self.features(x))))


def mobilenet_v2(*, weights=None, progress=True, **options):
    """MobileNet v2; 3,504,872 parameters."""
    return build(MobileNetV2, weights=weights, **options)


def mobilenet_v3_large(*, weights=None, progress=True, **options):
    """MobileNet v3, large; 5,483,032 parameters."""
    return build(MobileNetV3, LARGE, 1280, weights=weights, **options)


def mobilenet_v3_small(*, weights=None, progress=True, **options):
    """MobileNet v3, small; 2,542,856 parameters."""
    return build(MobileNetV3, SMALL, 1024, weights=weights, **options)
