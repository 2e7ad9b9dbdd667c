"""What computes a single node outside of a program: the operator's NumPy function, or kernels where they take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fastconv.errors import ModelError
from fastconv.graph import limits
from fastconv.graph.ir import Graph, Node, ValueInfo
from fastconv.graph.lower import LOWERINGS, Dynamic
from fastconv.graph.passes import PASSES
from fastconv.graph.program import Executable
from fastconv.onnx.operators import OPERATORS
from fastconv.onnx.operators.sizes import check_size
from fastconv.onnx.operators.windowed import padding
from fastconv.ops.conv import conv_plan
from fastconv.ops.table import KERNEL_ELEMENTS

__all__ = ["FastFunctions", "Functions", "Kernels"]

# operators whose lowering computes nothing, and so saves nothing outside of a program
VIEWS = {
    "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
}  # fmt: skip
# Elements of all inputs, below which NumPy has finished before a program is found; not in strict precision, where the way
# to a result must not depend on the number of images.
SMALL = 2048
KEPT_SHAPES = 8


class Functions:
    """``functions(node, inputs)`` is the tuple of the node's outputs, as NumPy computes them; ModelError where it fails."""

    def __init__(self):
        self._bound: dict[Node, tuple[Callable, dict]] = {}

    def __call__(self, node: Node, inputs: list) -> tuple:
        if node not in self._bound:
            operator = OPERATORS[node.domain, node.op_type]
            keywords = operator.bind(node.attributes, len(node.inputs), node.opset, len(node.outputs))
            self._bound[node] = (self.of(node), keywords)
        function, keywords = self._bound[node]
        budget = limits.current()
        if budget is not None:
            check_size(node, inputs, keywords, budget)
        try:
            with np.errstate(all="ignore"):
                results = function(*inputs, **keywords)
        except ModelError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{node} fails: {error}", node.where) from error
        except MemoryError as error:
            raise MemoryError(f"no memory for {node} ({node.where}): {error}") from error
        results = results if isinstance(results, tuple) else (results,)
        return tuple(r if isinstance(r, list) or r is None else np.asarray(r) for r in results)

    def of(self, node: Node) -> Callable:
        """The function of the node's operator."""
        return OPERATORS[node.domain, node.op_type].function


class FastFunctions(Functions):
    """Convolutions with weights that are computed, or of 16-bit floats, go to kernels, too."""

    def __init__(self, precision: str):
        super().__init__()
        self.precision = precision

    def of(self, node):
        if (node.domain, node.op_type) == ("", "Conv"):
            return self._conv
        return super().of(node)

    def _conv(
        self, x, w, b=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None
    ):
        """A convolution whose weights are packed for this call alone."""
        if kernel_shape and tuple(kernel_shape) != w.shape[2:]:
            raise ValueError(f"kernel_shape: {tuple(kernel_shape)} differs from the kernel of the weights {w.shape}")
        algorithm = "direct" if self.precision == "strict" and x.dtype.name in KERNEL_ELEMENTS else "auto"
        window = (strides or 1, padding(x.ndim - 2, auto_pad, pads), dilations or 1)
        plan = conv_plan(x, w, b, *window, group, algorithm)
        return plan(x, plan.pack(w, b))


class Kernels:
    """For :class:`~fastconv.onnx.evaluate.Evaluator`: the nodes that kernels compute, with weights packed once."""

    def __init__(self, functions: FastFunctions, packings: dict):
        self.functions = functions
        self.packings = packings

    def __call__(self, node: Node, constants: Mapping[str, np.ndarray]) -> Callable | None:
        known = (node.domain, node.op_type) in LOWERINGS or node.op_type in ("Conv", "ConvTranspose")
        if not known or node.op_type in VIEWS or not all(node.outputs):
            return self.functions.of(node)
        return _Lowered(node, constants, self)


class _Lowered:
    """One node as programs, one for each of the shapes met last."""

    def __init__(self, node: Node, constants: Mapping[str, np.ndarray], kernels: Kernels):
        self.kernels = kernels
        self.plain = kernels.functions.of(node)
        self.variable = [i for i, name in enumerate(node.inputs) if name and name not in constants]
        self.names = [node.inputs[i] for i in self.variable]
        graph = Graph(
            node.name,
            inputs=[ValueInfo(name, "", []) for name in self.names],
            outputs=[ValueInfo(name, "", []) for name in node.outputs],
            nodes=[node],
            constants={name: constants[name] for name in node.inputs if name in constants},
        )
        for rewrite in PASSES.values():
            graph = rewrite(graph)
        self.graph = graph
        self.programs: dict[tuple, Executable | None] = {}
        self.small = 0 if kernels.functions.precision == "strict" else SMALL

    def __call__(self, *inputs, **keywords):
        given = [inputs[i] for i in self.variable]
        if not all(isinstance(value, np.ndarray) for value in given) or sum(array.size for array in given) < self.small:
            return self.plain(*inputs, **keywords)
        key = tuple((array.shape, array.dtype) for array in given)
        if key not in self.programs:
            if len(self.programs) >= KEPT_SHAPES:
                self.programs.clear()
            self.programs[key] = self._program(given)
        executable = self.programs[key]
        if executable is None:
            return self.plain(*inputs, **keywords)
        feeds = {name: np.ascontiguousarray(array) for name, array in zip(self.names, given, strict=True)}
        return tuple(executable.run(feeds))

    def _program(self, given: list[np.ndarray]) -> Executable | None:
        """None where no kernel takes inputs of these shapes and types."""
        if any(array.dtype.hasobject for array in given):
            return None
        shapes = {name: (array.shape, array.dtype) for name, array in zip(self.names, given, strict=True)}
        functions = self.kernels.functions
        try:
            executable = Executable(self.graph, shapes, functions, self.kernels.packings, functions.precision)
        except (Dynamic, ModelError, ValueError, TypeError):
            return None
        return executable if any(call.algorithm != "numpy" for call in executable.calls) else None
