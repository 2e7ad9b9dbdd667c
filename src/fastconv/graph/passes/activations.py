"""Activations and layer norm that a model spells out in simpler operators."""

from __future__ import annotations

from dataclasses import replace
from math import isclose, sqrt

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.dead import drop_dead
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["fuse_activations"]

NEWEST = 24  # the opset that has all of the operators written here
TOLERANCE = 1e-6  # of the constants in a pattern, which files store in float32


def fuse_activations(graph: Graph) -> Graph:
    """Products of x and a gate of x become Swish, HardSwish, Mish or Gelu; what their parts were for is dropped.

    x sigmoid(x), x hardsigmoid(x) with slope 1/6, x clip(x + 3, 0, 6) / 6, x tanh(softplus(x)), and x (1 + erf(x / √2)) / 2.
    """
    work = Rewriting(graph)
    for node in graph.nodes:
        found = _activation(node, work)
        if found is None or work.ranks.get(found[1]) == 0:  # a number of one axis makes an array of a scalar
            work.add(node)
        else:
            op_type, x = found
            work.add(replace(node, op_type=op_type, inputs=[x], attributes={}, opset=NEWEST))
    return drop_dead(work.finish())


def _activation(node: Node, work: Rewriting) -> tuple[str, str] | None:
    """(operator, x)."""
    factors, number = _factors(node, work)
    if len(factors) != 2:
        return None
    for x, gate in (factors, factors[::-1]):
        for op_type, gate_of, coefficient in PATTERNS:
            if isclose(number, coefficient, rel_tol=TOLERANCE) and gate_of(gate, work) == x:
                return op_type, x
    return None


def _factors(node: Node, work: Rewriting) -> tuple[list[str], float]:
    """What a product is made of: the values, and the product of its constant numbers."""
    if node.domain or node.op_type not in ("Mul", "Div") or node.attributes:
        return [], 1.0
    factors: list[str] = []
    number = 1.0
    for place, name in enumerate(node.inputs):
        constant = _number(name, work)
        divides = node.op_type == "Div" and place == 1
        if divides and not constant:
            return [], 1.0
        if constant is not None:
            number = number / constant if divides else number * constant
            continue
        inner = work.producer(name, "Mul", "Div", domain="")
        more, coefficient = _factors(inner, work) if inner is not None else ([], 1.0)
        factors += more or [name]
        number *= coefficient if more else 1.0
    return factors, number


def _number(name: str, work: Rewriting) -> float | None:
    """The value of a constant of one element."""
    array = work.constant(name)
    if array is None or array.size != 1 or array.ndim > 1 or array.dtype.kind != "f":
        return None
    return float(array.reshape(()))


def _plus(name: str, number: float, work: Rewriting) -> str | None:
    """y, where `name` is y + number."""
    node = work.source(name, "Add")
    if node is None or node.attributes:
        return None
    for y, constant in (node.inputs, node.inputs[::-1]):
        if _number(constant, work) == number:
            return y
    return None


def _through(op_type: str, name: str | None, work: Rewriting, **attributes) -> str | None:
    """y, where `name` is the operator of y with these attributes, their defaults for those that are None."""
    node = work.source(name, op_type) if name else None
    if node is None:
        return None
    given = {key: node.attributes.get(key) for key in attributes}
    close = all(v is not None and isclose(v, attributes[key], rel_tol=TOLERANCE) for key, v in given.items())
    return node.inputs[0] if close else None


def _sigmoid(name, work):
    return _through("Sigmoid", name, work)


def _hard_sigmoid(name, work):
    y = _through("HardSigmoid", name, work, alpha=1 / 6)
    return y if y and work.source(name, "HardSigmoid").attributes.get("beta", 0.5) == 0.5 else None


def _tanh_of_softplus(name, work):
    return _through("Softplus", _through("Tanh", name, work), work)


def _clipped_plus_3(name, work):
    node = work.source(name, "Clip")
    if node is None:
        return None
    inputs = [*node.inputs, "", ""]
    low, high = (
        _number(end, work) if end else node.attributes.get(name)
        for end, name in zip(inputs[1:3], ("min", "max"), strict=True)
    )
    return _plus(inputs[0], 3.0, work) if (low, high) == (0.0, 6.0) else None


def _one_plus_erf(name, work):
    inner = work.source(_through("Erf", _plus(name, 1.0, work), work) or "", "Mul", "Div")
    factors, number = _factors(inner, work) if inner is not None else ([], 1.0)
    return factors[0] if len(factors) == 1 and isclose(number, sqrt(0.5), rel_tol=TOLERANCE) else None


# operator, (gate, work) → the x it is a gate of, and the constant factor
PATTERNS = (
    ("Swish", _sigmoid, 1.0),
    ("HardSwish", _hard_sigmoid, 1.0),
    ("HardSwish", _clipped_plus_3, 1 / 6),
    ("Mish", _tanh_of_softplus, 1.0),
    ("Gelu", _one_plus_erf, 0.5),
)
