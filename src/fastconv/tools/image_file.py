"""Image files as arrays.  Pillow, an optional extra, is imported when a file is read and not before."""

import os
import stat
import warnings

import numpy as np

from fastconv.errors import ArgumentError

__all__ = ["read_image"]

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_WANTED = "expected an image file, such as PNG or JPEG"


def read_image(path: str | os.PathLike, longest: int) -> np.ndarray:
    """Read an image upright, without transparency, and reduced to at most ``longest`` pixels on its longer side.

    Returns:
        float32 (height, width, channels) in 0..1 with 1 or 3 channels; 16-bit grey keeps its precision.  Reduction is
        by whole factors, averaging.  What is transparent becomes paper: the median colour of the rest where that covers
        most of the frame, and otherwise black or white, whichever contrasts with the rest.

    Raises:
        ArgumentError: the file is missing, empty, a directory, no image, damaged, or has more pixels than Pillow's
            ``Image.MAX_IMAGE_PIXELS``.  The message names the file.
        ModuleNotFoundError: Pillow is not installed.
    """
    name = os.fspath(path)
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f'{name}: reading image files needs Pillow, which is not installed; pip install "fastconv[images]"',
            name="PIL",
        ) from None

    head = _first_bytes(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(name, formats=_FORMATS) as image:
                image.draft(None, (longest, longest))
                upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ArgumentError(f"{name}: not a readable image: it begins with {head!r}; {_WANTED}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"at most {Image.MAX_IMAGE_PIXELS:,} pixels are read; crop or shrink it first"
        raise ArgumentError(f"{name}: the image is too large: {error}; {limit}") from None
    except Exception as error:  # Pillow's decoders raise nearly every exception on damaged data
        reason = str(error) or type(error).__name__
        raise ArgumentError(f"{name}: a damaged or truncated image ({reason}); {_WANTED}") from None
    return _pixels(upright, longest)


def _first_bytes(name: str) -> bytes:
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise ArgumentError(f"{name}: a directory; {_WANTED}; name the files in it")
        if not stat.S_ISREG(mode):
            raise ArgumentError(f"{name}: not a regular file; {_WANTED}")
        with open(name, "rb") as file:
            head = file.read(12)
    except FileNotFoundError:
        raise ArgumentError(f"{name}: no such file; {_WANTED}") from None
    except OSError as error:
        raise ArgumentError(f"{name}: cannot be read ({error.strerror}); {_WANTED}") from None
    if not head:
        raise ArgumentError(f"{name}: an empty file (0 bytes); {_WANTED}")
    return head


def _pixels(image, longest: int) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.clip(_reduce(np.asarray(image), longest) / 65535, 0, 1)
    if "A" in image.getbands() or "transparency" in image.info:
        premultiplied = image.convert("RGBA").convert("RGBa")
        return _on_paper(_reduce(np.asarray(premultiplied), longest) / 255)
    return _reduce(np.asarray(image.convert("RGB")), longest) / 255


def _reduce(pixels: np.ndarray, longest: int) -> np.ndarray:
    """Means over blocks of whole pixels, float32 (height, width, channels)."""
    factor = -(-max(pixels.shape[:2]) // longest)
    rows, columns = (min(factor, size) for size in pixels.shape[:2])
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    blocks = pixels[: height * rows, : width * columns].reshape(height, rows, width, columns, -1)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _on_paper(premultiplied: np.ndarray) -> np.ndarray:
    colour, alpha = premultiplied[..., :3], premultiplied[..., 3:]
    opaque = alpha[..., 0] > 0.5
    contrasting = np.float32(colour.sum() < 1.5 * alpha.sum())
    paper = np.median(colour[opaque], axis=0) if opaque.mean() > 0.5 else contrasting
    return colour + (1 - alpha) * paper
