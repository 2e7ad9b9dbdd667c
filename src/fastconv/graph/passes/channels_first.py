"""Stretches of a network that are written with their channels last, between two transpositions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from fastconv.graph.activations import activation_of
from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["channels_first"]


def channels_first(graph: Graph) -> Graph:
    """Between a transposition to channels last and the one back, products with matrices become 1×1 convolutions.

    So do layer norms, element-wise functions, and constants per channel, for which the channels' place does not matter,
    stay where they are.  A stretch is a chain of these, and has at least one product; what is in between is read nowhere
    else.
    """
    if not any(node.op_type == "MatMul" for node in graph.nodes):
        return graph
    work = Rewriting(graph)
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.reads():
            readers[name].append(node)
    replaced: dict[int, list[Node]] = {}
    used = set(graph.constants).union(*(node.inputs + node.outputs for node in graph.nodes))
    for node in graph.nodes:
        chain = _stretch(node, readers, work)
        if chain:
            *gone, last = chain
            replaced |= {id(one): [] for one in (node, *gone)}
            replaced[id(last)] = _written_with_channels_first(node, chain, used, work)
    for node in graph.nodes:
        for one in replaced.get(id(node), [node]):
            work.add(one)
    return work.finish()


def _stretch(first: Node, readers: dict[str, list[Node]], work: Rewriting) -> list[Node]:
    """The nodes after the transposition `first` up to the one back; empty where there is no such stretch."""
    order = _order(first)
    rank = len(order)
    if rank < 3 or order != (0, *range(2, rank), 1):
        return []
    chain = [first]
    while True:
        name = chain[-1].outputs[0]
        if work.uses[name] != 1 or len(readers[name]) != 1:
            return []
        (node,) = readers[name]
        chain.append(node)
        if _order(node) == (0, rank - 1, *range(1, rank - 1)):
            return chain[1:] if any(one.op_type == "MatMul" for one in chain) else []
        if not _keeps_channels(node, name, rank, work):
            return []


def _order(node: Node) -> tuple[int, ...]:
    """Of the axes, where the node is a transposition."""
    return tuple(node.attributes.get("perm") or ()) if (node.domain, node.op_type) == ("", "Transpose") else ()


def _keeps_channels(node: Node, x: str, rank: int, work: Rewriting) -> bool:
    """Whether the node can be written with its channels first."""
    if (node.domain, node.op_type) == ("fastconv", "MatMul"):
        return node.inputs[0] == x
    if node.domain or len([name for name in node.outputs if name]) != 1:
        return False
    if node.op_type == "LayerNormalization":
        return node.inputs[0] == x and node.attributes.get("axis", -1) in (-1, rank - 1)
    if activation_of(node):
        return len(node.inputs) == 1
    if node.op_type in ("Add", "Sub", "Mul", "Div") and not node.attributes:
        constants = [work.constant(name) for name in node.inputs if name != x]
        return len(constants) == 1 and constants[0] is not None and constants[0].ndim <= 1
    return False


def _written_with_channels_first(first: Node, chain: list[Node], used: set[str], work: Rewriting) -> list[Node]:
    rank = len(first.attributes["perm"])
    *middle, last = chain
    x, nodes = first.inputs[0], []
    for place, node in enumerate(middle):
        y = last.outputs[0] if place == len(middle) - 1 else _new_name(node.outputs[0], used)
        if node.op_type == "MatMul":
            nodes.append(_convolution(node, x, y, rank, work))
        elif node.op_type == "LayerNormalization":
            inner = [_new_name(name, used) for name in (node.inputs[0], node.outputs[0])]
            nodes.append(replace(first, inputs=[x], outputs=[inner[0]]))
            nodes.append(replace(node, inputs=[inner[0], *node.inputs[1:]], outputs=[inner[1]]))
            nodes.append(replace(last, inputs=[inner[1]], outputs=[y]))
        else:
            before = first.outputs[0] if place == 0 else middle[place - 1].outputs[0]
            inputs = [x if name == before else _by_channel(name, rank, work) for name in node.inputs]
            nodes.append(replace(node, inputs=inputs, outputs=[y]))
        x = y
    return nodes


def _convolution(node: Node, x: str, y: str, rank: int, work: Rewriting) -> Node:
    ones = (1,) * (rank - 2)
    w = work.constant(node.inputs[1]).T.reshape(work.constant(node.inputs[1]).shape[::-1] + ones)
    attributes = {
        "strides": ones, "dilations": ones, "group": 1, "low": -np.inf, "high": np.inf, "padding": ((0, 0),) * (rank - 2),
    }  # fmt: skip
    inputs = [x, work.new_constant(node.inputs[1], w), node.inputs[2], ""]
    return replace(node, op_type="Conv", inputs=inputs, outputs=[y], attributes=attributes)


def _by_channel(name: str, rank: int, work: Rewriting) -> str:
    """The constant, whose numbers are those of the last axis, for axis 1."""
    array = work.constant(name)
    return work.new_constant(name, array.reshape(-1, *(1,) * (rank - 2))) if array.ndim else name


def _new_name(like: str, used: set[str]) -> str:
    while like in used:
        like += "'"
    used.add(like)
    return like
