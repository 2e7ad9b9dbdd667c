"""U-Net, for the segmentation of images with few examples."""

import numpy as np

from fastconv import nn
from fastconv.models.blocks import build

__all__ = ["UNet", "unet"]


def _double_conv(in_channels, out_channels):
    layers = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A contracting path, and an expanding one that is given the maps of the same size beside its own.

    ``encoder.{0…depth}`` and ``decoder.{0…depth-1}`` are two convolutions each (children 0 and 3, their normalisations
    1 and 4), ``up.{0…depth-1}`` transposed convolutions in the order in which they are applied, ``head`` a 1 × 1
    convolution.

    Args:
        in_channels: of the input.
        num_classes: of the output.
        width: channels of the first level; every level below has twice as many.
        depth: how often the plane is halved.
    """

    def __init__(self, in_channels=3, num_classes=2, width=64, depth=4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.encoder = nn.ModuleList(map(_double_conv, [in_channels, *widths[:-1]], widths))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, narrow, 2, stride=2) for wide, narrow in pairs)
        self.decoder = nn.ModuleList(_double_conv(wide, narrow) for wide, narrow in pairs)
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x):
        x = self.encoder[0](x)
        passed = []
        for block in self.encoder[1:]:
            passed.append(x)
            x = block(self.pool(x))
        for up, block in zip(self.up, self.decoder, strict=True):
            beside = passed.pop()
            x = block(np.concatenate((beside, up(x, output_size=beside.shape[2:])), axis=1))
        return self.head(x)


def unet(*, weights=None, **options):
    """U-Net with batch normalisation and padded convolutions; 31,037,698 parameters.

    Input (n, in_channels, height, width) of any size from 16 × 16; output logits (n, num_classes, height, width).

    Args:
        weights: None, or the path of a file for :func:`fastconv.load_state_dict`.
        options: in_channels=3, num_classes=2, width=64, depth=4.

    Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation",
    arXiv:1505.04597, 2015; unlike there, padding keeps the size, so that nothing is cropped.
    """
    return build(UNet, weights=weights, **options)
