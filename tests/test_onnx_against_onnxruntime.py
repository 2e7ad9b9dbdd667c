"""Single operators with random shapes and attributes, compared with onnxruntime.

ONNX's own tests hardly combine groups, dilation, automatic and lopsided padding; these do.  A failure prints the case.
Left out is where onnxruntime departs from the specification: automatic padding of pooling that is dilated, in ceil mode
or strides beyond its kernel, SAME transposed convolution with a kernel below the stride, Resize with align_corners to a
size that had to be rounded.
"""

import numpy as np
import onnx_bytes as write
import pytest

from fastconv.onnx.evaluate import Evaluator

NOTHING = np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def onnxruntime():
    module = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")
    module.set_default_logger_severity(4)
    return module


class Draw:
    """Random numbers with short names."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def size(self, low, high, count=None):
        sizes = self.rng.integers(low, high + 1, count)
        return int(sizes) if count is None else [int(n) for n in sizes]

    def real(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def integers(self, low, high, *shape, dtype=np.int64):
        return self.rng.integers(low, high, shape, dtype=dtype)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


def ints(*values):
    return np.array(values, np.int64)


# Each family draws one case: (operator, inputs, attributes), and where it matters "opset" and "outputs" in the latter.


def _window(d, rank):
    auto_pad = d.pick("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    kernel = d.size(1, 3, rank)
    pads = [d.size(0, k - 1) for k in kernel * 2] if auto_pad == "NOTSET" and d.pick(True, False) else None
    window = {"auto_pad": auto_pad, "pads": pads, "strides": d.pick(None, d.size(1, 3, rank))}
    return window, kernel, d.size(5, 10, rank)


def conv(d):
    rank, group, channels, features = d.size(1, 3), d.pick(1, 1, 2, 3), d.size(1, 3), d.size(1, 3)
    window, kernel, sizes = _window(d, rank)
    w, b = d.real(group * features, channels, *kernel), d.real(group * features)
    attributes = {**window, "dilations": d.pick(None, d.size(1, 2, rank)), "group": group}
    return "Conv", [d.real(2, group * channels, *sizes), w, d.pick(None, b)], attributes


def conv_integer(d):
    _, (x, w, _), attributes = conv(d)
    x = d.integers(0, 256, *x.shape, dtype=np.uint8)
    w = d.integers(0, 256, *w.shape, dtype=np.uint8)
    return "ConvInteger", [x, w, scalar(0, np.uint8), scalar(7, np.uint8)], attributes


def qlinear_conv(d):
    x, w = d.integers(0, 256, 1, 4, 6, 5, dtype=np.uint8), d.integers(-99, 99, 4, 2, 3, 3, dtype=np.int8)
    scales = d.pick(scalar(0.01), d.rng.uniform(0.001, 0.02, 4).astype(np.float32))
    bias = d.pick(None, d.integers(-500, 500, 4, dtype=np.int32))
    inputs = [x, scalar(0.02), scalar(120, np.uint8), w, scales, scalar(0, np.int8), scalar(0.3), scalar(90, np.uint8)]
    return "QLinearConv", [*inputs, bias], {"group": 2, "pads": d.pick([1, 1, 1, 1], [0, 1, 2, 0]), "steps": 1}


def conv_transpose(d):
    rank, group, channels, features = d.size(1, 3), d.pick(1, 2), d.size(1, 3), d.size(1, 3)
    window, kernel, sizes = _window(d, rank)
    strides = [d.size(1, k) for k in kernel]
    x, w = d.real(2, group * channels, *(n // 2 for n in sizes)), d.real(group * channels, features, *kernel)
    attributes = {**window, "strides": strides, "group": group}
    if window["auto_pad"] == "NOTSET":
        attributes["output_padding"] = [d.size(0, s - 1) for s in strides]
    return "ConvTranspose", [x, w, d.pick(None, d.real(group * features))], attributes


def conv_transpose_to_size(d):
    sizes, kernel, strides = d.size(2, 5, 2), d.size(1, 3, 2), d.size(1, 3, 2)
    full = [(n - 1) * s + k for n, s, k in zip(sizes, strides, kernel, strict=True)]
    wanted = [max(n - d.size(0, 2), 1) for n in full]
    auto_pad = d.pick("NOTSET", "SAME_UPPER", "SAME_LOWER")
    inputs = [d.real(1, 2, *sizes), d.real(2, 3, *kernel)]
    return "ConvTranspose", inputs, {"strides": strides, "output_shape": wanted, "auto_pad": auto_pad}


def pool(op, **choices):
    def draw(d):
        rank = d.size(1, 3)
        window, kernel, sizes = _window(d, rank)
        attributes = {**window, "kernel_shape": kernel, **{name: d.pick(*values) for name, values in choices.items()}}
        if window["auto_pad"] == "NOTSET":
            attributes |= {"ceil_mode": d.pick(0, 1), "dilations": d.size(1, 2, rank)}
        else:
            attributes["strides"] = [d.size(1, k) for k in kernel]
        return op, [d.real(2, 3, *sizes)], {**attributes, "opset": 19}

    return draw


def resize(d):
    mode = d.pick("nearest", "linear", "cubic")
    coordinates = d.pick("half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric", "align_corners")
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = d.pick("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    else:
        attributes["antialias"] = d.pick(0, 0, 1)
    if mode == "cubic":
        attributes["exclude_outside"] = d.pick(0, 1)
    x = d.real(1, 2, *d.size(2, 9, 2))
    if coordinates == "align_corners" or d.pick(True, False):
        return "Resize", [x, NOTHING, NOTHING, ints(1, 2, *d.size(1, 20, 2))], attributes
    scales = [d.pick(0.5, 0.6, 0.75, 1.5, 2, 2.5, 3) for _ in range(2)]
    return "Resize", [x, NOTHING, np.array([1, 1, *scales], np.float32)], attributes


def resize_10(d):
    scales = np.array([1, 1, d.pick(0.5, 1.5, 2), d.pick(0.6, 1, 3)], np.float32)
    return "Resize", [d.real(1, 2, *d.size(2, 9, 2)), scales], {"mode": d.pick("nearest", "linear"), "opset": 10}


def upsample(d):
    scales = np.array([1, 1, d.pick(1, 1.5, 2), d.pick(1, 2, 3)], np.float32)
    return "Upsample", [d.real(1, 2, *d.size(2, 9, 2)), scales], {"mode": d.pick("nearest", "linear"), "opset": 9}


def grid_sample(d):
    rank = d.pick(2, 2, 3)
    grid = d.rng.uniform(-1.5, 1.5, (2, *d.size(1, 4, rank), rank)).astype(np.float32)
    mode = d.pick("linear", "nearest", "cubic") if rank == 2 else d.pick("linear", "nearest")
    choices = {"padding_mode": d.pick("zeros", "border", "reflection"), "align_corners": d.pick(0, 1)}
    return "GridSample", [d.real(2, 2, *d.size(2, 6, rank)), grid], {"mode": mode, **choices, "opset": 20}


def affine_grid(d):
    return "AffineGrid", [d.real(2, 2, 3), ints(2, 1, *d.size(2, 5, 2))], {"align_corners": d.pick(0, 1), "opset": 20}


def roi_align(d):
    corner = d.rng.uniform(-1, 7, (3, 2))
    rois = np.concatenate((corner, corner + d.rng.uniform(0, 9, (3, 2))), 1).astype(np.float32)
    attributes = {
        "coordinate_transformation_mode": d.pick("half_pixel", "output_half_pixel"),
        "mode": d.pick("avg", "max"),
        "output_height": d.size(1, 3),
        "output_width": d.size(1, 3),
        "sampling_ratio": d.size(0, 2),
        "spatial_scale": d.pick(1.0, 0.5),
    }
    return "RoiAlign", [d.real(2, 3, *d.size(4, 8, 2)), rois, d.integers(0, 2, 3)], {**attributes, "opset": 16}


def deform_conv(d):
    x, w, mask = d.real(1, 4, 5, 5), d.real(2, 2, 3, 3), d.pick(None, d.real(1, 9, 5, 5))
    return "DeformConv", [x, w, d.real(1, 18, 5, 5), None, mask], {"group": 2, "pads": [1, 1, 1, 1], "opset": 19}


def non_max_suppression(d):
    count = d.size(1, 30)
    boxes = d.rng.uniform(0, 1, (2, count, 4)).astype(np.float32)
    scores = np.round(d.rng.uniform(0, 1, (2, 3, count)), d.pick(1, 4)).astype(np.float32)
    thresholds = [scalar([d.pick(0.0, 0.3, 0.7)]), d.pick(None, scalar([0.4]))]
    attributes = {"center_point_box": d.pick(0, 1), "opset": 11}
    return "NonMaxSuppression", [boxes, scores, ints(d.size(0, 8)), *thresholds], attributes


def pad(d):
    mode = d.pick("constant", "reflect", "edge", "wrap")
    pads = [0, 0, *d.size(0, 2, 2), 0, 0, *d.size(0, 2, 2)] if mode != "constant" else d.size(-1, 2, 8)
    return "Pad", [d.real(3, 4, 5, 6), ints(*pads), d.pick(None, scalar(2.5))], {"mode": mode, "opset": 19}


def slice_(d):
    far = 2**62
    count = d.size(1, 3)
    bounds = [ints(*(d.pick(d.size(-8, 8), -far, far) for _ in range(count))) for _ in range(2)]
    axes, steps = d.rng.permutation(3)[:count] - d.pick(0, 3), ints(*(d.pick(1, 2, -1, -2) for _ in range(count)))
    return "Slice", [d.real(*d.size(1, 5, 3)), *bounds, axes, steps], {}


def reduce(d):
    op = d.pick("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    axes = d.pick(None, ints(0), ints(-1, 0), ints(2, 1))
    x = np.abs(d.real(*d.size(1, 5, 3))) + 0.1
    return f"Reduce{op}", [x, axes], {"keepdims": d.pick(0, 1), "noop_with_empty_axes": d.pick(0, 1), "opset": 18}


def search(d):
    x, axis = np.round(2 * d.real(*d.size(1, 5, 3))), d.size(-3, 2)
    if d.pick(True, False):
        attributes = {"axis": axis, "keepdims": d.pick(0, 1), "select_last_index": d.pick(0, 1)}
        return d.pick("ArgMax", "ArgMin"), [x], attributes
    return "TopK", [x, ints(d.size(1, x.shape[axis]))], {"axis": axis, "largest": d.pick(0, 1), "outputs": 2}


def softmax(d):
    op = d.pick("Softmax", "LogSoftmax", "Hardmax")
    return op, [d.real(*d.size(1, 5, 3))], {"axis": d.size(-3, 2), "opset": d.pick(11, 13)}


def gather(d):
    x, axis = d.real(*d.size(1, 5, 3)), d.size(-3, 2)
    shape = [d.size(1, n) for n in x.shape]
    indices = d.integers(-x.shape[axis], x.shape[axis], *shape)
    op = d.pick("Gather", "GatherElements", "ScatterElements")
    if op != "ScatterElements":
        return op, [x, indices], {"axis": axis}
    return (
        op,
        [x, indices, d.real(*shape)],
        {"axis": axis, "reduction": d.pick("add", "mul", "max", "min"), "opset": 18},
    )


def gather_nd(d):
    x, depth = d.real(*d.size(1, 5, 3)), d.size(1, 3)
    indices = np.stack([d.integers(-n, n, 4) for n in x.shape[:depth]], -1)
    if d.pick(True, False):
        return "GatherND", [x, indices], {}
    return "ScatterND", [x, indices, d.real(4, *x.shape[depth:])], {"reduction": d.pick("add", "mul"), "opset": 18}


def norm(d):
    x, op = d.real(2, 6, *d.size(1, 5, 2)), d.pick("Layer", "Instance", "Batch", "Group")
    if op == "Layer":
        return (
            "LayerNormalization",
            [x, d.real(*x.shape[2:]), d.pick(None, d.real(*x.shape[2:]))],
            {"axis": 2, "outputs": 3},
        )
    parameters = [d.real(6), d.real(6)]
    if op == "Batch":
        parameters += [d.real(6), np.abs(d.real(6))]
    return f"{op}Normalization", [x, *parameters], {"num_groups": d.pick(1, 2, 3)} if op == "Group" else {}


def local_response(d):
    attributes = {"size": d.pick(1, 3, 5), "alpha": 0.3, "beta": 0.6, "bias": 1.5}
    return "LRN", [d.real(2, d.size(1, 8), *d.size(1, 4, 2))], attributes


def recurrent(d):
    op, gates = d.pick(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    directions, (time, batch, features, hidden) = d.size(1, 2), d.size(1, 5, 4)
    weights = [d.real(directions, gates * hidden, features), d.real(directions, gates * hidden, hidden)]
    bias = d.pick(None, d.real(directions, 2 * gates * hidden))
    lengths = d.pick(None, d.integers(1, time + 1, batch, dtype=np.int32))
    attributes = {"hidden_size": hidden, "outputs": 2 + (op == "LSTM"), "opset": 14}
    attributes["direction"] = d.pick("forward", "reverse") if directions == 1 else "bidirectional"
    if op == "GRU":
        attributes["linear_before_reset"] = d.pick(0, 1)
    return (
        op,
        [d.real(time, batch, features), *weights, bias, lengths, d.pick(None, d.real(directions, batch, hidden))],
        attributes,
    )


def quantize(d):
    x, scales = 10 * d.real(3, 4), d.pick(scalar(0.1), d.rng.uniform(0.1, 1, 4).astype(np.float32))
    if d.pick(True, False):
        return "QuantizeLinear", [x, scales, d.pick(None, np.zeros(scales.shape, np.int8))], {"opset": 13}
    return "DynamicQuantizeLinear", [x + d.pick(0, 30, -30)], {"outputs": 3}


def dequantize(d):
    x, scales = (
        d.integers(0, 256, 3, 4, dtype=np.uint8),
        d.pick(scalar(0.1), d.rng.uniform(0.1, 1, 4).astype(np.float32)),
    )
    zero_point = d.pick(None, d.integers(0, 9, *scales.shape, dtype=np.uint8))
    return "DequantizeLinear", [x, scales, zero_point], {"opset": 13}


def quantized_product(d):
    a, b = d.integers(0, 256, 3, 6, dtype=np.uint8), d.integers(0, 256, 6, 4, dtype=np.uint8)
    zero_points = scalar(120, np.uint8), scalar(7, np.uint8)
    if d.pick(True, False):
        return "MatMulInteger", [a, b, *zero_points], {}
    scales = scalar(0.02), scalar(0.05)
    inputs = [a, scales[0], zero_points[0], b, scales[1], zero_points[1], scalar(0.5), scalar(99, np.uint8)]
    return "QLinearMatMul", inputs, {"steps": 1, "opset": 13}


def of_onnxruntime(d):
    """What onnxruntime's quantiser and optimiser write."""
    x, scale = d.integers(0, 256, 2, 3, 4, 5, dtype=np.uint8), lambda: scalar(d.rng.uniform(0.05, 0.2))
    zero = lambda: d.integers(0, 99, dtype=np.uint8)  # noqa: E731
    common = {"domain": "com.microsoft", "steps": 1}
    op = d.pick("Add", "Mul", "GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu", "Concat", "FusedConv")
    if op in ("Add", "Mul"):
        y = d.integers(0, 256, 4, 5, dtype=np.uint8)
        return f"QLinear{op}", [x, scale(), zero(), y, scale(), zero(), scale(), zero()], common
    if op == "Concat":
        return "QLinearConcat", [scale(), zero(), x, scale(), zero(), x, scale(), zero()], {**common, "axis": 1}
    if op == "FusedConv":
        activation = d.pick({"activation": "Relu"}, {"activation": "LeakyRelu", "activation_params": [0.2]})
        inputs = [d.real(1, 2, 5, 5), d.real(3, 2, 3, 3), d.real(3)]
        return "FusedConv", inputs, {"domain": "com.microsoft", **activation}
    own = {"AveragePool": {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]}, "LeakyRelu": {"alpha": 0.2}}
    return f"QLinear{op}", [x, scale(), zero(), scale(), zero()], {**common, **own.get(op, {})}


def activation(d):
    x, own = 3 * d.real(3, 4), {}
    op = d.pick("Elu", "Celu", "Selu", "LeakyRelu", "ThresholdedRelu", "Shrink", "HardSigmoid", "HardSwish", "Softplus",
                "Softsign", "Gelu", "Erf", "Sigmoid", "Tanh", "Round", "Sign")  # fmt: skip
    if op in ("Elu", "Celu", "LeakyRelu", "ThresholdedRelu"):
        own = {"alpha": 0.7}
    return op, [x], {**own, "opset": 20}


FAMILIES = {
    "conv": conv,
    "conv_integer": conv_integer,
    "qlinear_conv": qlinear_conv,
    "conv_transpose": conv_transpose,
    "conv_transpose_to_size": conv_transpose_to_size,
    "max_pool": pool("MaxPool", outputs=(1, 2)),
    "average_pool": pool("AveragePool", count_include_pad=(0, 1)),
    "lp_pool": pool("LpPool", p=(1, 2, 3)),
    "resize": resize,
    "resize_10": resize_10,
    "upsample": upsample,
    "grid_sample": grid_sample,
    "affine_grid": affine_grid,
    "roi_align": roi_align,
    "deform_conv": deform_conv,
    "non_max_suppression": non_max_suppression,
    "pad": pad,
    "slice": slice_,
    "reduce": reduce,
    "search": search,
    "softmax": softmax,
    "gather": gather,
    "gather_nd": gather_nd,
    "norm": norm,
    "local_response": local_response,
    "recurrent": recurrent,
    "quantize": quantize,
    "dequantize": dequantize,
    "quantized_product": quantized_product,
    "of_onnxruntime": of_onnxruntime,
    "activation": activation,
}


def model_of(op, inputs, *, opset=21, outputs=1, domain="", **attributes):
    while inputs[-1] is None:  # onnxruntime crashes on a last input without a name
        inputs = inputs[:-1]
    names = ["-" if value is None else f"i{k}" for k, value in enumerate(inputs)]
    results = [f"o{k}" for k in range(outputs)]
    attributes = {name: value for name, value in attributes.items() if value is not None}
    node = write.node(op, " ".join(names), " ".join(results), domain=domain, **attributes)
    feeds = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    typed = [write.value(name, v.shape, write.DATA_TYPES[v.dtype.name]) for name, v in feeds.items()]
    return write.model(write.graph([node], typed, results), opset, [domain] * bool(domain)), feeds


@pytest.mark.parametrize("family", FAMILIES)
def test_family(onnxruntime, family):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    computed = 0
    for seed in range(40):
        op, inputs, attributes = FAMILIES[family](Draw(seed))
        inputs = [None if value is None else np.asarray(value) for value in inputs]
        steps = attributes.pop("steps", 0)
        data, feeds = model_of(op, inputs, **attributes)
        case = (
            f"{family}, seed {seed}: {op} {[v if v is None else (v.dtype.name, v.shape) for v in inputs]} {attributes}"
        )
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            expected = session.run(None, feeds)
        except Exception as refusal:  # onnxruntime raises classes of its own
            print(f"onnxruntime refuses {case}: {refusal}")
            continue
        computed += 1
        for ours, theirs in zip(Evaluator(data).run(feeds), expected, strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), case
            tolerance = {"rtol": 0, "atol": steps} if steps else {"rtol": 1e-4, "atol": 1e-5}
            np.testing.assert_allclose(ours.astype(float), theirs.astype(float), **tolerance, err_msg=case)
    assert computed >= 10
