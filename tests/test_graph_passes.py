"""Every rewriting pass: what it makes of a graph, that the values stay, and what it leaves alone.

Constants and inputs are small whole numbers and variances are powers of four, so that folded weights are exact and
results are compared bit by bit; where an activation is computed in another form, a few roundings apart.
"""

import numpy as np
import pytest
from graphs import checked, compiled, evaluate, evaluated, executable, f32, graph, node, structure, untouched, whole

from fastconv.graph.passes import (
    PASSES,
    canonical_convolutions,
    channels_first,
    drop_dead,
    drop_identities,
    fold_constants,
    fold_linear,
    fold_padding,
)

BATCH_NORM = {"scale": [2.0, -1.0, 4.0], "b": [1.0, 0.0, -2.0], "mean": [1.0, 2.0, -3.0], "var": [4.0, 1.0, 16.0]}


@pytest.fixture
def x(rng):
    return whole(rng, (2, 3, 6, 5))


@pytest.fixture
def w(rng):
    return whole(rng, (3, 3, 3, 3))


class TestConstants:
    def test_what_has_constant_inputs_alone_is_computed(self):
        g = graph(
            {"x": (2,)}, "y", node("Add", "a b", "c"), node("Mul", "x c", "y"), a=f32({"a": 2})["a"], b=np.float32(3)
        )
        folded = fold_constants(g, evaluate)
        assert structure(folded) == ["Mul"]
        assert folded.constants["c"] == 5

    @pytest.mark.parametrize("op_type", ["RandomNormalLike", "Dropout"])
    def test_random_numbers_are_not(self, op_type):
        g = graph({}, "y", node(op_type, "a", "y"), a=np.ones(3, np.float32))
        assert structure(fold_constants(g, evaluate)) == [op_type]

    def test_sequences_are_not(self):
        g = graph({}, "y", node("SequenceEmpty", "-", "s"), node("SequenceLength", "s", "y"))
        assert structure(fold_constants(g, lambda node, inputs: ([],))) == ["SequenceEmpty", "SequenceLength"]


class TestDropping:
    def test_readers_of_identities_read_their_input(self, x):
        g = graph({"x": x.shape}, "y", node("Identity", "x", "a"), node("Identity", "a", "b"), node("Relu", "b", "y"))
        after = checked(g, drop_identities, {"x": x})
        assert structure(after) == ["Relu"]
        assert after.nodes[0].inputs == ["x"]

    def test_identity_of_a_constant(self, x):
        g = graph({"x": x.shape}, "y", node("Identity", "c", "a"), node("Add", "x a", "y"), c=np.float32(2))
        assert checked(g, drop_identities, {"x": x}).nodes[0].inputs == ["x", "c"]

    def test_an_output_of_the_graph_keeps_its_node(self, x):
        g = graph({"x": x.shape}, "y z", node("Relu", "x", "z"), node("Identity", "z", "y"))
        untouched(g, drop_identities, {"x": x})

    def test_a_value_read_in_a_subgraph_keeps_its_node(self, x):
        inner = graph({}, "i", node("Relu", "a", "i"))
        inner.captures = ["a"]
        g = graph(
            {"x": x.shape}, "y", node("Identity", "x", "a"), node("If", "c", "y", then_branch=inner), c=np.array(True)
        )
        assert structure(drop_identities(g)) == ["Identity", "If"]

    @pytest.mark.parametrize(
        ("dropout", "constants"),
        [
            (node("Dropout", "x", "a", opset=7), {}),
            (node("Dropout", "x", "a mask", opset=10), {}),
            (node("Dropout", "x", "a", opset=6, is_test=1), {}),
            (node("Dropout", "x ratio", "a", opset=13), {"ratio": np.float32(0.5)}),
            (node("Dropout", "x - off", "a", opset=13), {"off": np.array(False)}),
        ],
        ids=["7", "unread mask", "is_test", "ratio", "training off"],
    )
    def test_dropout_that_does_not_train(self, dropout, constants, x):
        g = graph({"x": x.shape}, "y", dropout, node("Relu", "a", "y"), **constants)
        assert structure(drop_identities(g)) == ["Relu"]

    @pytest.mark.parametrize(
        ("dropout", "constants"),
        [
            (node("Dropout", "x", "a", opset=6), {}),
            (node("Dropout", "x - on", "a", opset=13), {"on": np.array(True)}),
            (node("Dropout", "x - unknown", "a", opset=13), {}),
            (node("Dropout", "x", "a y2", opset=13), {}),
        ],
        ids=["opset 6", "training", "unknown", "read mask"],
    )
    def test_dropout_that_stays(self, dropout, constants):
        g = graph({"x": (4,)}, "y y2", dropout, node("Relu", "a", "y"), **constants)
        assert structure(drop_identities(g)) == ["Dropout", "Relu"]

    def test_what_no_output_needs_goes(self, x):
        g = graph(
            {"x": x.shape},
            "y",
            node("Relu", "x", "y"),
            node("Tanh", "y", "a"),
            node("Add", "a c", "b"),
            c=np.float32(1),
        )
        after = checked(g, drop_dead, {"x": x})
        assert structure(after) == ["Relu"]
        assert not after.constants

    def test_one_used_output_of_several_keeps_the_node(self, x):
        g = graph({"x": x.shape}, "b", node("Split", "x", "a b c", axis=1))
        untouched(g, drop_dead, {"x": x})


class TestCanonical:
    def test_all_attributes_are_written_out(self, x, w):
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "y", pads=[1, 0, 2, 1]), w=w)
        (conv,) = checked(g, canonical_convolutions, {"x": x}).nodes
        assert conv.inputs == ["x", "w", "", ""]
        assert conv.attributes == {
            "strides": (1, 1), "dilations": (1, 1), "group": 1, "padding": ((1, 2), (0, 1)), "low": -np.inf, "high": np.inf
        }  # fmt: skip

    @pytest.mark.parametrize("word", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    def test_padding_in_words(self, word, x, w):
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "y", auto_pad=word, strides=[2, 1]), w=w)
        assert structure(checked(g, canonical_convolutions, {"x": x})) == [":Conv"]

    @pytest.mark.parametrize("bias", ["", " b"])
    def test_transposed(self, bias, x, rng):
        w, b = whole(rng, (3, 2, 3, 2)), whole(rng, (2,))
        at = {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}
        g = graph({"x": x.shape}, "y", node("ConvTranspose", "x w" + bias, "y", **at), w=w, b=b)
        assert structure(checked(g, canonical_convolutions, {"x": x})) == [":ConvTranspose"]

    def test_others_stay(self, x, w, rng):
        computed = graph({"x": x.shape, "v": w.shape}, "y", node("Conv", "x v", "y"))
        untouched(computed, canonical_convolutions, {"x": x, "v": w})
        bias = graph({"x": x.shape, "b": (3,)}, "y", node("Conv", "x w b", "y"), w=w)
        untouched(bias, canonical_convolutions, {"x": x, "b": whole(rng, (3,))})
        half = graph({"x": x.shape}, "y", node("Conv", "x w", "y"), w=w.astype(np.float16))
        assert structure(canonical_convolutions(half)) == ["Conv"]
        sized = graph({"x": x.shape}, "y", node("ConvTranspose", "x w", "y", output_shape=[8, 7]), w=w)
        untouched(sized, canonical_convolutions, {"x": x})
        same = graph({"x": x.shape}, "y", node("ConvTranspose", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2]), w=w)
        untouched(same, canonical_convolutions, {"x": x})

    def test_a_kernel_shape_that_contradicts_the_weights_is_left_to_fail(self, w):
        g = graph({"x": (1, 3, 6, 5)}, "y", node("Conv", "x w", "y", kernel_shape=[2, 2]), w=w)
        assert structure(canonical_convolutions(g)) == ["Conv"]


class TestPadding:
    @pytest.mark.parametrize(
        ("pad", "constants"),
        [
            (node("Pad", "x pads", "a"), {"pads": np.array([0, 0, 1, 2, 0, 0, 0, 1])}),
            (node("Pad", "x pads zero", "a"), {"pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "zero": np.float32(0)}),
            (node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 2, 0, 0, 0, 1]), {}),
            (node("Pad", "x", "a", opset=1, paddings=[0, 0, 1, 2, 0, 0, 0, 1]), {}),
        ],
        ids=["11", "value", "2", "1"],
    )
    def test_into_the_convolution(self, pad, constants, x, w):
        g = graph({"x": x.shape}, "y", pad, node("Conv", "a w", "y", pads=[0, 1, 0, 1]), w=w, **constants)
        after = checked(g, (canonical_convolutions, fold_padding), {"x": x})
        assert structure(after) == [":Conv"]
        assert after.nodes[0].attributes["padding"] == ((1, 0), (3, 2))

    def test_into_the_average(self, x):
        pool = node("AveragePool", "a", "y", kernel_shape=[3, 2], strides=[2, 1])
        g = graph({"x": x.shape}, "y", node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 2, 0]), pool)
        assert structure(checked(g, fold_padding, {"x": x}, exactly=False)) == ["AveragePool"]

    @pytest.mark.parametrize(
        "nodes",
        [
            [node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), node("Conv", "a w", "y")],
            [node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0), node("Conv", "a w", "y")],
            [node("Pad", "x", "a", opset=2, pads=[0, 0, -1, 1, 0, 0, 1, 1]), node("Conv", "a w", "y")],
            [node("Pad", "x", "a", opset=2, pads=[1, 0, 1, 1, 0, 0, 1, 1]), node("Conv", "a w", "y")],
            [node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 1, 1]), node("Conv", "a w", "y", auto_pad="SAME_UPPER")],
            [node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 1, 1]), node("MaxPool", "a", "y", kernel_shape=[2, 2])],
            [
                node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 1, 1]),
                node("AveragePool", "a", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            ],
            [
                node("Pad", "x", "a", opset=2, pads=[0, 0, 2, 1, 0, 0, 1, 1]),
                node("AveragePool", "a", "y", kernel_shape=[2, 2]),
            ],
            [
                node("Pad", "x", "a", opset=2, pads=[0, 0, 1, 1, 0, 0, 1, 1]),
                node("AveragePool", "a", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            ],
        ],
        ids=[
            "reflect", "value", "cropped", "images", "auto_pad", "maximum", "padded average", "window of zeros", "ceil",
        ],
    )  # fmt: skip
    def test_what_stays(self, nodes, x, w):
        g = canonical_convolutions(graph({"x": x.shape}, "y", *nodes, w=w))
        after = fold_padding(g)
        assert structure(after) == structure(g)
        np.testing.assert_allclose(compiled(after, {"x": x})[0], evaluated(g, {"x": x})[0], rtol=1e-6, atol=1e-6)

    def test_two_readers(self, x, w):
        nodes = [node("Pad", "x pads", "a"), node("Conv", "a w", "y"), node("Relu", "a", "z")]
        g = canonical_convolutions(graph({"x": x.shape}, "y z", *nodes, w=w, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1])))
        untouched(g, fold_padding, {"x": x})


NUMBERS = {"b": [1, 2, 3, 4], "s": [2], "d": [1, 2, 4, -2], "zero": [1, 0, 1, 1], "wide": [[1, 2, 3, 4]], "n": 2}


class TestLinear:
    @pytest.fixture
    def rows(self, rng):
        return whole(rng, (2, 5, 3))

    @pytest.fixture
    def matrix(self, rng):
        return whole(rng, (3, 4))

    def test_bias_and_factor_per_column(self, rows, matrix):
        nodes = [
            node("MatMul", "x w", "a"),
            node("Add", "b a", "p"),
            node("Mul", "p s", "q"),
            node("Sub", "q n", "r"),
            node("Div", "r d", "y"),
        ]
        g = graph({"x": rows.shape}, "y", *nodes, w=matrix, **f32(NUMBERS))
        assert structure(checked(g, fold_linear, {"x": rows})) == [":MatMul"]
        vector = rows[0, 0]
        assert structure(checked(graph({"x": (3,)}, "y", *nodes, w=matrix, **f32(NUMBERS)), fold_linear, {"x": vector}))

    @pytest.mark.parametrize(
        ("last", "outputs"),
        [
            (node("Sub", "b a", "y"), "y"),
            (node("Div", "b a", "y"), "y"),
            (node("Div", "a zero", "y"), "y"),
            (node("Add", "a wide", "y"), "y"),
            (node("Add", "a a", "y"), "y"),
            (node("Add", "a b", "y"), "y a"),
            (node("Add", "a b", "y", opset=6, axis=2), "y"),
        ],
        ids=["difference", "quotient", "by zero", "two axes", "itself", "an output", "opset 6"],
    )
    def test_what_is_not_folded(self, last, outputs, rows, matrix):
        g = graph({"x": rows.shape}, outputs, node("MatMul", "x w", "a"), last, w=matrix, **f32(NUMBERS))
        assert structure(checked(g, fold_linear, {"x": rows})) == [":MatMul", last.op_type]

    def test_one_column_that_becomes_several(self, rows, rng):
        nodes = [node("MatMul", "x w", "a"), node("Add", "a b", "y")]
        g = graph({"x": rows.shape}, "y", *nodes, w=whole(rng, (3, 1)), **f32(NUMBERS))
        assert structure(checked(g, fold_linear, {"x": rows})) == [":MatMul", "Add"]

    def test_computed_or_stacked_matrices_stay(self, rows, rng):
        g = graph({"x": rows.shape, "v": (3, 4)}, "y", node("MatMul", "x v", "y"))
        untouched(g, fold_linear, {"x": rows, "v": whole(rng, (3, 4))})
        untouched(
            graph({"x": rows.shape}, "y", node("MatMul", "x v", "y"), v=whole(rng, (2, 3, 4))), fold_linear, {"x": rows}
        )


def test_all_passes_in_their_order(x, w):
    nodes = [
        node("Identity", "w", "v"),
        node("Pad", "x pads", "p"),
        node("Conv", "p v", "a"),
        node("BatchNormalization", "a scale b mean var", "n", epsilon=0.0),
        node("Dropout", "n", "k mask"),
        node("Add", "k x", "s"),
        node("Relu", "s", "r"),
        node("Sigmoid", "r", "g"),
        node("Mul", "g r", "y"),
    ]
    g = graph({"x": x.shape}, "y", *nodes, w=w, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), **f32(BATCH_NORM))
    after = checked(g, tuple(PASSES.values()), {"x": x}, exactly=False)
    assert structure(after) == [":Conv", "Swish"]
    assert after.nodes[0].attributes["low"] == 0
    assert after.nodes[0].inputs[3] == "x"


class TestChannelsFirst:
    """Chains from a transposition to channels last to the one back."""

    TO_LAST, TO_FIRST = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}

    def matrices(self, rng) -> dict:
        w, v = whole(rng, (3, 5)), whole(rng, (5, 3))
        return {"w": w, "v": v, "b": whole(rng, (5,)), "g": whole(rng, (3,)), "two": np.float32(2)}

    def graph(self, rng, *nodes, outputs="y"):
        return graph({"x": (2, 3, 6, 5)}, outputs, *nodes, **self.matrices(rng))

    def test_products_become_convolutions(self, x, rng):
        g = self.graph(
            rng,
            node("Transpose", "x", "t", **self.TO_LAST),
            node("MatMul", "t w", "m"),
            node("Add", "m b", "a"),
            node("Relu", "a", "r"),
            node("MatMul", "r v", "n"),
            node("Sub", "two n", "s"),
            node("Mul", "g s", "u"),
            node("Transpose", "u", "z", **self.TO_FIRST),
            node("Add", "z x", "y"),
        )
        after = checked(g, (fold_linear, channels_first), {"x": x})
        assert structure(after) == [":Conv", "Relu", ":Conv", "Sub", "Mul", "Add"]
        assert not {"t", "m", "a", "r", "n", "s", "u"} & {name for one in after.nodes for name in one.outputs}

    def test_layer_norms_keep_their_transpositions_which_move_nothing(self, x, rng):
        g = self.graph(
            rng,
            node("Transpose", "x", "t", **self.TO_LAST),
            node("LayerNormalization", "t g", "l"),
            node("MatMul", "l w", "m"),
            node("Transpose", "m", "y", **self.TO_FIRST),
        )
        after = checked(g, (fold_linear, channels_first), {"x": x}, exactly=False)
        assert structure(after) == ["Transpose", "LayerNormalization", "Transpose", ":Conv"]
        calls = executable(after, {"x": x}).calls
        assert [call.algorithm for call in calls] == ["direct", "direct"]

    @pytest.mark.parametrize("rank", [3, 5])
    def test_other_ranks(self, rank, rng):
        last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
        x = whole(rng, (2, 3, 4, 2, 3)[:rank])
        nodes = [
            node("Transpose", "x", "t", perm=last),
            node("MatMul", "t w", "m"),
            node("Transpose", "m", "y", perm=first),
        ]
        g = graph({"x": x.shape}, "y", *nodes, w=whole(rng, (3, 5)))
        assert structure(checked(g, (fold_linear, channels_first), {"x": x})) == [":Conv"]

    def test_what_is_no_such_chain_stays(self, x, rng):
        to_last, back = node("Transpose", "x", "t", **self.TO_LAST), node("Transpose", "m", "y", **self.TO_FIRST)
        product = node("MatMul", "t w", "m")
        apart = [
            [to_last, product, node("Transpose", "m", "y", perm=[0, 2, 1, 3])],
            [to_last, product, back, node("Neg", "m", "z")],
            [to_last, node("Relu", "t", "m"), back],
            [node("Transpose", "x", "t", perm=[0, 3, 2, 1]), node("MatMul", "t w", "m"), back],
            [to_last, node("MatMul", "t w", "p"), node("Softmax", "p", "m", axis=1), back],
            [to_last, node("MatMul", "t w", "p"), node("LayerNormalization", "p f", "m", axis=2), back],
        ]
        for nodes in apart:
            outputs = "y z" if len(nodes) == 4 else "y"
            g = graph({"x": x.shape}, outputs, *nodes, w=whole(rng, (3, 5)), f=np.ones((5, 5), np.float32))
            before = fold_linear(g)
            assert structure(channels_first(before)) == structure(before)
        g = graph({"x": x.shape}, "y m", to_last, product, back, w=whole(rng, (3, 5)))
        assert "Transpose" in structure(channels_first(fold_linear(g)))
