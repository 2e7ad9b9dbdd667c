"""RegNet: a family of networks whose widths follow a line, found by analysing many."""

from collections import OrderedDict
from functools import partial

from fastconv import nn
from fastconv.models.blocks import Conv2dNormActivation, SqueezeExcitation, build, flatten

__all__ = ["RegNet", "regnet_y_400mf"]

STEM_WIDTH = 32


class ResBottleneckBlock(nn.Module):
    """1 × 1, grouped 3 × 3, squeeze-and-excitation, 1 × 1; beside the identity or a projection."""

    def __init__(self, in_channels, out_channels, stride, group_width, se_ratio, norm_layer):
        super().__init__()
        conv = partial(Conv2dNormActivation, norm_layer=norm_layer)
        self.proj = None
        if in_channels != out_channels or stride != 1:
            self.proj = conv(in_channels, out_channels, 1, stride, activation_layer=None)
        layers = OrderedDict(
            a=conv(in_channels, out_channels, 1),
            b=conv(out_channels, out_channels, 3, stride, groups=out_channels // group_width),
        )
        if se_ratio:
            layers["se"] = SqueezeExcitation(out_channels, round(se_ratio * in_channels))
        layers["c"] = conv(out_channels, out_channels, 1, activation_layer=None)
        self.f = nn.Sequential(layers)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.activation((x if self.proj is None else self.proj(x)) + self.f(x))


class RegNet(nn.Module):
    """Stages of `depths` blocks and `widths` channels, each starting with stride 2.

    Args:
        depths, widths: per stage.
        group_width: channels of a group of the 3 × 3 convolutions.
        se_ratio: channels of the squeeze per input channel of the block, 0 for none.
        num_classes: the number of logits.
        norm_layer: makes a normalisation for a number of channels.
    """

    def __init__(self, depths, widths, group_width, se_ratio, num_classes=1000, norm_layer=nn.BatchNorm2d):
        super().__init__()
        self.stem = Conv2dNormActivation(3, STEM_WIDTH, stride=2, norm_layer=norm_layer)
        self.trunk_output = nn.Sequential()
        channels = STEM_WIDTH
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            stage = nn.Sequential()
            for i in range(depth):
                block = ResBottleneckBlock(channels, width, 1 if i else 2, group_width, se_ratio, norm_layer)
                stage.add_module(f"block{number}-{i}", block)
                channels = width
            self.trunk_output.add_module(f"block{number}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.fc(flatten(self.avgpool(self.trunk_output(self.stem(x)))))


def regnet_y_400mf(*, weights=None, progress=True, **options):
    """RegNetY-400MF; 4,344,144 parameters.

    Input (n, 3, height, width), made for 224 × 224; output logits (n, num_classes).

    Args:
        weights: None, or the path of a file for :func:`fastconv.load_state_dict`.
        progress: ignored, accepted for torchvision's sake.
        options: num_classes=1000, norm_layer=nn.BatchNorm2d.

    Source: I. Radosavovic et al., "Designing network design spaces", arXiv:2003.13678, 2020.
    """
    return build(RegNet, (1, 3, 6, 6), (48, 104, 208, 440), 8, 0.25, weights=weights, **options)
