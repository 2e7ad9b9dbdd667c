"""An ONNX network as a torch module, written out as straight-line code by torch.fx, so that it also compiles."""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np

from fastconv.tools.bench.engines import Refusal
from fastconv.tools.bench.onnx_steps import Network, Step, read_steps

__all__ = ["torch_network"]


def torch_network(path: Path):
    """``(module, names of its inputs in order)``; parameters float32, or float64 where batch norms were folded."""
    from torch import fx, nn

    network = read_steps(path)
    root, graph = nn.Module(), fx.Graph()
    values = {name: graph.placeholder(f"input{i}") for i, name in enumerate(network.inputs)}
    for number, step in enumerate(network.steps):
        inputs = [values[name] for name in step.inputs]
        values[step.output] = _call(root, graph, f"step{number}", step, inputs, network)
    graph.output(values[network.output])
    return fx.GraphModule(root, graph).requires_grad_(False), network.inputs


def _call(root, graph, name: str, step: Step, inputs: list, network: Network):
    """Add the step to the graph, its module or its constants to `root`, and return its value."""
    import torch

    if step.op == "Add":
        return graph.call_function(operator.add, tuple(inputs))
    if step.op == "Concat":
        return graph.call_function(torch.cat, (inputs, step.attributes["axis"]))
    if step.op == "Affine":
        factors = []
        for role in ("scale", "shift"):
            root.register_buffer(f"{name}_{role}", torch.from_numpy(step.constants[role].reshape(-1, 1, 1)))
            factors.append(graph.get_attr(f"{name}_{role}"))
        return graph.call_function(operator.add, (graph.call_function(operator.mul, (*inputs, factors[0])), factors[1]))
    root.add_module(name, _module(step, network))
    return graph.call_module(name, tuple(inputs))


def _module(step: Step, network: Network):
    from torch import nn

    a = step.attributes
    if step.op == "Conv":
        return _conv(step)
    if step.op == "Linear":
        weight = step.constants["weight"]
        return _with_parameters(nn.Linear(weight.shape[1], weight.shape[0], "bias" in step.constants), step)
    if step.op in ("MaxPool", "AveragePool"):
        return _pool(step, network)
    if step.op == "LRN":
        return nn.LocalResponseNorm(a["size"], a["alpha"], a["beta"], a["bias"])
    plain = {
        "Relu": nn.ReLU,
        "Tanh": nn.Tanh,
        "Flatten": lambda: nn.Flatten(1),
        "Clip": lambda: nn.Hardtanh(a["min"], a["max"]),
        "Shuffle": lambda: nn.ChannelShuffle(a["groups"]),
        "GlobalAveragePool": lambda: nn.AdaptiveAvgPool2d(1),
    }
    if step.op not in plain:
        raise Refusal(f"{step.op} is not translated to torch")
    return plain[step.op]()


def _conv(step: Step):
    from torch import nn

    a, weight = step.attributes, step.constants["weight"]
    groups = a.get("group", 1)
    before, after = _pads(a)
    if before != after:
        raise Refusal(f"convolution with pads {a['pads']}")
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], tuple(a.get("strides", (1, 1))), before,
        tuple(a.get("dilations", (1, 1))), groups, "bias" in step.constants,
    )  # fmt: skip
    return _with_parameters(layer, step)


def _pool(step: Step, network: Network):
    from torch import inf, nn

    a = step.attributes
    kernel, stride = tuple(a["kernel_shape"]), tuple(a.get("strides", (1, 1)))
    before, after = _pads(a)
    if step.op == "MaxPool":
        if before == after:
            return nn.MaxPool2d(kernel, stride, before, ceil_mode=bool(a.get("ceil_mode", 0)))
        borders = nn.ConstantPad2d((before[1], after[1], before[0], after[0]), -inf)
        return nn.Sequential(borders, nn.MaxPool2d(kernel, stride))
    if before == after:
        return nn.AvgPool2d(kernel, stride, before, count_include_pad=bool(a.get("count_include_pad", 0)))
    if all(k >= size for k, size in zip(kernel, network.shapes[step.inputs[0]][2:], strict=True)):
        return nn.AdaptiveAvgPool2d(1)
    raise Refusal(f"average pooling with pads {a['pads']}")


def _pads(attributes) -> tuple[tuple[int, int], tuple[int, int]]:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return (top, left), (bottom, right)


def _with_parameters(layer, step: Step):
    import torch

    for name, array in step.constants.items():
        setattr(layer, name, torch.nn.Parameter(torch.from_numpy(np.array(array)), requires_grad=False))
    return layer
