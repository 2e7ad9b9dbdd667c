"""Batches taken a few images at a time through the layers whose activations no cache would hold otherwise."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from math import ceil

from fastconv import machine
from fastconv.graph.ir import Graph, Node
from fastconv.graph.memory import Tensor
from fastconv.ops.cost import CACHE_BYTES_PER_SECOND

__all__ = ["slice_batches"]

MOST_SLICES, MOST_COPIES = 32, 2000  # of the batch, and of nodes: planning one takes a fifth of a millisecond
LEAST_GAIN = 1e-4  # seconds of a run, for which planning takes longer
NEAR_BYTES_PER_SECOND = 60e9  # of activations that stay in the second-level cache until they are read
FAR_BYTES_PER_SECOND = 8e9  # and of those that go to memory and back
WEIGHTED = {("fastconv", "Affine"), ("fastconv", "Conv"), ("fastconv", "ConvTranspose")}  # constants are no images
BY_IMAGE = WEIGHTED | {  # operators that compute each image by itself, and keep the images along their first axis
    *(("fastconv", op_type) for op_type in ("Add", "Div", "Mul", "Sub")),
    *(("", op_type) for op_type in (
        "Add", "AveragePool", "Celu", "Clip", "Concat", "Div", "Elu", "Gelu", "GlobalAveragePool", "GlobalMaxPool",
        "HardSigmoid", "HardSwish", "LRN", "LeakyRelu", "MaxPool", "Mish", "Mul", "Relu", "Sigmoid", "Sub", "Sum", "Swish",
        "Tanh",
    )),
}  # fmt: skip


def slice_batches(graph: Graph, values: dict[str, object]) -> Graph:
    """Write the first nodes out for each slice of the images, so that one slice is through before the next begins.

    `values` are those of the whole batch.  Slices are as many images as the second-level cache holds of the largest
    layer's activations.  The nodes are those for which this is predicted to gain most, activations that stay in a cache
    against weights that are read once more for every slice; where it gains little, the graph is returned as it came.
    """
    sizes = {values[info.name].shape[:1] for info in graph.inputs if isinstance(values.get(info.name), Tensor)}
    images = sizes.pop()[0] if len(sizes) == 1 and sizes != {()} else 1
    nodes = _leading_nodes(graph, values, images)
    moved = [_activation_bytes(node, values) for node in nodes]
    if images < 2 or not any(moved):
        return graph
    room = machine.cache_bytes(2) // 2 * images // max(moved)
    most = max(room, ceil(images / min(MOST_SLICES, max(MOST_COPIES // len(nodes), 1))), 1)
    slices = ceil(images / most)
    gains = [
        size * (1 / _rate(size) - 1 / _rate(size // slices))
        - (slices - 1) * _weight_bytes(node, graph) / CACHE_BYTES_PER_SECOND
        for node, size in zip(nodes, moved, strict=True)
    ]
    sums = list(accumulate(gains))
    best = max(sums)
    if slices == 1 or best < LEAST_GAIN:
        return graph
    return _written_out(graph, nodes[: sums.index(best) + 1], images, most)


def _leading_nodes(graph: Graph, values: dict[str, object], images: int) -> list[Node]:
    """The first nodes, as long as all of them compute each image by itself."""
    by_image = {info.name for info in graph.inputs}
    for place, node in enumerate(graph.nodes):
        if not _is_by_image(node, values, by_image, images):
            return graph.nodes[:place]
        by_image.update(node.outputs)
    return graph.nodes


def _is_by_image(node: Node, values: dict[str, object], by_image: set[str], images: int) -> bool:
    results = [values[name] for name in node.outputs if name]
    kind = (node.domain, node.op_type)
    if kind not in BY_IMAGE or len(results) != 1 or not _is_batch(results[0], images):
        return False
    rank = len(results[0].shape)
    if node.op_type == "Concat" and node.attributes.get("axis", 1) % rank == 0:
        return False
    for name in filter(None, node.inputs):
        value = values[name]
        if isinstance(value, Tensor):
            if name not in by_image or not _is_batch(value, images) or len(value.shape) != rank:
                return False
        elif kind not in WEIGHTED and value.ndim >= rank and value.shape[0] != 1:
            return False
    return True


def _is_batch(value, images: int) -> bool:
    return isinstance(value, Tensor) and len(value.shape) > 1 and value.shape[0] == images


def _activation_bytes(node: Node, values: dict[str, object]) -> int:
    arrays = [values[name] for name in (*node.inputs, *node.outputs) if name]
    return sum(value.nbytes for value in arrays if isinstance(value, Tensor))


def _weight_bytes(node: Node, graph: Graph) -> int:
    return sum(graph.constants[name].nbytes for name in node.inputs if name in graph.constants)


def _rate(size: int) -> float:
    """Bytes per second of `size` bytes that one node writes and the next reads."""
    if size <= machine.cache_bytes(2):
        return NEAR_BYTES_PER_SECOND
    return CACHE_BYTES_PER_SECOND if size <= machine.cache_bytes(3) // 2 else FAR_BYTES_PER_SECOND


def _written_out(graph: Graph, nodes: list[Node], images: int, most: int) -> Graph:
    """With a copy of these first nodes for each slice of at most so many images; later nodes read the slices joined."""
    rest = graph.nodes[len(nodes) :]
    computed = {name: None for node in nodes for name in node.outputs if name}
    read_later = {name for node in rest for name in node.reads()} | {info.name for info in graph.outputs}
    sizes = [min(most, images - first) for first in range(0, images, most)]
    inputs = [info.name for info in graph.inputs if any(info.name in node.inputs for node in nodes)]
    used = set(graph.constants).union(*(node.inputs + node.outputs for node in graph.nodes))
    parts = {name: _new_names(name, len(sizes), used) for name in (*inputs, *computed)}
    written = [_node("Split", [name], parts[name], {"axis": 0, "split": sizes}) for name in inputs]
    for place in range(len(sizes)):
        for node in nodes:
            ends = [
                [parts[name][place] if name in parts else name for name in names]
                for names in (node.inputs, node.outputs)
            ]
            written.append(replace(node, inputs=ends[0], outputs=ends[1], original=node))
    written += [_node("Concat", parts[name], [name], {"axis": 0}) for name in computed if name in read_later]
    return replace(graph, nodes=written + rest)


def _new_names(name: str, count: int, used: set[str]) -> list[str]:
    mark = ""
    while not used.isdisjoint(names := [f"{name}{mark} [{place}]" for place in range(count)]):
        mark += "'"
    used.update(names)
    return names


def _node(op_type: str, inputs: list[str], outputs: list[str], attributes: dict) -> Node:
    return Node(op_type, "", "", inputs, outputs, attributes, 11, "batch")
