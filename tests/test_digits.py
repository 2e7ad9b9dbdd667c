"""Handwritten digits out of image files and photographs, drawn the MNIST way; and files that are none."""

import io
import os

import numpy as np
import pytest

import fastconv as fc
from fastconv.tools.digits import network_input, normalise_digit, read_digit

SAMPLES, LABELS = fc.models.mnist_samples()


@pytest.fixture(scope="session")
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is missing: image files are not tested")


@pytest.fixture(scope="module")
def model():
    return fc.models.lenet5(weights="mnist")


def digits_read(model, inputs):
    return np.asarray(model(np.stack(inputs))).argmax(axis=1).tolist()


def written(image, pillow, rng):
    """The sample, enlarged, somewhere in 600 × 400: the amount of ink (400, 600) in 0..1."""
    side = int(rng.integers(120, 300))
    ink = np.zeros((400, 600))
    top, left = rng.integers(0, 400 - side), rng.integers(0, 600 - side)
    enlarged = pillow.fromarray(image).resize((side, side), pillow.Resampling.BICUBIC)
    ink[top : top + side, left : left + side] = np.asarray(enlarged) / 255
    return ink


def painted(ink, pen, paper):
    return ink[..., None] * np.array(pen) + (1 - ink[..., None]) * np.array(paper)


def as_image(values, pillow):
    return pillow.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def small_inverted(image, pillow, rng):
    return pillow.fromarray(255 - image), "x.png", {}


def chalk_on_slate(image, pillow, rng):
    return as_image(painted(written(image, pillow, rng), (0.9, 0.9, 0.85), (0.2, 0.25, 0.22)), pillow), "x.png", {}


def gradient_and_noise_in_jpeg(image, pillow, rng):
    photo = painted(written(image, pillow, rng), (0.1, 0.1, 0.35), (1, 0.97, 0.9))
    y, x = np.mgrid[0:1:400j, 0:1:600j]
    light = 1 - 0.5 * x - 0.25 * y**2
    return as_image(photo * light[..., None] + rng.normal(0, 0.04, photo.shape), pillow), "x.jpg", {"quality": 25}


def pencil(image, pillow, rng):
    return as_image(painted(written(image, pillow, rng), [0.7] * 3, [0.85] * 3), pillow), "x.png", {}


def red_on_green_of_equal_grey(image, pillow, rng):
    return as_image(painted(written(image, pillow, rng), (0.8, 0.2, 0.2), (0.2, 0.506, 0.2)), pillow), "x.png", {}


def ink_on_transparency(image, pillow, rng):
    ink = written(image, pillow, rng)
    return as_image(np.dstack([np.zeros((400, 600, 3)), ink]), pillow), "x.png", {}


def chalk_on_transparency(image, pillow, rng):
    ink = written(image, pillow, rng)
    return as_image(np.dstack([np.ones((400, 600, 3)), ink]), pillow), "x.png", {}


def paper_with_transparent_corners(image, pillow, rng):
    y, x = np.mgrid[-1:1:400j, -1:1:600j]
    photo = painted(written(image, pillow, rng), (0, 0, 0), (1, 1, 1))
    return as_image(np.dstack([photo, np.abs(x) ** 12 + np.abs(y) ** 12 < 0.8]), pillow), "x.png", {}


def palette(image, pillow, rng):
    photo = painted(written(image, pillow, rng), (0.1, 0.1, 0.5), (1, 1, 0.8))
    return as_image(photo, pillow).quantize(16), "x.gif", {}


def palette_with_transparency(image, pillow, rng):
    image = (written(image, pillow, rng) > 0.5).astype(np.uint8)
    indexed = pillow.fromarray(image, "L")
    indexed.putpalette([255, 255, 255, 0, 0, 0])
    return indexed, "x.png", {"transparency": 0}


def sixteen_bits(image, pillow, rng):
    return pillow.fromarray(np.rint((1 - 0.9 * written(image, pillow, rng)) * 65535).astype(np.uint16)), "x.png", {}


def one_bit(image, pillow, rng):
    return pillow.fromarray(written(image, pillow, rng) < 0.5), "x.png", {}


def grey_with_alpha(image, pillow, rng):
    return as_image(1 - written(image, pillow, rng), pillow).convert("LA"), "x.png", {}


def four_inks(image, pillow, rng):
    return as_image(1 - written(image, pillow, rng), pillow).convert("CMYK"), "x.jpg", {}


def large(image, pillow, rng):
    return as_image(1 - written(image, pillow, rng), pillow).resize((2400, 1600)), "x.jpg", {}


def on_a_desk_with_dust(image, pillow, rng):
    ink = written(image, pillow, rng)
    photo = painted(ink, (0, 0, 0), (0.9, 0.9, 0.9))
    photo[:, :14] = 0.3
    for y, x in zip(rng.integers(0, 400, 30), rng.integers(0, 600, 30), strict=True):
        photo[y : y + 2, x : x + 2] = 0
    return as_image(photo, pillow), "x.png", {}


PHOTOGRAPHS = [
    small_inverted,
    chalk_on_slate,
    gradient_and_noise_in_jpeg,
    pencil,
    red_on_green_of_equal_grey,
    ink_on_transparency,
    chalk_on_transparency,
    paper_with_transparent_corners,
    palette,
    palette_with_transparency,
    sixteen_bits,
    one_bit,
    grey_with_alpha,
    four_inks,
    large,
    on_a_desk_with_dust,
]


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph.__name__)
def test_photographed_samples_are_read(photograph, model, pillow, rng, tmp_path):
    inputs = []
    for image in SAMPLES:
        photo, name, options = photograph(image, pillow, rng)
        photo.save(tmp_path / name, **options)
        inputs.append(read_digit(tmp_path / name))
    assert digits_read(model, inputs) == LABELS.tolist()


@pytest.mark.parametrize(
    ("orientation", "method"),
    [
        (2, "FLIP_LEFT_RIGHT"),
        (3, "ROTATE_180"),
        (4, "FLIP_TOP_BOTTOM"),
        (5, "TRANSPOSE"),
        (6, "ROTATE_90"),
        (7, "TRANSVERSE"),
        (8, "ROTATE_270"),
    ],
)
def test_exif_orientation_is_undone(orientation, method, pillow, tmp_path):
    upright = pillow.fromarray(SAMPLES[7]).resize((200, 200))
    stored = upright.transpose(pillow.Transpose[method])
    exif = pillow.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    upright.save(tmp_path / "y.png")
    np.testing.assert_array_equal(read_digit(tmp_path / "x.png"), read_digit(tmp_path / "y.png"))


def page(height=60, width=80):
    return np.ones((height, width, 1))


def framed(pixels):
    frame = normalise_digit(pixels)
    assert frame.shape == (28, 28)
    assert frame.dtype == np.float32
    assert frame.min() == 0
    assert frame.max() == 1
    return frame


def test_samples_hardly_change(model):
    frames = [framed(image[..., None] / 255) for image in SAMPLES]
    assert np.abs(np.stack(frames) - SAMPLES / np.float32(255)).mean() < 0.02
    assert digits_read(model, [network_input(frame) for frame in frames]) == LABELS.tolist()


def test_polarity_and_place_do_not_matter():
    light = np.zeros((60, 80, 1))
    light[5:33, 40:68, 0] = SAMPLES[3] / 255
    moved = np.roll(light, (20, -30), axis=(0, 1))
    np.testing.assert_allclose(framed(1 - light), framed(light), atol=1e-5)
    np.testing.assert_allclose(framed(moved), framed(light), atol=1e-5)


def test_longer_side_is_20_and_mass_is_centred():
    pixels = page()
    pixels[10:50, 30:36] = 0
    pixels[44:50, 30:50] = 0
    frame = framed(pixels)
    rows, columns = np.flatnonzero(frame.max(1) > 0.5), np.flatnonzero(frame.max(0) > 0.5)
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 == 10
    for axis in (0, 1):
        assert abs(np.average(np.arange(28), weights=frame.sum(axis=1 - axis)) - 14) <= 0.5


@pytest.mark.parametrize(("size", "pen"), [(100, 1), (500, 1), (500, 5), (40, 12), (300, 90)])
def test_pens_come_to_mnist_widths(size, pen):
    pixels = np.ones((size, size, 1))
    pixels[size // 10 : -size // 10, size // 2 : size // 2 + pen] = 0
    pixels[size // 10 : size // 10 + pen, size // 5 : size // 2] = 0
    frame = framed(pixels)
    assert 1.2 <= np.count_nonzero(frame[16] > 0.5) <= 5
    assert np.count_nonzero(frame > 0.5) < 200


def test_specks_and_page_edges_are_left_out():
    pixels = page(200, 200)
    pixels[60:140, 90:105] = 0
    clean = framed(pixels)
    pixels[3, 150] = pixels[180:182, 20] = 0
    pixels[:, :5] = 0.2
    np.testing.assert_allclose(framed(pixels), clean, atol=1e-5)


def test_parts_of_a_digit_are_kept():
    pixels = page(100, 100)
    pixels[20:80, 60:66] = 0
    pixels[20:50, 30:36] = 0
    assert np.ptp(np.flatnonzero(framed(pixels).max(0) > 0.5)) > 8


def test_arguments_are_not_changed():
    pixels = 1 - SAMPLES[4][..., None] / np.float32(255)
    before = pixels.copy()
    normalise_digit(pixels)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 50, 3), (50, 2, 1), (28, 28, 3)])
def test_blank_arrays_of_any_shape(shape):
    with pytest.raises(fc.ArgumentError, match="no ink found: nothing stands out from the background"):
        normalise_digit(np.full(shape, 0.7))


def test_noise_is_not_ink(rng):
    with pytest.raises(fc.ArgumentError, match=r"no ink found.*contrast 0\.\d+, noise 0\.\d+"):
        normalise_digit(0.5 + rng.normal(0, 0.05, (200, 300, 3)))


WANTED = "; expected an image file, such as PNG or JPEG"


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digit_png(pillow):
    return png(pillow.fromarray(SAMPLES[7]).resize((300, 300), pillow.Resampling.BICUBIC))


def two_by_three(pillow):
    pixels = np.full((40, 40), 255, np.uint8)
    pixels[20:22, 20:23] = 0
    return png(pillow.fromarray(pixels))


BAD_FILES = {
    "text.png": (
        lambda pillow: b"hello, I am no image",
        f"not a readable image: it begins with b'hello, I am '{WANTED}",
    ),
    "vector.svg": (lambda pillow: b"<svg width='9'/>", 'not a readable image: it begins with b"<svg width=\'"'),
    "empty.png": (lambda pillow: b"", f"an empty file (0 bytes){WANTED}"),
    "half.png": (lambda pillow: digit_png(pillow)[:900], "a damaged or truncated image (image file is truncated)"),
    "head.png": (lambda pillow: digit_png(pillow)[:20], WANTED),
    "blank.png": (
        lambda pillow: png(pillow.new("RGB", (90, 60), "beige")),
        "no ink found: nothing stands out from the background (contrast 0.000, noise 0.000); expected one digit",
    ),
    "tiny.png": (two_by_three, "the ink spans 2 × 3 pixels of the image; expected a digit of at least 5 pixels; crop"),
    "huge.png": (
        lambda pillow: png(pillow.new("1", (9_500, 9_500))),
        "the image is too large: Image size (90250000 pixels) exceeds limit of 89478485 pixels",
    ),
    "bomb.png": (lambda pillow: png(pillow.new("1", (20_000, 9_500))), "the image is too large: Image size (190000000"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(name, pillow, tmp_path):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content(pillow))
    with pytest.raises(fc.ArgumentError) as caught:
        read_digit(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert message in str(caught.value)


def test_missing_file_and_directory(pillow, tmp_path):
    with pytest.raises(fc.ArgumentError, match=r"absent\.png: no such file; expected an image file"):
        read_digit(tmp_path / "absent.png")
    with pytest.raises(fc.ArgumentError, match=r": a directory; expected an image file, .*; name the files in it"):
        read_digit(tmp_path)
    with pytest.raises(fc.ArgumentError, match=r": not a regular file; expected an image file"):
        read_digit(os.devnull)


def test_damaged_bytes_are_read_or_refused(pillow, rng, tmp_path):
    path = tmp_path / "x"
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP"):
        buffer = io.BytesIO()
        pillow.fromarray(SAMPLES[2]).resize((90, 90)).save(buffer, kind)
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for _ in range(25):
            damaged = whole.copy()
            damaged[rng.integers(0, min(len(whole), 300), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            try:
                assert read_digit(path).shape == (1, 32, 32)
            except fc.ArgumentError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017
