"""float16 graphs computed in float32: types and values stay, roundings in between go, and what is not known stays."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx_bytes as write
import pytest
from graphs import checked, graph, node, structure, whole

import fastconv as fc
from fastconv.graph.ir import Graph, ValueInfo
from fastconv.graph.passes import widen_halves
from fastconv.graph.passes.halves import _ANY_FLOAT, _INTEGERS_SECOND, _NO_FLOATS
from fastconv.onnx.operators import OPERATORS

FLOAT, FLOAT16 = 1, 10


def typed(inputs: dict, outputs: str, *nodes, **constants) -> Graph:
    """As graph(), for arrays by name: the inputs are declared to be of their types."""
    g = graph({name: array.shape for name, array in inputs.items()}, outputs, *nodes, **constants)
    infos = [ValueInfo(name, "", list(array.shape), array.dtype, True) for name, array in inputs.items()]
    return replace(g, inputs=infos)


def half(rng, *shape) -> np.ndarray:
    return whole(rng, shape, np.float16)


def test_the_operators_exist():
    assert {("", op_type) for op_type in _ANY_FLOAT} <= OPERATORS.keys()
    assert _ANY_FLOAT >= _NO_FLOATS | _INTEGERS_SECOND


def test_a_network(rng):
    feeds = {"x": half(rng, 2, 3, 6, 5)}
    g = typed(
        feeds,
        "y",
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2]),
        node("Add", "p r2", "y"),
        w=half(rng, 3, 3, 3, 3),
        r2=half(rng, 3, 1, 1),
    )
    after = checked(g, widen_halves, feeds)
    assert structure(after) == ["Cast", "Conv", "Relu", "MaxPool", "Add", "Cast"]
    assert {after.constants[name].dtype for name in after.nodes[1].inputs[1:]} == {np.dtype(np.float32)}


def test_an_output_that_is_read_and_one_that_is_no_float(rng):
    feeds = {"x": half(rng, 4, 5)}
    nodes = (node("Neg", "x", "y"), node("TopK", "y k", "z places", axis=1), node("Greater", "z x", "more"))
    g = typed({"x": feeds["x"]}, "y z places more", *nodes, k=np.array([5]))
    after = checked(g, widen_halves, feeds)
    assert structure(after) == ["Cast", "Neg", "Cast", "TopK", "Cast", "Greater"]


def test_a_cast_still_rounds():
    feeds = {"x": np.array([1 + 2.0**-12, 70000, -3], np.float32)}
    g = typed(
        feeds,
        "y",
        node("Cast", "x", "h", to=FLOAT16),
        node("Mul", "h two", "m"),
        node("Cast", "m", "y", to=FLOAT),
        two=np.float16(2),
    )
    after = checked(g, widen_halves, feeds)
    assert structure(after) == ["Cast", "Cast", "Mul", "Cast"]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("QuantizeLinear", "x s", "y")],
        [node("Relu", "x", "y", domain="some.where")],
        [node("ConstantOfShape", "n", "f", value=np.zeros(1, np.float16)), node("Add", "x f", "y")],
        [node("RandomNormal", "", "f", dtype=FLOAT16, shape=[1]), node("Mul", "x f", "y")],
        [node("If", "b", "f", then_branch=Graph("then"), else_branch=Graph("else")), node("Add", "x f", "y")],
    ],
    ids=["quantising", "another domain", "constants", "random numbers", "subgraphs"],
)
def test_what_is_not_known_stays(rng, nodes):
    g = typed({"x": half(rng, 3)}, "y", *nodes, s=np.float16(2), n=np.array([1]), b=np.array(True))
    assert widen_halves(g) is g


def test_inputs_of_unknown_type_and_graphs_without_halves_stay(rng):
    unknown = graph({"x": (3,)}, "y", node("Mul", "x two", "y"), two=np.float16(2))
    assert widen_halves(unknown) is unknown
    single = typed({"x": whole(rng, (3,))}, "y", node("Relu", "x", "y"))
    assert widen_halves(single) is single


def model(nodes, **constants) -> bytes:
    infos = [[write.value(name, [4], FLOAT16)] for name in "xy"]
    return write.model(write.graph(nodes, *infos, [write.tensor(array, name) for name, array in constants.items()]))


@pytest.mark.parametrize(("precision", "sum"), [("default", 1 + 2.0**-10), ("fast", 1 + 2.0**-10), ("strict", 1.0)])
def test_strict_precision_rounds_every_result(precision, sum):
    """Four times a quarter of the unit in the last place of 1."""
    names = ["x", "a", "b", "c", "y"]
    nodes = [write.node("Add", f"{one} e", other) for one, other in pairwise(names)]
    session = fc.InferenceSession(model(nodes, e=np.float16(2.0**-12)), precision=precision)
    (y,) = session.run(None, {"x": np.ones(4, np.float16)})
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.full(4, sum, np.float16))
    assert session.verify({"x": np.ones(4, np.float16)}).ok
