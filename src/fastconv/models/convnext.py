"""ConvNeXt: a convolutional network with the proportions of a vision transformer."""

from functools import partial

import numpy as np

from fastconv import nn
from fastconv.models.blocks import Conv2dNormActivation, StochasticDepth, build

__all__ = ["ConvNeXt", "convnext_tiny"]


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (n, channels, height, width)."""

    def forward(self, x):
        return super().forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, dims):
        super().__init__()
        self.dims = dims

    def forward(self, x):
        return x.transpose(self.dims)

    def extra_repr(self):
        return str(self.dims)


class CNBlock(nn.Module):
    """A 7 × 7 convolution of each channel by itself and two full connections per pixel, scaled, plus the input."""

    def __init__(self, channels, layer_scale, drop_probability):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels),
            Permute((0, 2, 3, 1)),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute((0, 3, 1, 2)),
        )
        self.layer_scale = nn.Parameter(np.full((channels, 1, 1), layer_scale, np.float32))
        self.stochastic_depth = StochasticDepth(drop_probability)

    def forward(self, x):
        return self.stochastic_depth(self.layer_scale * self.block(x)) + x


class ConvNeXt(nn.Module):
    """Stages of `depths` blocks and `widths` channels, with a 2 × 2 convolution of stride 2 between them.

    Args:
        depths, widths: per stage.
        stochastic_depth_prob: of dropping the last block in training; earlier ones are dropped less often.
        layer_scale: the initial scale of every block.
        num_classes: the number of logits.
    """

    def __init__(self, depths, widths, stochastic_depth_prob=0.0, layer_scale=1e-6, num_classes=1000):
        super().__init__()
        norm = partial(LayerNorm2d, eps=1e-6)
        features = [
            Conv2dNormActivation(3, widths[0], 4, 4, padding=0, norm_layer=norm, activation_layer=None, bias=True)
        ]
        drops = iter(np.linspace(0, stochastic_depth_prob, sum(depths)).tolist())
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                narrow = widths[stage - 1]
                features.append(nn.Sequential(norm(narrow), nn.Conv2d(narrow, width, kernel_size=2, stride=2)))
            features.append(nn.Sequential(*[CNBlock(width, layer_scale, next(drops)) for _ in range(depth)]))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(norm(widths[-1]), nn.Flatten(1), nn.Linear(widths[-1], num_classes))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)))


def convnext_tiny(*, weights=None, progress=True, stochastic_depth_prob=0.1, **options):
    """ConvNeXt-T; 28,589,128 parameters.

    Input (n, 3, height, width), at least 32 × 32, made for 224 × 224; output logits (n, num_classes).

    Args:
        weights: None, or the path of a file for :func:`fastconv.load_state_dict`.
        progress: ignored, accepted for torchvision's sake.
        stochastic_depth_prob: of dropping the last block in training.
        options: layer_scale=1e-6, num_classes=1000.

    Source: Z. Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545, 2022.
    """
    return build(ConvNeXt, (3, 3, 9, 3), (96, 192, 384, 768), stochastic_depth_prob, weights=weights, **options)
