"""Which activation an operator is."""

from __future__ import annotations

from math import inf, isclose

from fastconv.graph.ir import Node

__all__ = ["activation_of"]

# operator → its name in the op table, and ONNX's attributes with their defaults as its parameters
ACTIVATIONS = {
    "Celu": ("celu", (("alpha", 1.0),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSwish": ("hardswish", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Mish": ("mish", ()),
    "Relu": ("relu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
}


def activation_of(node: Node) -> tuple[str, tuple[float, ...]] | None:
    """Its name in the op table of element-wise activations, and its parameters; None where there is none like it."""
    given = node.attributes.get
    if node.domain:
        return None
    if node.op_type in ACTIVATIONS:
        name, parameters = ACTIVATIONS[node.op_type]
        return name, tuple(float(given(key, default)) for key, default in parameters)
    if node.op_type == "Gelu":
        return "gelu_tanh" if given("approximate", "none") == "tanh" else "gelu", ()
    if node.op_type == "Swish" and given("alpha", 1.0) == 1.0:
        return "silu", ()
    if node.op_type == "Softplus":
        return "softplus", (1.0, inf)
    if node.op_type == "ThresholdedRelu":
        return "threshold", (given("alpha", 1.0), 0.0)
    if (
        node.op_type == "HardSigmoid"
        and isclose(given("alpha", 0.2), 1 / 6, rel_tol=1e-6)
        and given("beta", 0.5) == 0.5
    ):
        return "hardsigmoid", ()
    return None
