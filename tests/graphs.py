"""Small graphs for the tests: built in a line, run node by node with NumPy, and compiled."""

import numpy as np

from fastconv.graph.ir import Graph, Node, ValueInfo
from fastconv.graph.passes import canonical_convolutions
from fastconv.graph.program import Executable, _Context
from fastconv.onnx.operators import OPERATORS


def node(op_type, inputs: str, outputs: str, *, domain="", opset=17, **attributes) -> Node:
    """`inputs` and `outputs` are names with blanks between them, "-" for one that is omitted."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return Node(op_type, domain, names[1][0], *names, attributes, opset, "graph.node[0]")


def graph(inputs: dict, outputs: str, *nodes: Node, **constants) -> Graph:
    """`inputs` are shapes by name."""
    infos = [ValueInfo(name, "tensor(float)", list(shape), None, True) for name, shape in inputs.items()]
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return Graph("test", infos, [ValueInfo(name, "", []) for name in outputs.split()], list(nodes), arrays)


def structure(of: Graph) -> list[str]:
    """The operators, those of the package's own domain with a colon before them."""
    return [(":" if node.domain == "fastconv" else "") + node.op_type for node in of.nodes]


def evaluate(node: Node, inputs: list) -> tuple:
    operator = OPERATORS[node.domain, node.op_type]
    keywords = operator.bind(node.attributes, len(node.inputs), node.opset, len(node.outputs))
    with np.errstate(all="ignore"):
        results = operator.function(*inputs, **keywords)
    results = results if isinstance(results, tuple) else (results,)
    return tuple(result if isinstance(result, list) else np.asarray(result) for result in results)


def evaluated(of: Graph, feeds: dict, everything: bool = False):
    """The outputs, or all values by name."""
    values = {"": None, **of.constants, **feeds}
    for node in of.nodes:
        results = evaluate(node, [values[name] for name in node.inputs])
        values |= {name: result for name, result in zip(node.outputs, results, strict=False) if name}
    return values if everything else [values[info.name] for info in of.outputs]


def executable(of: Graph, feeds: dict, **options) -> Executable:
    shapes = {name: (array.shape, array.dtype) for name, array in feeds.items()}
    return Executable(of, shapes, evaluate, {}, **options)


def compiled(of: Graph, feeds: dict, **options) -> list[np.ndarray]:
    """The outputs of a program for these inputs; what the arena held before is NaN."""
    program = executable(of, feeds, **options)
    poison(program)
    return program.run(feeds)


def poison(program: Executable) -> None:
    """Fill the arena of the next run with NaN."""
    context = _Context(program)
    context.arena.fill(255)
    program._free.append(context)


def whole(rng, shape, dtype=np.float32, most: int = 4) -> np.ndarray:
    """Small whole numbers: sums and products of them are exact."""
    return rng.integers(-most, most + 1, shape).astype(dtype)


def f32(constants: dict) -> dict:
    return {name: np.asarray(value, np.float32) for name, value in constants.items()}


def checked(before, rewrites, feeds, exactly=True):
    """The graph after the passes, whose values, by NumPy and by kernels, are those of the graph before."""
    after = before
    for rewrite in rewrites if isinstance(rewrites, tuple) else (rewrites,):
        after = rewrite(after)
    assert [info.name for info in after.outputs] == [info.name for info in before.outputs]
    expected = evaluated(before, feeds)
    for actual in (evaluated(after, feeds), compiled(after, feeds)):
        for one, other in zip(actual, expected, strict=True):
            assert one.dtype == other.dtype
            if exactly:
                np.testing.assert_array_equal(one, other)
            else:
                np.testing.assert_allclose(one, other, rtol=3e-6, atol=3e-6)
    return after


def untouched(before, rewrite, feeds):
    assert structure(checked(before, rewrite, feeds)) == structure(before)


def run(nodes, feeds, outputs="y", tolerance=2e-6, **constants):
    """The algorithms of the calls of a program that gives NumPy's results, for one image and for all, in both types."""
    algorithms = []
    for dtype in (np.float32, np.float64):
        for images in (1, None):
            given = {name: array[:images].astype(dtype) for name, array in feeds.items()}
            fixed = {n: np.asarray(a, dtype if np.asarray(a).dtype.kind == "f" else None) for n, a in constants.items()}
            g = graph({name: array.shape for name, array in given.items()}, outputs, *nodes, **fixed)
            g = canonical_convolutions(g)
            for actual, expected in zip(compiled(g, given), evaluated(g, given), strict=True):
                assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
                scale = max(1.0, float(np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=0)))
                np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)
            algorithms = [call.algorithm for call in executable(g, given).calls]
    return algorithms


def by_kernels(*args, **keywords):
    algorithms = run(*args, **keywords)
    assert "numpy" not in algorithms
    return algorithms


def by_numpy(*args, **keywords):
    assert "numpy" in run(*args, **keywords)
