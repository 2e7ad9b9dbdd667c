"""Every operator that kernels compute, against NumPy; and the cases that stay NumPy's."""

import mmap

import numpy as np
import pytest
from graphs import by_kernels, by_numpy, compiled, evaluated, executable, graph, node, run, whole

from fastconv.errors import ModelError
from fastconv.graph.passes import fold_linear


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 6, 7, 5)).astype(np.float32)


class TestActivations:
    @pytest.mark.parametrize(
        "activation",
        [
            node("Relu", "x", "y"),
            node("LeakyRelu", "x", "y"),
            node("LeakyRelu", "x", "y", alpha=0.3),
            node("Elu", "x", "y", alpha=0.5),
            node("Celu", "x", "y", alpha=2.0),
            node("Sigmoid", "x", "y"),
            node("Tanh", "x", "y"),
            node("HardSwish", "x", "y"),
            node("HardSigmoid", "x", "y"),
            node("HardSigmoid", "x", "y", alpha=1 / 6),
            node("HardSigmoid", "x", "y", alpha=0.3, beta=0.1),
            node("Mish", "x", "y"),
            node("Softplus", "x", "y"),
            node("Softsign", "x", "y"),
            node("Gelu", "x", "y"),
            node("Gelu", "x", "y", approximate="tanh"),
            node("Swish", "x", "y"),
            node("ThresholdedRelu", "x", "y", alpha=0.5),
        ],
        ids=lambda n: f"{n.op_type} {n.attributes or ''}",
    )
    def test_every_one(self, activation, x):
        by_kernels([activation], {"x": x})

    def test_softplus_far_out(self):
        values = np.array([[-800.0, -40, 0, 15, 25, 40, 800]])
        by_kernels([node("Softplus", "x", "y")], {"x": values}, tolerance=1e-6)

    @pytest.mark.parametrize(
        "clip",
        [
            node("Clip", "x low high", "y"),
            node("Clip", "x low", "y"),
            node("Clip", "x - high", "y"),
            node("Clip", "x", "y"),
            node("Clip", "x high low", "y"),
            node("Clip", "x", "y", opset=6, min=-0.25),
        ],
        ids=str,
    )
    def test_clip(self, clip, x):
        by_kernels([clip], {"x": x}, low=-0.5, high=[0.75])

    def test_a_limit_that_is_nan_or_computed_is_numpys(self, x):
        by_numpy([node("Clip", "x low", "y")], {"x": x}, low=np.nan)
        by_numpy([node("ReduceMax", "x", "m", keepdims=0), node("Clip", "x - m", "y")], {"x": x})

    def test_nan_passes(self, x):
        x[0, 1, 2, 3] = np.nan
        by_kernels([node("Clip", "x zero one", "a"), node("Relu", "a", "y")], {"x": x}, zero=0.0, one=1.0)

    def test_a_swish_with_another_slope_is_numpys(self, x):
        by_numpy([node("Swish", "x", "y", alpha=2.0)], {"x": x})

    def test_an_input_that_is_not_contiguous(self, x):
        assert by_kernels([node("Transpose", "x", "t"), node("Tanh", "t", "y")], {"x": x}) == ["direct", "copy"]


class TestArithmetic:
    @pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
    @pytest.mark.parametrize("operand", [(6, 1, 1), (1, 6, 1, 1), (), (1,), (5,), (7, 5), (6, 7, 5), (7, 1)], ids=str)
    def test_constants(self, op_type, operand, x, rng):
        c = rng.standard_normal(operand) + 3
        by_kernels([node(op_type, "x c", "y")], {"x": x}, c=c)
        by_kernels([node("Sigmoid", "x", "a"), node(op_type, "c a", "y")], {"x": x}, c=c)

    @pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
    def test_a_gate_for_every_image_and_channel(self, op_type, x):
        nodes = [
            node("Tanh", "x", "a"),
            node("GlobalAveragePool", "x", "m"),
            node("Sigmoid", "m", "g"),
            node(op_type, "a g", "y"),
        ]
        by_kernels(nodes, {"x": x}, tolerance=1e-5)

    def test_several(self, x):
        nodes = [node("Sum", "x a b", "s"), node("Max", "s x b", "m"), node("Min", "m x", "n"), node("Sum", "n", "y")]
        by_kernels(nodes[:3], {"x": x}, outputs="n", a=1.5, b=np.arange(5.0))

    def test_one_alone_is_numpys(self, x):
        by_numpy([node("Sum", "x", "y")], {"x": x})

    @pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
    def test_opset_6(self, op_type, x):
        binary = node(op_type, "x c", "y", opset=6, axis=1, broadcast=1)
        by_kernels([binary], {"x": x}, c=np.arange(1.0, 7))
        mean = node("ReduceMax", "x", "m", axes=[0, 2, 3], keepdims=0)
        run([mean, node(op_type, "x m", "y", opset=6, axis=1, broadcast=1)], {"x": x})

    def test_operands_with_more_loops_than_the_kernel(self, rng):
        a, b = rng.standard_normal((1, 2, 1, 3, 1, 5)), rng.standard_normal((1, 1, 2, 1, 4, 5))
        run([node("Mul", "x z", "y")], {"x": a, "z": b})

    def test_integers_are_numpys(self):
        g = graph({"x": (4,)}, "y", node("Add", "x x", "y"))
        feeds = {"x": np.arange(4)}
        np.testing.assert_array_equal(compiled(g, feeds)[0], [0, 2, 4, 6])

    def test_negative_reciprocal_and_square(self, x):
        nodes = [node("Pow", "x two", "s"), node("Neg", "s", "n"), node("Reciprocal", "n", "y")]
        by_kernels(nodes, {"x": x}, two=2.0)
        by_numpy([node("Pow", "x c", "y")], {"x": x}, c=3.0)


class TestConvolutions:
    @pytest.mark.parametrize("kind", ["plain", "strided", "depthwise", "1-d", "3-d"])
    def test_slices_and_turned_inputs_are_read_where_they_lie(self, kind, rng):
        shape = {"1-d": (2, 8, 9), "3-d": (2, 8, 4, 5, 6)}.get(kind, (2, 8, 9, 7))
        rank = len(shape) - 2
        x = whole(rng, shape)
        group = 4 if kind == "depthwise" else 1
        w = whole(rng, (8, 4 // group, *(3,) * rank))
        at = {"pads": [1] * 2 * rank, "group": group, "strides": [2 if kind == "strided" else 1] * rank}
        constants = {"w": w, "start": [3], "end": [7], "axis": [1]}
        order = [0, rank + 1, *range(1, rank + 1)]
        turned = [
            node("Transpose", "x", "l", perm=[0, *range(2, rank + 2), 1]),
            node("Transpose", "l", "b", perm=order),
            node("Slice", "b start end axis", "s"),
            node("Conv", "s w", "y", **at),
        ]
        for nodes in ([node("Slice", "x start end axis", "s"), turned[-1]], turned):
            algorithms = by_kernels(nodes, {"x": x}, **constants)
            assert "copy" not in algorithms
            nodes = [node("Abs", "x", "v"), *nodes]
            nodes[1].inputs[0] = "v"
            assert "copy" not in run(nodes, {"x": x}, **constants)
            nodes[1].inputs[0] = "x"

    @pytest.mark.parametrize("bias", ["", " b"])
    @pytest.mark.parametrize(
        "at",
        [
            {"strides": [2, 2]},
            {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
            {"strides": [3, 1], "dilations": [1, 2], "group": 2},
            {"strides": [4, 3], "pads": [0, 1, 1, 0]},
            {"strides": [1, 1], "auto_pad": "VALID"},
        ],
        ids=str,
    )
    def test_transposed(self, at, bias, rng):
        """A stride of 4 by a kernel of 3 leaves outputs that no tap reaches."""
        x, w = whole(rng, (2, 6, 5, 4)), whole(rng, (6, 3, 3, 3))
        b = whole(rng, (3 * at.get("group", 1),))
        algorithms = run([node("ConvTranspose", "x w" + bias, "y", **at)], {"x": x}, w=w, b=b)
        assert ("numpy" in algorithms) == (at["strides"] == [4, 3])

    def test_transposed_with_a_given_size_is_numpys(self, rng):
        x, w = whole(rng, (2, 6, 5, 4)), whole(rng, (6, 3, 3, 3))
        by_numpy([node("ConvTranspose", "x w", "y", strides=[2, 2], output_shape=[10, 8])], {"x": x}, w=w)


class TestPooling:
    @pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
    @pytest.mark.parametrize(
        "at",
        [
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"kernel_shape": [2, 3], "ceil_mode": 1, "strides": [2, 2]},
            {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"},
            {"kernel_shape": [2, 2], "auto_pad": "VALID"},
        ],
        ids=str,
    )
    def test_windows(self, op_type, at, x):
        by_kernels([node(op_type, "x", "y", **at)], {"x": x})
        by_kernels([node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node(op_type, "t", "y", **at)], {"x": x})
        if op_type == "AveragePool":
            by_kernels([node(op_type, "x", "y", count_include_pad=1, **at)], {"x": x})

    def test_places_of_the_largest_are_numpys(self, x):
        by_numpy([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], {"x": x}, outputs="y i")

    @pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
    def test_windows_of_one_value(self, op_type, x):
        x[0, 0, 0, :2] = np.nan, -0.0
        by_kernels(
            [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node(op_type, "t", "y", kernel_shape=[1, 1])], {"x": x}
        )

    @pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool"])
    def test_whole_planes(self, op_type, x):
        by_kernels([node(op_type, "x", "y")], {"x": x})
        by_kernels([node(op_type, "x", "y")], {"x": x.reshape(2, 3, 2, 7, 1, 5)})

    @pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax"])
    @pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3], [1, 2, 3]], ids=str)
    @pytest.mark.parametrize("keepdims", [0, 1])
    def test_trailing_axes(self, op_type, axes, keepdims, x):
        by_kernels([node(op_type, "x", "y", axes=axes, keepdims=keepdims)], {"x": x})
        by_kernels([node(op_type, "x axes", "y", keepdims=keepdims)], {"x": x}, axes=axes)

    @pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax"])
    def test_all_axes(self, op_type, x):
        by_kernels([node(op_type, "x", "y")], {"x": x})
        by_kernels([node(op_type, "x none", "y", keepdims=0)], {"x": x}, none=np.empty(0, np.int64))
        by_numpy([node(op_type, "x", "y", noop_with_empty_axes=1)], {"x": x})

    @pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax"])
    @pytest.mark.parametrize("axes", [[1], [3, 1], [0, -3], [0], [0, 2, 3]], ids=str)
    @pytest.mark.parametrize("keepdims", [0, 1])
    def test_other_axes_are_turned_to_the_end(self, op_type, axes, keepdims, x):
        """With channels last, in memory that has them first, nothing is copied."""
        by_kernels([node(op_type, "x", "y", axes=axes, keepdims=keepdims)], {"x": x})
        there = node("Transpose", "x", "t", perm=[0, 2, 3, 1])
        assert by_kernels([there, node(op_type, "t", "y", axes=[1, 2], keepdims=keepdims)], {"x": x}) == ["direct"]

    @pytest.mark.parametrize("axes", [[-1], [1], [1, 2, 3]], ids=str)
    @pytest.mark.parametrize("keepdims", [0, 1])
    def test_norms_are_roots_of_means_of_squares(self, axes, keepdims, x):
        algorithms = run([node("ReduceL2", "x", "y", axes=axes, keepdims=keepdims)], {"x": x})
        assert [name for name in algorithms if name != "copy"] == ["direct", "direct", "numpy"]
        algorithms = run([node("ReduceL2", "x axes", "y", keepdims=keepdims, opset=18)], {"x": x}, axes=axes)
        assert algorithms.count("numpy") == 1
        run([node("ReduceL2", "x", "y", keepdims=keepdims)], {"x": x})

    def test_an_axis_that_is_not_there(self, x):
        g = graph({"x": x.shape}, "y", node("ReduceMean", "x", "y", axes=[4]))
        with pytest.raises((ModelError, IndexError, ValueError), match="axis 4 is out of bounds"):
            executable(g, {"x": x})


class TestNormalisation:
    @pytest.fixture
    def numbers(self, rng):
        return {name: rng.uniform(0.5, 2, 6) for name in ("s", "b", "m", "v")}

    def test_batch_norm(self, x, numbers):
        by_kernels([node("BatchNormalization", "x s b m v", "y")], {"x": x}, tolerance=1e-5, **numbers)
        by_kernels([node("BatchNormalization", "x s b m v", "y")], {"x": x[:, :, 0, 0]}, tolerance=1e-5, **numbers)

    def test_batch_norm_with_computed_numbers(self, x, numbers):
        nodes = [
            node("Sigmoid", "n", "h"),
            node("Squeeze", "h zero", "g"),
            node("BatchNormalization", "x g b m v", "y"),
        ]
        feeds = {"x": x[:1], "n": numbers["s"][None]}
        by_kernels(nodes, feeds, tolerance=1e-5, zero=[0], **numbers)

    def test_batch_norm_in_training_is_numpys(self, x, numbers):
        norm = node("BatchNormalization", "x s b m v", "y p q", training_mode=1)
        by_numpy([norm], {"x": x}, outputs="y p q", tolerance=1e-4, **numbers)

    def test_layer_norm(self, x, rng):
        for axis, shape in ((-1, (5,)), (2, (7, 5)), (1, (6, 7, 5))):
            constants = {"s": rng.standard_normal(shape), "b": rng.standard_normal(shape)}
            by_kernels([node("LayerNormalization", "x s b", "y", axis=axis)], {"x": x}, tolerance=2e-5, **constants)
            by_kernels([node("LayerNormalization", "x s", "y", axis=axis)], {"x": x}, tolerance=2e-5, **constants)
        by_numpy([node("LayerNormalization", "x s", "y m", axis=1)], {"x": x}, outputs="y m", **constants)

    def test_layer_norm_of_channels_first(self, x, rng):
        """Nothing is moved where the channels lie apart, and the next operator reads them there."""
        constants = {"s": rng.standard_normal(6), "b": rng.standard_normal(6)}
        there, back = node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Transpose", "l", "y", perm=[0, 3, 1, 2])
        for inputs in ("t s b", "t s"):
            nodes = [there, node("LayerNormalization", inputs, "l", axis=-1), back]
            assert by_kernels(nodes, {"x": x}, tolerance=2e-5, **constants) == ["direct"]
        nodes = [node("Transpose", "x", "t", perm=[0, 2, 1, 3]), node("LayerNormalization", "t w", "y")]
        assert "copy" in by_kernels(nodes, {"x": x}, tolerance=2e-5, w=np.ones(5))

    def test_arithmetic_of_turned_operands(self, x):
        """Computed in the order in which an operand lies; what lies in another is copied."""
        turn, other = node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Transpose", "x", "u", perm=[0, 2, 3, 1])
        back = node("Transpose", "s", "y", perm=[0, 3, 1, 2])
        channel, scalar = np.arange(6.0), np.array(3.0)
        for sum_of, constants in (
            ("t u", {}),
            ("t c", {"c": channel}),
            ("c t", {"c": channel}),
            ("t c", {"c": scalar}),
        ):
            nodes = [turn, *([other] if "u" in sum_of else []), node("Sub", sum_of, "s"), back]
            assert by_kernels(nodes, {"x": x}, **constants) == ["direct"]
        square = np.ascontiguousarray(x[:, :5, :5])
        nodes = [node("Transpose", "x", "t", perm=[0, 3, 2, 1]), node("Add", "x t", "y")]
        assert by_kernels(nodes, {"x": square}) == ["copy", "direct"]
        nodes = [
            node("Abs", "x", "a"),
            node("Expand", "m wide", "e"),
            node("Transpose", "a", "t"),
            node("Mul", "t e", "y"),
        ]
        nodes.insert(0, node("ReduceMax", "x", "m", axes=[0, 1, 2, 3]))
        by_numpy(nodes, {"x": x[:1]}, wide=np.array([5, 7, 6, 1]))

    def test_instance_and_group_norm(self, x, numbers):
        by_kernels([node("InstanceNormalization", "x s b", "y")], {"x": x}, tolerance=2e-5, **numbers)
        group = node("GroupNormalization", "x s b", "y", num_groups=3, opset=21)
        by_kernels([group], {"x": x}, tolerance=2e-5, **numbers)
        halves = {name: array[:3] for name, array in numbers.items()}
        group = node("GroupNormalization", "x s b", "y", num_groups=3, opset=18)
        by_kernels([group], {"x": x}, tolerance=2e-5, **halves)

    @pytest.mark.parametrize("slope", [(), (1,), (6, 1, 1), (1, 6, 1, 1)], ids=str)
    def test_prelu(self, slope, x, rng):
        by_kernels([node("PRelu", "x s", "y")], {"x": x}, s=rng.standard_normal(slope))

    def test_prelu_of_opset_6_and_of_every_position(self, x, rng):
        by_kernels([node("PRelu", "x s", "y", opset=6)], {"x": x}, s=rng.standard_normal(6))
        by_numpy([node("PRelu", "x s", "y")], {"x": x}, s=rng.standard_normal((7, 5)))

    def test_local_response(self, x):
        by_kernels([node("LRN", "x", "y", size=3, alpha=0.1, bias=2.0)], {"x": x}, tolerance=1e-5)
        by_numpy([node("LRN", "x", "y", size=4)], {"x": x})

    @pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
    @pytest.mark.parametrize("opset", [11, 13])
    @pytest.mark.parametrize("axis", [None, 1, 3])
    def test_softmax(self, op_type, opset, axis, x):
        at = {} if axis is None else {"axis": axis}
        by_kernels([node(op_type, "x", "y", opset=opset, **at)], {"x": x}, tolerance=1e-5)


class TestProducts:
    @pytest.mark.parametrize("at", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}], ids=str)
    @pytest.mark.parametrize("images", [1, 3, 20])
    def test_gemm_with_constant_weights(self, at, images, rng):
        x, w = whole(rng, (images, 30)), whole(rng, (7, 30) if at.get("transB") else (30, 7))
        for inputs in ("x w", "x w b"):
            by_kernels([node("Gemm", inputs, "y", **at)], {"x": x}, w=w, b=whole(rng, (7,)))

    @pytest.mark.parametrize("at", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.5}], ids=str)
    def test_gemm_with_computed_weights(self, at, rng):
        x = whole(rng, (6, 6))
        g = graph({"x": x.shape}, "y", node("Neg", "x", "w"), node("Gemm", "x w b", "y", **at), b=np.float32([2]))
        np.testing.assert_array_equal(compiled(g, {"x": x})[0], evaluated(g, {"x": x})[0])

    def test_matmul(self, rng):
        x, z = whole(rng, (2, 4, 5, 6)), whole(rng, (2, 4, 6, 3))
        by_kernels([node("MatMul", "x w", "y")], {"x": x}, w=whole(rng, (6, 3)))
        assert by_kernels([node("MatMul", "x z", "y")], {"x": x, "z": z}) == ["copy", "pack", "direct"]
        by_numpy([node("MatMul", "x z", "y")], {"x": x[:1], "z": z})
        turned = [node("Transpose", "z", "t", perm=[0, 1, 3, 2]), node("MatMul", "t w", "y")]
        assert "copy" in by_kernels(turned, {"z": z}, w=whole(rng, (6, 4)))

    @pytest.mark.parametrize("bias", [(), (1,), (3,), (2, 1), (1, 3), (2, 3)], ids=str)
    @pytest.mark.parametrize("outputs", [3, 1])
    def test_every_bias_that_broadcasts(self, bias, outputs, rng):
        bias = tuple(outputs if size == 3 else size for size in bias)
        x = whole(rng, (2, 4))
        g = graph({"x": x.shape}, "y", node("Gemm", "x w b", "y"), w=whole(rng, (4, outputs)), b=whole(rng, bias))
        np.testing.assert_array_equal(compiled(g, {"x": x})[0], evaluated(g, {"x": x})[0])

    @pytest.mark.parametrize(
        ("op_type", "x", "w", "at"),
        [
            ("Gemm", (2, 5), (4, 3), {}),
            ("Gemm", (2, 5), (5, 3), {"transA": 1}),
            ("Gemm", (2, 5), (5, 3), {"transB": 1}),
            ("Gemm", (2, 2, 5), (5, 3), {}),
            ("MatMul", (2, 5), (4, 3), {}),
            ("MatMul", (2, 3, 5), (3, 5, 3), {}),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("constant", [True, False], ids=["by a constant", "of two inputs"])
    def test_matrices_that_do_not_fit_are_found_before_a_run(self, op_type, x, w, at, constant, rng):
        feeds, fixed = {"x": whole(rng, x)}, {"w": whole(rng, w)}
        if not constant:
            feeds, fixed = feeds | fixed, {}
        g = graph({name: array.shape for name, array in feeds.items()}, "y", node(op_type, "x w", "y", **at), **fixed)
        for after in (g, fold_linear(g)):
            with pytest.raises(ModelError, match=rf"{op_type} 'y' fails: .*shape"):
                executable(after, feeds)

    def test_a_bias_that_does_not_broadcast_is_found_before_a_run(self, rng):
        g = graph({"x": (2, 4)}, "y", node("Gemm", "x w b", "y"), w=whole(rng, (4, 3)), b=whole(rng, (3, 3)))
        with pytest.raises(ModelError, match=r"Gemm 'y' fails: .*shape"):
            executable(g, {"x": whole(rng, (2, 4))})


def test_small_weights_and_those_of_a_mapped_file_are_packed(tmp_path):
    w = np.random.default_rng(0).standard_normal((1024, 257)).astype(np.float32)
    path = tmp_path / "weights"
    path.write_bytes(w.tobytes())
    with path.open("rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float32).reshape(w.shape)
    x = np.ones((1, 257), np.float32)
    for weights, algorithm in ((w, "few_images"), (mapped, "panels"), (w[:128].copy(), "panels")):
        g = graph({"x": (1, 257)}, "y", node("Gemm", "x w", "y", transB=1))
        g.constants["w"] = weights
        assert [call.algorithm for call in executable(g, {"x": x}).calls] == [algorithm]
        exact = x.astype(np.float64) @ weights.T
        assert (abs(compiled(g, {"x": x})[0] - exact) <= 257 * 2.0**-24 * abs(weights).sum(axis=1)).all()
