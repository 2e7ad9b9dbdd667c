"""Dropping nodes that compute nothing new, or nothing that is read."""

from __future__ import annotations

from dataclasses import replace

from fastconv.graph.ir import Graph, Node

__all__ = ["drop_dead", "drop_identities"]


def drop_identities(graph: Graph) -> Graph:
    """Readers of an Identity, or of a Dropout that does not train, read its input.

    What is an output of the graph, or read inside a subgraph, keeps its node.
    """
    kept_names = {info.name for info in graph.outputs}
    kept_names.update(name for node in graph.nodes for sub in node.graphs() for name in sub.captures)
    read = kept_names.union(name for node in graph.nodes for name in node.reads())
    source: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = [source.get(name, name) for name in node.inputs]
        masks = read.intersection(node.outputs[1:]) - {""}
        if _is_identity(node, graph.constants) and not masks and node.outputs[0] not in kept_names:
            source[node.outputs[0]] = inputs[0]
            continue
        nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
    return replace(graph, nodes=nodes)


def _is_identity(node: Node, constants: dict) -> bool:
    if node.domain:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout":
        return False
    if len(node.inputs) > 2 and node.inputs[2]:
        training = constants.get(node.inputs[2])
        return training is not None and not training.any()
    return node.opset >= 7 or bool(node.attributes.get("is_test", 0))


def drop_dead(graph: Graph) -> Graph:
    """Without nodes and constants that no output needs."""
    needed = {info.name for info in graph.outputs}
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(node.reads())
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return replace(graph, nodes=nodes[::-1], constants=constants)
