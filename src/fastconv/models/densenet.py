"""DenseNet: every layer sees the outputs of all layers before it in its block.

Inputs are (n, 3, height, width), at least 29 × 29 and made for 224 × 224; outputs are logits (n, num_classes).  Every
constructor takes `weights` (None, or the path of a file for :func:`fastconv.load_state_dict`; the older names
``norm.1`` in torchvision's published files are understood), torchvision's `progress`, which is ignored, and the
options bn_size=4, drop_rate=0 and num_classes=1000.

Source: G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely connected convolutional networks",
arXiv:1608.06993, 2016.
"""

import re
from collections import OrderedDict

import numpy as np

from fastconv import nn
from fastconv.models.blocks import build, flatten
from fastconv.nn import functional as F

__all__ = ["DenseNet", "densenet121", "densenet161", "densenet169", "densenet201"]


class _DenseLayer(nn.Module):
    """Normalised and rectified before each of a 1 × 1 and a 3 × 3 convolution; `growth_rate` new channels."""

    def __init__(self, in_channels, growth_rate, bn_size, drop_rate):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, bn_size * growth_rate, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False)
        self.drop_rate = drop_rate

    def forward(self, x):
        x = self.conv1(self.relu1(self.norm1(x)))
        x = self.conv2(self.relu2(self.norm2(x)))
        return F.dropout(x, self.drop_rate, self.training) if self.drop_rate else x


class _DenseBlock(nn.ModuleDict):
    def __init__(self, num_layers, in_channels, bn_size, growth_rate, drop_rate):
        super().__init__()
        for i in range(num_layers):
            layer = _DenseLayer(in_channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x):
        for layer in self.values():
            x = np.concatenate((x, layer(x)), axis=1)
        return x


class _Transition(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(
            OrderedDict(
                norm=nn.BatchNorm2d(in_channels),
                relu=nn.ReLU(inplace=True),
                conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
                pool=nn.AvgPool2d(kernel_size=2, stride=2),
            )
        )


class DenseNet(nn.Module):
    """Dense blocks of `block_config` layers; between two of them a transition halves channels and plane.

    Args:
        growth_rate: channels that each layer adds.
        block_config: the number of layers of each block.
        num_init_features: channels of the first convolution.
        bn_size: channels between the two convolutions of a layer, in multiples of `growth_rate`.
        drop_rate: of the dropout after each layer.
        num_classes: the number of logits.
    """

    def __init__(self, growth_rate, block_config, num_init_features, bn_size=4, drop_rate=0, num_classes=1000):
        super().__init__()
        channels = num_init_features
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(3, channels, kernel_size=7, stride=2, padding=3, bias=False),
                norm0=nn.BatchNorm2d(channels),
                relu0=nn.ReLU(inplace=True),
                pool0=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            )
        )
        for i, num_layers in enumerate(block_config, 1):
            block = _DenseBlock(num_layers, channels, bn_size, growth_rate, drop_rate)
            self.features.add_module(f"denseblock{i}", block)
            channels += num_layers * growth_rate
            if i < len(block_config):
                self.features.add_module(f"transition{i}", _Transition(channels, channels // 2))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = F.relu(self.features(x), inplace=True)
        return self.classifier(flatten(F.adaptive_avg_pool2d(x, (1, 1))))


def _current_name(key: str) -> str:
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)


def densenet121(*, weights=None, progress=True, **options):
    """DenseNet-121; 7,978,856 parameters."""
    return build(DenseNet, 32, (6, 12, 24, 16), 64, weights=weights, rename=_current_name, **options)


def densenet161(*, weights=None, progress=True, **options):
    """DenseNet-161; 28,681,000 parameters."""
    return build(DenseNet, 48, (6, 12, 36, 24), 96, weights=weights, rename=_current_name, **options)


def densenet169(*, weights=None, progress=True, **options):
    """DenseNet-169; 14,149,480 parameters."""
    return build(DenseNet, 32, (6, 12, 32, 32), 64, weights=weights, rename=_current_name, **options)


def densenet201(*, weights=None, progress=True, **options):
    """DenseNet-201; 20,013,928 parameters."""
    return build(DenseNet, 32, (6, 12, 48, 32), 64, weights=weights, rename=_current_name, **options)
