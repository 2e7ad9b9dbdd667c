"""An ONNX network as a torch module, written out as straight-line code by torch.fx, so that it also compiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from fastconv.tools.bench.engines import Refusal
from fastconv.tools.bench.onnx_steps import Network, Step, read_steps

__all__ = ["torch_network"]


def torch_network(path: Path) -> tuple[nn.Module, list[str]]:
    """``(module, names of its inputs in order)``; parameters float32, or float64 where batch norms were folded."""
    network = read_steps(path)
    root, graph = nn.Module(), fx.Graph()
    values = {name: graph.placeholder(f"input{i}") for i, name in enumerate(network.inputs)}
    for number, step in enumerate(network.steps):
        root.add_module(f"step{number}", _module(step, network))
        values[step.output] = graph.call_module(f"step{number}", tuple(values[name] for name in step.inputs))
    graph.output(values[network.output])
    return fx.GraphModule(root, graph).float().requires_grad_(False), network.inputs


def _module(step: Step, network: Network) -> nn.Module:
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
    if step.op == "Affine":
        return _Affine(step.constants["scale"], step.constants["shift"])
    plain = {
        "Relu": nn.ReLU,
        "Tanh": nn.Tanh,
        "Add": _Add,
        "Flatten": lambda: nn.Flatten(1),
        "Concat": lambda: _Concat(a["axis"]),
        "Clip": lambda: nn.Hardtanh(a["min"], a["max"]),
        "Shuffle": lambda: nn.ChannelShuffle(a["groups"]),
        "GlobalAveragePool": lambda: nn.AdaptiveAvgPool2d(1),
    }
    if step.op not in plain:
        raise Refusal(f"{step.op} is not translated to torch")
    return plain[step.op]()


def _conv(step: Step) -> nn.Module:
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


def _pool(step: Step, network: Network) -> nn.Module:
    a = step.attributes
    kernel, stride = tuple(a["kernel_shape"]), tuple(a.get("strides", (1, 1)))
    before, after = _pads(a)
    if step.op == "MaxPool":
        if before == after:
            return nn.MaxPool2d(kernel, stride, before, ceil_mode=bool(a.get("ceil_mode", 0)))
        borders = nn.ConstantPad2d((before[1], after[1], before[0], after[0]), -torch.inf)
        return nn.Sequential(borders, nn.MaxPool2d(kernel, stride))
    if before == after:
        return nn.AvgPool2d(kernel, stride, before, count_include_pad=bool(a.get("count_include_pad", 0)))
    if all(k >= size for k, size in zip(kernel, network.shapes[step.inputs[0]][2:], strict=True)):
        return nn.AdaptiveAvgPool2d(1)
    raise Refusal(f"average pooling with pads {a['pads']}")


def _pads(attributes) -> tuple[tuple[int, int], tuple[int, int]]:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return (top, left), (bottom, right)


def _with_parameters(layer: nn.Module, step: Step) -> nn.Module:
    for name, array in step.constants.items():
        setattr(layer, name, nn.Parameter(torch.from_numpy(np.array(array)), requires_grad=False))
    return layer


class _Affine(nn.Module):
    def __init__(self, scale: np.ndarray, shift: np.ndarray):
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(scale.reshape(-1, 1, 1)))
        self.register_buffer("shift", torch.from_numpy(shift.reshape(-1, 1, 1)))

    def forward(self, x):
        return x * self.scale + self.shift


class _Add(nn.Module):
    def forward(self, x, y):
        return x + y


class _Concat(nn.Module):
    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, *values):
        return torch.cat(values, self.axis)
