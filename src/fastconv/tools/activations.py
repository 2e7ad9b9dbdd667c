"""What every two-dimensional convolution of a network sees in an image: its filters, and the maps it makes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fastconv import nn
from fastconv.graph.ir import Graph, Node
from fastconv.nn.module import Module

__all__ = ["SeenLayer", "of_graph", "of_module"]

# What belongs to the convolution before it: layers by their module, operators by name.
FOLLOWING_LAYERS = ("fastconv.nn.activation", "fastconv.nn.normalization")
FOLLOWING_OPERATORS = {
    "BatchNormalization", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "InstanceNormalization", "LeakyRelu",
    "Mish", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh",
}  # fmt: skip


@dataclass
class SeenLayer:
    """A convolution that has seen an image."""

    path: str  # of the layer in its model
    description: str
    weights: np.ndarray | None  # (filters, channels per filter, height, width); None where they are not constant
    maps: np.ndarray  # (filters, height, width), after normalisation and activation
    after: str = ""  # the names of those


def of_module(model: Module, x: np.ndarray) -> tuple[list[SeenLayer], object]:
    """The convolutions of `model` in the order in which they see `x`, a batch of one, and the model's output.

    A layer that is called several times shows its first call.
    """
    seen: dict[Module, SeenLayer] = {}
    by_output: dict[int, tuple[np.ndarray, SeenLayer]] = {}  # holds the arrays, so that no number is given twice
    paths = {module: name for name, module in model.named_modules()}

    def convolution(module, args, output):
        if module not in seen and output.ndim == 4:
            seen[module] = SeenLayer(paths[module], repr(module), _filters(module), output[0].copy())
            by_output[id(output)] = (output, seen[module])

    def following(module, args, output):
        _, layer = by_output.get(id(args[0]), (None, None))
        if layer is not None and isinstance(output, np.ndarray):
            layer.maps = output[0].copy()
            layer.after = f"{layer.after}, {type(module).__name__}" if layer.after else type(module).__name__
            by_output[id(output)] = (output, layer)

    handles = []
    for module in paths:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            handles.append(module.register_forward_hook(convolution))
        elif type(module).__module__ in FOLLOWING_LAYERS:
            handles.append(module.register_forward_hook(following))
    try:
        output = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return list(seen.values()), output


def _filters(module) -> np.ndarray:
    weights = np.array(module.weight)
    return weights.swapaxes(0, 1) if isinstance(module, nn.ConvTranspose2d) and module.groups == 1 else weights


def of_graph(graph: Graph, values: dict[str, object]) -> list[SeenLayer]:
    """The convolutions of an ONNX graph whose `values` a session has traced for a batch of one."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    layers = []
    for node in graph.nodes:
        array = values.get(node.outputs[0])
        if node.op_type not in ("Conv", "ConvTranspose") or not isinstance(array, np.ndarray) or array.ndim != 4:
            continue
        weights = graph.constants.get(node.inputs[1])
        if weights is not None and node.op_type == "ConvTranspose" and node.attributes.get("group", 1) == 1:
            weights = weights.swapaxes(0, 1)
        name, after = node.outputs[0], []
        while len(readers.get(name, ())) == 1 and readers[name][0].op_type in FOLLOWING_OPERATORS:
            (reader,) = readers[name]
            name = reader.outputs[0]
            after.append(reader.op_type)
        maps = np.asarray(values[name])[0].astype(np.float32)
        title = _described(node, weights)
        layers.append(SeenLayer(node.name or node.outputs[0], title, weights, maps, ", ".join(after)))
    return layers


def _described(node: Node, weights) -> str:
    parts = [] if weights is None else [f"{weights.shape[0]} filters of {'×'.join(map(str, weights.shape[1:]))}"]
    for name, word in (("strides", "stride"), ("dilations", "dilation")):
        numbers = node.attributes.get(name) or [1]
        if prod(numbers) != 1:
            parts.append(f"{word} {'×'.join(map(str, numbers))}")
    if node.attributes.get("group", 1) != 1:
        parts.append(f"{node.attributes['group']} groups")
    return f"{node.op_type}({', '.join(parts)})"
