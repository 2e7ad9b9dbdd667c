"""VGG: stacks of 3 × 3 convolutions, halved by max pooling five times.

Inputs are (n, 3, height, width), at least 32 × 32 and made for 224 × 224; outputs are logits (n, num_classes).  Every
constructor takes `weights` (None, or the path of a file for :func:`fastconv.load_state_dict`), torchvision's
`progress`, which is ignored, and the options num_classes=1000 and dropout=0.5.

Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
arXiv:1409.1556, 2014.
"""

from fastconv import nn
from fastconv.models.blocks import build, flatten

__all__ = ["VGG", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """`depths` convolutions of each width, each followed by a batch normalisation if `batch_norm` says so."""

    def __init__(self, depths, batch_norm=False, num_classes=1000, dropout=0.5):
        super().__init__()
        layers, channels = [], 3
        for width, depth in zip(WIDTHS, depths, strict=True):
            for _ in range(depth):
                norm = [nn.BatchNorm2d(width)] if batch_norm else []
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), *norm, nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x):
        return self.classifier(flatten(self.avgpool(self.features(x))))


def vgg11(*, weights=None, progress=True, **options):
    """VGG-11; 132,863,336 parameters."""
    return build(VGG, DEPTHS[11], weights=weights, **options)


def vgg11_bn(*, weights=None, progress=True, **options):
    """VGG-11 with batch normalisation; 132,868,840 parameters."""
    return build(VGG, DEPTHS[11], True, weights=weights, **options)


def vgg13(*, weights=None, progress=True, **options):
    """VGG-13; 133,047,848 parameters."""
    return build(VGG, DEPTHS[13], weights=weights, **options)


def vgg13_bn(*, weights=None, progress=True, **options):
    """VGG-13 with batch normalisation; 133,053,736 parameters."""
    return build(VGG, DEPTHS[13], True, weights=weights, **options)


def vgg16(*, weights=None, progress=True, **options):
    """VGG-16; 138,357,544 parameters."""
    return build(VGG, DEPTHS[16], weights=weights, **options)


def vgg16_bn(*, weights=None, progress=True, **options):
    """VGG-16 with batch normalisation; 138,365,992 parameters."""
    return build(VGG, DEPTHS[16], True, weights=weights, **options)


def vgg19(*, weights=None, progress=True, **options):
    """VGG-19; 143,667,240 parameters."""
    return build(VGG, DEPTHS[19], weights=weights, **options)


def vgg19_bn(*, weights=None, progress=True, **options):
    """VGG-19 with batch normalisation; 143,678,248 parameters."""
    return build(VGG, DEPTHS[19], True, weights=weights, **options)
