"""``fastconv classify``: LeNet-5 reads handwritten digits from image files."""

import argparse
import sys

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.models import lenet5, mnist_samples
from fastconv.nn import functional as F
from fastconv.tools.digits import network_input, read_digit

__all__ = ["add_arguments", "run"]

_CERTAIN = 0.9
_HALF_BLOCKS = " ▄▀█"
_SHADES = " .:-=+*#%@"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read handwritten digits. Without FILE, the ten MNIST digits that come with fastconv are classified; "
        "the network was not trained on them."
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="PNG or JPEG of one digit: any size, dark on light or light on dark"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the digit in each image, its probability and a picture.  Return 1 if an image could not be read, else 0."""
    model = lenet5(weights="mnist")
    return _classify_files(model, arguments.files) if arguments.files else _classify_samples(model)


def _classify_samples(model) -> int:
    images, labels = mnist_samples()
    right = 0
    for digit, label in zip(network_input(images), labels, strict=True):
        answer = _print_answer(model, f"MNIST sample of {label}", digit)
        right += answer == label
    print(f"{right} of {len(labels)} correct")
    return 0


def _classify_files(model, files: list[str]) -> int:
    failed = False
    for name in files:
        try:
            digit = read_digit(name)
        except (ArgumentError, ModuleNotFoundError) as error:
            print(f"fastconv classify: {error}", file=sys.stderr)
            failed = True
        else:
            _print_answer(model, name, digit)
    return int(failed)


def _print_answer(model, title: str, digit: np.ndarray) -> int:
    probabilities = np.asarray(F.softmax(model(digit[None]), dim=1))[0]
    second, first = np.argsort(probabilities)[-2:]
    line = f"{title}: {first}  {probabilities[first]:.1%}"
    if probabilities[first] < _CERTAIN:
        line += f"  (or {second}  {probabilities[second]:.1%})"
    print(line)
    print(picture(digit[0, 2:-2, 2:-2], sys.stdout.encoding))
    return int(first)


def picture(digit: np.ndarray, encoding: str | None) -> str:
    """A digit (28, 28) in 0..1 as up to 14 lines of 28 characters: half blocks, or ASCII if the encoding lacks them."""
    upper, lower = digit[0::2], digit[1::2]
    try:
        _HALF_BLOCKS.encode(encoding or "ascii")
    except UnicodeEncodeError:
        codes, characters = np.rint((upper + lower) / 2 * (len(_SHADES) - 1)).astype(int), _SHADES
    else:
        codes, characters = 2 * (upper >= 0.5) + (lower >= 0.5), _HALF_BLOCKS
    return "\n".join("".join(characters[code] for code in row).rstrip() for row in codes).strip("\n")
