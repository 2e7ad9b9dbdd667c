"""Whole networks: random-weight twins of those that are benchmarked, and a block of every family of ONNX exports.

A network's output is compared with float64, node by node in NumPy, and with onnxruntime.  ERROR is ten times the largest
that was seen in any network, of the largest output; each step by itself is held to its derived bound by ``verify``.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
from graphs import compiled, evaluated, executable, graph, node

from fastconv.graph.passes import PASSES
from fastconv.tools.bench.networks import network_feeds, network_file, network_names

ERROR = 1e-5
AGAINST_ONNXRUNTIME = 1e-4
SLOW = ("vgg16", "vgg19")


def doubled(g):
    constants = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in g.constants.items()}
    return replace(g, constants=constants)


def exact(g, feeds) -> list[np.ndarray]:
    return evaluated(doubled(g), {name: array.astype(np.float64) for name, array in feeds.items()})


def relative_error(actual, expected) -> float:
    assert actual.shape == expected.shape
    assert np.ptp(expected) > 0
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", network_names())
def test_networks_with_random_weights(name):
    if name in SLOW and not os.environ.get("FASTCONV_ALL_NETWORKS"):
        pytest.skip("it takes 10 seconds; FASTCONV_ALL_NETWORKS=1 runs it")
    pytest.importorskip("onnx", reason="the onnx package, which the networks come from, is not installed")
    from fastconv.onnx.model import load
    from fastconv.onnx.session import InferenceSession

    path = network_file(name)
    feeds = network_feeds(path)
    session = InferenceSession(str(path))
    (actual,) = session.run(None, feeds)
    (expected,) = exact(load(str(path)).graph, feeds)
    assert relative_error(actual, expected) < ERROR
    np.testing.assert_array_equal(session.run(None, feeds)[0], actual)
    assert session.verify(feeds).ok
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, which is compared with, is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    peer = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert relative_error(actual, peer.run(None, feeds)[0]) < AGAINST_ONNXRUNTIME


class Network:
    """Nodes and weights as they are written down; every method returns the name of its result."""

    def __init__(self, channels: int, size: int = 12):
        self.rng = np.random.default_rng(channels)
        self.shape = (1, channels, size, size)
        self.channels = {"x": channels}
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value)
        self.constants[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def weights(self, *shape) -> str:
        return self.constant(self.rng.standard_normal(shape) * np.sqrt(2 / max(np.prod(shape[1:]), 1)))

    def add(self, op_type: str, *inputs: str, outputs: int = 1, channels=None, opset: int = 17, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(node(op_type, " ".join(inputs), " ".join(names), opset=opset, **attributes))
        for name in names:
            self.channels[name] = channels or self.channels.get(inputs[0])
        return names[0] if outputs == 1 else names

    def conv(self, x: str, filters: int, kernel: int = 1, stride: int = 1, group: int = 1, bias: bool = True) -> str:
        inputs = [x, self.weights(filters, self.channels[x] // group, kernel, kernel)]
        inputs += [self.weights(filters)] * bias
        at = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": group}
        return self.add("Conv", *inputs, channels=filters, **at)

    def batch_norm(self, x: str) -> str:
        numbers = [self.constant(self.rng.uniform(0.5, 1.5, self.channels[x])) for _ in range(4)]
        return self.add("BatchNormalization", x, *numbers)

    def graph(self, *outputs: str):
        return graph({"x": self.shape}, " ".join(outputs), *self.nodes, **self.constants)


def squeeze_and_excite(n: Network, x: str, gate: str) -> str:
    pooled = n.add("GlobalAveragePool", x)
    inner = n.add("Relu", n.conv(pooled, 8))
    return n.add("Mul", x, n.add(gate, n.conv(inner, n.channels[x])))


def hard_swish(n: Network, x: str) -> str:
    six, clipped = n.constant(6.0), n.add("Add", x, n.constant(3.0))
    return n.add("Div", n.add("Mul", x, n.add("Clip", clipped, n.constant(0.0), six)), six)


def silu(n: Network, x: str) -> str:
    return n.add("Mul", x, n.add("Sigmoid", x))


def gelu(n: Network, x: str) -> str:
    root = n.add("Erf", n.add("Div", x, n.constant(np.sqrt(2))))
    return n.add("Mul", n.add("Mul", x, n.add("Add", root, n.constant(1.0))), n.constant(0.5))


def mobile_net_v3(n: Network):
    y = hard_swish(n, n.batch_norm(n.conv(n.conv("x", 32), 32, 3, group=32)))
    return n.add("Add", n.conv(squeeze_and_excite(n, y, "HardSigmoid"), 16), "x")


def efficient_net(n: Network):
    y = silu(n, n.batch_norm(n.conv(silu(n, n.batch_norm(n.conv("x", 32))), 32, 5, group=32)))
    return n.add("Add", n.batch_norm(n.conv(squeeze_and_excite(n, y, "Sigmoid"), 16)), "x")


def conv_next(n: Network):
    last = n.add("Transpose", n.conv("x", 16, 7, group=16), perm=[0, 2, 3, 1])
    y = n.add("LayerNormalization", last, n.weights(16), n.weights(16))
    y = gelu(n, n.add("Add", n.add("MatMul", y, n.weights(16, 64)), n.weights(64)))
    y = n.add("Mul", n.weights(16), n.add("MatMul", y, n.weights(64, 16)))
    return n.add("Add", n.add("Transpose", y, perm=[0, 3, 1, 2]), "x")


def shuffle_net_v2(n: Network):
    left, right = n.add("Split", "x", n.constant([8, 8]), outputs=2, axis=1, channels=8)
    right = n.add("Relu", n.conv(n.conv(n.add("Relu", n.conv(right, 8)), 8, 3, group=8), 8))
    y = n.add("Reshape", n.add("Concat", left, right, axis=1), n.constant([0, 2, 8, 12, 12]))
    y = n.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = n.add("Reshape", y, n.constant([0, 16, 12, 12]), channels=16)
    return n.add("ReduceMean", n.conv(y, 24), axes=[2, 3], keepdims=0)


def dense_net(n: Network):
    features = ["x"]
    for _ in range(3):
        y = n.add("Concat", *features, channels=16 + 8 * (len(features) - 1), axis=1)
        y = n.conv(n.add("Relu", n.batch_norm(y)), 16, bias=False)
        features.append(n.conv(n.add("Relu", n.batch_norm(y)), 8, 3, bias=False))
    return n.add("AveragePool", n.add("Concat", *features, axis=1), kernel_shape=[2, 2], strides=[2, 2])


def yolo(n: Network):
    parts = n.add("Split", silu(n, n.batch_norm(n.conv("x", 16))), outputs=2, axis=1, opset=11, channels=8)
    bottleneck = silu(n, n.conv(silu(n, n.conv(parts[1], 8, 3)), 8, 3))
    y = n.add("Concat", *parts, n.add("Add", parts[1], bottleneck), axis=1, channels=24)
    pools = [silu(n, n.conv(y, 8))]
    for _ in range(3):
        pools.append(n.add("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2]))
    y = n.add("Concat", *pools, axis=1, channels=32)
    large = n.add("Resize", y, "-", n.constant([1.0, 1, 2, 2]), mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="asymmetric")  # fmt: skip
    boxes = n.add("Reshape", n.conv(large, 20), n.constant([1, 20, 576]))
    distances, scores = n.add("Split", boxes, n.constant([16, 4]), outputs=2, axis=1)
    bins = n.add("Transpose", n.add("Reshape", distances, n.constant([1, 4, 4, 576])), perm=[0, 2, 1, 3])
    bins = n.add("Reshape", n.conv(n.add("Softmax", bins, axis=1, channels=4), 1), n.constant([1, 4, 576]))
    return n.add("Concat", n.add("Mul", bins, n.constant(8.0)), n.add("Sigmoid", scores), axis=1)


def u_net(n: Network):
    skip = n.add("Relu", n.batch_norm(n.conv("x", 16, 3)))
    y = n.add("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2])
    y = n.add("Relu", n.batch_norm(n.conv(y, 32, 3)))
    up = n.add("ConvTranspose", y, n.weights(32, 16, 2, 2), n.weights(16), strides=[2, 2], channels=16)
    up = n.add("Relu", n.batch_norm(up))
    return n.conv(n.add("Concat", skip, up, axis=1, channels=32), 4)


def deep_lab(n: Network):
    branches = [n.add("Relu", n.batch_norm(n.conv("x", 8)))]
    pooled = n.add("Relu", n.conv(n.add("GlobalAveragePool", "x"), 8))
    branches.append(n.add("Resize", pooled, "-", "-", n.constant([1, 8, 12, 12]), mode="linear"))
    y = n.conv(n.add("Concat", *branches, axis=1, channels=16), 5)
    return n.add(
        "Resize", y, "-", n.constant([1.0, 1, 4, 4]), mode="linear", coordinate_transformation_mode="align_corners"
    )


def recognition(n: Network):
    """Attention and a layer norm spelled out, as in PP-OCR."""
    y = hard_swish(n, n.batch_norm(n.conv("x", 16, 3, stride=2)))
    y = n.add("Transpose", n.add("Reshape", y, n.constant([0, 16, 36])), perm=[0, 2, 1])
    centred = n.add("Sub", y, n.add("ReduceMean", y, axes=[-1]))
    variance = n.add("ReduceMean", n.add("Pow", centred, n.constant(2.0)), axes=[-1])
    y = n.add("Div", centred, n.add("Sqrt", n.add("Add", variance, n.constant(1e-5))))
    y = n.add("Add", n.add("Mul", y, n.weights(16)), n.weights(16))
    three = n.add("Reshape", n.add("MatMul", y, n.weights(16, 48)), n.constant([0, 36, 3, 2, 8]))
    three = n.add("Transpose", three, perm=[2, 0, 3, 1, 4])
    q, k, v = (n.add("Gather", three, n.constant(i), axis=0) for i in range(3))
    scores = n.add("MatMul", n.add("Mul", q, n.constant(8**-0.5)), n.add("Transpose", k, perm=[0, 1, 3, 2]))
    y = n.add("Transpose", n.add("MatMul", n.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return n.add("Softmax", n.add("MatMul", n.add("Reshape", y, n.constant([0, 36, 16])), n.weights(16, 10)), axis=2)


def mtcnn(n: Network):
    """Channels last at the door, as exported from Keras."""
    n.shape = (1, 12, 12, 3)
    x = n.add("Transpose", "x", perm=[0, 3, 1, 2], channels=3)
    y = n.add("PRelu", n.conv(x, 10, 3), n.weights(10, 1, 1))
    y = n.conv(n.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), 4)
    return n.add("Softmax", n.add("Transpose", y, perm=[0, 2, 3, 1]), axis=3)


FAMILIES = (
    mobile_net_v3, efficient_net, conv_next, shuffle_net_v2, dense_net, yolo, u_net, deep_lab, recognition, mtcnn,
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize("passes", [True, False], ids=["passes", "no passes"])
def test_a_block_of_every_family(family, passes):
    n = Network(16)
    output = family(n)
    g = n.graph(output)
    after = g
    for name, rewrite in PASSES.items():
        if passes or name == "drop_dead":
            after = rewrite(after)
    feeds = {"x": n.rng.standard_normal(n.shape).astype(np.float32)}
    assert relative_error(compiled(after, feeds)[0], exact(g, feeds)[0]) < ERROR
    if passes:
        assert [call.node for call in executable(after, feeds).calls if call.algorithm == "numpy"] == []
