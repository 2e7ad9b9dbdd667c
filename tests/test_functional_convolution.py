"""What callers may pass to the convolutions and to linear, and what they are told when they may not."""

import numpy as np
import pytest
from tolerance import sum_tolerance

from fastconv import nn, reference
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.ops.linear import linear_plan

BY_RANK = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Dlpack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Array:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched_empty_batch_and_no_channels(rank):
    conv, w, b = BY_RANK[rank], np.ones((4, 3, *(2,) * rank), np.float32), np.arange(4, dtype=np.float32)
    x = np.ones((2, 3, *(5,) * rank), np.float32)
    np.testing.assert_array_equal(conv(x[0], w, b), conv(x, w, b)[0])
    assert conv(x[:0], w, b).shape == (0, 4, *(4,) * rank)
    without_channels = conv(x[:, :0], w[:, :0], b)
    np.testing.assert_array_equal(
        without_channels, np.broadcast_to(b.reshape(1, 4, *(1,) * rank), without_channels.shape)
    )


@pytest.mark.parametrize("wrap", [Array, Dlpack, lambda a: a.astype(">f4"), lambda a: a.copy(order="F")])
def test_what_is_an_array(wrap, rng):
    x, w = rng.standard_normal((1, 2, 5, 5)).astype(np.float32), rng.standard_normal((3, 2, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(F.conv2d(wrap(x), wrap(w)), F.conv2d(x, w))


def test_an_unaligned_array_is_read_right(rng):
    x = rng.standard_normal((1, 2, 5, 5)).astype(np.float32)
    unaligned = np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert not unaligned.flags.aligned
    w = np.ones((3, 2, 2, 2), np.float32)
    np.testing.assert_array_equal(F.conv2d(unaligned, w), F.conv2d(x, w))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_integers_wrap_as_torch_does(dtype):
    x = np.full((1, 8, 3, 3), 100, dtype)
    y = F.conv2d(x, np.full((1, 8, 3, 3), 100, dtype))
    assert y.dtype == dtype
    assert y[0, 0, 0, 0] == np.array(8 * 9 * 100 * 100).astype(dtype)


def test_half_accumulates_in_single():
    x, w = np.ones((1, 4096, 1, 1), np.float16), np.ones((1, 4096, 1, 1), np.float16)
    assert F.conv2d(x, w)[0, 0, 0, 0] == 4096
    assert F.linear(x[:, :, 0, 0], w[:, :, 0, 0])[0, 0] == 4096


@pytest.mark.parametrize("algorithm", ["auto", "im2col", "direct"])
def test_half_arrays_may_lie_anywhere(algorithm, rng):
    x, w = rng.integers(-4, 5, (2, 3, 9, 8)).astype(np.float16), rng.integers(-4, 5, (4, 3, 3, 3)).astype(np.float16)
    expected = reference.conv(x, w, padding=1)
    wide = np.zeros((2, 6, 9, 24), np.float16)
    wide[:, ::2, :, ::3] = x
    for view in (wide[:, ::2, :, ::3], x[::-1].copy()[::-1], x.copy(order="F"), x.transpose(3, 2, 1, 0).copy().T):
        np.testing.assert_array_equal(F.conv2d(view, w, padding=1, algorithm=algorithm), expected)


def test_half_results_overflow_in_silence():
    x, w = np.full((1, 8, 1, 1), 200, np.float16), np.full((1, 8, 1, 1), 200, np.float16)
    assert F.conv2d(x, w)[0, 0, 0, 0] == np.inf


def test_even_same_padding_puts_the_extra_zero_after():
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    np.testing.assert_array_equal(F.conv1d(x, np.array([[[1.0, 0, 0, 0]]]), padding="same")[0, 0], [0, 1, 2, 3, 4])


def test_a_float_is_refused_even_behind_an_equal_integer():
    F.conv2d(X, W, stride=1)
    for wrong in (1.0, True, (1, 1.0)):
        with pytest.raises(ArgumentTypeError, match="stride: expected an integer"):
            F.conv2d(X, W, stride=wrong)


def test_lists_of_sizes_are_taken(rng):
    x, w = rng.standard_normal((1, 2, 8, 8)), rng.standard_normal((3, 2, 3, 3))
    expected = reference.conv(x, w, stride=(2, 1), padding=((1, 0), (2, 2)), dilation=(1, 2))
    y = F.conv2d(x, w, stride=[2, 1], padding=[[1, 0], [2, 2]], dilation=np.array([1, 2]))
    np.testing.assert_allclose(y, expected, atol=1e-12)


X, W = np.ones((1, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"input": X[0, 0]},
            ArgumentError,
            r"input: expected 3 axes \(C, \*spatial\) or 4 \(N, C, \*spatial\), got shape",
        ),
        (
            {"weight": W[0]},
            ArgumentError,
            r"weight: expected 4 axes \(filters, channels / groups, 2 of the kernel\), got",
        ),
        (
            {"input": np.ones((1, 8, 8, 3), np.float32)},
            ArgumentError,
            r"expected 3 channels .* looks like NHWC: pass numpy",
        ),
        ({"input": np.ones((1, 5, 8, 8), np.float32)}, ArgumentError, r"input: expected 3 channels for the weight"),
        ({"groups": 3}, ArgumentError, "groups: 3 groups do not divide the 4 filters"),
        ({"groups": 0}, ArgumentError, "groups: expected at least 1, got 0"),
        (
            {"bias": np.ones(3, np.float32)},
            ArgumentError,
            r"bias: expected shape \(4,\), one value per filter, got \(3,\)",
        ),
        (
            {"bias": np.ones(4)},
            ArgumentTypeError,
            "expected one element type, got input float32, weight float32, bias float64",
        ),
        (
            {"weight": W.astype(float)},
            ArgumentTypeError,
            "expected one element type, got input float32, weight float64",
        ),
        ({"input": X > 0, "weight": W > 0}, ArgumentTypeError, "input: convolution of bool arrays is not defined"),
        ({"input": [[1.0]]}, ArgumentTypeError, r"input: expected an array, got list; wrap it in numpy.asarray"),
        ({"input": "x"}, ArgumentTypeError, "input: expected an array, got str"),
        (
            {"input": X.astype(object)},
            ArgumentTypeError,
            "input: expected an array of numbers, got elements of type object",
        ),
        ({"stride": 0}, ArgumentError, "stride: expected at least 1, got 0"),
        ({"stride": -1}, ArgumentError, "stride: expected at least 1, got -1"),
        ({"stride": 1.0}, ArgumentTypeError, "stride: expected an integer, got 1.0"),
        ({"stride": (1, 1, 1)}, ArgumentError, "stride: expected 1 or 2 values, got 3"),
        ({"dilation": 0}, ArgumentError, "dilation: expected at least 1, got 0"),
        ({"dilation": 9}, ArgumentError, "a kernel of 19×19 does not fit into the padded input of 8×8"),
        ({"padding": -1}, ArgumentError, "padding: expected at least 0, got -1"),
        ({"padding": "full"}, ArgumentError, "padding: expected numbers or one of valid, same, SAME_UPPER, SAME_LOWER"),
        ({"padding": 2**62}, ArgumentError, "padding: expected at most"),
        ({"padding": 2**40}, ArgumentError, "more than any memory holds"),
        ({"padding": (1, 2, 3, 4)}, ArgumentError, "padding: expected 1 or 2 values, got 4"),
        (
            {"weight": np.ones((4, 3, 9, 9), np.float32)},
            ArgumentError,
            r"kernel of 9×9 does not fit into .* input of 8×8",
        ),
        (
            {"weight": np.ones((0, 3, 3, 3), np.float32)},
            ArgumentError,
            "weight: expected at least one filter and one tap",
        ),
        ({"input": np.ones((1, 3, 0, 8), np.float32)}, ArgumentError, "input: expected spatial sizes of at least 1"),
    ],
)
def test_bad_arguments(arguments, error, text):
    good = {"input": X, "weight": W}
    with pytest.raises(error, match=text):
        F.conv2d(**(good | arguments))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("images", [0, 1, 2, 3, 4, 5, 8, 9, 33])
def test_linear(isa, team, images, dtype, rng):
    for inputs, outputs in ((1, 1), (84, 10), (33, 17), (400, 120)):
        x, w, b = (
            rng.standard_normal(shape).astype(dtype) for shape in ((images, inputs), (outputs, inputs), (outputs,))
        )
        y = F.linear(x, w, b)
        magnitude = np.abs(x.astype(float)) @ np.abs(w.astype(float)).T + np.abs(b)
        expected = reference.linear(x, w, b)
        assert y.dtype == dtype
        assert y.shape == (images, outputs)
        assert (np.abs(y.astype(float) - expected) <= sum_tolerance(inputs + 1, magnitude, dtype)).all()


@pytest.mark.parametrize("images", [2, 3, 5, 7, 31])
def test_few_images_side_by_side_have_the_bits_of_one(isa, team, images, rng):
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((images, 203), (45, 203), (45,)))
    y = F.linear(x, w, b, algorithm="few_images")
    alone = [F.linear(x[i : i + 1], w, b, algorithm="few_images") for i in range(images)]
    assert y.tobytes() == np.concatenate(alone).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [1, 7, 8, 9, 31, 33, 63, 65, 127, 128, 129, 200, 311])
def test_panels_have_the_bits_of_the_tile(isa, team, outputs, dtype, rng):
    """Every width of the last panel, alone and beside others, for one image and for groups of four, two and one."""
    for images, inputs in ((1, 1), (1, 67), (2, 5), (3, 67), (4, 16), (7, 33), (33, 9)):
        x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((images, inputs), (outputs, inputs), outputs))
        y = F.linear(x, w, b, algorithm="panels")
        assert y.tobytes() == F.linear(x, w, b, algorithm="direct").tobytes()
        magnitude = np.abs(x).max() * np.abs(w).sum(axis=1).max() + np.abs(b).max()
        exact = x.astype(np.longdouble) @ w.T.astype(np.longdouble) + b
        assert (np.abs(y - exact) <= sum_tolerance(inputs + 1, magnitude, dtype)).all()


@pytest.mark.parametrize("outputs", [1, 8, 9, 24, 64, 129, 311])
@pytest.mark.parametrize("images", [1, 2, 4, 7])
def test_half_weights_are_widened_exactly(isa, team, images, outputs, rng):
    """In panels of float16 they give the bits of the same weights in float32."""
    w = np.resize(np.arange(1 << 16, dtype=np.uint16).view(np.float16), (outputs, 211))
    w = np.where(np.isfinite(w), w, np.float16(0.5))
    w[-1, :4] = [6e-8, -6e-8, 65504, -0.0]
    x, b = rng.standard_normal((images, 211)).astype(np.float16), rng.standard_normal(outputs).astype(np.float16)
    wide = F.linear(*(array.astype(np.float32) for array in (x, w, b)), algorithm="panels")
    with np.errstate(over="ignore"):
        assert F.linear(x, w, b, algorithm="panels").tobytes() == wide.astype(np.float16).tobytes()


@pytest.mark.parametrize("algorithm", ["auto", "few_images", "panels", "direct", "reference"])
def test_half_weights_beside_single_inputs(isa, team, algorithm, rng):
    """The result is that of the widened weights, in float32; a layer whose weights were halved gives it, too."""
    x, w = rng.standard_normal((3, 70), dtype=np.float32), rng.standard_normal((45, 70)).astype(np.float16)
    for b in (None, rng.standard_normal(45).astype(np.float16), rng.standard_normal(45, dtype=np.float32)):
        wide = [None if array is None else array.astype(np.float32) for array in (w, b)]
        y = F.linear(x, w, b, algorithm=algorithm)
        assert y.dtype == np.float32
        if algorithm != "auto":  # which may choose another algorithm for fewer bytes
            assert y.tobytes() == F.linear(x, *wide, algorithm=algorithm).tobytes()
        layer = nn.Linear(70, 45, bias=b is not None, algorithm=algorithm).half()
        layer.weight[...] = w
        if b is not None:
            layer.bias[...] = b
            wide[1] = layer.bias.astype(np.float32)
        expected = reference.linear(x, *wide)
        magnitude = np.abs(x) @ np.abs(wide[0]).T + (0 if b is None else np.abs(wide[1]))
        assert (np.abs(layer(x) - expected) <= sum_tolerance(71, magnitude, np.float32)).all()
        layer.weight[...] = 0
        np.testing.assert_array_equal(layer(x), np.zeros((3, 45)) if b is None else np.tile(wide[1], (3, 1)))


def test_half_weights_beside_other_inputs_are_refused():
    with pytest.raises(ArgumentTypeError, match="got input float64, weight float16"):
        F.linear(np.ones((1, 4)), np.ones((2, 4), np.float16))
    with pytest.raises(ArgumentTypeError, match="got input float32, weight float16, bias float64"):
        F.linear(np.ones((1, 4), np.float32), np.ones((2, 4), np.float16), np.ones(2))


def test_every_half_number_is_widened(isa):
    """One input that is 1 and one output for each of the 65536 bit patterns."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    y = F.linear(np.ones((1, 1), np.float16), numbers[:, None], algorithm="panels")
    np.testing.assert_array_equal(y[0], np.where(numbers == 0, np.float16(0), numbers))


def test_weights_are_packed_only_where_somebody_keeps_them():
    x, w = np.ones((8, 1024), np.float32), np.ones((1000, 1024), np.float32)
    assert linear_plan(x, w, None).layout is None
    assert linear_plan(x, w, None, packed=True).layout is not None
    w = np.ones((10, 1024), np.float32)  # few outputs would wait for their sums
    assert linear_plan(x[:1], w, None, packed=True).layout is None


def test_linear_shapes(rng):
    x, w = rng.standard_normal((2, 3, 5)), rng.standard_normal((4, 5))
    np.testing.assert_allclose(F.linear(x, w), x @ w.T, atol=1e-14)
    np.testing.assert_allclose(F.linear(x[0, 0], w), w @ x[0, 0], atol=1e-14)
    np.testing.assert_allclose(F.linear(x, w[0]), x @ w[0], atol=1e-14)
    assert F.linear(np.ones((2, 0)), np.ones((3, 0)), np.arange(3.0)).tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"input": np.ones((2, 16, 5, 5))}, ArgumentError, "expected 400 features .* got 5; .* a Flatten is missing"),
        (
            {"weight": np.ones((3, 400, 1))},
            ArgumentError,
            r"weight: expected shape \(out, in\) or \(in,\), got \(3, 400, 1\)",
        ),
        ({"bias": np.ones(4)}, ArgumentError, r"bias: expected shape \(3,\), one value per output, got \(4,\)"),
        ({"input": np.ones((2, 400), np.float32)}, ArgumentTypeError, "expected one element type, got input float32"),
        ({"input": np.ones(())}, ArgumentError, r"input: expected at least one axis, got shape \(\)"),
    ],
)
def test_linear_bad_arguments(arguments, error, text):
    good = {"input": np.ones((2, 400)), "weight": np.ones((3, 400))}
    with pytest.raises(error, match=text):
        F.linear(**(good | arguments))


class TestDeformConv2d:
    def test_without_moves_it_is_conv2d(self, rng):
        x, w, b = rng.standard_normal((2, 4, 7, 8)), rng.standard_normal((6, 2, 3, 2)), rng.standard_normal(6)
        window = {"stride": (2, 1), "padding": (1, 2), "dilation": 2}
        expected = F.conv2d(x, w, b, groups=2, **window)
        moves = np.zeros((2, 2 * 6, *expected.shape[2:]))
        np.testing.assert_allclose(F.deform_conv2d(x, moves, w, b, **window), expected, rtol=0, atol=1e-13)
        half = np.full((2, 6, *expected.shape[2:]), 0.5)
        masked = F.deform_conv2d(x, moves, w, b, mask=half, **window)
        np.testing.assert_allclose(masked, (expected + b[:, None, None]) / 2, rtol=0, atol=1e-13)

    def test_taps_move_by_hand(self):
        x = np.arange(9.0).reshape(1, 1, 3, 3)
        moves = np.zeros((1, 2, 3, 3))
        moves[0, :, 0, 0] = 1, 1  # from 0 to 4
        moves[0, :, 1, 1] = 0.5, -0.25  # from 4 to between 3 and 4, 6 and 7
        moves[0, :, 2, 2] = 0.5, 0  # half out
        y = F.deform_conv2d(x, moves, np.ones((1, 1, 1, 1)))
        assert y[0, 0].tolist() == [[4, 1, 2], [3, 5.25, 5], [6, 7, 4]]
        moves[0, 0, 0, 0] = -1e9
        assert F.deform_conv2d(x, moves, np.ones((1, 1, 1, 1)))[0, 0, 0, 0] == 0

    def test_the_layer_is_the_function(self, rng):
        layer = nn.DeformConv2d(4, 6, 3, padding=1, groups=2)
        x, moves = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 5, 5), (1, 18, 5, 5)))
        expected = F.deform_conv2d(x, moves, layer.weight, layer.bias, padding=1)
        np.testing.assert_array_equal(layer(x, moves), expected)
        assert list(layer.state_dict()) == ["weight", "bias"]
        assert repr(layer) == "DeformConv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2)"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"offset": np.zeros((1, 17, 5, 5))}, r"offset: expected shape \(1, 18, 5, 5\), got \(1, 17, 5, 5\)"),
            ({"offset": np.zeros((1, 18, 5, 4))}, r"offset: expected shape \(1, 18, 5, 5\), got \(1, 18, 5, 4\)"),
            ({"offset": np.zeros((1, 54, 5, 5))}, "offset: its 3 shares of 18 channels do not divide the input's 4"),
            ({"mask": np.zeros((1, 18, 5, 5))}, r"mask: expected shape \(1, 9, 5, 5\), got \(1, 18, 5, 5\)"),
            ({"bias": np.zeros(5)}, r"bias: expected shape \(6,\), got \(5,\)"),
            ({"weight": np.zeros((6, 3, 3, 3))}, r"weight: .* for 4 channels, .* got \(6, 3, 3, 3\)"),
            ({"input": np.zeros((4, 5, 5))}, r"input, weight: expected \(N, C, H, W\)"),
            ({"mask": np.zeros((1, 9, 5, 5), np.float32)}, "expected one floating-point type, got .*mask float32"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, message):
        fits = {"input": np.zeros((1, 4, 5, 5)), "offset": np.zeros((1, 18, 5, 5)), "weight": np.zeros((6, 2, 3, 3))}
        with pytest.raises((ValueError, TypeError), match=message):
            F.deform_conv2d(**fits | {"padding": 1} | change)
