"""LeNet-5, the first convolutional network at work: it read the digits on bank cheques."""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np

from fastconv import nn
from fastconv.errors import ArgumentError
from fastconv.models.blocks import build
from fastconv.weights import SUFFIXES

__all__ = ["lenet5", "mnist_samples"]

_HERE = Path(__file__).parent
_WEIGHTS = {"mnist": "lenet5_mnist.npz"}


def lenet5(weights: str | os.PathLike | None = None) -> nn.Sequential:
    """LeNet-5 for 10 classes, with the customary ReLU and max pooling; 61,706 parameters.

    Input float32 (n, 1, 32, 32), ink 1 on background 0; output logits (n, 10).  The state dict has torchvision's style
    of keys: ``features.{0,3}`` are the convolutions and ``classifier.{0,2,4}`` the full connections, each with
    ``.weight`` and ``.bias``.

    Args:
        weights: None for torch's random initialisation, "mnist" for the weights shipped (provenance and accuracy in
            ``lenet5_mnist.md`` beside this module), or the path of a file for :func:`fastconv.load_state_dict`.

    Raises:
        ArgumentError: there are no weights of that name, or the file does not fit.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86(11), 1998.
    """
    if isinstance(weights, str) and weights in _WEIGHTS:
        model = _lenet5()
        with np.load(_HERE / _WEIGHTS[weights], allow_pickle=False) as stored:
            model.load_state_dict({key: stored[key].astype(np.float32) for key in stored})
        return model
    is_path = isinstance(weights, os.PathLike) or (isinstance(weights, str) and weights.lower().endswith(SUFFIXES))
    if weights is not None and not is_path:
        known = ", ".join(map(repr, _WEIGHTS))
        raise ArgumentError(
            f"lenet5: no weights named {weights!r}; expected {known}, the path of a file ({', '.join(SUFFIXES)}), or "
            "None to initialise at random"
        )
    return build(_lenet5, weights=weights)


def _lenet5() -> nn.Sequential:
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    classifier = nn.Sequential(
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))


def mnist_samples() -> tuple[np.ndarray, np.ndarray]:
    """Ten digits of MNIST that the "mnist" weights were not trained on, one per class.

    Returns:
        images: uint8 (10, 28, 28), ink 255 on background 0.
        labels: uint8 (10,).
    """
    with np.load(_HERE / "mnist_samples.npz", allow_pickle=False) as stored:
        return stored["images"], stored["labels"]
