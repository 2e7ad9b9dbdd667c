"""A network as nodes and values: what the passes rewrite and the compiler lowers.

Operators are ONNX's, by name and meaning; the passes add those of the domain "fastconv".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Graph", "Node", "ValueInfo"]


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """What the file says of a value.

    `type` is spelt as onnxruntime spells it, ``tensor(float)``.  `shape` holds per axis an int, the name of a symbolic
    size, or None where nothing is known; it is empty for an unknown rank, which `has_rank` tells from a scalar.
    """

    name: str
    type: str
    shape: list[int | str | None]
    dtype: np.dtype | None = None
    has_rank: bool = False


@dataclass(slots=True, eq=False)
class Node:
    """One operator to run.  Names of omitted inputs and outputs are ""; `opset` is the version of the node's domain.

    `original` is the node that computes the whole batch, where this one computes some of its images.
    """

    op_type: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    opset: int
    where: str
    original: Node | None = None

    def __str__(self) -> str:
        domain = f"{self.domain}::" if self.domain else ""
        return f"{domain}{self.op_type} {self.name or ', '.join(self.outputs)!r}"

    def graphs(self) -> list[Graph]:
        """The subgraphs among the attributes."""
        return [value for value in self.attributes.values() if isinstance(value, Graph)]

    def reads(self) -> list[str]:
        """Names of all values that running the node needs, those its subgraphs take from outside included."""
        names = [*filter(None, self.inputs)]
        for value in self.attributes.values():
            if isinstance(value, Graph):
                names += value.captures
        return names


@dataclass(slots=True, eq=False)
class Graph:
    """Nodes in an order in which they can run, and what they start from.

    `inputs` have to be given, `defaults` are inputs that an entry of `constants` stands for, and `captures` names the
    values that a subgraph takes from the graphs around it.
    """

    name: str
    inputs: list[ValueInfo] = field(default_factory=list)
    outputs: list[ValueInfo] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    defaults: list[ValueInfo] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    value_info: dict[str, ValueInfo] = field(default_factory=dict)
