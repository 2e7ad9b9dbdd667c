"""What the precisions promise: bits that do not depend on threads, in strict not on the batch, and NaN and infinity."""

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv.onnx.evaluate import Evaluator

BATCHES = (1, 2, 3, 4, 5, 8, 13, 33)


def layers(rng, dtype=np.float32):
    """Every kind of layer that adds up: x (n, 16, 13, 11) → the values of LAYERS, each (n, …)."""
    elem = 1 if dtype == np.float32 else 11

    def weights(*shape):
        return models._weights(rng, *shape, dtype=dtype)

    constants = {
        "w3": weights(24, 16, 3, 3), "b3": weights(24), "w1": weights(40, 24, 1, 1), "wd": weights(40, 1, 5, 5),
        "ws": weights(32, 40, 3, 3), "wg": weights(32, 8, 3, 3), "wt": weights(32, 12, 2, 2), "g": weights(50, 32),
        "c": weights(50), "m": weights(50, 37), "scale": weights(37), "row": weights(11, 9),
    }  # fmt: skip
    nodes = [
        write.node("Conv", "x w3 b3", "conv", pads=[1, 1, 1, 1]),
        write.node("Relu", "conv", "relu"),
        write.node("Conv", "relu w1", "pointwise"),
        write.node("Conv", "pointwise wd", "depthwise", pads=[2, 2, 2, 2], group=40),
        write.node("Conv", "depthwise ws", "strided", strides=[2, 2], pads=[1, 1, 1, 1]),
        write.node("Conv", "strided wg", "grouped", group=4, pads=[2, 2, 2, 2], dilations=[2, 2]),
        write.node("ConvTranspose", "grouped wt", "transposed", strides=[2, 2]),
        write.node("AveragePool", "grouped", "average", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        write.node("MaxPool", "grouped", "largest", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        write.node("GlobalAveragePool", "grouped", "mean"),
        write.node("Flatten", "mean", "flat"),
        write.node("Gemm", "flat g c", "gemm", transB=1),
        write.node("MatMul", "gemm m", "product"),
        write.node("LayerNormalization", "product scale", "normalised"),
        write.node("Softmax", "normalised", "softmax", axis=-1),
        write.node("MatMul", "x row", "rows"),
        write.node("Transpose", "x", "turned", perm=[0, 1, 3, 2]),
        write.node("MatMul", "x turned", "attention"),
        write.node("ReduceSum", "x axes", "sum", keepdims=0),
        write.node("LRN", "x", "lrn", size=5),
        write.node("Resize", "x - sizes", "resized", mode="linear"),
    ]  # fmt: skip
    tensors = [write.tensor(array, name) for name, array in constants.items()]
    tensors += [write.tensor(np.array([1, 2, 3]), "axes"), write.tensor(np.float32([1, 1, 1.7, 0.6]), "sizes")]
    inputs = [write.value("x", ("n", 16, 13, 11), elem)]
    return write.model(write.graph(nodes, inputs, LAYERS, tensors))


LAYERS = [
    "conv", "pointwise", "depthwise", "strided", "grouped", "transposed", "average", "largest", "gemm",
    "product", "normalised", "softmax", "rows", "attention", "sum", "lrn", "resized",
]  # fmt: skip


@pytest.fixture
def x(rng):
    return rng.standard_normal((max(BATCHES), 16, 13, 11))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestStrict:
    def test_the_same_bits_for_any_batch(self, rng, x, dtype):
        x = x.astype(dtype)
        session = fc.InferenceSession(layers(rng, dtype), precision="strict")
        whole = session.run(None, {"x": x})
        for images in BATCHES:
            part = session.run(None, {"x": x[:images]})
            for name, mine, all_of_it in zip(LAYERS, part, whole, strict=True):
                assert mine.tobytes() == all_of_it[:images].tobytes(), f"{name} of {images} images"

    def test_nan_and_infinity_as_the_definition_has_them(self, rng, x, dtype):
        data = layers(rng, dtype)
        x = x[:2].astype(dtype)
        x[0, 3, 6, 5], x[1, 2, 0, 0], x[1, 2, 12, 10] = np.nan, np.inf, -np.inf
        results = fc.InferenceSession(data, precision="strict").run(None, {"x": x})
        expected = Evaluator(data).run({"x": x})
        for name, mine, reference in zip(LAYERS, results, expected, strict=True):
            for test in (np.isnan, np.isposinf, np.isneginf):
                assert np.array_equal(test(mine), test(reference)), f"{test.__name__} of {name}"


@pytest.mark.parametrize("precision", ["strict", "default", "fast"])
@pytest.mark.parametrize("images", [1, 3])
def test_the_same_bits_for_any_number_of_threads(rng, x, precision, images):
    data, x = layers(rng), x[:images].astype(np.float32)
    results = [fc.InferenceSession(data, threads, precision).run(None, {"x": x}) for threads in (1, 2, 3, 8)]
    for other in results[1:]:
        for name, mine, first in zip(LAYERS, other, results[0], strict=True):
            assert mine.tobytes() == first.tobytes(), name


@pytest.mark.parametrize("images", [1, 2, 3])
def test_strict_behind_a_node_whose_shape_only_a_run_can_tell(rng, images):
    """The number of images decides nothing there, either: all of them take the same way."""
    w = write.tensor(models._weights(rng, 8, 4, 3, 3), "w")
    nodes = [
        write.node("Compress", "x kept", "some", axis=0),
        write.node("Conv", "some w", "c", pads=[1, 1, 1, 1]),
        write.node("Softmax", "c", "y", axis=1),
    ]
    data = write.model(write.graph(nodes, [write.value("x", (3, 4, 12, 12)), write.value("kept", (3,), 9)], ["y"], [w]))
    x = rng.standard_normal((3, 4, 12, 12)).astype(np.float32)
    session = fc.InferenceSession(data, precision="strict")
    whole = session.run(None, {"x": x, "kept": np.ones(3, bool)})[0]
    part = session.run(None, {"x": x, "kept": np.arange(3) < images})[0]
    assert part.tobytes() == whole[:images].tobytes()


def test_larger_tiles_in_fast_precision_alone(rng):
    """96 channels of 5×5: 2×2 tiles err no more than the default allows, 4×4 tiles are faster."""
    nodes = [write.node("Conv", "x w", "y", pads=[2, 2, 2, 2])]
    w = write.tensor(models._weights(rng, 96, 96, 5, 5), "w")
    data = write.model(write.graph(nodes, [write.value("x", (1, 96, 14, 14))], ["y"], [w]))
    x = rng.standard_normal((1, 96, 14, 14)).astype(np.float32)
    chosen = {"strict": "direct", "default": "winograd", "fast": "winograd_large"}
    for precision, algorithm in chosen.items():
        session = fc.InferenceSession(data, precision=precision)
        (step,) = [row for row in session.explain().rows if row.op == "Conv"]
        assert step.algorithm == algorithm
        assert "keep to their bounds" in str(session.verify({"x": x}))
