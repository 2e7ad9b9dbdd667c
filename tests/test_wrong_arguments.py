"""Arguments of the wrong kind are refused by name, whatever they are; odd arrays that mean something are computed."""

import numpy as np
import pytest
import session_models as models
from tolerance import assert_within, conv_tolerance

import fastconv as fc
import fastconv.nn.functional as F
from fastconv import nn, reference
from fastconv.errors import ArgumentError, ArgumentTypeError

X = np.linspace(-1, 1, 2 * 4 * 8 * 8, dtype=np.float32).reshape(2, 4, 8, 8)
W = np.linspace(-1, 1, 6 * 4 * 9, dtype=np.float32).reshape(6, 4, 3, 3)
CLASSES = np.array([0, 1])
NO_KEY = ([], {}, slice(2), np.zeros(2))


@pytest.mark.parametrize("value", [*NO_KEY, None, 3], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda algorithm: F.conv2d(X, W, algorithm=algorithm),
        lambda algorithm: F.conv_transpose2d(X, W.swapaxes(0, 1), algorithm=algorithm),
        lambda algorithm: F.linear(X, W[..., 0, 0].repeat(2, 1), algorithm=algorithm),
        lambda algorithm: F.max_pool2d(X, 2, algorithm=algorithm),
        lambda algorithm: F.avg_pool2d(X, 2, algorithm=algorithm),
        lambda algorithm: F.adaptive_avg_pool2d(X, 2, algorithm=algorithm),
        lambda algorithm: F.adaptive_max_pool2d(X, 2, algorithm=algorithm),
        lambda algorithm: F.pad(X, (1, 1), algorithm=algorithm),
        lambda algorithm: nn.Conv2d(4, 6, 3, algorithm=algorithm)(X),
    ],
    ids=["conv", "transposed", "linear", "max", "average", "adaptive average", "adaptive max", "pad", "layer"],
)
def test_an_algorithm_is_a_string(call, value):
    with pytest.raises(ArgumentTypeError, match="algorithm: expected a string, got "):
        call(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.pad(X, (1, 1), mode=[]), "mode: expected a string"),
        (lambda: F.interpolate(X, 4, mode={}), "mode: expected a string"),
        (lambda: F.interpolate(X, scale_factor=np.nan), "scale_factor: expected finite numbers"),
        (lambda: F.interpolate(X, scale_factor=np.inf), "scale_factor: expected finite numbers"),
        (lambda: F.interpolate(X, scale_factor=1e9), "output: .* more than any memory holds"),
        (lambda: F.interpolate(X, scale_factor="2"), "scale_factor: expected a number, got '2'"),
        (lambda: F.affine_grid(np.zeros((2, 2, 3), np.float32), None), r"size: expected \(N, C, H, W\) .*, got None"),
        (lambda: F.affine_grid(np.zeros((2, 2, 3), np.float32), 4), "size: expected .*, got 4"),
        (lambda: F.softmax(X, 1, dtype=3), "dtype: expected a NumPy dtype or its name, got 3"),
        (lambda: F.log_softmax(X, 1, dtype=()), "dtype: expected a NumPy dtype"),
        (lambda: F.normalize(X, dim=(1, 1)), r"dim: expected different axes, got \(1, 1\)"),
        (lambda: F.normalize(X, dim=(1, -3)), "dim: expected different axes"),
        (lambda: F.normalize(X, out=X[0]), r"out: expected an array of the input's shape .* got \(4, 8, 8\)"),
        (lambda: F.normalize(X, out=[]), r"out: expected an array of the input's shape .* got \[\]"),
        (lambda: F.rms_norm(X, (8, 8), eps="a"), "eps: expected a number, got 'a'"),
        (lambda: F.avg_pool2d(X, 2, divisor_override="a"), "divisor_override: expected an integer, got 'a'"),
        (lambda: F.avg_pool2d(X, 2, divisor_override=[1, 2]), r"divisor_override: expected an integer, got \(1, 2\)"),
        (lambda: F.nll_loss(X[:, :, 0, 0], CLASSES, ignore_index=[]), "ignore_index: expected an integer"),
        (lambda: F.cross_entropy(X[:, :, 0, 0], CLASSES, ignore_index=1.5), "ignore_index: expected an integer"),
        (lambda: F.rrelu(X, -np.inf, training=True), "lower, upper: expected finite numbers, got -inf"),
        (lambda: F.linear(np.float32(2), W[0, 0]), "input: expected at least one axis"),
        (lambda: nn.Linear(3, 3)(np.array(2, np.float32)), "input: expected at least one axis, got shape"),
        (lambda: nn.Dropout(None), "p: expected a number, got None"),
        (lambda: nn.CrossEntropyLoss(label_smoothing="a"), "label_smoothing: expected a number, got 'a'"),
        (lambda: nn.Hardtanh([], 1), r"min_val: expected a number, got \[\]"),
        (lambda: nn.LPPool2d("a", 2), "norm_type: expected a number, got 'a'"),
        (lambda: nn.PReLU(init=[1, 2]), r"init: expected a number, got \[1, 2\]"),
        (lambda: nn.Upsample(scale_factor="a"), "scale_factor: expected a number, got 'a'"),
        (lambda: nn.Conv2d(1, 1, 1, dtype={1: 2}), "dtype: expected a NumPy dtype"),
    ],
)  # fmt: skip
def test_the_argument_is_named(call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call()


@pytest.fixture(scope="module")
def session():
    return fc.InferenceSession(models.residual(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, x: s.run(None, None), "input_feed: expected a mapping of input names to arrays, got NoneType"),
        (lambda s, x: s.run(None, [x]), "input_feed: expected a mapping of input names to arrays, got list"),
        (lambda s, x: s.trace(x), "input_feed: expected a mapping .*, got ndarray"),
        (lambda s, x: s.run(None, {"x": np.ma.masked_greater(x, 0)}), "input 'x': expected an array without a mask"),
        (lambda s, x: s.run("y", {"x": x}), "output_names: expected None or a list of names, got 'y'"),
        (lambda s, x: s.run(3, {"x": x}), "output_names: expected None or a list of names, got 3"),
        (lambda s, x: s.run([3], {"x": x}), "output_names: the model has y; got 3"),
        (lambda s, x: s.explain(3), "shapes: expected a mapping of inputs to shapes, got 3"),
        (lambda s, x: s.explain({"x": 3}), "shapes: expected a tuple of sizes for input 'x', got 3"),
        (lambda s, x: s.explain({"x": "a"}), "shapes: 'x': expected an integer, got 'a'"),
        (lambda s, x: s.predict_memory({"x": (1, 3, 2.5, 4)}), "shapes: 'x': expected an integer, got 2.5"),
        (lambda s, x: s.predict_memory({"x": (1, 3, -1, 4)}), "shapes: 'x': expected at least 0, got -1"),
        (lambda s, x: s.explain({"h": "a", "w": 3}), "shapes: 'h': expected an integer, got 'a'"),
        (lambda s, x: fc.algorithms("conv2d", 3, 4), "shapes: expected a tuple of sizes, got 3"),
        (lambda s, x: fc.algorithms("conv2d", (1, 3, 8, 8.5), (4, 3, 3, 3)), "shapes: expected an integer, got 8.5"),
        (lambda s, x: fc.algorithms("conv2d", (1, 3, 8, 8)), "conv2d: missing a required argument: 'w_shape'"),
        (lambda s, x: fc.algorithms("max_pool2d", (1, 3, 8, 8)), "max_pool2d: missing a required .*'kernel_size'"),
        (lambda s, x: fc.algorithms("linear", (1, 3), (4, 3), bias=1), "linear: got an unexpected .*'bias'"),
        (lambda s, x: fc.algorithms("linear", (1, 3), (4, 3), dtype="int3"), "linear: data type 'int3' not understood"),
    ],
)  # fmt: skip
def test_arguments_of_sessions_and_plans_are_named(session, call, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        call(session, np.zeros((1, 3, 8, 8), np.float32))


def test_output_names_may_come_one_by_one(session):
    assert len(session.run((name for name in ["y"]), {"x": np.zeros((1, 3, 8, 8), np.float32)})) == 1


def test_a_mask_is_not_dropped():
    masked = np.ma.masked_greater(X, 0.5)
    with pytest.raises(ArgumentTypeError, match=r"input: expected an array without a mask, .* x\.filled\(value\)"):
        F.relu(masked)
    with pytest.raises(ArgumentTypeError, match="weight: expected an array without a mask"):
        F.conv2d(X, np.ma.masked_greater(W, 0))
    assert F.relu(masked.filled(0)).max() <= 0.5


@pytest.mark.parametrize(
    "same",
    [
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x),
        lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
        lambda x: np.broadcast_to(x, x.shape),
        lambda x: x.view(np.recarray),
    ],
    ids=["byte order", "Fortran", "negative strides", "steps", "unaligned", "read-only", "subclass"],
)
def test_odd_arrays_are_arrays(same):
    expected = reference.conv(X, W, padding=1)
    tolerance = conv_tolerance(X, W, padding=1)
    assert_within(F.conv2d(same(X), W, padding=1), expected, tolerance)
    assert_within(F.conv2d(X, same(W), padding=1), expected, tolerance)
    np.testing.assert_array_equal(F.max_pool2d(same(X), 3), F.max_pool2d(X, 3))
    np.testing.assert_array_equal(F.relu(same(X)), F.relu(X))


def test_a_memory_map_is_an_array(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    x[...] = X
    y = F.conv2d(x, W)
    assert type(y) is np.ndarray
    assert_within(y, reference.conv(X, W), conv_tolerance(X, W))


def test_empty_arrays_of_random_windows():
    for shape in ((0, 4, 8, 8), (2, 0, 8, 8)):
        values, indices = F.fractional_max_pool2d(np.empty(shape, np.float32), 2, 3, return_indices=True)
        assert values.shape == indices.shape == (*shape[:2], 3, 3)


def test_a_long_stride_of_a_transposed_convolution_is_planned_by_its_taps():
    x, w = X[:1, :1, :1, :2], W[:1, :1]
    y = F.conv_transpose2d(x, w, stride=(1, 100_000))
    assert y.shape == (1, 1, 3, 100_003)
    expected = np.zeros(y.shape, np.float32)
    for column in range(2):
        expected[0, 0, :, 100_000 * column : 100_000 * column + 3] = x[0, 0, 0, column] * w[0, 0]
    np.testing.assert_array_equal(y, expected)
