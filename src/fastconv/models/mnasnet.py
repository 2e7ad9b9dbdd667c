"""MNASNet (variant B1), found by a search for accuracy at a given latency on a phone.

Inputs are (n, 3, height, width), made for 224 × 224; outputs are logits (n, num_classes).  Every constructor takes
`weights` (None, or the path of a file for :func:`fastconv.load_state_dict`), torchvision's `progress`, which is
ignored, and the options num_classes=1000 and dropout=0.2.

Source: M. Tan et al., "MnasNet: platform-aware neural architecture search for mobile", arXiv:1807.11626, 2018.
"""

from functools import partial

from fastconv import nn
from fastconv.models.blocks import build, divisible, global_average

__all__ = ["MNASNet", "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"]

STEM = (32, 16)
STAGES = ((24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2), (192, 5, 2, 6, 4), (320, 3, 1, 6, 1))
LAST_CHANNELS = 1280
_norm = partial(nn.BatchNorm2d, momentum=1 - 0.9997)


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, expansion):
        super().__init__()
        hidden = in_channels * expansion
        self.apply_residual = in_channels == out_channels and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            _norm(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, kernel_size, stride, kernel_size // 2, groups=hidden, bias=False),
            _norm(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            _norm(out_channels),
        )

    def forward(self, x):
        return self.layers(x) + x if self.apply_residual else self.layers(x)


class MNASNet(nn.Module):
    """MNASNet B1; `alpha` scales the channels.  Rows of STAGES are channels, kernel, stride, expansion, blocks."""

    _version = 2

    def __init__(self, alpha, num_classes=1000, dropout=0.2):
        super().__init__()
        first, channels = (divisible(width * alpha) for width in STEM)
        layers = [
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            _norm(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, first, 3, padding=1, groups=first, bias=False),
            _norm(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, channels, 1, bias=False),
            _norm(channels),
        ]
        for width, kernel_size, stride, expansion, blocks in STAGES:
            width = divisible(width * alpha)
            stack = [_InvertedResidual(channels, width, kernel_size, stride, expansion)]
            stack += [_InvertedResidual(width, width, kernel_size, 1, expansion) for _ in range(blocks - 1)]
            layers.append(nn.Sequential(*stack))
            channels = width
        layers += [nn.Conv2d(channels, LAST_CHANNELS, 1, bias=False), _norm(LAST_CHANNELS), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(LAST_CHANNELS, num_classes))

    def forward(self, x):
        return self.classifier(global_average(self.layers(x)))


def mnasnet0_5(*, weights=None, progress=True, **options):
    """MNASNet of half the width; 2,218,512 parameters."""
    return build(MNASNet, 0.5, weights=weights, **options)


def mnasnet0_75(*, weights=None, progress=True, **options):
    """MNASNet of three quarters of the width; 3,170,208 parameters."""
    return build(MNASNet, 0.75, weights=weights, **options)


def mnasnet1_0(*, weights=None, progress=True, **options):
    """MNASNet; 4,383,312 parameters."""
    return build(MNASNet, 1.0, weights=weights, **options)


def mnasnet1_3(*, weights=None, progress=True, **options):
    """MNASNet of 1.3 times the width; 6,282,256 parameters."""
    return build(MNASNet, 1.3, weights=weights, **options)
