"""A Python function as an operator, for what is compiled from modules rather than read from files."""

from fastconv.onnx.operators.registry import operator


@operator(domain="fastconv", name="Call")
def call(*inputs, function):
    results = function(*inputs)
    return tuple(results) if isinstance(results, (tuple, list)) else results
