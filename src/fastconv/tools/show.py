"""``fastconv show``: what each convolution of a network has learnt, and what it sees in an image."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fastconv import models
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.onnx.model import load
from fastconv.onnx.session import InferenceSession
from fastconv.tools.activations import SeenLayer, of_graph, of_module
from fastconv.tools.digits import network_input, read_digit
from fastconv.tools.image_file import read_image
from fastconv.tools.model_inputs import LONGEST_IMAGE, add_scaling_arguments, feeds_of, image_batch
from fastconv.tools.output_files import check_folder
from fastconv.tools.pictures import check_matplotlib, draw
from fastconv.weights import load_state_dict

__all__ = ["add_arguments", "run"]

NO_MODELS = {"from_pattern", "mnist_samples"}
SAMPLE = 5
SIZES = {"inception_v3": 299, "ssdlite320_mobilenet_v3_large": 320}
USUAL_SIZE = 224
# What torchvision's weights were trained with: of red, green and blue in 0..1.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draw the filters of every two-dimensional convolution and the maps that it makes of an image, as PNG files. "
        "Without arguments, LeNet-5 looks at a handwritten digit: strokes become edges, and edges become shapes."
    )
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="PNG or JPEG; without one, a digit from MNIST")
    parser.add_argument(
        "--model", default="lenet5", metavar="NAME|FILE.onnx",
        help="a model of fastconv.models, as in resnet18, or an ONNX file (default: lenet5, trained on MNIST)",
    )  # fmt: skip
    parser.add_argument("--weights", metavar="FILE", help="a state dict for the model: .pth, .safetensors or .npz")
    parser.add_argument("--size", type=int, metavar="N", help=f"pixels of the model's input (default {USUAL_SIZE})")
    add_scaling_arguments(parser)
    parser.add_argument("--output", default="pictures", metavar="FOLDER", help="where to write (default: pictures)")


def run(arguments: argparse.Namespace) -> int:
    """Write the pictures and print where they are.  Return 0."""
    check_matplotlib()
    check_folder("--output", arguments.output)
    try:
        title, picture, layers, probabilities = _seen(arguments)
        if not layers:
            raise ArgumentError(f"{arguments.model}: the model has no two-dimensional convolution to show")
        written = draw(Path(arguments.output), title, picture, layers, probabilities, _progress(len(layers)))
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(f"{written[0]}: {title}")
    for path, layer in zip(written[1:], layers, strict=True):
        print(f"{path}: {layer.description}, {len(layer.maps)} maps")
    return 0


def _seen(arguments: argparse.Namespace) -> tuple[str, np.ndarray, list[SeenLayer], np.ndarray | None]:
    """A title, the image as it is shown, what the convolutions make of it, and the probabilities of the classes."""
    if arguments.size is not None and arguments.size < 1:
        raise ArgumentError(f"--size: expected at least 1 pixel, got {arguments.size}")
    names = [name for name in models.__all__ if name not in NO_MODELS]
    if not arguments.model.endswith(".onnx") and arguments.model not in names:
        raise ArgumentError(f"--model: expected an .onnx file or one of {', '.join(names)}; got {arguments.model!r}")
    if arguments.model == "lenet5":
        for name in ("size", "mean", "std"):
            if getattr(arguments, name) is not None:
                raise ArgumentError(f"--{name}: lenet5 reads digits, which are found and scaled by a rule of their own")
        return _by_lenet(arguments)
    if arguments.image is None:
        raise ArgumentError(f"IMAGE: {arguments.model} needs an image file; only lenet5 comes with a sample")
    name = os.path.basename(arguments.image)
    if arguments.model.endswith(".onnx"):
        if arguments.weights:
            raise ArgumentError("--weights: an ONNX file has its weights inside")
        picture, layers, scores = _by_session(arguments)
    else:
        picture, layers, scores = _by_module(arguments)
    title = f"{os.path.basename(arguments.model)} looks at {name}"
    return title, picture, layers, _probabilities(scores)


def _by_lenet(arguments):
    model = models.lenet5(weights=None if arguments.weights else "mnist")
    if arguments.weights:
        model.load_state_dict(load_state_dict(arguments.weights))
    model.eval()
    if arguments.image is None:
        x, name = network_input(models.mnist_samples()[0])[SAMPLE], f"a {SAMPLE} of MNIST"
    else:
        x, name = read_digit(arguments.image), os.path.basename(arguments.image)
    layers, logits = of_module(model, x[None])
    return f"LeNet-5 looks at {name}", x[0], layers, _probabilities(logits)


def _by_module(arguments):
    if not arguments.weights:
        print(f"fastconv show: {arguments.model} has random weights; --weights takes trained ones", file=sys.stderr)
    model = getattr(models, arguments.model)(weights=arguments.weights).eval()
    size = arguments.size or SIZES.get(arguments.model, USUAL_SIZE)
    channels = next(p for p in model.parameters() if p.ndim == 4).shape[1]
    info = SimpleNamespace(name="the input", shape=[1, channels, size, size], dtype=np.dtype(np.float32))
    shown = image_batch(arguments.image, info, None, None, None)
    mean, std = (arguments.mean or MEAN, arguments.std or STD) if channels == 3 else (arguments.mean, arguments.std)
    layers, output = of_module(model, image_batch(arguments.image, info, None, mean, std))
    return _picture(shown), layers, output


def _by_session(arguments):
    model = load(arguments.model)
    session = InferenceSession(model)
    images = [info for info in session.get_inputs() if len(info.shape) == 4]
    if not images:
        raise ArgumentError(f"{arguments.model}: the model has no input that is a batch of images (four axes)")
    shape = _image_shape(images[0].shape, arguments.size)
    options = SimpleNamespace(
        input=[f"{images[0].name}={arguments.image}"],
        shape=[f"{images[0].name}={','.join(map(str, shape))}"],
        mean=arguments.mean,
        std=arguments.std,
    )
    values = session.trace(feeds_of(session, options))
    picture = _without_one_channel(read_image(arguments.image, LONGEST_IMAGE))
    return picture, of_graph(model.graph, values), values.get(session.get_outputs()[0].name)


def _image_shape(shape: list, size: int | None) -> list[int]:
    """Sizes for all axes: one image, and where the file leaves the size of images open, what was asked for."""
    last = shape[3] in (1, 3) and shape[1] not in (1, 3)
    usual = [1, size or USUAL_SIZE, size or USUAL_SIZE, 3] if last else [1, 3, size or USUAL_SIZE, size or USUAL_SIZE]
    return [n if isinstance(n, int) and n > 0 else default for n, default in zip(shape, usual, strict=True)]


def _picture(x: np.ndarray) -> np.ndarray:
    """A batch of one image as (height, width) or (height, width, 3)."""
    return _without_one_channel(np.clip(np.moveaxis(x[0], 0, 2), 0, 1))


def _without_one_channel(pixels: np.ndarray) -> np.ndarray:
    """An image (height, width, channels), without the axis of channels where it has one."""
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _probabilities(scores) -> np.ndarray | None:
    """Of one row of scores, which may be probabilities already; None for other outputs."""
    if not isinstance(scores, np.ndarray) or scores.size != max(scores.shape, default=0) or scores.size < 2:
        return None
    row = scores.reshape(-1).astype(np.float32)
    if row.min() >= 0 and abs(row.sum() - 1) < 1e-3:
        return row
    return np.asarray(F.softmax(row, dim=0))


def _progress(count: int):
    """Tells on a terminal which layer is drawn."""

    def show(number: int, path: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K[{number}/{count}] {path}", end="", file=sys.stderr, flush=True)

    return show
