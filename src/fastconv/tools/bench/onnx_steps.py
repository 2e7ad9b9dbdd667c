"""An ONNX network as a short list of steps, for the engines that cannot read ONNX files (torch, ncnn).

What these engines' own converters do is done here: constants folded, batch norms folded into the convolution before
them, channel shuffles recognised, dropout and identities dropped.  Weights are float32, or float64 where folding has
computed them.  Covers the networks of :mod:`networks`; anything else is refused.  Needs the onnx package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastconv.tools.bench.engines import Refusal

__all__ = ["Network", "Step", "read_steps"]

DROPPED = ("Dropout", "Identity")


@dataclass
class Step:
    """`op` with the values it reads, the one it writes, its attributes and its constants by role."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Network:
    """Steps in order; `shapes` has the inferred shape of every value."""

    inputs: list[str]
    output: str
    steps: list[Step]
    shapes: dict[str, tuple[int, ...]]


def read_steps(path: Path) -> Network:
    """The network of an ONNX file.  Ops of the steps: those of ONNX, and

    ``Affine`` (scale, shift; per channel), ``Shuffle`` (groups), ``Linear`` (weight (out, in), bias), ``Flatten``.

    Raises :class:`Refusal` for what these networks do not have.
    """
    import onnx
    from onnx import helper, numpy_helper, shape_inference

    model = onnx.load(path)
    graph = shape_inference.infer_shapes(_without_weights(model), data_prop=True).graph
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    renamed: dict[str, str] = {}
    steps: list[Step] = []
    for node in model.graph.node:
        names = [renamed.get(name, name) for name in node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in DROPPED:
            renamed[node.output[0]] = names[0]
        elif all(name in constants for name in names):
            constants[node.output[0]] = _fold(node.op_type, [constants[name] for name in names], attributes)
        else:
            steps.append(_step(node.op_type, names, node.output[0], attributes, constants))
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    output = renamed.get(model.graph.output[0].name, model.graph.output[0].name)
    return Network(inputs, output, _merge_affines(_find_shuffles(steps, shapes), output), shapes)


def _without_weights(model):
    """The model for shape inference: only integer constants are kept, floats become inputs of the same shape."""
    import onnx
    from onnx import helper

    light = onnx.ModelProto()
    light.CopyFrom(model)
    graph = light.graph
    for tensor in [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]:
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        graph.initializer.remove(tensor)
    return light


def _fold(op, arrays, attributes):
    if op == "Unsqueeze":
        return np.expand_dims(arrays[0], tuple(attributes["axes"]))
    if op == "Reshape":
        return arrays[0].reshape(arrays[1])
    raise Refusal(f"{op} of constants is not folded")


def _step(op, names, output, attributes, constants) -> Step:
    values = [name for name in names if name and name not in constants]
    arrays = [constants[name] for name in names if name in constants]
    if op in ("Conv", "Gemm"):
        weight, *bias = arrays
        if op == "Gemm":
            weight = weight if attributes.get("transB") else weight.T
        return Step(
            {"Conv": "Conv", "Gemm": "Linear"}[op], values, output, attributes,
            {"weight": weight} | ({"bias": bias[0]} if bias else {}),
        )  # fmt: skip
    if op == "BatchNormalization":
        scale, bias, mean, variance = (array.astype(np.float64) for array in arrays)
        scale = scale / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return Step("Affine", values, output, {}, {"scale": scale, "shift": bias - mean * scale})
    if op in ("Mul", "Add") and arrays:
        array = arrays[0].astype(np.float64).ravel()
        scale, shift = (array, np.zeros_like(array)) if op == "Mul" else (np.ones_like(array), array)
        return Step("Affine", values, output, {}, {"scale": scale, "shift": shift})
    if op == "Clip":
        low, high = (float(array) for array in arrays)
        return Step("Clip", values, output, {"min": low, "max": high})
    if op == "Reshape" and len(arrays[0]) == 2:
        return Step("Flatten", values, output)
    if op == "Reshape":
        return Step("Reshape", values, output, {"shape": arrays[0].tolist()})
    if op in ("Sum", "Add") and len(values) == 2:
        return Step("Add", values, output)
    if op in ("Relu", "Tanh", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "LRN", "Transpose", "Flatten"):
        return Step(op, values, output, attributes)
    raise Refusal(f"{op} is not among the steps that are translated")


def _find_shuffles(steps: list[Step], shapes) -> list[Step]:
    """Reshape to (N, g, C/g, H, W), Transpose (0, 2, 1, 3, 4) and Reshape back become one Shuffle."""
    found: list[Step] = []
    for step in steps:
        last = found[-2:]
        if (
            step.op == "Reshape"
            and [s.op for s in last] == ["Reshape", "Transpose"]
            and list(last[1].attributes["perm"]) == [0, 2, 1, 3, 4]
            and shapes[last[0].inputs[0]] == shapes[step.output]
        ):
            groups = shapes[last[0].output][1]
            found[-2:] = [Step("Shuffle", last[0].inputs, step.output, {"groups": groups})]
        else:
            found.append(step)
    return found


def _merge_affines(steps: list[Step], output: str) -> list[Step]:
    """Fold an Affine into the convolution or the Affine before it, where nothing else reads the value between."""
    readers: dict[str, int] = {output: 1}
    for step in steps:
        for name in step.inputs:
            readers[name] = readers.get(name, 0) + 1
    found: dict[str, Step] = {}
    for step in steps:
        before = found.get(step.inputs[0])
        if step.op == "Affine" and before and before.op in ("Conv", "Affine") and readers[before.output] == 1:
            del found[before.output]
            step = _merged(before, step)
        found[step.output] = step
    return list(found.values())


def _merged(before: Step, affine: Step) -> Step:
    scale, shift = affine.constants["scale"], affine.constants["shift"]
    if before.op == "Affine":
        constants = {
            "scale": before.constants["scale"] * scale,
            "shift": before.constants["shift"] * scale + shift,
        }
    else:
        weight = before.constants["weight"].astype(np.float64)
        bias = before.constants.get("bias", np.zeros(len(weight))).astype(np.float64)
        constants = {"weight": weight * scale.reshape(-1, 1, 1, 1), "bias": bias * scale + shift}
    return Step(before.op, before.inputs, affine.output, before.attributes, constants)
