"""An ONNX model as Python values: graphs of nodes with decoded attributes, local functions written out, names checked.

:func:`load` reads a file, bytes or anything with ``SerializeToString()``.  What it returns has no protocol-buffer
messages left in it: constants are arrays, subgraphs are :class:`Graph`, and every fault that can be seen without
running the model has been raised as :class:`~fastconv.errors.ModelError`.
"""

from __future__ import annotations

import os
from collections import ChainMap
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from fastconv.errors import ArgumentTypeError, ModelError
from fastconv.graph.ir import Graph, Node, ValueInfo
from fastconv.onnx import proto, tensors
from fastconv.onnx.file_bytes import FileBytes
from fastconv.onnx.proto import Message

__all__ = ["Graph", "Model", "Node", "ValueInfo", "load"]

MAX_DEPTH = 100  # of graphs and calls in each other; keeps clear of Python's recursion limit
MAX_INLINED_BYTES = 2**28  # calls of functions by functions can grow exponentially

# AttributeProto.AttributeType → the field that holds the value.
_ATTRIBUTE_FIELDS = {
    1: "f",
    2: "i",
    3: "s",
    4: "t",
    5: "g",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
    11: "sparse_tensor",
    12: "sparse_tensors",
    13: "tp",
    14: "type_protos",
}


@dataclass(slots=True, eq=False)
class Model:
    """A graph and the file's word about it.  `opsets` is the version of each operator domain, "" being ai.onnx."""

    graph: Graph
    opsets: dict[str, int]
    ir_version: int
    producer_name: str
    producer_version: str
    domain: str
    version: int
    description: str
    metadata: dict[str, str]
    # files beside the model that hold data of its tensors, and their state when read
    data_files: dict[str, tuple] = field(default_factory=dict)

    def data_files_unchanged(self) -> bool:
        """Whether the files beside the model are still those that its tensors were read from."""
        return all(tensors.file_state(path) == state for path, state in self.data_files.items())


def load(source, path: str | None = None) -> Model:
    """Read a model from a path, from bytes, from the FileBytes of an open file, or from an object with
    ``SerializeToString()`` such as onnx.ModelProto.

    `path` is where bytes have come from: tensors with data in files of their own are looked up beside it.
    Raises :class:`~fastconv.errors.ModelError` for a damaged or impossible model, OSError where a path cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        with open(path, "rb", buffering=0) as file:
            return _model(FileBytes.of(file), path)
    if isinstance(source, FileBytes):
        return _model(source, path)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _model(bytes(source), path)
    if hasattr(source, "SerializeToString"):
        return _model(source.SerializeToString(), path)
    raise ArgumentTypeError(
        f"model: expected a path, bytes or an object with SerializeToString(), got {type(source).__name__}"
    )


def _model(data, path: str | None) -> Model:
    message = proto.decode("ModelProto", data)
    if message.graph is None:
        raise ModelError("the file holds no graph; is it an ONNX model?")
    opsets = _opsets(message.opset_import) or {"": 1}
    files = tensors.DataFiles(path)
    builder = _Builder(message, files)
    return Model(
        graph=builder.graph(message.graph, ChainMap(), _Context(opsets), "graph"),
        opsets=opsets,
        ir_version=message.ir_version,
        producer_name=message.producer_name,
        producer_version=message.producer_version,
        domain=message.domain,
        version=message.model_version,
        description=message.doc_string,
        metadata={entry.key: entry.value for entry in message.metadata_props},
        data_files=files.states,
    )


@dataclass(frozen=True, slots=True)
class _Context:
    """What holds for all nodes of a graph or of a function's body; `bindings` are the attributes of the call."""

    opsets: dict[str, int]
    bindings: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    calls: tuple[Message, ...] = ()
    depth: int = 0

    def deeper(self, where: str, **changes) -> _Context:
        if self.depth == MAX_DEPTH:
            raise ModelError(f"graphs and calls of local functions nest more than {MAX_DEPTH} deep", where)
        return replace(self, depth=self.depth + 1, **changes)


class _Builder:
    """Turns messages into graphs.  A scope maps names in the file to names of values, which differ inside functions."""

    def __init__(self, model: Message, files: tensors.DataFiles):
        self.files = files
        self.functions = {
            (_domain(f.domain), f.name, f.overload): (f, f"functions[{i}]") for i, f in enumerate(model.functions)
        }
        self.arrays: dict[int, np.ndarray] = {}
        self.names: set[str] = set()
        self.inlined_bytes = 0

    def graph(self, message: Message, outer: ChainMap[str, str], context: _Context, where: str) -> Graph:
        """The graph of a GraphProto inside of the scope `outer`."""
        if message.sparse_initializer:
            raise ModelError("sparse tensors are not supported", f"{where}.sparse_initializer[0]")
        graph = Graph(message.name)
        scope = outer.new_child()
        own = scope.maps[0]
        for i, tensor in enumerate(message.initializer):
            place = f"{where}.initializer[{i}]"
            name = self._define(own, tensor.name, context, place)
            graph.constants[name] = self._array(tensor, place)
        for i, info in enumerate(message.input):
            place = f"{where}.input[{i}]"
            if info.name in own and own[info.name] in graph.constants:
                graph.defaults.append(_value_info(info, own[info.name], place))
            else:
                graph.inputs.append(_value_info(info, self._define(own, info.name, context, place), place))
        graph.nodes = _ordered(self.nodes(message.node, scope, own, context, f"{where}.node"))
        for i, info in enumerate(message.output):
            place = f"{where}.output[{i}]"
            graph.outputs.append(_value_info(info, self._lookup(scope, info.name, place), place))
        for i, info in enumerate(message.value_info):
            if info.name in own:
                graph.value_info[own[info.name]] = _value_info(info, own[info.name], f"{where}.value_info[{i}]")
        produced = {*graph.constants, *(info.name for info in graph.inputs)}
        produced.update(name for node in graph.nodes for name in node.outputs)
        read = [name for node in graph.nodes for name in node.reads()] + [info.name for info in graph.outputs]
        graph.captures = [name for name in dict.fromkeys(read) if name not in produced]
        return graph

    def nodes(self, messages, scope: ChainMap[str, str], taken, context: _Context, where: str) -> list[Node]:
        """The nodes of a graph or function body, calls of local functions replaced by their bodies.

        The values they compute join the innermost map of `scope`, which may name some of them already; those in `taken`
        must not be computed.
        """
        own, taken = scope.maps[0], set(taken)
        for i, message in enumerate(messages):
            for name in filter(None, message.output):
                if name in taken:
                    raise ModelError(f"value {name!r} is there twice; every name has one source", f"{where}[{i}]")
                taken.add(name)
                if name not in own:
                    self._define(own, name, context, f"{where}[{i}]")
        nodes: list[Node] = []
        for i, message in enumerate(messages):
            node = self._node(message, scope, context, f"{where}[{i}]")
            function = self.functions.get((node.domain, node.op_type, message.overload))
            nodes += self._inlined(node, *function, context) if function else [node]
        return nodes

    def _node(self, message: Message, scope: ChainMap[str, str], context: _Context, where: str) -> Node:
        attributes = {}
        for i, attribute in enumerate(message.attribute):
            place = f"{where}.attribute[{i}]"
            if attribute.name in attributes:
                raise ModelError(f"attribute {attribute.name!r} is there twice", place)
            if not attribute.ref_attr_name:
                attributes[attribute.name] = self._attribute(attribute, scope, context, place)
            elif attribute.ref_attr_name in context.bindings:
                attributes[attribute.name] = context.bindings[attribute.ref_attr_name]
        inputs = [self._lookup(scope, name, f"{where}.input[{i}]") for i, name in enumerate(message.input)]
        outputs = [scope.maps[0][name] if name else "" for name in message.output]
        domain = _domain(message.domain)
        if context.calls:
            self.inlined_bytes += 1000 + 200 * len(attributes) + sum(50 + len(name) for name in outputs + inputs)
            if self.inlined_bytes > MAX_INLINED_BYTES:
                raise ModelError("the calls of local functions, written out, take more memory than is sensible", where)
        opset = context.opsets.get(domain, 1)
        return Node(message.op_type, domain, message.name, inputs, outputs, attributes, opset, where)

    def _inlined(self, call: Node, function: Message, where: str, context: _Context) -> list[Node]:
        """The body of a local function with the values and attributes of one call."""
        if function in context.calls:
            raise ModelError(f"local function {function.name!r} calls itself", call.where)
        if len(call.inputs) > len(function.input) or len(call.outputs) > len(function.output):
            raise ModelError(
                f"{call} has {len(call.inputs)} inputs and {len(call.outputs)} outputs; its local function has "
                f"{len(function.input)} and {len(function.output)}",
                call.where,
            )
        where = f"{call.where} → {where}"
        inside = context.deeper(
            where,
            opsets={**context.opsets, **_opsets(function.opset_import)},
            prefix=f"{next(filter(None, call.outputs), call.where)}/",
            calls=(*context.calls, function),
            bindings={},
        )
        for i, attribute in enumerate(function.attribute_proto):
            place = f"{where}.attribute_proto[{i}]"
            inside.bindings[attribute.name] = self._attribute(attribute, ChainMap(), inside, place)
        inside.bindings.update(call.attributes)
        given = call.inputs + [""] * (len(function.input) - len(call.inputs))
        scope = ChainMap({}, dict(zip(function.input, given, strict=True)))
        returned = dict(zip(function.output, call.outputs, strict=False))
        passed_through = {name: target for name, target in returned.items() if name in scope}
        scope.update({name: target for name, target in returned.items() if target and name not in scope})
        nodes = self.nodes(function.node, scope, function.input, inside, f"{where}.node")
        computed = {name for node in function.node for name in node.output}
        for name, target in returned.items():
            if name in passed_through:
                nodes.append(Node("Identity", "", call.name, [scope[name]], [target], {}, 1, where))
            elif name not in computed:
                raise ModelError(f"output {name!r} of the function is computed by none of its nodes", where)
        return nodes

    def _define(self, own, name: str, context: _Context, where: str) -> str:
        """Add `name` to the map `own` of a scope and return the name of its value in the model."""
        if not name:
            raise ModelError("a value without a name", where)
        if name in own:
            raise ModelError(f"value {name!r} is there twice; every name has one source", where)
        unique = context.prefix + name
        while context.prefix and unique in self.names:
            unique += "_"
        self.names.add(unique)
        own[name] = unique
        return unique

    def _lookup(self, scope: ChainMap[str, str], name: str, where: str) -> str:
        try:
            return scope[name] if name else ""
        except KeyError:
            raise ModelError(f"value {name!r} comes from no node, input or initializer", where) from None

    def _array(self, tensor: Message, where: str) -> np.ndarray:
        if id(tensor) not in self.arrays:
            try:
                self.arrays[id(tensor)] = tensors.array(tensor, self.files)
            except ModelError as error:
                raise error.inside(where) from None
        return self.arrays[id(tensor)]

    def _attribute(self, message: Message, scope: ChainMap[str, str], context: _Context, where: str):
        kind = message.type or next((k for k, name in _ATTRIBUTE_FIELDS.items() if name in message), 0)
        source = _ATTRIBUTE_FIELDS.get(kind)
        value = getattr(message, source) if source else None
        if value is None:
            raise ModelError(f"attribute {message.name!r} has no value ({source or f'type {kind}'})", where)
        where = f"{where}.{source}"
        if source in ("f", "i", "floats", "ints"):
            return value
        if source in ("s", "strings"):
            return _text(value) if source == "s" else [_text(v) for v in value]
        if source in ("t", "tensors"):
            return self._array(value, where) if source == "t" else [self._array(v, where) for v in value]
        if source == "g":
            return self.graph(value, scope, context.deeper(where), where)
        if source == "tp":
            return _type(value, where)[0]
        raise ModelError(f"attribute {message.name!r}: values of kind {source} are not supported", where)


def _ordered(nodes: list[Node]) -> list[Node]:
    """`nodes` so that each comes after those whose values it reads; in the file's order where that does it."""
    producer = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    sources = [{producer[name] for name in node.reads() if name in producer} for node in nodes]
    if all(source < i for i, needed in enumerate(sources) for source in needed):
        return nodes
    try:
        return [nodes[i] for i in TopologicalSorter(dict(enumerate(sources))).static_order()]
    except CycleError as error:
        circle = [str(nodes[i]) for i in error.args[1]]
        raise ModelError(f"the graph has a circle: {' → '.join(circle[:10])}", nodes[error.args[1][0]].where) from None


def _opsets(imports) -> dict[str, int]:
    return {_domain(entry.domain): entry.version for entry in imports}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _value_info(message: Message, name: str, where: str) -> ValueInfo:
    kind, tensor = _type(message.type, where) if message.type is not None else ("", None)
    if tensor is None:
        return ValueInfo(name, kind, [])
    dims = tensor.shape.dim if tensor.shape is not None else ()
    shape = [d.dim_value if "dim_value" in d else d.dim_param or None for d in dims]
    return ValueInfo(name, kind, shape, tensors.DTYPES.get(tensor.elem_type), tensor.shape is not None)


def _type(message: Message, where: str) -> tuple[str, Message | None]:
    """The type's name and, for a plain tensor, its TypeProto.Tensor."""
    if message.tensor_type is not None:
        return f"tensor({tensors.TYPE_NAMES.get(message.tensor_type.elem_type, 'undefined')})", message.tensor_type
    for field_name, name in (("sequence_type", "seq"), ("optional_type", "optional")):
        inner = getattr(message, field_name)
        if inner is not None:
            return f"{name}({_type(inner.elem_type, where)[0] if inner.elem_type is not None else 'undefined'})", None
    if message.map_type is not None and message.map_type.value_type is not None:
        key = tensors.TYPE_NAMES.get(message.map_type.key_type, "undefined")
        return f"map({key},{_type(message.map_type.value_type, where)[0]})", None
    if message.sparse_tensor_type is not None:
        raise ModelError("sparse tensors are not supported", where)
    return "undefined", None
