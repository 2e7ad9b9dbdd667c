"""AlexNet, the network that won the ImageNet challenge of 2012."""

from fastconv import nn
from fastconv.models.blocks import build, flatten

__all__ = ["AlexNet", "alexnet"]


class AlexNet(nn.Module):
    """The one-tower form of Krizhevsky 2014: five convolutions, three full connections."""

    def __init__(self, num_classes=1000, dropout=0.5):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x):
        return self.classifier(flatten(self.avgpool(self.features(x))))


def alexnet(*, weights=None, progress=True, **options):
    """AlexNet; 61,100,840 parameters.

    Input (n, 3, height, width), at least 63 × 63, made for 224 × 224; output logits (n, num_classes).

    Args:
        weights: None, or the path of a file for :func:`fastconv.load_state_dict`.
        progress: ignored, accepted for torchvision's sake.
        options: num_classes=1000, dropout=0.5.

    Source: A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, 2014.
    """
    return build(AlexNet, weights=weights, **options)
