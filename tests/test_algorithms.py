import numpy as np
import pytest

import fastconv as fc
from fastconv import reference
from fastconv.nn import functional as F


def test_every_row_answers():
    *answers, last = fc.algorithms("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert {a.algorithm for a in answers} == {
        "direct", "trimmed", "winograd", "winograd_large", "im2col", "fft", "reference",
    }  # fmt: skip
    assert (last.algorithm, last.seconds) == ("few_images", None)
    assert last.refusal == "it computes one output position to an image, this convolution has 3136"
    assert all(not a.refusal and a.seconds > 0 and a.error_bound > 0 for a in answers)
    assert [a.seconds for a in answers] == sorted(a.seconds for a in answers)
    direct, winograd = (next(a for a in answers if a.algorithm == name) for name in ("direct", "winograd"))
    assert direct.flops == 2 * 64 * 56 * 56 * 64 * 9
    assert winograd.flops < direct.flops / 2
    assert direct.bytes == 4 * (2 * 64 * 56 * 56 + 64 * 64 * 9)
    assert "ms predicted" in str(direct)


def test_refusals_come_last_and_say_why():
    answers = fc.algorithms("conv1d", (1, 8, 100), (8, 8, 3), stride=2)
    refusals = [a for a in answers if a.refusal]
    assert answers[-len(refusals) :] == refusals
    assert "trimmed    refused: there is no padding" in map(str, refusals)


@pytest.mark.parametrize("algorithm", ["direct", "winograd", "winograd_large", "im2col"])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 7), (3, 1)], ids=str)
def test_the_error_bound_holds_on_adversarial_data(algorithm, kernel, rng):
    """Large values of alternating sign that nearly cancel: the error is of the size of what cancelled."""
    if algorithm == "winograd_large" and 1 in kernel:
        return  # there is none
    x = (1 + rng.random((1, 96, 20, 20)) * 1e-3).astype(np.float32)
    w = rng.choice([-1, 1], (48, 96, *kernel)) * (1 + rng.random((48, 96, *kernel)) * 1e-3)
    w = w.astype(np.float32)
    (answer,) = [a for a in fc.algorithms("conv2d", x.shape, w.shape) if a.algorithm == algorithm]
    exact = reference.conv(x.astype(np.float64), w.astype(np.float64))
    error = np.abs(F.conv2d(x, w, algorithm=algorithm) - exact)
    magnitude = np.abs(x).max() * np.abs(w).sum(axis=(1, 2, 3)).max()
    assert 0 < error.max() <= answer.error_bound * magnitude


def test_linear_answers():
    answers = fc.algorithms("linear", (1, 400), (120, 400))
    assert answers[0].algorithm == "few_images"
    (few,) = [a for a in fc.algorithms("linear", (33, 400), (120, 400)) if a.algorithm == "few_images"]
    assert few.refusal == "it is made for at most 32 images, and there are 33"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("conv4d", (1,), (1,)), "op: expected one of conv1d, conv2d, .*linear, got 'conv4d'"),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3)), r"w_shape: expected 4 axes for conv2d, got \(4, 3, 3\)"),
        (("conv2d", (1, 3, 8, 8), (4, 5, 3, 3)), "input: expected 5 channels"),
        (("linear", (1, 3), (4, 5)), r"shapes: expected \(images, inputs\) and \(outputs, inputs\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, text):
    with pytest.raises(fc.ArgumentError, match=text):
        fc.algorithms(*arguments)


def test_pools_and_transposed_convolutions_answer():
    for op in ("max_pool2d", "avg_pool2d"):
        answers = fc.algorithms(op, (1, 64, 56, 56), kernel_size=3, stride=2, padding=1)
        assert [a.algorithm for a in answers] == ["direct", "reference"]
        assert answers[0].bytes == 4 * 64 * (56 * 56 + 28 * 28)
    answers = fc.algorithms("conv_transpose2d", (1, 8, 10, 10), (8, 4, 4, 4), stride=2, padding=1)
    assert {a.algorithm for a in answers} == {"direct", "winograd", "reference"}
    direct = next(a for a in answers if a.algorithm == "direct")
    assert direct.flops == 2 * 100 * 8 * 4 * 16


def test_larger_tiles_are_taken_by_name_alone():
    found = {row.algorithm: row for row in fc.algorithms("conv2d", (1, 64, 96, 96), (64, 64, 3, 3), padding=1)}
    large = found["winograd_large"]
    assert not large.refusal
    assert not large.automatic
    assert str(large).endswith("by name alone")
    assert large.error_bound > found["winograd"].error_bound
    assert found["winograd"].automatic
