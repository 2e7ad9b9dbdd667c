"""What is folded and fused into convolutions: arithmetic, residuals and clamps; and what is not.

Constants and inputs are small whole numbers and variances are powers of four, so that folded weights are exact and
results are compared bit by bit.
"""

import numpy as np
import pytest
from graphs import checked, compiled, f32, graph, node, structure, untouched, whole

from fastconv.graph.ir import ValueInfo
from fastconv.graph.passes import canonical_convolutions, drop_dead, fold_affine, fuse_clamp, fuse_residual

BATCH_NORM = {"scale": [2.0, -1.0, 4.0], "b": [1.0, 0.0, -2.0], "mean": [1.0, 2.0, -3.0], "var": [4.0, 1.0, 16.0]}


@pytest.fixture
def x(rng):
    return whole(rng, (2, 3, 6, 5))


@pytest.fixture
def w(rng):
    return whole(rng, (3, 3, 3, 3))


def pointwise(w):
    return np.ascontiguousarray(w[:, :, 1:2, 1:2])


FOLDED = (canonical_convolutions, fold_affine, drop_dead)
NORM = node("BatchNormalization", "a scale b mean var", "y", epsilon=0.0)


class TestAffine:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_batch_norm_into_the_convolution(self, bias, dtype, x, w, rng):
        constants = {name: np.asarray(value, dtype) for name, value in BATCH_NORM.items()}
        conv = node("Conv", "x w v" if bias else "x w", "a")
        g = graph({"x": x.shape}, "y", conv, NORM, w=w.astype(dtype), v=whole(rng, (3,), dtype), **constants)
        after = checked(g, FOLDED, {"x": x.astype(dtype)})
        assert structure(after) == [":Conv"]
        assert len(after.constants) == 2

    @pytest.mark.parametrize("group", [1, 3])
    def test_batch_norm_into_the_transposed_convolution(self, group, x, rng):
        w = whole(rng, (3, 3 // group, 2, 2))
        conv = node("ConvTranspose", "x w", "a", strides=[2, 2], group=group)
        g = graph({"x": x.shape}, "y", conv, NORM, w=w, **f32(BATCH_NORM))
        assert structure(checked(g, FOLDED, {"x": x})) == [":ConvTranspose"]

    def test_a_chain_of_arithmetic(self, x, w):
        nodes = [
            node("Conv", "x w", "a"),
            node("Mul", "m a", "b1"),
            node("Add", "b1 t", "b2"),
            node("Sub", "s b2", "b3"),
            node("Div", "b3 d", "y"),
        ]
        numbers = {"m": np.reshape([2, 1, 3], (3, 1, 1)), "t": np.reshape([1, 2, 3], (1, 3, 1, 1)), "s": 5, "d": [4]}
        g = graph({"x": x.shape}, "y", *nodes, w=w, **f32(numbers))
        assert structure(checked(g, FOLDED, {"x": x})) == [":Conv"]

    def test_batch_norm_without_a_convolution_becomes_affine_and_takes_more(self, x):
        nodes = [node("BatchNormalization", "x scale b mean var", "a", epsilon=0.0), node("Mul", "a m", "y")]
        g = graph({"x": x.shape}, "y", *nodes, m=np.float32(2), **f32(BATCH_NORM))
        assert structure(checked(g, FOLDED, {"x": x})) == [":Affine"]

    def test_weights_shared_by_two_convolutions(self, x, w):
        nodes = [node("Conv", "x w", "a"), NORM, node("Conv", "y w", "z")]
        g = graph({"x": x.shape}, "y z", *nodes, w=w, **f32(BATCH_NORM))
        after = checked(g, FOLDED, {"x": x})
        assert structure(after) == [":Conv", ":Conv"]
        assert after.nodes[1].inputs[1] == "w"

    @pytest.mark.parametrize(
        ("nodes", "outputs"),
        [
            ([node("Conv", "x w", "a"), NORM, node("Relu", "a", "z")], "y z"),
            ([node("Conv", "x w", "a"), NORM], "a y"),
            ([node("Conv", "x w", "c"), node("Relu", "c", "a"), node("Mul", "a n", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Mul", "a row", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Add", "a row", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Add", "a higher", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Div", "n a", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Div", "a zero", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Mul", "a infinite", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Add", "a not_a_number", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Mul", "a huge", "b1"), node("Mul", "b1 huge", "y")], "y"),
            ([node("Mul", "x n", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Add", "a v", "y", opset=6, axis=1, broadcast=1)], "y"),
        ],
        ids=[
            "read twice", "an output", "clamp between", "per column", "per column, added", "rank rises", "denominator",
            "by zero", "infinity", "NaN", "overflow", "nothing before", "opset 6",
        ],
    )  # fmt: skip
    def test_what_is_not_folded(self, nodes, outputs, x, w):
        numbers = {
            "n": 2, "row": [1, 2, 3], "higher": np.ones((1, 1, 1, 1, 1)), "zero": 0, "infinite": np.inf,
            "not_a_number": np.nan, "huge": 2.0**100, "v": [1, 2, 3],
        }  # fmt: skip
        g = graph({"x": x.shape}, outputs, *nodes, w=w, **f32(numbers), **f32(BATCH_NORM))
        g = drop_dead(canonical_convolutions(g))
        after = checked(g, fold_affine, {"x": x})
        folded = len(g.nodes) - len(after.nodes)
        assert folded == (nodes[-1].inputs[1:] == ["huge"])  # the first of the two fits

    def test_a_product_that_has_more_channels_than_the_convolution(self, x, rng):
        g = graph(
            {"x": x.shape}, "y", node("Conv", "x w", "a"), node("Mul", "a m", "y"),
            w=whole(rng, (1, 3, 1, 1)), m=np.ones((1, 4, 1, 1), np.float32),
        )  # fmt: skip
        assert structure(checked(g, FOLDED, {"x": x})) == [":Conv", "Mul"]

    @pytest.mark.parametrize("changes", [{"training_mode": 1}, {"spatial": 0}], ids=str)
    def test_other_batch_norms_stay(self, changes, x, w):
        norm = node("BatchNormalization", "a scale b mean var", "y", epsilon=0.0, opset=8, **changes)
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "a"), norm, w=w, **f32(BATCH_NORM))
        assert structure(fold_affine(canonical_convolutions(g)))[-1] == "BatchNormalization"

    def test_computed_statistics_stay(self, x, w):
        constants = f32(BATCH_NORM)
        mean = constants.pop("mean")
        g = graph({"x": x.shape, "mean": (3,)}, "y", node("Conv", "x w", "a"), NORM, w=w, **constants)
        after = checked(g, FOLDED, {"x": x, "mean": mean})
        assert structure(after) == [":Conv", "BatchNormalization"]

    def test_nothing_is_folded_behind_a_residual(self, x, w):
        nodes = [node("Conv", "x w", "a"), node("Add", "a x", "s"), node("Mul", "s n", "y")]
        g = graph({"x": x.shape}, "y", *nodes, w=pointwise(w), n=np.float32(2))
        g = fuse_residual(canonical_convolutions(g))
        assert structure(checked(g, fold_affine, {"x": x})) == [":Conv", "Mul"]


PREPARED = (canonical_convolutions, fuse_residual)


class TestResidual:
    @pytest.mark.parametrize(
        "addition", [node("Add", "a r", "y"), node("Add", "r a", "y"), node("Sum", "a r", "y")], ids=str
    )
    def test_it_is_the_convolutions_last_step(self, addition, x, w, rng):
        g = graph({"x": x.shape, "r": (2, 3, 4, 3)}, "y", node("Conv", "x w", "a"), addition, w=w)
        after = checked(g, PREPARED, {"x": x, "r": whole(rng, (2, 3, 4, 3))})
        assert structure(after) == [":Conv"]
        assert after.nodes[0].inputs[3] == "r"

    def test_the_later_of_two_convolutions_takes_it(self, x, w):
        nodes = [node("Conv", "x w", "a"), node("Conv", "x v", "b"), node("Add", "a b", "y")]
        after = checked(graph({"x": x.shape}, "y", *nodes, w=w, v=-w), PREPARED, {"x": x})
        assert [n.inputs[1:] for n in after.nodes] == [["w", "", ""], ["v", "", "a"]]

    def test_two_in_a_row(self, x, w):
        small = pointwise(w)
        nodes = [
            node("Conv", "x w", "a"),
            node("Add", "a x", "b"),
            node("Conv", "b w", "c"),
            node("Add", "c b", "y"),
        ]
        assert structure(checked(graph({"x": x.shape}, "y", *nodes, w=small), PREPARED, {"x": x})) == [":Conv"] * 2

    @pytest.mark.parametrize(
        "shape", [(1, 3, 4, 3), (2, 1, 4, 3), (2, 3, 1, 1), (1, 1, 1, 1), (4, 2, 3, 4, 3)], ids=str
    )
    def test_residuals_that_broadcast_are_added_behind_it(self, shape, x, w, rng):
        nodes = [node("Conv", "x w", "a"), node("Add", "a r", "s"), node("Relu", "s", "y")]
        g = graph({"x": x.shape, "r": shape}, "y", *nodes, w=w)
        checked(g, (*PREPARED, fuse_clamp), {"x": x, "r": whole(rng, shape)})

    def test_a_residual_that_makes_the_result_larger(self, w, rng):
        x, r = whole(rng, (1, 3, 6, 5)), whole(rng, (4, 3, 4, 3))
        g = graph({"x": x.shape, "r": r.shape}, "y", node("Conv", "x w", "a"), node("Add", "a r", "y"), w=w)
        checked(g, PREPARED, {"x": x, "r": r})

    @pytest.mark.parametrize(
        ("nodes", "outputs"),
        [
            ([node("Conv", "x w", "a"), node("Add", "a r", "y"), node("Relu", "a", "z")], "y z"),
            ([node("Conv", "x w", "a"), node("Add", "a r", "y")], "a y"),
            ([node("Conv", "x w", "a"), node("Add", "a a", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Add", "a c", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Sum", "a r r", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Add", "a v", "y", opset=6, axis=1, broadcast=1)], "y"),
            ([node("Conv", "x w", "a"), node("Sub", "a r", "y")], "y"),
            ([node("Conv", "x w", "c1"), node("Relu", "c1", "a"), node("Add", "a r", "y")], "y"),
        ],
        ids=["read twice", "an output", "itself", "a constant", "three", "opset 6", "Sub", "clamp between"],
    )
    def test_what_is_not_fused(self, nodes, outputs, x, w, rng):
        r = whole(rng, (2, 3, 4, 3))
        constants = {"w": w, "c": whole(rng, (1, 3, 4, 3)), "v": whole(rng, (3,))}
        g = canonical_convolutions(graph({"x": x.shape, "r": r.shape}, outputs, *nodes, **constants))
        untouched(g, fuse_residual, {"x": x, "r": r})

    def test_what_has_an_unknown_rank_is_not_fused(self, x, w, rng):
        g = graph({"x": x.shape, "r": ()}, "y", node("Conv", "x w", "a"), node("Add", "a r", "y"), w=w)
        g.inputs[1] = ValueInfo("r", "tensor(float)", [])
        untouched(canonical_convolutions(g), fuse_residual, {"x": x, "r": whole(rng, (5, 2, 3, 4, 3))})

    def test_a_residual_is_not_a_second_one(self, x, w, rng):
        nodes = [node("Conv", "x w", "a"), node("Add", "a r", "s"), node("Add", "s r", "y")]
        r = whole(rng, (2, 3, 4, 3))
        g = graph({"x": x.shape, "r": r.shape}, "y", *nodes, w=w)
        assert structure(checked(g, PREPARED, {"x": x, "r": r})) == [":Conv", "Add"]


CLAMPED = (canonical_convolutions, fold_affine, fuse_residual, fuse_clamp)


class TestClamp:
    @pytest.mark.parametrize(
        ("clamps", "limits"),
        [
            ([node("Relu", "a", "y")], (0, np.inf)),
            ([node("Clip", "a zero six", "y")], (0, 6)),
            ([node("Clip", "a - six", "y")], (-np.inf, 6)),
            ([node("Clip", "a", "y", opset=6, min=-1.0, max=6.0)], (-1, 6)),
            ([node("Clip", "a zero six", "b"), node("Relu", "b", "y")], (0, 6)),
            ([node("Relu", "a", "b"), node("Clip", "b - six", "y")], (0, 6)),
            ([node("Clip", "a zero six", "b"), node("Clip", "b minus four", "y")], (0, 4)),
        ],
        ids=["Relu", "Clip", "max", "opset 6", "Clip, Relu", "Relu, Clip", "Clip, Clip"],
    )
    def test_into_the_convolution(self, clamps, limits, x, w):
        numbers = {"zero": 0, "six": 6, "minus": -2, "four": 4}
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "a"), *clamps, w=w, **f32(numbers))
        after = checked(g, CLAMPED, {"x": x})
        assert structure(after) == [":Conv"]
        assert (after.nodes[0].attributes["low"], after.nodes[0].attributes["high"]) == limits

    @pytest.mark.parametrize("high", [np.inf, 3.0])
    def test_into_others(self, high, x, rng):
        clip = node("Clip", "a zero high", "y")
        constants = {"zero": np.float32(0), "high": np.float32(high), **f32(BATCH_NORM)}
        norm = node("BatchNormalization", "x scale b mean var", "a", epsilon=0.0)
        assert structure(checked(graph({"x": x.shape}, "y", norm, clip, **constants), CLAMPED, {"x": x})) == [":Affine"]
        for op_type in ("Add", "Sub", "Mul", "Div"):
            g = graph({"x": x.shape, "z": (3, 1, 1)}, "y", node(op_type, "x z", "a"), clip, **constants)
            z = np.float32([2, 4, -1]).reshape(3, 1, 1)
            assert structure(checked(g, CLAMPED, {"x": x, "z": z})) == [f":{op_type}"]
        w = whole(rng, (3, 3, 3, 2))
        g = graph({"x": x.shape}, "y", node("ConvTranspose", "x w", "a", strides=[2, 2]), clip, w=w, **constants)
        assert structure(checked(g, CLAMPED, {"x": x})) == [":ConvTranspose"]

    def test_a_sum_of_integers(self):
        nodes = [node("Add", "x x", "a"), node("Clip", "a low high", "y")]
        g = graph({"x": (5,)}, "y", *nodes, low=np.int32(-3), high=np.int32(5))
        assert structure(checked(g, fuse_clamp, {"x": np.arange(-2, 3, dtype=np.int32) * 2})) == [":Add"]

    def test_nan_stays(self, x, w):
        x[0, 0, 2, 2] = np.nan
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "a"), node("Relu", "a", "y"), w=w)
        checked(g, CLAMPED, {"x": x})
        g = graph({"x": x.shape}, "y", node("Add", "x x", "a"), node("Clip", "a z z", "y"), z=np.float32(1))
        checked(g, CLAMPED, {"x": x})

    @pytest.mark.parametrize(
        ("nodes", "outputs"),
        [
            ([node("Conv", "x w", "a"), node("Relu", "a", "y"), node("Neg", "a", "z")], "y z"),
            ([node("Conv", "x w", "a"), node("Relu", "a", "y")], "a y"),
            ([node("Conv", "x w", "a"), node("Clip", "a six zero", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Clip", "a nan six", "y")], "y"),
            ([node("Conv", "x w", "a"), node("Clip", "a end", "y")], "y"),
            ([node("Add", "x w", "a", opset=6, axis=0), node("Relu", "a", "y")], "y"),
            ([node("Sum", "x x x", "a"), node("Relu", "a", "y")], "y"),
            ([node("Tanh", "x", "a"), node("Relu", "a", "y")], "y"),
        ],
        ids=["read twice", "an output", "low above high", "NaN", "computed limit", "opset 6", "three", "Tanh"],
    )
    def test_what_is_not_fused(self, nodes, outputs, x, w):
        numbers = {"six": 6, "zero": 0, "nan": np.nan}
        g = graph({"x": x.shape, "end": ()}, outputs, *nodes, w=w, **f32(numbers))
        g = canonical_convolutions(g)
        if nodes[0].op_type != "Add":
            untouched(g, fuse_clamp, {"x": x, "end": np.float32(1)})
        assert structure(fuse_clamp(g)) == structure(g)

    def test_clamps_that_exclude_each_other(self, x, w):
        nodes = [node("Conv", "x w", "a"), node("Clip", "a - zero", "b"), node("Clip", "b six", "y")]
        g = graph({"x": x.shape}, "y", *nodes, w=w, **f32({"six": 6, "zero": 0}))
        after = canonical_convolutions(g)
        after = fuse_clamp(after)
        assert structure(after) == [":Conv", "Clip"]
        assert (compiled(after, {"x": x})[0] == 6).all()


class TestScales:
    """Of a batch norm behind a convolution: they go with the node, and weights are multiplied when they are packed."""

    def test_the_weights_stay_as_they_are(self, rng):
        x, w = whole(rng, (1, 4, 6, 6)), whole(rng, (3, 4, 3, 3))
        nodes = [node("Conv", "x w", "a"), NORM, node("Mul", "y two", "z")]
        g = graph({"x": x.shape}, "z", *nodes, w=w, two=np.float32(2), **f32(BATCH_NORM))
        after = checked(g, (canonical_convolutions, fold_affine), {"x": x})
        assert structure(after) == [":Conv"]
        assert after.constants[after.nodes[0].inputs[1]] is w
        np.testing.assert_array_equal(after.nodes[0].attributes["scale"], [2.0, -2.0, 2.0])

    def test_two_convolutions_with_the_same_weights_and_other_scales(self, rng):
        x, w = whole(rng, (1, 4, 6, 6)), whole(rng, (3, 4, 3, 3))
        nodes = [
            node("Conv", "x w", "a"),
            node("Mul", "a two", "b"),
            node("Conv", "x w", "c"),
            node("Mul", "c four", "d"),
        ]
        numbers = {"two": np.full((3, 1, 1), 2, np.float32), "four": np.full((3, 1, 1), 4, np.float32)}
        g = graph({"x": x.shape}, "b d", *nodes, w=w, **numbers)
        assert structure(checked(g, (canonical_convolutions, fold_affine), {"x": x})) == [":Conv", ":Conv"]

    def test_weights_that_would_overflow_are_left_alone(self, rng):
        x, w = whole(rng, (1, 4, 6, 6)), np.full((3, 4, 3, 3), 1e30, np.float32)
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "a"), node("Mul", "a m", "y"), w=w, m=np.float32(1e-30))
        assert structure(fold_affine(canonical_convolutions(g))) == [":Conv"]
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "a"), node("Mul", "a m", "y"), w=w, m=np.float32(1e30))
        assert structure(fold_affine(canonical_convolutions(g))) == [":Conv", "Mul"]
