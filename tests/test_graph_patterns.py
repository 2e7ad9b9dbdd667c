"""Activations and layer norm that are spelled out in simpler operators, and what only looks like them."""

from math import sqrt

import numpy as np
import pytest
from graphs import checked, f32, graph, node, structure, whole

from fastconv.graph.passes import (
    canonical_convolutions,
    fuse_activations,
    fuse_clamp,
    fuse_epilogues,
    fuse_layer_norm,
    fuse_residual,
)


@pytest.fixture
def x(rng):
    return whole(rng, (2, 3, 6, 5))


@pytest.fixture
def w(rng):
    return whole(rng, (3, 3, 3, 3))


def spelled_out(name: str) -> list:
    return {
        "Swish": [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")],
        "Swish, reversed": [node("Sigmoid", "x", "s"), node("Mul", "s x", "y")],
        "HardSwish": [node("HardSigmoid", "x", "s", alpha=1 / 6, beta=0.5), node("Mul", "x s", "y")],
        "HardSwish by Clip": [
            node("Add", "x three", "a"),
            node("Clip", "a zero six", "c"),
            node("Mul", "x c", "m"),
            node("Div", "m six", "y"),
        ],
        "HardSwish by a divided Clip": [
            node("Add", "three x", "a"),
            node("Clip", "a", "c", opset=6, min=0.0, max=6.0),
            node("Div", "c six", "d"),
            node("Mul", "d x", "y"),
        ],
        "Mish": [node("Softplus", "x", "p"), node("Tanh", "p", "t"), node("Mul", "x t", "y")],
        "Gelu": [
            node("Div", "x root", "d"),
            node("Erf", "d", "e"),
            node("Add", "e one", "a"),
            node("Mul", "x a", "m"),
            node("Mul", "m half", "y"),
        ],
        "Gelu, half first": [
            node("Mul", "x inverse", "d"),
            node("Erf", "d", "e"),
            node("Add", "one e", "a"),
            node("Mul", "half x", "m"),
            node("Mul", "m a", "y"),
        ],
    }[name]


NUMBERS = {"one": 1, "half": 0.5, "root": sqrt(2), "inverse": [sqrt(0.5)], "three": 3, "zero": 0, "six": 6}


class TestActivations:
    @pytest.mark.parametrize(
        "name",
        [
            "Swish", "Swish, reversed", "HardSwish", "HardSwish by Clip", "HardSwish by a divided Clip", "Mish", "Gelu",
            "Gelu, half first",
        ],
    )  # fmt: skip
    def test_what_is_spelled_out(self, name, rng):
        x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
        g = graph({"x": x.shape}, "y", *spelled_out(name), **f32(NUMBERS))
        assert structure(checked(g, fuse_activations, {"x": x}, exactly=False)) == [name.split()[0].strip(",")]

    def test_behind_a_convolution_with_a_gate_that_is_read_elsewhere(self, x, w):
        nodes = [node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Mul", "c s", "y"), node("Relu", "s", "z")]
        g = graph({"x": x.shape}, "y z", *nodes, w=w)
        assert structure(checked(g, fuse_activations, {"x": x}, exactly=False)) == ["Conv", "Sigmoid", "Swish", "Relu"]

    @pytest.mark.parametrize(
        "nodes",
        [
            [node("Sigmoid", "z", "s"), node("Mul", "x s", "y")],
            [node("Sigmoid", "x", "s"), node("Div", "x s", "y")],
            [node("Sigmoid", "x", "s"), node("Mul", "x s", "m"), node("Mul", "m half", "y")],
            [node("HardSigmoid", "x", "s", alpha=0.2), node("Mul", "x s", "y")],
            [node("HardSigmoid", "x", "s", alpha=1 / 6, beta=0.4), node("Mul", "x s", "y")],
            [node("Add", "x three", "a"), node("Clip", "a zero six", "c"), node("Mul", "x c", "y")],
            [node("Sigmoid", "x", "s"), node("Mul", "x s", "y", opset=6, axis=0)],
        ],
        ids=["another x", "quotient", "a factor more", "slope", "offset", "no sixth", "opset 6"],
    )
    def test_what_is_something_else(self, nodes, rng):
        x, z = (rng.standard_normal((2, 3, 8, 8)).astype(np.float32) for _ in range(2))
        g = graph({"x": x.shape, "z": z.shape}, "y", *nodes, **f32(NUMBERS))
        after = checked(g, fuse_activations, {"x": x, "z": z}, exactly=False)
        swish = "Swish" in structure(after)
        assert swish == (len(nodes) == 3 and nodes[1].op_type == "Mul")  # x · sigmoid(x) inside of a product
        assert len(after.nodes) == len(nodes) - swish

    def test_a_scalar_that_becomes_an_array(self):
        g = graph({"x": ()}, "y", *spelled_out("Gelu, half first"), **f32(NUMBERS))
        assert "Gelu" not in structure(fuse_activations(g))


def layer_norm_nodes(axes=(-1,), square="Pow", **mean) -> list:
    return [
        node("ReduceMean", "x", "m", axes=list(axes), **mean),
        node("Sub", "x m", "d"),
        node("Pow", "d two", "p") if square == "Pow" else node("Mul", "d d", "p"),
        node("ReduceMean", "p", "v", axes=list(axes), **mean),
        node("Add", "v eps", "e"),
        node("Sqrt", "e", "s"),
        node("Div", "d s", "q"),
        node("Mul", "q scale", "t"),
        node("Add", "t bias", "y"),
    ]


class TestLayerNorm:
    CONSTANTS = f32({"two": 2, "eps": 1e-5, "scale": np.arange(1, 8), "bias": np.arange(7)})

    @pytest.mark.parametrize("how", [{}, {"square": "Mul"}, {"axes": (2,)}], ids=str)
    def test_what_is_spelled_out(self, how, rng):
        x = rng.standard_normal((2, 5, 7)).astype(np.float32)
        g = graph({"x": x.shape}, "y", *layer_norm_nodes(**how), **self.CONSTANTS)
        assert structure(checked(g, fuse_layer_norm, {"x": x}, exactly=False)) == ["LayerNormalization"]

    @pytest.mark.parametrize("how", [{"axes": (1,)}, {"keepdims": 0}], ids=str)
    def test_other_axes_stay(self, how, rng):
        x = rng.standard_normal((7, 7, 7)).astype(np.float32)
        g = graph({"x": x.shape}, "y", *layer_norm_nodes(**how), **self.CONSTANTS)
        assert structure(checked(g, fuse_layer_norm, {"x": x}, exactly=False)) == structure(g)

    def test_a_scale_of_two_axes_stays(self, rng):
        x = rng.standard_normal((5, 7)).astype(np.float32)
        constants = self.CONSTANTS | {"scale": np.ones((5, 7), np.float32)}
        g = graph({"x": x.shape}, "y", *layer_norm_nodes(), **constants)
        assert structure(checked(g, fuse_layer_norm, {"x": x}, exactly=False)) == structure(g)


EPILOGUE = ("sigmoid", "silu", "hardswish", "leaky_relu", "gelu_tanh")


def with_epilogues(g):
    return fuse_epilogues(g, EPILOGUE)


class TestEpilogues:
    @pytest.mark.parametrize(
        "activation",
        [
            node("Sigmoid", "a", "y"),
            node("Swish", "a", "y", opset=24),
            node("HardSwish", "a", "y"),
            node("LeakyRelu", "a", "y", alpha=0.25),
            node("Gelu", "a", "y", opset=20, approximate="tanh"),
        ],
        ids=str,
    )
    def test_an_activation_becomes_part_of_the_convolution(self, activation, x, w):
        g = graph({"x": x.shape}, "y", node("Conv", "x w", "a"), activation, w=w)
        after = checked(g, (canonical_convolutions, with_epilogues), {"x": x / 8}, exactly=False)
        assert structure(after) == [":Conv"]
        assert after.nodes[0].attributes["activation"][0] in EPILOGUE

    def test_behind_a_residual(self, x, w):
        nodes = [node("Conv", "x w", "c", pads=[1] * 4), node("Add", "c x", "a"), node("Swish", "a", "y", opset=24)]
        g = graph({"x": x.shape}, "y", *nodes, w=w)
        passes = (canonical_convolutions, fuse_residual, with_epilogues)
        assert structure(checked(g, passes, {"x": x / 8}, exactly=False)) == [":Conv"]

    @pytest.mark.parametrize(
        "nodes",
        [
            [node("Conv", "x w", "a"), node("Tanh", "a", "y")],
            [node("Conv", "x w", "a"), node("Relu", "a", "b"), node("Sigmoid", "b", "y")],
            [node("Conv", "x w", "a"), node("Sigmoid", "a", "b"), node("Add", "a b", "y")],
            [node("Conv", "x w", "a"), node("Sigmoid", "a", "b"), node("Sigmoid", "b", "y")],
        ],
        ids=["another activation", "behind a clamp", "read twice", "the second of two"],
    )
    def test_what_stays(self, nodes, x, w):
        g = graph({"x": x.shape}, "y", *nodes, w=w)
        after = checked(g, (canonical_convolutions, fuse_clamp, with_epilogues), {"x": x / 8}, exactly=False)
        assert structure(after)[-1] == nodes[-1].op_type

    def test_only_what_the_kernels_compute(self, x, w):
        g = canonical_convolutions(graph({"x": x.shape}, "y", node("Conv", "x w", "a"), node("Tanh", "a", "y"), w=w))
        assert structure(fuse_epilogues(g, ())) == [":Conv", "Tanh"]
