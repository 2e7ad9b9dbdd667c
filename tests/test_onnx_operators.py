"""Operators and the evaluator, on results worked out by hand; the wide coverage is in test_onnx_backend."""

import numpy as np
import onnx_bytes as write
import pytest

from fastconv.errors import ArgumentError, ArgumentTypeError, ModelError
from fastconv.onnx.evaluate import Evaluator


def run(op_type, *inputs, opset=21, outputs=1, domain="", **attributes):
    """The outputs of one node; None among the inputs is an omitted one."""
    names = ["-" if value is None else f"i{k}" for k, value in enumerate(inputs)]
    results = [f"o{k}" for k in range(outputs)]
    node = write.node(op_type, " ".join(names), " ".join(results), domain=domain, **attributes)
    graph = write.graph([node], [name for name in names if name != "-"], results)
    feeds = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True) if value is not None}
    values = Evaluator(write.model(graph, opset, [domain] * bool(domain))).run(feeds)
    return values[0] if outputs == 1 else values


def f32(*values):
    return np.array(values, np.float32)


def evaluator(nodes, inputs, outputs, initializers=(), opset=21, **values):
    return Evaluator(write.model(write.graph(nodes, inputs, outputs, initializers), opset, **values))


class TestWindows:
    X = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)

    @pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
    def test_same_puts_the_odd_zero_last_or_first(self, auto_pad):
        x = f32(1, 2, 3, 4).reshape(1, 1, 4)
        y = run("Conv", x, np.ones((1, 1, 2), np.float32), auto_pad=auto_pad)
        assert y.tolist() == [[[3, 5, 7, 4] if auto_pad == "SAME_UPPER" else [1, 3, 5, 7]]]

    def test_same_with_stride_and_dilation(self):
        # 5 values, stride 2, taps 0 and 2: 3 outputs, one zero on either side
        y = run("Conv", self.X[:, :, 0], f32(1, 10).reshape(1, 1, 2), auto_pad="SAME_UPPER", strides=[2], dilations=[2])
        assert y.tolist() == [[[10 * 1, 1 + 10 * 3, 3]]]

    def test_groups_and_lopsided_pads(self):
        x = np.stack([self.X[0, 0], 10 * self.X[0, 0]])[None]
        y = run("Conv", x, np.ones((2, 1, 1, 1), np.float32), f32(1, 2), group=2, pads=[1, 0, 0, 2])
        assert y.shape == (1, 2, 6, 7)
        assert y[0, :, 0].tolist() == [[1] * 7, [2] * 7]
        assert y[0, 1, 1].tolist() == [2, 12, 22, 32, 42, 2, 2]

    def test_transposed_with_a_size(self):
        x, w = f32(1, 2).reshape(1, 1, 2), f32(1, 1, 1).reshape(1, 1, 3)
        assert run("ConvTranspose", x, w, strides=[2]).tolist() == [[[1, 1, 3, 2, 2]]]
        assert run("ConvTranspose", x, w, strides=[2], output_shape=[4]).tolist() == [[[1, 3, 2, 2]]]
        assert run("ConvTranspose", x, w, strides=[2], output_shape=[6]).tolist() == [[[1, 1, 3, 2, 2, 0]]]
        same = run("ConvTranspose", x, w, strides=[2], auto_pad="SAME_UPPER")
        assert same.tolist() == [[[1, 1, 3, 2]]]

    def test_indices_of_maxima_by_rows_and_by_columns(self):
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        x = np.concatenate((self.X, self.X))
        assert run("MaxPool", x, outputs=2, **window)[1].tolist() == [[[[6, 8], [16, 18]]], [[[31, 33], [41, 43]]]]
        by_columns = run("MaxPool", x, outputs=2, storage_order=1, **window)[1]
        assert by_columns.tolist() == [[[[6, 16], [8, 18]]], [[[31, 41], [33, 43]]]]

    def test_nan_wins_every_maximum(self):
        assert np.isnan(run("MaxPool", f32(1, np.nan, 3).reshape(1, 1, 3), kernel_shape=[3]))
        assert np.isnan(run("Relu", f32(np.nan)))
        assert np.isnan(run("Clip", f32(np.nan), f32(0).reshape(()), f32(1).reshape(())))

    @pytest.mark.parametrize(("count_include_pad", "first"), [(0, 0.5), (1, 1 / 3)])
    def test_mean_with_padding(self, count_include_pad, first):
        x = self.X[:, :, 0]
        y = run("AveragePool", x, kernel_shape=[3], pads=[1, 1], count_include_pad=count_include_pad)
        assert y[0, 0, 0] == np.float32(first)

    def test_response_over_channels_reaches_further_ahead(self):
        # size 2: channel c sees c and c + 1
        x = f32(1, 2, 4).reshape(1, 3, 1)
        y = run("LRN", x, size=2, alpha=2.0, beta=1.0, bias=0.0)
        np.testing.assert_allclose(y.reshape(-1), [1 / 5, 2 / 20, 4 / 16])

    def test_integers_with_zero_points(self):
        x, w = np.uint8([1, 2, 3]).reshape(1, 1, 3), np.int8([[2, -1], [0, 5]]).reshape(2, 1, 2)
        y = run("ConvInteger", x, w, np.uint8(1), np.int8([1, 0]), pads=[1, 0])
        assert y.dtype == np.int32
        assert y.tolist() == [[[0, -2, -3], [0, 5, 10]]]

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"kernel_shape": [3, 3]}, r"kernel_shape: \(3, 3\) differs from the kernel of the weights \(1, 1, 2, 2\)"),
            ({"pads": [1, 1]}, "pads: expected 4 values for 2 axes, got 2"),
            ({"group": 2}, r"weights \(1, 1, 2, 2\) with 2 groups do not fit an input of 1 channels"),
            ({"dilations": [5, 1]}, "does not fit"),
        ],
    )
    def test_faults_name_the_node(self, attributes, message):
        with pytest.raises(ModelError, match=rf"graph.node\[0\]: Conv 'o0' fails on inputs float32.*{message}"):
            run("Conv", self.X, np.ones((1, 1, 2, 2), np.float32), **attributes)


class TestVersions:
    """One function serves every version of an operator."""

    X = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)

    def test_arithmetic_along_an_axis_before_7(self):
        y = run("Add", self.X, f32(10, 20, 30), opset=6, broadcast=1, axis=1)
        np.testing.assert_array_equal(y, self.X + f32(10, 20, 30).reshape(3, 1, 1))

    def test_slopes_per_channel_before_7(self):
        y = run("PRelu", -self.X, f32(1, 2, 3), opset=6)
        np.testing.assert_array_equal(y, -self.X * f32(1, 2, 3).reshape(3, 1, 1))

    def test_softmax_of_all_trailing_axes_before_13(self):
        np.testing.assert_allclose(run("Softmax", 0 * self.X, opset=12), 1 / 12)
        np.testing.assert_allclose(run("Softmax", 0 * self.X, opset=13), 1 / 2)

    @pytest.mark.parametrize(
        ("op_type", "opset", "attributes", "inputs"),
        [
            ("Clip", 6, {"min": 2.0, "max": 5.0}, [np.float32(2), np.float32(5)]),
            ("Pad", 2, {"pads": [0, 0, 1, 0, 0, 0, 0, 1], "value": 7.0}, [[0, 0, 1, 0, 0, 0, 0, 1], np.float32(7)]),
            ("Slice", 1, {"starts": [1], "ends": [3], "axes": [1]}, [[1], [3], [1]]),
            ("Squeeze", 1, {"axes": [0]}, [[0]]),
            ("Unsqueeze", 1, {"axes": [0, 2]}, [[0, 2]]),
            ("ReduceSum", 1, {"axes": [1, 3], "keepdims": 0}, [[1, 3]]),
            ("Reshape", 1, {"shape": [0, -1]}, [[0, -1]]),
            ("TopK", 1, {"k": 1}, [[1]]),
        ],
    )
    def test_attributes_that_became_inputs(self, op_type, opset, attributes, inputs):
        inputs = [np.asarray(value) for value in inputs]
        kept = {key: value for key, value in attributes.items() if key == "keepdims"}
        outputs = 2 if op_type == "TopK" else 1
        old = run(op_type, self.X, opset=opset, outputs=outputs, **attributes)
        new = run(op_type, self.X, *inputs, outputs=outputs, **kept)
        np.testing.assert_array_equal(old, new)

    def test_split_with_and_without_sizes(self):
        parts = run("Split", self.X, outputs=2, opset=2, axis=1, split=[1, 2])
        assert [part.shape[1] for part in parts] == [1, 2]
        parts = run("Split", self.X, outputs=2, opset=18, axis=1, num_outputs=2)
        assert [part.shape[1] for part in parts] == [2, 1]
        with pytest.raises(ModelError, match=r"split \[1, 1\] does not add up to the 3 of axis 1"):
            run("Split", self.X, outputs=2, opset=2, axis=1, split=[1, 1])

    def test_batch_norm_with_a_mean_for_every_position(self):
        ones = np.ones((3, 2, 2), np.float32)
        y = run(
            "BatchNormalization", self.X, ones, 0 * ones, self.X[0], ones, opset=6, spatial=0, is_test=1, epsilon=0.0
        )
        assert not y.any()

    def test_group_norm_scales_by_group_before_21(self):
        x = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
        old = run("GroupNormalization", x, f32(1, 2), f32(0, 1), opset=18, num_groups=2)
        new = run("GroupNormalization", x, f32(1, 1, 2, 2), f32(0, 0, 1, 1), opset=21, num_groups=2)
        np.testing.assert_array_equal(old, new)

    def test_resize_by_the_oldest_rules(self):
        x = f32(1, 2, 3, 4).reshape(1, 1, 1, 4)
        assert run("Resize", x, f32(1, 1, 1, 0.5), opset=10).reshape(-1).tolist() == [1, 3]
        assert run("Upsample", x, f32(1, 1, 1, 2), opset=9).reshape(-1).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
        y = run("Upsample", x, opset=1, height_scale=1.0, width_scale=2.0)
        assert y.reshape(-1).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
        y = run("Upsample", x, opset=7, scales=[1.0, 1.0, 2.0, 1.0], mode="linear")
        assert y.tolist() == [[[[1, 2, 3, 4]] * 2]]

    @pytest.mark.parametrize(
        ("op_type", "a", "b", "attributes", "expected"),
        [
            ("Div", [7, -7, 7, -7], [2, 2, -2, -2], {}, [3, -3, -3, 3]),
            ("Mod", [7, -7, 7, -7], [4, 4, -4, -4], {}, [3, 1, -1, -3]),
            ("Mod", [7, -7, 7, -7], [4, 4, -4, -4], {"fmod": 1}, [3, -3, 3, -3]),
        ],
    )
    def test_signs_of_integer_division(self, op_type, a, b, attributes, expected):
        y = run(op_type, np.int32(a), np.int32(b), **attributes)
        assert y.dtype == np.int32
        assert y.tolist() == expected

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_type_of_a_scalar_stays(self, dtype):
        smooth = "Celu Elu Gelu HardSigmoid HardSwish Mish Selu Sigmoid Softplus Softsign Swish Tanh Erf Exp Reciprocal"
        for op_type in (*smooth.split(), "LeakyRelu", "Relu", "Shrink", "ThresholdedRelu"):
            y = run(op_type, dtype(0.5))
            assert (y.dtype, y.shape) == (np.dtype(dtype), ())


class TestControl:
    def test_if_takes_values_from_outside(self):
        branches = {
            "then_branch": ("g", write.graph([write.node("Add", "x t", "r")], [], ["r"])),
            "else_branch": ("g", write.graph([write.node("Mul", "x t", "r")], [], ["r"])),
        }
        nodes = [write.node("Add", "x x", "t"), write.node("If", "c", "y", **branches)]
        model = evaluator(nodes, ["c", "x"], ["y"])
        assert model.run({"c": np.array(True), "x": f32(3)})[0] == 9
        assert model.run({"c": np.array([False]), "x": f32(3)})[0] == 18

    def test_loop_carries_and_collects(self):
        body = [
            write.node("Add", "sum i", "sum_out"),
            write.node("Less", "sum_out limit", "go"),
            write.node("Identity", "sum_out", "seen"),
        ]
        graph = ("g", write.graph(body, ["i", "go_in", "sum"], ["go", "sum_out", "seen"]))
        model = evaluator(
            [write.node("Loop", "n c zero", "total all", body=graph)], ["n", "c", "zero", "limit"], ["total", "all"]
        )
        feeds = {"n": np.int64(10), "c": np.array(True), "zero": np.int64(0), "limit": np.int64(5)}
        total, seen = model.run(feeds)
        assert (total, seen.tolist()) == (6, [0, 1, 3, 6])
        total, seen = model.run({**feeds, "n": np.int64(2)})
        assert (total, seen.tolist()) == (1, [0, 1])

    def test_scan_forwards_and_back(self):
        body = (
            "g",
            write.graph([write.node("Add", "s x", "t"), write.node("Identity", "t", "y")], ["s", "x"], ["t", "y"]),
        )
        for back, expected in ((0, [1, 3, 6]), (1, [6, 5, 3])):
            last, steps = run("Scan", f32(0), f32(1, 2, 3).reshape(3, 1), outputs=2, body=body, num_scan_inputs=1,
                              scan_input_directions=[back], scan_output_directions=[back])  # fmt: skip
            assert last == 6
            assert steps.reshape(-1).tolist() == expected


class TestEvaluator:
    def test_everything_missing_is_named_at_load(self):
        branch = ("g", write.graph([write.node("Third", "x", "t", domain="odd")], [], ["t"]))
        nodes = [
            write.node("First", "x", "a", name="one"),
            write.node("If", "c", "b", then_branch=branch, else_branch=branch),
            write.node("Conv", "x", "d"),
            write.node("Relu", "x", "e", slope=1.0),
        ]
        with pytest.raises(ModelError) as caught:
            evaluator(nodes, ["x", "c"], ["a"], opset=17)
        for part in (
            "there is no operator First 'one' (opset 17, at graph.node[0])",
            "there is no operator odd::Third 't' (opset 1, at graph.node[1].attribute[0].g.node[0])",
            "graph.node[1].attribute[1].g.node[0]",
            "Conv 'd' at graph.node[2]: missing a required argument: 'w'",
            "Relu 'e' at graph.node[3]: got an unexpected keyword argument 'slope'",
        ):
            assert part in str(caught.value)

    def test_an_attribute_cannot_pose_as_what_the_evaluator_gives(self):
        with pytest.raises(ModelError, match="unexpected attribute 'opset'"):
            evaluator([write.node("Softmax", "x", "y", opset=1)], ["x"], ["y"])

    INPUTS = (write.value("x", ["n", 3]), write.value("k", [], 7))

    @pytest.mark.parametrize(
        ("feeds", "error", "message"),
        [
            (
                {"x": f32([1, 2, 3])},
                ArgumentError,
                r"'k' missing; expected 'x' tensor\(float\)\(n, 3\), 'k' tensor\(int64\)",
            ),
            ({"z": f32(1)}, ArgumentError, "the model has no input 'z'; expected 'x'"),
            ({"x": f32(1, 2, 3), "k": np.int64(1)}, ArgumentError, r"input 'x': expected shape \(n, 3\), got \(3,\)"),
            ({"x": f32([1, 2]), "k": np.int64(1)}, ArgumentError, r"input 'x': expected shape \(n, 3\), got \(1, 2\)"),
            ({"x": np.ones((1, 3)), "k": np.int64(1)}, ArgumentTypeError, r"tensor\(float\).* got one of float64"),
        ],
    )
    def test_wrong_feeds(self, feeds, error, message):
        with pytest.raises(error, match=message):
            evaluator([write.node("Mul", "x x", "y")], self.INPUTS, ["y"]).run(feeds)

    def test_minus_one_is_a_size_that_varies(self):
        model = evaluator([write.node("Neg", "x", "y")], [write.value("x", [-1, 2])], ["y"])
        assert model.run({"x": f32([1, 2], [3, 4])})[0].shape == (2, 2)

    def test_an_initializer_is_a_default(self):
        model = evaluator([write.node("Add", "x w", "y")], ["x", "w"], ["y"], [write.tensor(f32(1), "w")])
        assert model.run({"x": f32(1)})[0] == 2
        assert model.run({"x": f32(1), "w": f32(5)})[0] == 6
        assert model.run({"x": f32(1)})[0] == 2

    def test_outputs_are_fresh(self):
        x = f32(1, 2)
        model = evaluator([write.node("Identity", "x", "y")], ["x"], ["x", "y", "w"], [write.tensor(f32(1), "w")])
        for value in model.run({"x": x}):
            assert value.flags.writeable
            value[:] = 0
        assert x.tolist() == [1, 2]
        assert model.run({"x": x})[2] == 1

    def test_visitor_sees_every_value_once(self):
        seen = {}
        nodes = [write.node("Neg", "x", "a"), write.node("Abs", "a", "unused"), write.node("Add", "a x", "y")]
        evaluator(nodes, ["x"], ["y"]).run({"x": f32(2)}, visit=seen.__setitem__)
        assert {name: value.item() for name, value in seen.items()} == {"a": -2, "unused": 2, "y": 0}

    def test_a_node_that_fails_names_itself_and_its_inputs(self):
        with pytest.raises(
            ModelError, match=r"graph.node\[0\]: MatMul 'here' fails on inputs float32\(2,\), float32\(3,\)"
        ):
            evaluator([write.node("MatMul", "x z", "y", name="here")], ["x", "z"], ["y"]).run(
                {"x": f32(1, 2), "z": f32(1, 2, 3)}
            )

    def test_no_warning_from_infinities(self):
        assert np.isnan(run("Sub", f32(np.inf), f32(np.inf)))
        assert run("Div", f32(1), f32(0)) == np.inf
        assert run("Cast", f32(1e30), to=10) == np.inf
