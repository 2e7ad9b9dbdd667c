"""ONNX's own backend interface, which its test suite drives; the one module that needs the onnx package."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, defs, helper
from onnx.backend.base import Backend, BackendRep

from fastconv.errors import ArgumentError
from fastconv.onnx.evaluate import Evaluator
from fastconv.onnx.session import InferenceSession

__all__ = ["EngineBackend", "PreparedModel", "ReferenceBackend", "onnx_backend"]


class PreparedModel(BackendRep):
    """A model ready to run: ``run(feeds)`` is a list of arrays for a dict, with the inputs that `inputs` describes."""

    def __init__(self, run, inputs: list):
        self._run = run
        self._inputs = inputs

    def run(self, inputs, **kwargs) -> tuple:
        """The outputs for `inputs`: one array, a sequence in the model's order, or a dict by name."""
        expected = self._inputs
        if isinstance(inputs, dict):
            feeds = inputs
        else:
            values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            if len(values) > len(expected):
                raise ArgumentError(f"inputs: the model takes {len(expected)}, got {len(values)}")
            feeds = {info.name: value for info, value in zip(expected, values, strict=False)}
        return tuple(self._run({name: _array(value) for name, value in feeds.items()}))


class EngineBackend(Backend):
    """Runs models through :class:`fastconv.InferenceSession`, whose arguments `prepare` takes by keyword."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs) -> bool:
        """Whether every operator of the model is there."""
        try:
            cls.prepare(model, device, **kwargs)
        except ArgumentError:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs) -> PreparedModel:
        """The model, ready to run; `kwargs` are those of :class:`fastconv.InferenceSession`."""
        cls._check(device)
        session = InferenceSession(model, **kwargs)
        return PreparedModel(lambda feeds: session.run(None, feeds), session.get_inputs())

    @classmethod
    def _check(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise ArgumentError(f"device: only CPU is supported, got {device!r}")

    @classmethod
    def run_model(cls, model: ModelProto, inputs, device: str = "CPU", **kwargs) -> tuple:
        """The outputs of the model for `inputs`, which are those of :meth:`PreparedModel.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: NodeProto, inputs, device: str = "CPU", outputs_info=None, **kwargs) -> tuple:
        """The outputs of one node; `opset_version` in `kwargs` is the version of its domain, the newest if left out."""
        names = [name for name in node.input if name]
        graph = helper.make_graph(
            [node],
            "node",
            [ValueInfoProto(name=name) for name in names],
            [ValueInfoProto(name=name) for name in node.output if name],
        )
        version = kwargs.get("opset_version") or defs.onnx_opset_version()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        values = inputs if isinstance(inputs, (dict, list, tuple)) else [inputs]
        if not isinstance(values, dict):
            values = [value for value, name in zip(values, node.input, strict=False) if name]
        return cls.run_model(model, values, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is the CPU, with or without a number."""
        return device.split(":")[0] == "CPU"


class ReferenceBackend(EngineBackend):
    """Runs every model node by node with NumPy."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs) -> PreparedModel:
        """The model, ready to run step by step as the file has it."""
        cls._check(device)
        evaluator = Evaluator(model)
        return PreparedModel(evaluator.run, evaluator.graph.inputs)


onnx_backend = EngineBackend  # the name that ``fastconv.onnx_backend`` finds


def _array(value):
    """NumPy scalars and numbers become arrays; sequences and None stay, with their elements made arrays."""
    if value is None or isinstance(value, np.ndarray):
        return value
    if isinstance(value, list):
        return [_array(element) for element in value]
    return np.asarray(value)
