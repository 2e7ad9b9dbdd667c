"""Small models for the tests of sessions, as bytes of ONNX files."""

import numpy as np
import onnx_bytes as write


def _weights(rng, *shape, dtype=np.float32):
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(dtype)


def residual(rng, dtype=np.float32, image=("n", 3, "h", "w"), channels=16):
    """Convolutions with batch norm, ReLU and a residual sum, pooled and classified: x → y (n, 10)."""
    elem = 1 if dtype == np.float32 else 11
    c = channels
    constants = {
        "w1": _weights(rng, c, 3, 3, 3, dtype=dtype),
        "b1": _weights(rng, c, dtype=dtype),
        "w2": _weights(rng, c, c, 3, 3, dtype=dtype),
        "scale": 1 + 0.1 * _weights(rng, c, dtype=dtype),
        "shift": _weights(rng, c, dtype=dtype),
        "mean": 0.1 * _weights(rng, c, dtype=dtype),
        "var": 1 + 0.1 * np.abs(_weights(rng, c, dtype=dtype)),
        "w3": _weights(rng, 10, c, dtype=dtype),
        "b3": _weights(rng, 10, dtype=dtype),
    }
    nodes = [
        write.node("Conv", "x w1 b1", "c1", name="stem", pads=[1, 1, 1, 1]),
        write.node("Relu", "c1", "r1", name="stem.relu"),
        write.node("Conv", "r1 w2", "c2", name="body", pads=[1, 1, 1, 1]),
        write.node("BatchNormalization", "c2 scale shift mean var", "n2", name="body.norm"),
        write.node("Add", "n2 r1", "s2", name="sum"),
        write.node("Relu", "s2", "r2", name="sum.relu"),
        write.node("MaxPool", "r2", "p2", name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        write.node("GlobalAveragePool", "p2", "g", name="mean"),
        write.node("Flatten", "g", "f"),
        write.node("Gemm", "f w3 b3", "y", name="classifier", transB=1),
    ]
    tensors = [write.tensor(array.astype(dtype), name) for name, array in constants.items()]
    ends = [write.value("x", image, elem)], [write.value("y", (image[0], 10), elem)]
    return write.model(write.graph(nodes, *ends, tensors), metadata_props=[_entry("author", "a test")])


def detector(rng):
    """A convolution whose results are boxes and scores of 64 places, and non-maximum suppression: x → boxes, count."""
    constants = {
        "w": _weights(rng, 8, 3, 3, 3),
        "w_box": _weights(rng, 4, 8, 1, 1),
        "w_score": _weights(rng, 2, 8, 1, 1),
        "w_head": _weights(rng, 6, 4, 1, 1),
        "boxes_shape": np.array([1, 4, 64]),
        "scores_shape": np.array([1, 2, 64]),
        "most": np.array([5]),
        "overlap": np.array([0.5], np.float32),
        "least": np.array([0.5], np.float32),
        "two": np.array([2]),
        "head_shape": np.array([1, 4, -1, 1]),
    }
    nodes = [
        write.node("Conv", "x w", "h", name="backbone", pads=[1, 1, 1, 1], strides=[2, 2]),
        write.node("Relu", "h", "features", name="relu"),
        write.node("Conv", "features w_box", "box_map", name="box_head"),
        write.node("Conv", "features w_score", "score_map", name="score_head"),
        write.node("Reshape", "box_map boxes_shape", "box_rows"),
        write.node("Transpose", "box_rows", "all_boxes", perm=[0, 2, 1]),
        write.node("Reshape", "score_map scores_shape", "score_rows"),
        write.node("Sigmoid", "score_rows", "scores"),
        write.node("NonMaxSuppression", "all_boxes scores most overlap least", "kept", name="nms"),
        write.node("Gather", "kept two", "places", axis=1),
        write.node("Squeeze", "places", "place", name="squeeze"),
        write.node("Gather", "all_boxes place", "boxes", axis=1),
        write.node("Transpose", "boxes", "turned", perm=[0, 2, 1]),
        write.node("Reshape", "turned head_shape", "map"),
        write.node("Conv", "map w_head", "head", name="second_stage"),
        write.node("Shape", "kept", "count"),
    ]
    ends = [write.value("x", (1, 3, 16, 16))], ["boxes", "head", "count"]
    return write.model(write.graph(nodes, *ends, [write.tensor(a, name) for name, a in constants.items()]))


def one_node(op_type, inputs, outputs, shape=(2, 3), opset=21, elem_type=1, **attributes):
    node = write.node(op_type, inputs, outputs, **attributes)
    values = [write.value(name, shape, elem_type) for name in inputs.split()]
    return write.model(write.graph([node], values, outputs.split()), opset)


def _entry(key, value):
    return write.message("StringStringEntryProto", key=key, value=value)
