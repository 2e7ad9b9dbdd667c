"""The Inception networks: GoogLeNet (version 1) and Inception v3, blocks of parallel convolutions joined by channel.

Every constructor takes `weights` (None, or the path of a file for :func:`fastconv.load_state_dict`), torchvision's
`progress` and `init_weights`, which are ignored, and the options of its class.  In training mode a network with
auxiliary classifiers returns a named tuple of logits, otherwise the logits (n, num_classes) alone.

Sources: C. Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842, 2014 (as in torchvision with batch
normalisation, and with 3 × 3 convolutions where the paper has 5 × 5); C. Szegedy et al., "Rethinking the Inception
architecture for computer vision", arXiv:1512.00567, 2015.
"""

from collections import namedtuple

import numpy as np

from fastconv import nn
from fastconv.models.blocks import BasicConv2d, build, flatten
from fastconv.nn import functional as F

__all__ = ["GoogLeNet", "GoogLeNetOutputs", "Inception3", "InceptionOutputs", "googlenet", "inception_v3"]

GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", ["logits", "aux_logits2", "aux_logits1"])
InceptionOutputs = namedtuple("InceptionOutputs", ["logits", "aux_logits"])

IMAGENET_MEAN, IMAGENET_STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)


def _rescaled(x):
    """Images normalised by ImageNet's means and deviations, normalised to [-1, 1] instead."""
    return x * (IMAGENET_STD / 0.5).astype(x.dtype) + ((IMAGENET_MEAN - 0.5) / 0.5).astype(x.dtype)


class Inception(nn.Module):
    """1 × 1, two 3 × 3 and a pooled 1 × 1 branch; `reduce…` are the channels before the 3 × 3 convolutions."""

    def __init__(self, in_channels, wide1x1, reduce2, wide2, reduce3, wide3, pooled):
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, wide1x1, kernel_size=1)
        for name, reduced, wide in (("branch2", reduce2, wide2), ("branch3", reduce3, wide3)):
            layers = BasicConv2d(in_channels, reduced, kernel_size=1), BasicConv2d(reduced, wide, 3, padding=1)
            self.add_module(name, nn.Sequential(*layers))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, pooled, kernel_size=1),
        )

    def forward(self, x):
        return np.concatenate([branch(x) for branch in self.children()], axis=1)


class _GoogLeNetAux(nn.Module):
    def __init__(self, in_channels, num_classes, dropout):
        super().__init__()
        self.conv = BasicConv2d(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = flatten(self.conv(F.adaptive_avg_pool2d(x, (4, 4))))
        return self.fc2(self.dropout(F.relu(self.fc1(x), inplace=True)))


class GoogLeNet(nn.Module):
    """GoogLeNet.  `transform_input` takes images normalised for the other ImageNet models."""

    def __init__(
        self,
        num_classes=1000,
        aux_logits=True,
        transform_input=False,
        init_weights=None,
        dropout=0.2,
        dropout_aux=0.7,
    ):
        super().__init__()
        self.aux_logits = aux_logits
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1 = _GoogLeNetAux(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = _GoogLeNetAux(528, num_classes, dropout_aux) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x):
        with_aux = self.training and self.aux_logits
        x = self.maxpool1(self.conv1(_rescaled(x) if self.transform_input else x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4a(x)
        aux1 = self.aux1(x) if with_aux else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        aux2 = self.aux2(x) if with_aux else None
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(flatten(self.avgpool(x))))
        return GoogLeNetOutputs(logits, aux2, aux1) if with_aux else logits


class _Mixed(nn.Module):
    """Chains of convolutions side by side, and a pooling; all outputs joined by channel.

    `chains` maps the name of a chain to its convolutions, each (channels, kernel_size[, stride]); those of stride 1
    keep the size.  The convolutions of a chain of several are attributes ``<name>_1``, ``<name>_2`` and so on.  The
    chain ``branch_pool`` reads the average of 3 × 3 neighbours; without it a max pooling with stride 2 is the last
    branch.
    """

    def __init__(self, in_channels, chains):
        super().__init__()
        self._chains = []
        for name, convolutions in chains.items():
            names = [f"{name}_{i + 1}" for i in range(len(convolutions))] if len(convolutions) > 1 else [name]
            channels = in_channels
            for attribute, (width, kernel_size, *stride) in zip(names, convolutions, strict=True):
                heights = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
                padding = 0 if stride else tuple(size // 2 for size in heights)
                self.add_module(attribute, BasicConv2d(channels, width, kernel_size, *stride, padding=padding))
                channels = width
            self._chains.append(names)
        self._averages = "branch_pool" in chains

    def forward(self, x):
        outputs = []
        for names in self._chains:
            y = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1) if names == ["branch_pool"] else x
            for name in names:
                y = self._modules[name](y)
            outputs.append(y)
        if not self._averages:
            outputs.append(F.max_pool2d(x, kernel_size=3, stride=2))
        return np.concatenate(outputs, axis=1)


class InceptionA(_Mixed):
    def __init__(self, in_channels, pool_features):
        chains = {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)]}
        chains |= {"branch3x3dbl": [(64, 1), (96, 3), (96, 3)], "branch_pool": [(pool_features, 1)]}
        super().__init__(in_channels, chains)


class InceptionB(_Mixed):
    def __init__(self, in_channels):
        super().__init__(in_channels, {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]})


class InceptionC(_Mixed):
    def __init__(self, in_channels, channels_7x7):
        row, column = (channels_7x7, (1, 7)), (channels_7x7, (7, 1))
        chains = {
            "branch1x1": [(192, 1)],
            "branch7x7": [(channels_7x7, 1), row, (192, (7, 1))],
            "branch7x7dbl": [(channels_7x7, 1), column, row, column, (192, (1, 7))],
            "branch_pool": [(192, 1)],
        }
        super().__init__(in_channels, chains)


class InceptionD(_Mixed):
    def __init__(self, in_channels):
        chains = {"branch3x3": [(192, 1), (320, 3, 2)], "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1))]}
        chains["branch7x7x3"].append((192, 3, 2))
        super().__init__(in_channels, chains)


class InceptionE(nn.Module):
    """Two of the four branches end in a 1 × 3 and a 3 × 1 convolution side by side."""

    def __init__(self, in_channels):
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 320, kernel_size=1)
        self.branch3x3_1 = BasicConv2d(in_channels, 384, kernel_size=1)
        self.branch3x3_2a = BasicConv2d(384, 384, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(384, 384, kernel_size=(3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 448, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, kernel_size=3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, kernel_size=(3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(in_channels, 192, kernel_size=1)

    def forward(self, x):
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        outputs = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)),
        )
        return np.concatenate(outputs, axis=1)


class _InceptionAux(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv0 = BasicConv2d(in_channels, 128, kernel_size=1)
        self.conv1 = BasicConv2d(128, 768, kernel_size=5)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x):
        x = self.conv1(self.conv0(F.avg_pool2d(x, kernel_size=5, stride=3)))
        return self.fc(flatten(F.adaptive_avg_pool2d(x, (1, 1))))


class Inception3(nn.Module):
    """Inception v3.  `transform_input` takes images normalised for the other ImageNet models."""

    def __init__(self, num_classes=1000, aux_logits=True, transform_input=False, init_weights=None, dropout=0.5):
        super().__init__()
        self.aux_logits = aux_logits
        self.transform_input = transform_input
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, kernel_size=3)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = InceptionA(192, pool_features=32)
        self.Mixed_5c = InceptionA(256, pool_features=64)
        self.Mixed_5d = InceptionA(288, pool_features=64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, channels_7x7=128)
        self.Mixed_6c = InceptionC(768, channels_7x7=160)
        self.Mixed_6d = InceptionC(768, channels_7x7=160)
        self.Mixed_6e = InceptionC(768, channels_7x7=192)
        self.AuxLogits = _InceptionAux(768, num_classes) if aux_logits else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x):
        x = self.Conv2d_1a_3x3(_rescaled(x) if self.transform_input else x)
        x = self.maxpool1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(x)))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        with_aux = self.training and self.aux_logits
        aux = self.AuxLogits(x) if with_aux else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        logits = self.fc(flatten(self.dropout(self.avgpool(x))))
        return InceptionOutputs(logits, aux) if with_aux else logits


def googlenet(*, weights=None, progress=True, **options):
    """GoogLeNet; 13,004,888 parameters, or 6,624,904 with ``aux_logits=False``.

    Input (n, 3, height, width), at least 15 × 15, made for 224 × 224.
    """
    return build(GoogLeNet, weights=weights, **options)


def inception_v3(*, weights=None, progress=True, **options):
    """Inception v3; 27,161,264 parameters, or 23,834,568 with ``aux_logits=False``.

    Input (n, 3, height, width), at least 75 × 75, made for 299 × 299.
    """
    return build(Inception3, weights=weights, **options)
