"""A problem as an ONNX model of one node, for the engines that take ONNX files.  Needs the onnx package."""

from __future__ import annotations

import numpy as np

from fastconv.tools.bench.engines import Refusal
from fastconv.tools.bench.problem import Problem

__all__ = ["layer_model"]

OPSET, IR_VERSION = 17, 8  # old enough for every peer
OPERATORS = {
    "conv": "Conv",
    "conv_transpose": "ConvTranspose",
    "max_pool": "MaxPool",
    "avg_pool": "AveragePool",
    "batch_norm": "BatchNormalization",
    "pad": "Pad",
    "linear": "Gemm",
}


def layer_model(problem: Problem, arrays: dict[str, np.ndarray]):
    """The ModelProto of one node from ``x`` to ``y``, weights and bias as initialisers; refuses NHWC memory."""
    if problem.layout != "nchw":
        raise Refusal("ONNX knows NCHW memory only")
    from onnx import helper, numpy_helper

    constants = {name: np.ascontiguousarray(arrays[name]) for name in problem.parameters}
    if problem.family == "pad":
        constants["pads"] = np.array([0, 0, *_befores(problem), 0, 0, *_afters(problem)], np.int64)
    node = helper.make_node(OPERATORS[problem.family], ["x", *constants], ["y"], **_attributes(problem))
    element = helper.np_dtype_to_tensor_dtype(np.dtype(problem.dtype))
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", element, problem.input)],
        [helper.make_tensor_value_info("y", element, problem.output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _attributes(problem: Problem) -> dict:
    if problem.family == "linear":
        return {"transB": 1}
    if problem.family == "batch_norm":
        return {}  # torch's epsilon is the default
    if problem.family == "pad":
        return {"mode": "constant"}
    attributes = {
        "kernel_shape": problem.kernel,
        "strides": problem.stride,
        "pads": [*_befores(problem), *_afters(problem)],
    }
    if problem.family in ("conv", "conv_transpose"):
        attributes |= {"dilations": problem.dilation, "group": problem.groups}
    if problem.family == "conv_transpose" and any(problem.output_padding):
        attributes["output_padding"] = problem.output_padding
    if problem.family == "max_pool" and any(d > 1 for d in problem.dilation):
        attributes["dilations"] = problem.dilation
    if problem.family in ("max_pool", "avg_pool") and problem.ceil_mode:
        attributes["ceil_mode"] = 1
    if problem.family == "avg_pool":
        attributes["count_include_pad"] = int(problem.count_include_pad)
    return attributes


def _befores(problem: Problem) -> list[int]:
    return [before for before, _ in problem.pads]


def _afters(problem: Problem) -> list[int]:
    return [after for _, after in problem.pads]
