"""ONNX operators computed with NumPy, one function each; importing this package fills the table."""

from fastconv.onnx.operators import (  # noqa: F401
    activation,
    call,
    constant,
    control,
    detection,
    elementwise,
    fused,
    matmul,
    microsoft,
    normalization,
    quantization,
    recurrent,
    reduction,
    resize,
    sampling,
    sequence,
    shape,
    windowed,
)
from fastconv.onnx.operators.registry import OPERATORS, Operator, operator

__all__ = ["OPERATORS", "Operator", "operator"]
