"""ShuffleNet v2: half of the channels pass a block unchanged, then the halves are shuffled together.

Inputs are (n, 3, height, width), made for 224 × 224; outputs are logits (n, num_classes).  Every constructor takes
`weights` (None, or the path of a file for :func:`fastconv.load_state_dict`), torchvision's `progress`, which is
ignored, and the option num_classes=1000.

Source: N. Ma, X. Zhang, H.-T. Zheng, J. Sun, "ShuffleNet V2: practical guidelines for efficient CNN architecture
design", arXiv:1807.11164, 2018.
"""

import numpy as np

from fastconv import nn
from fastconv.models.blocks import build, global_average
from fastconv.nn import functional as F

__all__ = ["ShuffleNetV2", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]

REPEATS = (4, 8, 4)


def _depthwise(in_channels, out_channels, stride):
    """A 3 × 3 convolution of each channel by itself, then a 1 × 1 convolution."""
    return (
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        *_pointwise(in_channels, out_channels),
    )


def _pointwise(in_channels, out_channels):
    return nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)


class InvertedResidual(nn.Module):
    """`branch2` on one half of the channels; with stride 2 on all, beside `branch1`."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        half = out_channels // 2
        self.stride = stride
        self.branch1 = nn.Sequential(*(_depthwise(in_channels, half, stride) if stride > 1 else ()))
        self.branch2 = nn.Sequential(
            *_pointwise(in_channels if stride > 1 else half, half), *_depthwise(half, half, stride)
        )

    def forward(self, x):
        if self.stride == 1:
            half = x.shape[1] // 2
            halves = x[:, :half], self.branch2(x[:, half:])
        else:
            halves = self.branch1(x), self.branch2(x)
        return F.channel_shuffle(np.concatenate(halves, axis=1), 2)


class ShuffleNetV2(nn.Module):
    """Three stages; `widths` are the channels of the first convolution, of the stages, and of the last convolution."""

    def __init__(self, widths, num_classes=1000):
        super().__init__()
        channels, *stages, last = widths
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for number, (width, repeats) in enumerate(zip(stages, REPEATS, strict=True), 2):
            blocks = [InvertedResidual(channels, width, 2)]
            blocks += [InvertedResidual(width, width, 1) for _ in range(repeats - 1)]
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
            channels = width
        self.conv5 = nn.Sequential(*_pointwise(channels, last))
        self.fc = nn.Linear(last, num_classes)

    def forward(self, x):
        x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
        return self.fc(global_average(self.conv5(x)))


def shufflenet_v2_x0_5(*, weights=None, progress=True, **options):
    """ShuffleNet v2 of half the width; 1,366,792 parameters."""
    return build(ShuffleNetV2, (24, 48, 96, 192, 1024), weights=weights, **options)


def shufflenet_v2_x1_0(*, weights=None, progress=True, **options):
    """ShuffleNet v2; 2,278,604 parameters."""
    return build(ShuffleNetV2, (24, 116, 232, 464, 1024), weights=weights, **options)


def shufflenet_v2_x1_5(*, weights=None, progress=True, **options):
    """ShuffleNet v2 of 1.5 times the width; 3,503,624 parameters."""
    return build(ShuffleNetV2, (24, 176, 352, 704, 1024), weights=weights, **options)


def shufflenet_v2_x2_0(*, weights=None, progress=True, **options):
    """ShuffleNet v2 of twice the width; 7,393,996 parameters."""
    return build(ShuffleNetV2, (24, 244, 488, 976, 2048), weights=weights, **options)
