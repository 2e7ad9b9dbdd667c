"""onnx's reference evaluator with fastconv's kernels for convolution and pooling, which it computes in Python loops.

    from onnx.reference import ReferenceEvaluator
    from fastconv.compat.onnx_reference import new_ops

    evaluator = ReferenceEvaluator(model, new_ops=new_ops)

Results are those of ``fastconv.InferenceSession`` for a model of one node, so where the evaluator departs from ONNX's
specification (``auto_pad`` SAME_LOWER of MaxPool, indices of MaxPool with stride 1, pooling a window that is larger than
its input) they differ from the evaluator's own.  The one module of this package that needs the onnx package.
"""

from __future__ import annotations

import numpy as np
from onnx.reference.op_run import OpRun

from fastconv._kernels.array_memory import fingerprint
from fastconv.graph.ir import Node
from fastconv.onnx.functions import FastFunctions, Kernels
from fastconv.onnx.operators import OPERATORS

__all__ = [
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "LpPool",
    "MaxPool",
    "new_ops",
]


class _Engine(OpRun):
    """A node that fastconv computes; its weights are packed once, and again when their bytes have changed."""

    op_domain = ""
    weights = 0  # inputs behind the first that are packed

    def __init__(self, onnx_node, run_params, schema=None):
        super().__init__(onnx_node, run_params, schema)
        self._bound = (None, None)

    def _run(self, *inputs, **attributes):
        attributes = {name: value for name, value in attributes.items() if value is not None}
        key = (repr(attributes), *(_identity(array) for array in inputs[1 : 1 + self.weights]))
        bound, function = self._bound
        if bound != key:
            function = self._function(inputs, attributes)
            self._bound = (key, function)
        with np.errstate(all="ignore"):
            results = function(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        return tuple(map(np.asarray, results[: len(self.output)]))

    def _function(self, inputs: tuple, attributes: dict):
        """The node for these weights and attributes, as a function of all its inputs."""
        names = [f"input{i}" if array is not None else "" for i, array in enumerate(inputs)]
        outputs = [f"output{i}" if name else "" for i, name in enumerate(self.output)]
        opset = self.run_params["opsets"][self.op_domain]
        node = Node(self.op_type, self.op_domain, self.onnx_node.name, names, outputs, attributes, opset, "node")
        operator = OPERATORS[self.op_domain, self.op_type]
        keywords = operator.bind(attributes, len(inputs), opset, len(outputs))
        constants = {
            name: np.array(array)
            for name, array in zip(names[1 : 1 + self.weights], inputs[1 : 1 + self.weights], strict=True)
            if name
        }
        function = Kernels(FastFunctions("default"), {})(node, constants)
        return lambda *arrays: function(*arrays, **keywords)


def _identity(array: np.ndarray | None):
    """What changes when the array does."""
    return None if array is None else (array.shape, array.dtype.str, fingerprint(np.ascontiguousarray(array)))


class Conv(_Engine):
    weights = 2


class ConvTranspose(_Engine):
    weights = 2


class MaxPool(_Engine):
    pass


class AveragePool(_Engine):
    pass


class LpPool(_Engine):
    pass


class GlobalAveragePool(_Engine):
    pass


class GlobalMaxPool(_Engine):
    pass


class GlobalLpPool(_Engine):
    pass


new_ops = [Conv, ConvTranspose, MaxPool, AveragePool, LpPool, GlobalAveragePool, GlobalMaxPool, GlobalLpPool]
