"""A handwritten digit in any image, made into what a network trained on MNIST expects.

MNIST's own preparation (http://yann.lecun.com/exdb/mnist): the ink's bounding box scaled, with anti-aliasing, to 20
pixels on its longer side, and placed in 28 × 28 by its centre of mass.  What a photograph adds is removed before that:

    pixels  ->  minus lighting       a quadratic surface fitted to the frame's border, whatever crosses it left out
            ->  projected on ink     the colour direction in which pixels leave the paper, so polarity needs no rule
            ->  mask                 Otsu's threshold; specks and page edges are dropped
            ->  stroke width         hairlines and brushes brought to the widths that MNIST's pens have
            ->  28 × 28, padded to 32 × 32
"""

import os

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.tools.image_file import read_image

__all__ = ["network_input", "normalise_digit", "read_digit"]

_LONGEST = 512  # pixels of the working image
_BOX, _FRAME, _PADDING = 20, 28, 2
_LEAST_CONTRAST = 0.06  # between ink and paper, of the full range
_LEAST_SIZE = 5  # pixels the ink must span
_STROKES = (2.0, 4.0)  # pixels in the box of 20: 90 % of MNIST's pens
_FAINTEST = 0.25  # shade, of full ink, that still counts for the bounding box
_LEAST_SHARE = 0.04  # of the largest blob's area: smaller ones are specks


def read_digit(path: str | os.PathLike) -> np.ndarray:
    """Read one handwritten digit from an image file of any size, colour and polarity.

    Returns:
        float32 (1, 32, 32), ink 1 on background 0, the input of ``fastconv.models.lenet5(weights="mnist")``.

    Raises:
        ArgumentError: not a readable image (see ``read_image``), or no ink in it.  The message names the file.
        ModuleNotFoundError: Pillow is not installed.
    """
    pixels = read_image(path, _LONGEST)
    try:
        return network_input(normalise_digit(pixels))
    except ArgumentError as error:
        raise ArgumentError(f"{os.fspath(path)}: {error}") from None


def network_input(digits: np.ndarray) -> np.ndarray:
    """Frames (…, 28, 28), uint8 or float in 0..1, as the network's float32 input (…, 1, 32, 32)."""
    scale = 255 if digits.dtype == np.uint8 else 1
    edges = [(0, 0)] * (digits.ndim - 2) + [(_PADDING, _PADDING)] * 2
    return np.pad(digits.astype(np.float32) / np.float32(scale), edges)[..., None, :, :]


def normalise_digit(pixels: np.ndarray) -> np.ndarray:
    """Find the digit in an image and draw it the MNIST way.

    Args:
        pixels: float (height, width, channels) in 0..1; ink darker, lighter or of another colour than the background.

    Returns:
        float32 (28, 28) in 0..1, ink 1 on background 0.

    Raises:
        ArgumentError: nothing stands out from the background, or it is smaller than 5 pixels.
    """
    ink, noise = _ink(np.asarray(pixels, dtype=np.float32))
    mask, contrast = _otsu(ink)
    if contrast < max(_LEAST_CONTRAST, 4 * noise):
        raise ArgumentError(
            f"no ink found: nothing stands out from the background (contrast {contrast:.3f}, noise {noise:.3f}); "
            f"expected one digit, dark on light or light on dark"
        )
    mask = _without_specks(mask)
    top, bottom, left, right = _bounds(mask)
    height, width = bottom - top, right - left
    if max(height, width) < _LEAST_SIZE:
        raise ArgumentError(
            f"the ink spans {height} × {width} pixels of the image; expected a digit of at least {_LEAST_SIZE} pixels; "
            f"crop the image to the digit"
        )
    full = np.median(ink[mask])
    shades = np.clip((ink - 3 * noise) / max(full - 3 * noise, 1e-6), 0, 1)
    surroundings = _grown(mask, 1 + max(height, width) // 50)
    shades = _cropped(np.where(surroundings, shades, 0), surroundings)
    shades = _with_pen_width(shades, _cropped(mask, surroundings), max(height, width) / _BOX)
    return _framed(_cropped(shades, shades > _FAINTEST))


def _ink(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each pixel leaves the paper, in units of the full range, and the paper's noise (standard deviation)."""
    surface, on_paper = _paper(pixels)
    departure = pixels - surface
    squares = np.square(departure).sum(axis=2, keepdims=True)
    direction = (squares * departure).sum(axis=(0, 1), dtype=np.float64)
    direction /= max(np.linalg.norm(direction), 1e-12) * np.sqrt(pixels.shape[2])
    ink = departure @ direction.astype(np.float32)
    return ink, float(1.4826 * np.median(np.abs(ink[on_paper])))


def _paper(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lighting as a quadratic surface through the border's paper, and the mask of that paper."""
    height, width = pixels.shape[:2]
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1).astype(np.float32)
    band = 1 + min(height, width) // 30
    border = np.ones((height, width), dtype=bool)
    border[band:-band, band:-band] = False

    basis, colours = terms[border].astype(np.float64), pixels[border].astype(np.float64)
    distance = np.abs(colours - np.median(colours, axis=0)).sum(axis=1)
    for _ in range(4):
        kept = distance <= max(3 * np.median(distance), 0.01)
        coefficients = np.linalg.lstsq(basis[kept], colours[kept], rcond=None)[0]
        distance = np.abs(colours - basis @ coefficients).sum(axis=1)
    border[border] = kept
    return terms @ coefficients.astype(np.float32), border


def _otsu(ink: np.ndarray) -> tuple[np.ndarray, float]:
    """The mask of the ink, and how far its mean lies above the rest's: N. Otsu, IEEE Trans. SMC 9(1), 1979."""
    peak = float(ink.max())
    if peak < _LEAST_CONTRAST:
        return np.zeros_like(ink, dtype=bool), max(peak, 0.0)
    counts, edges = np.histogram(np.maximum(ink, 0), bins=256, range=(0, peak))
    below, sums = np.cumsum(counts), np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    above = below[-1] - below
    means_below, means_above = sums / np.maximum(below, 1), (sums[-1] - sums) / np.maximum(above, 1)
    best = np.argmax(below * above * np.square(means_above - means_below))
    return ink > edges[best + 1], float(means_above[best] - means_below[best])


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The blobs (8-connected) that can be strokes: no specks, and no page edge along three sides beside other ink."""
    labels = _labels(mask)
    names, areas = np.unique(labels[mask], return_counts=True)
    sides = [np.isin(names, side) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    inner = np.sum(sides, axis=0) < 3
    if areas[inner].sum() > _LEAST_SHARE * areas.sum():
        names, areas = names[inner], areas[inner]
    return np.isin(labels, names[areas >= _LEAST_SHARE * areas.max()])


def _labels(mask: np.ndarray) -> np.ndarray:
    """One number per 8-connected blob, at most the number of pixels, and 0 outside.

    Every pixel takes the largest number around it, then that of the pixel so named, until nothing changes.
    """
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        linked = np.concatenate([[0], np.where(mask, _grown_by_one(labels), 0).ravel()])
        for _ in range(4):
            linked = linked[linked]
        following = linked[1:].reshape(mask.shape)
        if np.array_equal(following, labels):
            return labels
        labels = following


def _cropped(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    top, bottom, left, right = _bounds(mask)
    return image[top:bottom, left:right]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _grown(image: np.ndarray, radius: int) -> np.ndarray:
    """Maximum over an octagon of about ``radius`` pixels, by steps over a cross and a square in turn."""
    for step in range(radius):
        image = _grown_by_one(image, corners=step % 2 == 1)
    return image


def _grown_by_one(image: np.ndarray, corners: bool = True) -> np.ndarray:
    """Maximum over each pixel and its 8 neighbours, or the 4 that share a side."""
    padded = np.pad(image, 1)
    middle = padded[1:-1]
    column = np.maximum(middle, np.maximum(padded[:-2], padded[2:]))
    beside = column if corners else middle
    return np.maximum(column[:, 1:-1], np.maximum(beside[:, :-2], beside[:, 2:]))


def _with_pen_width(shades: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """Strokes thickened or thinned to the range of MNIST's pens, ``scale`` being the size of MNIST's pixels in ours."""
    padded = np.pad(mask, 1)
    crossings = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    perimeter = np.pi / 4 * crossings  # Cauchy and Crofton
    stroke = 2 * np.count_nonzero(mask) / perimeter
    thinnest, thickest = (width * scale for width in _STROKES)
    change = round((min(max(stroke, thinnest), thickest) - stroke) / 2)
    shades = np.pad(shades, abs(change))
    return _grown(shades, change) if change >= 0 else 1 - _grown(1 - shades, -change)


def _framed(shades: np.ndarray) -> np.ndarray:
    """Scaled to 20 pixels on the longer side and centred by mass in 28 × 28."""
    scale = _BOX / max(shades.shape)
    height, width = (max(1, round(size * scale)) for size in shades.shape)
    small = _resampling(shades.shape[0], height) @ shades @ _resampling(shades.shape[1], width).T
    small /= small.max()
    frame = np.zeros((_FRAME, _FRAME), dtype=np.float32)
    top, left = (
        int(np.clip(round(_FRAME / 2 - np.average(np.arange(size), weights=small.sum(axis=axis))), 0, _FRAME - size))
        for size, axis in ((height, 1), (width, 0))
    )
    frame[top : top + height, left : left + width] = small
    return frame


def _resampling(size: int, resized: int) -> np.ndarray:
    """Matrix (resized, size) of bilinear resampling, its triangle as wide as a pixel of the coarser grid."""
    step = size / resized
    centres = (np.arange(resized) + 0.5) * step - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(size) - centres[:, None]) / max(step, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
