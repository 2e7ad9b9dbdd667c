"""ResNet and its relatives ResNeXt and Wide ResNet: blocks that add a correction to their input.

Inputs are (n, 3, height, width), made for 224 × 224; outputs are logits (n, num_classes).  Every constructor takes
`weights` (None, or the path of a file for :func:`fastconv.load_state_dict`), torchvision's `progress`, which is
ignored, and the options of :class:`ResNet`.

Sources: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", arXiv:1512.03385, 2015 (the
stride of a bottleneck is in its 3 × 3 convolution, as in torchvision); S. Xie et al., "Aggregated residual
transformations for deep neural networks", arXiv:1611.05431, 2016; S. Zagoruyko, N. Komodakis, "Wide residual
networks", arXiv:1605.07146, 2016.
"""

from fastconv import nn
from fastconv.errors import ArgumentError
from fastconv.models.blocks import build, flatten

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside the identity, or beside `downsample` where the shape changes."""

    expansion = 1

    def __init__(
        self,
        inplanes,
        planes,
        stride=1,
        downsample=None,
        groups=1,
        base_width=64,
        dilation=1,
        norm_layer=nn.BatchNorm2d,
    ):
        super().__init__()
        fixed = (groups, base_width, dilation)
        if fixed != (1, 64, 1):
            raise ArgumentError(f"groups, width_per_group, dilation: basic blocks have (1, 64, 1), got {fixed}")
        self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3 × 3 convolution between two 1 × 1, beside the identity, or beside `downsample` where the shape changes."""

    expansion = 4

    def __init__(
        self,
        inplanes,
        planes,
        stride=1,
        downsample=None,
        groups=1,
        base_width=64,
        dilation=1,
        norm_layer=nn.BatchNorm2d,
    ):
        super().__init__()
        width = planes * base_width // 64 * groups
        self.conv1 = nn.Conv2d(inplanes, width, kernel_size=1, bias=False)
        self.bn1 = norm_layer(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, groups, bias=False)
        self.bn2 = norm_layer(width)
        self.conv3 = nn.Conv2d(width, planes * self.expansion, kernel_size=1, bias=False)
        self.bn3 = norm_layer(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Four stages of `layers` blocks each, with 64, 128, 256 and 512 planes.

    Args:
        block: BasicBlock or Bottleneck.
        layers: the number of blocks of each stage.
        num_classes: the number of logits.
        groups, width_per_group: of the 3 × 3 convolutions of bottlenecks.
        replace_stride_with_dilation: for the last three stages, whether dilation takes the place of the stride.
        norm_layer: makes a normalisation for a number of channels.
    """

    def __init__(
        self,
        block,
        layers,
        num_classes=1000,
        groups=1,
        width_per_group=64,
        replace_stride_with_dilation=None,
        norm_layer=nn.BatchNorm2d,
    ):
        super().__init__()
        dilated = (False, False, False) if replace_stride_with_dilation is None else replace_stride_with_dilation
        if len(dilated) != 3:
            raise ArgumentError(f"replace_stride_with_dilation: expected None or 3 values, got {dilated!r}")
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels, dilation = 64, 1
        for stage, (depth, dilate) in enumerate(zip(layers, (False, *dilated), strict=True)):
            planes, stride, first_dilation = 64 * 2**stage, min(stage, 1) + 1, dilation
            if dilate:
                dilation, stride = dilation * stride, 1
            blocks = []
            for i in range(depth):
                downsample = None
                if i == 0 and (stride != 1 or channels != planes * block.expansion):
                    projection = nn.Conv2d(channels, planes * block.expansion, kernel_size=1, stride=stride, bias=False)
                    downsample = nn.Sequential(projection, norm_layer(planes * block.expansion))
                blocks.append(
                    block(
                        channels,
                        planes,
                        1 if i else stride,
                        downsample,
                        groups,
                        width_per_group,
                        dilation if i else first_dilation,
                        norm_layer,
                    )
                )
                channels = planes * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flatten(self.avgpool(x)))


def resnet18(*, weights=None, progress=True, **options):
    """ResNet-18; 11,689,512 parameters."""
    return build(ResNet, BasicBlock, (2, 2, 2, 2), weights=weights, **options)


def resnet34(*, weights=None, progress=True, **options):
    """ResNet-34; 21,797,672 parameters."""
    return build(ResNet, BasicBlock, (3, 4, 6, 3), weights=weights, **options)


def resnet50(*, weights=None, progress=True, **options):
    """ResNet-50; 25,557,032 parameters."""
    return build(ResNet, Bottleneck, (3, 4, 6, 3), weights=weights, **options)


def resnet101(*, weights=None, progress=True, **options):
    """ResNet-101; 44,549,160 parameters."""
    return build(ResNet, Bottleneck, (3, 4, 23, 3), weights=weights, **options)


def resnet152(*, weights=None, progress=True, **options):
    """ResNet-152; 60,192,808 parameters."""
    return build(ResNet, Bottleneck, (3, 8, 36, 3), weights=weights, **options)


def resnext50_32x4d(*, weights=None, progress=True, **options):
    """ResNeXt-50 with 32 groups of 4 channels; 25,028,904 parameters."""
    return build(ResNet, Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4, weights=weights, **options)


def resnext101_32x8d(*, weights=None, progress=True, **options):
    """ResNeXt-101 with 32 groups of 8 channels; 88,791,336 parameters."""
    return build(ResNet, Bottleneck, (3, 4, 23, 3), groups=32, width_per_group=8, weights=weights, **options)


def wide_resnet50_2(*, weights=None, progress=True, **options):
    """ResNet-50 with bottlenecks of twice the width; 68,883,240 parameters."""
    return build(ResNet, Bottleneck, (3, 4, 6, 3), width_per_group=128, weights=weights, **options)


def wide_resnet101_2(*, weights=None, progress=True, **options):
    """ResNet-101 with bottlenecks of twice the width; 126,886,696 parameters."""
    return build(ResNet, Bottleneck, (3, 4, 23, 3), width_per_group=128, weights=weights, **options)
