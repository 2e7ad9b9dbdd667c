"""Arrays for a model's inputs, from the command line: NumPy files, images, or seeded random numbers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

from fastconv.errors import ArgumentError, ModelError
from fastconv.nn import functional as F
from fastconv.onnx.report import shapes_text
from fastconv.onnx.session import InferenceSession
from fastconv.tools.image_file import read_image

__all__ = [
    "add_input_arguments",
    "add_model_arguments",
    "add_scaling_arguments",
    "feeds_of",
    "image_batch",
    "known_shapes",
    "open_session",
]

SEED = 0
LONGEST_IMAGE = 4096  # pixels; larger ones are reduced by a whole factor while they are read
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and what a session of it is made with."""
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of a run (default: all that this process has)"
    )
    parser.add_argument("--precision", choices=("strict", "default", "fast"), default="default")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=SIZES",
        help="sizes of an input, as in x=1,3,224,224, or of one symbolic size, as in batch=8",
    )  # fmt: skip


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Files for the inputs, and how images become arrays."""
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE",
        help="a .npy file, or an image, which is scaled to the input's size and to 0..1; without one: random numbers",
    )  # fmt: skip
    add_scaling_arguments(parser)


def add_scaling_arguments(parser: argparse.ArgumentParser) -> None:
    """How the channels of an image are scaled."""
    parser.add_argument("--mean", type=_numbers, metavar="R,G,B", help="subtracted from the channels of an image")
    parser.add_argument("--std", type=_divisors, metavar="R,G,B", help="by which they are then divided")


def open_session(arguments: argparse.Namespace) -> InferenceSession:
    try:
        return InferenceSession(arguments.model, arguments.threads, arguments.precision)
    except ModelError as error:
        raise ModelError(f"{arguments.model}: {error}") from error


def _shapes_of(session: InferenceSession, arguments: argparse.Namespace) -> dict[str, object]:
    """What ``--shape`` says: a tuple for an input, a number for a symbolic size."""
    inputs = {info.name for info in session.get_inputs()}
    shapes: dict[str, object] = {}
    for entry in arguments.shape:
        name, _, sizes = entry.rpartition("=")
        numbers = tuple(int(size) for size in sizes.split(",") if size.strip().isdecimal())
        if not name or len(numbers) != sizes.count(",") + 1 or (name not in inputs and len(numbers) > 1):
            raise ArgumentError(
                f"--shape: expected NAME=SIZES, as in x=1,3,224,224 for an input ({', '.join(sorted(inputs))}), or "
                f"batch=8 for a symbolic size, got {entry!r}"
            )
        if name in shapes:
            raise ArgumentError(f"--shape: {name} is given twice")
        shapes[name] = numbers if name in inputs else numbers[0]
    return shapes


def _given(session: InferenceSession, arguments: argparse.Namespace) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The arrays that ``--input`` names, and the shapes that they and ``--shape`` give."""
    inputs = {info.name: info for info in session.get_inputs()}
    shapes = _shapes_of(session, arguments)
    feeds: dict[str, np.ndarray] = {}
    for name, file in (_named(entry, inputs) for entry in arguments.input):
        if name in feeds:
            raise ArgumentError(f"--input: {name} is given twice")
        feeds[name] = _read(file, inputs[name], shapes.get(name), arguments)
        if feeds[name].shape != shapes.setdefault(name, feeds[name].shape):
            raise ArgumentError(
                f"--shape: {name} is {shapes_text([shapes[name]])}, but {file} has {shapes_text([feeds[name].shape])}"
            )
    if not any(_is_image(file) for file in arguments.input):
        for option in ("mean", "std"):
            if getattr(arguments, option) is not None:
                raise ArgumentError(f"--{option}: it scales images, and no --input is one")
    return feeds, shapes


def known_shapes(session: InferenceSession, arguments: argparse.Namespace) -> dict[str, object]:
    """What ``--shape`` and the files of ``--input`` say: a tuple for an input, a number for a symbolic size."""
    return _given(session, arguments)[1]


def feeds_of(session: InferenceSession, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """An array for every input; prints which of them are random."""
    feeds, shapes = _given(session, arguments)
    rng = np.random.default_rng(SEED)
    for name, (shape, dtype) in session.input_shapes(shapes).items():
        if name not in feeds:
            feeds[name] = _random(rng, shape, dtype)
            print(f"input {name}: random numbers, seed {SEED}, {dtype} {shapes_text([shape])}")
    return feeds


def _named(entry: str, inputs: Mapping) -> tuple[str, str]:
    """The input and the file of ``NAME=FILE``; the name may be left out where there is one input."""
    for name in inputs:
        if entry.startswith(f"{name}=") and entry != f"{name}=":
            return name, entry[len(name) + 1 :]
    if len(inputs) == 1 and entry and "=" not in entry:
        return next(iter(inputs)), entry
    raise ArgumentError(f"--input: expected NAME=FILE with one of {', '.join(inputs)}, got {entry!r}")


def _read(file: str, info, shape, arguments: argparse.Namespace) -> np.ndarray:
    if file.endswith(".npz"):
        raise ArgumentError(f"{file}: expected a .npy file or an image; a .npz file may hold several arrays")
    if _is_image(file):
        return image_batch(file, info, shape, arguments.mean, arguments.std)
    with open(file, "rb") as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ArgumentError(f"{file}: not a NumPy file that can be read: {error}") from None


def _is_image(file: str) -> bool:
    return not file.endswith((".npy", ".npz"))


def image_batch(file: str, info, shape, mean, std) -> np.ndarray:
    """The image for an input, of which `info` has name, shape and dtype: scaled to its size, or to `shape`, and to 0..1,
    minus `mean`, divided by `std`, as a batch of one, NCHW or, where the input's last axis has 1 or 3 channels, NHWC."""
    sizes = list(info.shape if shape is None else shape)
    if len(sizes) != 4:
        raise ArgumentError(f"{file}: input {info.name!r} has shape {tuple(sizes)}, which is no batch of images")
    last = sizes[3] in (1, 3) and sizes[1] not in (1, 3)
    channels, height, width = (sizes[3], *sizes[1:3]) if last else (sizes[1], *sizes[2:])
    pixels = read_image(file, LONGEST_IMAGE)
    size = tuple(wanted if isinstance(wanted, int) and wanted > 0 else there
                 for wanted, there in zip((height, width), pixels.shape, strict=False))  # fmt: skip
    x = _with_channels(pixels, channels if isinstance(channels, int) else pixels.shape[2], file)
    x = np.moveaxis(x, 2, 0)[None]
    if size != x.shape[2:]:
        x = F.interpolate(np.ascontiguousarray(x), size=size, mode="bilinear", antialias=True)
    if info.dtype is not None and info.dtype.kind in "iu":
        x = np.rint(np.clip(x, 0, 1) * 255)
    for numbers, change in ((mean, np.subtract), (std, np.divide)):
        if numbers is not None:
            if len(numbers) not in (1, x.shape[1]):
                raise ArgumentError(f"--mean, --std: expected 1 or {x.shape[1]} numbers, got {len(numbers)}")
            x = change(x, np.array(numbers, np.float32).reshape(1, -1, 1, 1))
    return np.moveaxis(x, 1, 3).astype(info.dtype) if last else x.astype(info.dtype)


def _with_channels(pixels: np.ndarray, channels: int, file: str) -> np.ndarray:
    if pixels.shape[2] == channels:
        return pixels
    if channels == 1:
        return (pixels @ GREY)[..., None]
    if pixels.shape[2] == 1 and channels == 3:
        return pixels.repeat(3, axis=2)
    raise ArgumentError(f"{file}: the input has {channels} channels, the image {pixels.shape[2]}")


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "fc":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not np.isfinite(numbers).all():
        raise argparse.ArgumentTypeError(f"expected numbers joined by commas, got {text!r}")
    return numbers


def _divisors(text: str) -> list[float]:
    numbers = _numbers(text)
    if 0 in numbers:
        raise argparse.ArgumentTypeError(f"expected numbers other than 0, got {text!r}")
    return numbers
