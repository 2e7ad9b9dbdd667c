"""Semantic segmentation with a dilated ResNet-50: FCN and DeepLabV3.

Inputs are (n, 3, height, width); outputs a dictionary: ``out``, logits (n, num_classes, height, width), and with
`aux_loss` also ``aux``, those of the auxiliary classifier.  Every constructor takes `weights` (None, or the path of a
file for :func:`fastconv.load_state_dict`), torchvision's `progress`, which is ignored, and the options num_classes=21,
aux_loss=False and `weights_backbone`, the path of a file for :func:`~fastconv.models.resnet50`.  Torchvision's
published files have an auxiliary classifier and want ``aux_loss=True``.

Sources: J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation", arXiv:1411.4038,
2014; L.-C. Chen et al., "Rethinking atrous convolution for semantic image segmentation", arXiv:1706.05587, 2017.
"""

import numpy as np

from fastconv import nn
from fastconv.models.blocks import build
from fastconv.models.resnet import resnet50
from fastconv.nn import functional as F

__all__ = ["FCN", "DeepLabV3", "deeplabv3_resnet50", "fcn_resnet50"]

ATROUS_RATES = (12, 24, 36)
CLASSIFIER_OF_RESNET = ("avgpool", "fc")  # its last children


def _upsampled(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class _Backbone(nn.ModuleDict):
    """A ResNet up to its last stage; returns that stage's output and the one before it."""

    def forward(self, x):
        before = x
        for module in self.values():
            before, x = x, module(x)
        return x, before


class FCNHead(nn.Sequential):
    def __init__(self, in_channels, num_classes):
        hidden = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(hidden, num_classes, 1),
        )


def _conv(in_channels, out_channels, dilation=None):
    """A 3 × 3 convolution with `dilation`, without one a 1 × 1; normalisation, ReLU."""
    kernel_size, padding = (1, 0) if dilation is None else (3, dilation)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, 1, padding, dilation or 1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU()


class ASPPPooling(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(nn.AdaptiveAvgPool2d(1), *_conv(in_channels, out_channels))

    def forward(self, x):
        return _upsampled(super().forward(x), x.shape[-2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: dilations side by side, and the mean of the plane."""

    def __init__(self, in_channels, rates, out_channels=256):
        super().__init__()
        branches = [nn.Sequential(*_conv(in_channels, out_channels, rate)) for rate in (None, *rates)]
        self.convs = nn.ModuleList([*branches, ASPPPooling(in_channels, out_channels)])
        self.project = nn.Sequential(*_conv(len(self.convs) * out_channels, out_channels), nn.Dropout(0.5))

    def forward(self, x):
        return self.project(np.concatenate([conv(x) for conv in self.convs], axis=1))


class DeepLabHead(nn.Sequential):
    def __init__(self, in_channels, num_classes, atrous_rates=ATROUS_RATES):
        super().__init__(ASPP(in_channels, atrous_rates), *_conv(256, 256, 1), nn.Conv2d(256, num_classes, 1))


class _SegmentationModel(nn.Module):
    head: type[nn.Module]

    def __init__(self, num_classes=21, aux_loss=False, weights_backbone=None):
        super().__init__()
        resnet = resnet50(weights=weights_backbone, replace_stride_with_dilation=(False, True, True))
        self.backbone = _Backbone(list(resnet.named_children())[: -len(CLASSIFIER_OF_RESNET)])
        self.classifier = self.head(2048, num_classes)
        self.aux_classifier = FCNHead(1024, num_classes) if aux_loss else None

    def forward(self, x):
        last, before = self.backbone(x)
        outputs = {"out": _upsampled(self.classifier(last), x.shape[-2:])}
        if self.aux_classifier is not None:
            outputs["aux"] = _upsampled(self.aux_classifier(before), x.shape[-2:])
        return outputs


class FCN(_SegmentationModel):
    """Fully convolutional network on a dilated ResNet-50."""

    head = FCNHead


class DeepLabV3(_SegmentationModel):
    """DeepLabV3 on a dilated ResNet-50."""

    head = DeepLabHead


def fcn_resnet50(*, weights=None, progress=True, **options):
    """FCN on ResNet-50; 32,957,013 parameters, 35,322,218 with `aux_loss`."""
    return build(FCN, weights=weights, **options)


def deeplabv3_resnet50(*, weights=None, progress=True, **options):
    """DeepLabV3 on ResNet-50; 39,638,869 parameters, 42,004,074 with `aux_loss`."""
    return build(DeepLabV3, weights=weights, **options)
