"""fastconv's kernels inside onnx's reference evaluator, against the evaluator by itself."""

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance, sum_tolerance

from fastconv import reference

onnx = pytest.importorskip("onnx", reason="the plug-in for onnx.reference: onnx is not installed")
helper = onnx.helper
ReferenceEvaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
plug_in = pytest.importorskip("fastconv.compat.onnx_reference")

DTYPES = [np.float16, np.float32, np.float64]


def model(op_type, arrays, outputs=1, opset=22, constants=(), **attributes):
    """A model of one node; inputs are x0, x1, ..., those numbered in `constants` initializers."""
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    results = [f"y{i}" for i in range(outputs)]
    types = [onnx.helper.np_dtype_to_tensor_dtype(arrays[0].dtype), onnx.TensorProto.INT64]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, results, **attributes)],
        "one node",
        [
            helper.make_tensor_value_info(name, types[0], None)
            for i, name in enumerate(names)
            if name and i not in constants
        ],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, types, strict=False)],
        [onnx.numpy_helper.from_array(arrays[i], names[i]) for i in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def feeds(arrays, constants=()):
    return {f"x{i}": array for i, array in enumerate(arrays) if array is not None and i not in constants}


def run(proto, arrays, constants=(), new_ops=plug_in.new_ops):
    return ReferenceEvaluator(proto, new_ops=new_ops).run(None, feeds(arrays, constants))


def both(op_type, arrays, **arguments):
    proto = model(op_type, arrays, **arguments)
    constants = arguments.get("constants", ())
    return run(proto, arrays, constants), run(proto, arrays, constants, None)


def in_float64(op_type, arrays, **attributes):
    """What the evaluator computes by itself from the same numbers in float64."""
    wide = [array.astype(np.float64) for array in arrays]
    return run(model(op_type, wide, **attributes), wide, new_ops=None)


def numbers(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("constants", [(1, 2), ()], ids=["weights in the file", "weights fed"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "attributes"),
    [
        ((2, 3, 40), (5, 3, 3), {"pads": [1, 2], "strides": [2]}),
        ((2, 4, 18, 17), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((2, 4, 19, 17), (6, 2, 3, 5), {"pads": [2, 1, 0, 3], "strides": [2, 1], "dilations": [2, 1], "group": 2}),
        ((1, 3, 20, 21), (4, 3, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ((1, 3, 20, 21), (4, 3, 4, 2), {"auto_pad": "SAME_UPPER"}),
        ((1, 3, 20, 21), (4, 3, 4, 2), {"auto_pad": "VALID", "kernel_shape": [4, 2]}),
        ((1, 8, 15, 15), (8, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 8}),
        ((1, 2, 9, 10, 11), (3, 2, 2, 3, 3), {"pads": [0, 1, 1, 1, 1, 1], "strides": [1, 2, 1]}),
    ],
)
def test_conv(rng, dtype, constants, x_shape, w_shape, attributes):
    arrays = [numbers(rng, shape, dtype) for shape in (x_shape, w_shape, w_shape[:1])]
    (got,) = run(model("Conv", arrays, constants=constants, **attributes), arrays, constants)
    (expected,) = in_float64("Conv", arrays, **attributes)
    word = attributes.get("auto_pad")
    pads = attributes.get("pads")
    rank = len(x_shape) - 2
    padding = {"VALID": "valid", None: None}.get(word, word) or list(zip(pads[:rank], pads[rank:], strict=True))
    window = {"stride": attributes.get("strides", 1), "dilation": attributes.get("dilations", 1), "padding": padding}
    tolerance = conv_tolerance(*arrays, groups=attributes.get("group", 1), **window)
    assert_within(got, expected.astype(dtype), 2 * tolerance)


def test_weights_that_change_between_runs(rng):
    x, w, b = numbers(rng, (1, 8, 20, 20), np.float32), numbers(rng, (8, 8, 3, 3), np.float32), np.zeros(8, np.float32)
    evaluator = ReferenceEvaluator(model("Conv", [x, w, b]), new_ops=plug_in.new_ops)
    for _ in range(2):
        (got,) = evaluator.run(None, feeds([x, w, b]))
        assert_within(got, reference.conv(x, w, b), conv_tolerance(x, w, b) * 4)
        w[3, 2, 1, 1] += 5  # in place


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "attributes"),
    [
        ((2, 3, 30), (3, 4, 3), {"strides": [2], "pads": [1, 0]}),
        ((2, 4, 12, 13), (4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((1, 3, 16, 15), (3, 2, 3, 2), {"dilations": [2, 1], "pads": [1, 0, 2, 1]}),
        ((1, 3, 12, 13), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((1, 3, 12, 13), (3, 2, 3, 3), {"output_shape": [25, 28], "strides": [2, 2]}),
        ((1, 2, 6, 7, 8), (2, 3, 2, 3, 2), {"strides": [1, 2, 2]}),
    ],
)
def test_conv_transpose(rng, dtype, x_shape, w_shape, attributes):
    filters = w_shape[1] * attributes.get("group", 1)
    arrays = [numbers(rng, shape, dtype) for shape in (x_shape, w_shape, (filters,))]
    (got,), (expected,) = both("ConvTranspose", arrays, constants=(1, 2), **attributes)
    taps = w_shape[0] * int(np.prod(w_shape[2:]))
    largest = abs(arrays[0]).max() * abs(arrays[1]).max() * taps + abs(arrays[2]).max()
    assert_within(got, expected, sum_tolerance(taps + 1, np.full(expected.shape, largest), dtype))


def test_groups_of_conv_transpose(rng):
    """The evaluator by itself fails for groups of several filters, and gives all of them the first bias."""
    x, w = numbers(rng, (1, 4, 12, 12), np.float32), numbers(rng, (4, 3, 3, 3), np.float32)
    b = numbers(rng, 6, np.float32)
    (got,) = run(model("ConvTranspose", [x, w, b], group=2, strides=[2, 2]), [x, w, b])
    expected = reference.conv_transpose(x, w, b, stride=2, groups=2)
    assert_within(got, expected, conv_tolerance(x, w, b, transpose=True, stride=2, groups=2))


POOLS = [
    ((2, 3, 300), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((1, 3, 41, 30), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ((1, 3, 41, 30), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 3, 41, 30), {"kernel_shape": [2, 4], "strides": [1, 3], "auto_pad": "SAME_UPPER"}),
    ((1, 3, 41, 30), {"kernel_shape": [2, 4], "strides": [1, 3], "auto_pad": "VALID"}),
    ((1, 3, 41, 30), {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [2, 1]}),
    ((1, 2, 11, 12, 13), {"kernel_shape": [2, 3, 3], "strides": [2, 1, 2], "pads": [1, 1, 0, 0, 1, 0]}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("op_type", "shape", "attributes"),
    [
        (op_type, *case)
        for op_type in ("MaxPool", "AveragePool", "LpPool")
        for case in POOLS
        if op_type != "LpPool" or "ceil_mode" not in case[1]  # there the evaluator scales the windows at the end
    ],
)
def test_pool(rng, dtype, op_type, shape, attributes):
    x = numbers(rng, shape, dtype)
    if op_type == "LpPool":
        attributes = {**attributes, "p": 2}
    (got,) = run(model(op_type, [x], **attributes), [x])
    (expected,) = in_float64(op_type, [x], **attributes)
    taps = int(np.prod(attributes["kernel_shape"]))
    tolerance = (
        0 if op_type == "MaxPool" else sum_tolerance(2 * taps, np.full(expected.shape, taps * abs(x).max()), dtype)
    )
    assert_within(got, expected.astype(dtype), tolerance)


def test_power_sums_by_hand():
    x = np.array([[[3.0, 4, 5]]])
    (got,) = run(model("LpPool", [x], kernel_shape=[2], strides=[2], p=2, ceil_mode=1), [x])
    assert got.tolist() == [[[5, 5]]]


@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_what_a_mean_divides_by(count_include_pad, ceil_mode):
    x = np.ones((1, 4, 24, 25), np.float32)
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": ceil_mode}
    (got,), (expected,) = both("AveragePool", [x], count_include_pad=count_include_pad, **attributes)
    assert got.shape == expected.shape
    assert abs(got - expected).max() < 1e-6


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize(("shape", "attributes"), [POOLS[0], POOLS[1], POOLS[2], POOLS[6]])
def test_indices(rng, shape, attributes, storage_order):
    x = numbers(rng, shape, np.float32)
    got, expected = both("MaxPool", [x], outputs=2, storage_order=storage_order, **attributes)
    assert_within(got[0], expected[0], 0)
    assert_within(got[1], expected[1], 0)


def test_same_lower_by_hand():
    """The evaluator pads SAME_LOWER of strided max pooling as SAME_UPPER, and rounds the size down."""
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    got = run(model("MaxPool", [x], kernel_shape=[2], strides=[2], auto_pad="SAME_LOWER"), [x])[0]
    assert got.tolist() == [[[1, 3, 5]]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 400), (2, 3, 21, 20), (2, 3, 8, 7, 9)])
def test_global_pool(rng, dtype, op_type, shape):
    x = numbers(rng, shape, dtype)
    got = run(model(op_type, [x]), [x])[0]
    wide, axes = x.astype(np.float64), tuple(range(2, len(shape)))
    expected = {
        "GlobalAveragePool": lambda: wide.mean(axes, keepdims=True),
        "GlobalMaxPool": lambda: wide.max(axes, keepdims=True),
        "GlobalLpPool": lambda: np.sqrt((wide**2).sum(axes, keepdims=True)),
    }[op_type]()
    count = int(np.prod(shape[2:]))
    bound = sum_tolerance(2 * count, abs(wide).mean(axes, keepdims=True) + expected, dtype)
    assert_within(got, expected.astype(dtype), 0 if op_type == "GlobalMaxPool" else bound)


@pytest.mark.parametrize("opset", [1, 7, 11, 19, 22])
def test_any_opset(rng, opset):
    x = numbers(rng, (1, 3, 40, 40), np.float32)
    (got,) = run(model("AveragePool", [x], opset=opset, kernel_shape=[2, 2], strides=[2, 2]), [x])
    assert_within(got, x.reshape(1, 3, 20, 2, 20, 2).mean(axis=(3, 5)), 1e-6)


def test_what_does_not_fit_is_told(rng):
    x, w = numbers(rng, (1, 3, 30, 30), np.float32), numbers(rng, (4, 2, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"input: expected 2 channels for the weight \(4, 2, 3, 3\)"):
        run(model("Conv", [x, w]), [x, w])


def test_attributes_of_a_function(rng):
    """The same node runs with the attributes that each call of its function hands on."""
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])
    strides = onnx.AttributeProto(name="strides", ref_attr_name="steps", type=onnx.AttributeProto.INTS)
    node.attribute.append(strides)
    function = helper.make_function("own", "Pool", ["x"], ["y"], [node], [helper.make_opsetid("", 22)], ["steps"])
    calls = [helper.make_node("Pool", ["x"], [f"y{s}"], domain="own", steps=[s, s]) for s in (1, 2)]
    value = onnx.helper.make_tensor_value_info
    graph = helper.make_graph(calls, "g", [value("x", 1, None)], [value("y1", 1, None), value("y2", 1, None)])
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function])
    x = numbers(rng, (1, 3, 40, 40), np.float32)
    results = [ReferenceEvaluator(proto, new_ops=ops).run(None, {"x": x}) for ops in (plug_in.new_ops, None)]
    for got, expected in zip(*results, strict=True):
        assert_within(got, expected, 0)


def test_eval_of_a_class(rng):
    x, w = numbers(rng, (1, 3, 30, 30), np.float32), numbers(rng, (4, 3, 3, 3), np.float32)
    got = plug_in.Conv.eval(x, w, pads=[1, 1, 1, 1])
    assert_within(got, reference.conv(x, w, padding=1), 4 * conv_tolerance(x, w, padding=1))
