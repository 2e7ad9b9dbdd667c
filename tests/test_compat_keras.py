"""keras's NumPy backend on fastconv's kernels."""

import os
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance, sum_tolerance

import fastconv as fc
from fastconv import reference
from fastconv.compat import keras as hook

if find_spec("keras") is None or find_spec("scipy") is None:
    pytest.skip("the hook for keras: keras or scipy is not installed", allow_module_level=True)
if os.environ.get("KERAS_BACKEND", "numpy") != "numpy":
    pytest.skip("the hook for keras: KERAS_BACKEND names another backend", allow_module_level=True)

WINDOWS = [
    ((2, 17, 4), (3,), 1),
    ((2, 11, 12, 4), (3, 2), 2),
    ((1, 12, 11, 6), (4, 3), (1, 2)),
    ((1, 7, 8, 9, 2), (2, 3, 3), 2),
]


@pytest.fixture(scope="module")
def keras():
    hook.install()
    import keras

    yield keras
    hook.uninstall()


@pytest.fixture
def own(keras):
    """keras's own functions, which need jax."""
    pytest.importorskip("jax", reason="comparison with keras's own functions: jax is not installed")
    return hook._replaced


def first(x):
    return np.moveaxis(x, -1, 1)


def last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("shape", "size", "strides"), WINDOWS)
class TestOperations:
    def test_conv(self, keras, rng, dtype, padding, shape, size, strides):
        x = rng.standard_normal(shape).astype(dtype)
        for groups, dilation in ((1, 1), (2, 1), (1, 2)):
            if dilation != 1 and strides != 1:
                continue  # keras takes one or the other
            kernel = rng.standard_normal((*size, shape[-1] // groups, 6)).astype(dtype)
            got = keras.ops.conv(x, kernel, strides, padding, "channels_last", dilation)
            w = np.moveaxis(kernel, (-1, -2), (0, 1))
            window = {"stride": strides, "padding": padding, "dilation": dilation, "groups": groups}
            assert_within(first(got), reference.conv(first(x), w, **window), conv_tolerance(first(x), w, **window))
            swapped = keras.ops.conv(first(x), kernel, strides, padding, "channels_first", dilation)
            assert_within(last(swapped), got, 2 * last(conv_tolerance(first(x), w, **window)))

    def test_pools(self, keras, rng, dtype, padding, shape, size, strides):
        x = rng.standard_normal(shape).astype(dtype)
        window = {"stride": strides, "padding": padding}
        got = keras.ops.max_pool(x, size, strides, padding)
        assert_within(first(got), reference.max_pool(first(x), size, **window)[0], 0)
        got = keras.ops.average_pool(x, size, strides, padding)
        expected = reference.avg_pool(first(x), size, count_include_pad=False, **window)
        bound = sum_tolerance(np.prod(size) + 1, np.full(expected.shape, abs(x).max()), dtype)
        assert_within(first(got), expected, bound)
        assert_within(keras.ops.max_pool(x, size), keras.ops.max_pool(x, size, size), 0)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("shape", "size", "strides"), WINDOWS[:3])
def test_depthwise_and_separable(keras, rng, padding, shape, size, strides):
    channels = shape[-1]
    x = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.standard_normal((*size, channels, 2)).astype(np.float32)
    got = keras.ops.depthwise_conv(x, kernel, strides, padding)
    w = np.moveaxis(kernel.reshape(*size, 1, 2 * channels), (-1, -2), (0, 1))
    window = {"stride": strides, "padding": padding, "groups": channels}
    assert_within(first(got), reference.conv(first(x), w, **window), conv_tolerance(first(x), w, **window))
    point = rng.standard_normal((*[1] * len(size), 2 * channels, 3)).astype(np.float32)
    assert_within(keras.ops.separable_conv(x, kernel, point, strides, padding), keras.ops.conv(got, point), 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_sizes_of_transposed_convolution(keras, rng, dtype, padding, strides, size):
    """The sums of the result are those of all products, where nothing is cut off."""
    x = keras.ops.convert_to_tensor(rng.integers(1, 4, (1, 5, 6, 2)), dtype)
    kernel = keras.ops.convert_to_tensor(rng.integers(1, 4, (size, size, 3, 2)), dtype)
    y = keras.ops.conv_transpose(x, kernel, strides, padding)
    assert y.dtype == x.dtype
    sizes = [n * strides if padding == "same" else (n - 1) * strides + max(size, strides) for n in (5, 6)]
    assert y.shape == (1, *sizes, 3)
    products = np.einsum("nhwc,ijfc->", x.astype(np.float64), kernel.astype(np.float64))
    if padding == "valid" and dtype != "bfloat16":
        assert y.sum(dtype=np.float64) == products
    w = kernel.astype(np.float64).transpose(3, 2, 0, 1)
    whole = reference.conv_transpose(first(x.astype(np.float64)), w, stride=strides)
    start = 0 if padding == "valid" else (size - 1) - min((strides + size - 1) // 2, size - 1)
    expected = np.zeros((1, 3, *sizes))
    inner = whole[:, :, start : start + sizes[0], start : start + sizes[1]]
    expected[:, :, : inner.shape[2], : inner.shape[3]] = inner
    assert np.array_equal(first(y).astype(np.float64), expected)


@pytest.mark.parametrize("output_padding", [None, 0, 1])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), ((2, 3), 1), (1, 2)])
def test_transposed_convolution_as_keras_has_it(keras, own, rng, output_padding, padding, strides, dilation):
    x, kernel = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 5, 6, 4), (3, 4, 3, 4)))
    if output_padding == 1 and strides == 1 and dilation == 1:
        output_padding = 0
    arguments = (strides, padding, output_padding, "channels_last", dilation)
    got = keras.ops.conv_transpose(x, kernel, *arguments)
    assert_within(got, own["conv_transpose"](x, kernel, *arguments), 1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("shape", "size", "strides"), WINDOWS)
def test_everything_as_keras_has_it(keras, own, rng, padding, shape, size, strides):
    x = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.standard_normal((*size, shape[-1], 6)).astype(np.float32)
    assert_within(keras.ops.conv(x, kernel, strides, padding), own["conv"](x, kernel, strides, padding), 1e-4)
    for name in ("max_pool", "average_pool"):
        got = getattr(keras.ops, name)(x, size, strides, padding)
        assert_within(got, own[name](x, size, _per_axis(strides, len(size)), padding), 1e-6)


def _per_axis(strides, rank):
    return strides if isinstance(strides, tuple) else (strides,) * rank


def test_a_model(keras, rng):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(8, 3),
            layers.MaxPooling2D(2),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2DTranspose(4, 2, strides=2),
            layers.AveragePooling2D(2, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    x = rng.standard_normal((2, 16, 16, 3)).astype(np.float32)
    y = model.predict(x, verbose=0)
    assert y.shape == (2, 5)
    assert y.sum(axis=1) == pytest.approx(1, abs=1e-5)
    # new weights are used at once
    kernel = model.layers[0].kernel
    x = abs(x)
    before = model.layers[0](x)
    kernel.assign(kernel.value + 1)
    w = np.moveaxis(kernel.value, (-1, -2), (0, 1))
    expected = reference.relu(reference.conv(first(x), w, model.layers[0].bias.value, padding="same"))
    assert_within(first(model.layers[0](x)), expected, 1e-4)
    assert not np.allclose(model.layers[0](x), before)


def test_no_stand_in_stays(keras):
    assert ("jax" in sys.modules) == (find_spec("jax") is not None)
    real, imaginary = np.array([1.0, 2, 3], np.float32), np.array([0.0, 1, -1], np.float32)
    got = keras.ops.fft((real, imaginary))
    expected = np.fft.fft(real + 1j * imaginary)
    assert got[0] == pytest.approx(expected.real, abs=1e-5)
    assert got[1] == pytest.approx(expected.imag, abs=1e-5)


def test_uninstall_gives_the_functions_back(keras):
    from keras.src.backend.numpy import nn

    assert nn.conv is hook.conv
    before = dict(hook._replaced)
    hook.install()
    assert hook._replaced == before
    hook.uninstall()
    assert nn.conv is before["conv"]
    assert not hook._replaced
    hook.install()
    assert nn.conv is hook.conv


def test_what_is_wrong_is_told(keras, monkeypatch):
    x = np.ones((1, 8, 8, 3), np.float32)
    with pytest.raises(fc.ArgumentError, match=r"kernel: expected 4 axes .* for 3 channels, got shape \(3, 3, 2, 4\)"):
        hook.conv(x, np.ones((3, 3, 2, 4), np.float32))
    with pytest.raises(fc.ArgumentError, match=r"kernel: expected 4 axes \(\*size, 3 channels, multiplier\)"):
        hook.depthwise_conv(x, np.ones((3, 3, 2, 4), np.float32))
    with pytest.raises(fc.ArgumentError, match="padding"):
        hook.conv(x, np.ones((3, 3, 3, 4), np.float32), padding="full")
    with pytest.raises(fc.ArgumentError, match="padding: expected 'valid' or 'same', got 'full'"):
        hook.conv_transpose(x, np.ones((3, 3, 4, 3), np.float32), padding="full")
    with pytest.raises(fc.ArgumentError, match="inputs: expected a batch with one to three spatial axes"):
        hook.max_pool(np.ones((3, 3), np.float32), 2)
    hook.uninstall()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(fc.ArgumentError, match=r"keras: expected its NumPy backend, got 'torch'; set .* KERAS_BACKEND"):
        hook.install()
    monkeypatch.undo()
    hook.install()
