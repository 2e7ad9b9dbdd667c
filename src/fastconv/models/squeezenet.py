"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters.

Inputs are (n, 3, height, width), at least 21 × 21 (1.0) or 17 × 17 (1.1) and made for 224 × 224; outputs are logits
(n, num_classes).  Every constructor takes `weights` (None, or the path of a file for
:func:`fastconv.load_state_dict`), torchvision's `progress`, which is ignored, and the options num_classes=1000 and
dropout=0.5.

Source: F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
arXiv:1602.07360, 2016.
"""

import numpy as np

from fastconv import nn
from fastconv.models.blocks import build, flatten

__all__ = ["Fire", "SqueezeNet", "squeezenet1_0", "squeezenet1_1"]

SQUEEZED = (16, 16, 32, 32, 48, 48, 64, 64)


class Fire(nn.Module):
    """A 1 × 1 convolution to few channels, then 1 × 1 and 3 × 3 convolutions side by side."""

    def __init__(self, inplanes, squeeze_planes, expand1x1_planes, expand3x3_planes):
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeeze_planes, kernel_size=1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze_planes, expand1x1_planes, kernel_size=1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze_planes, expand3x3_planes, kernel_size=3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.squeeze_activation(self.squeeze(x))
        branches = self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))
        return np.concatenate(branches, axis=1)


class SqueezeNet(nn.Module):
    """A first convolution, and eight Fire modules before some of which a pooling halves the plane.

    Args:
        stem: (channels, kernel_size) of the first convolution.
        pooled: the numbers of the Fire modules, from 0, before which a pooling stands.
    """

    def __init__(self, stem, pooled, num_classes=1000, dropout=0.5):
        super().__init__()
        channels, kernel_size = stem
        layers = [nn.Conv2d(3, channels, kernel_size, stride=2), nn.ReLU(inplace=True)]
        for i, squeezed in enumerate(SQUEEZED):
            if i in pooled:
                layers.append(nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True))
            layers.append(Fire(channels, squeezed, 4 * squeezed, 4 * squeezed))
            channels = 8 * squeezed
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(channels, num_classes, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d((1, 1)),
        )

    def forward(self, x):
        return flatten(self.classifier(self.features(x)))


def squeezenet1_0(*, weights=None, progress=True, **options):
    """SqueezeNet 1.0; 1,248,424 parameters."""
    return build(SqueezeNet, (96, 7), (0, 3, 7), weights=weights, **options)


def squeezenet1_1(*, weights=None, progress=True, **options):
    """SqueezeNet 1.1, with 2.4 times less computation; 1,235,496 parameters."""
    return build(SqueezeNet, (64, 3), (0, 2, 4), weights=weights, **options)
