"""Matrix products of floats."""

import numpy as np

from fastconv.onnx.operators.registry import operator
from fastconv.reference.precision import accumulator


def _product(a, b):
    wide = accumulator(a.dtype)
    return a.astype(wide, copy=False) @ b.astype(wide, copy=False)


@operator
def MatMul(a, b):
    return _product(a, b).astype(a.dtype)


@operator(ignored=("broadcast",))
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    """alpha * A' @ B' + beta * C, A and B transposed where asked; C broadcasts to the product."""
    y = _product(a.T if transA else a, b.T if transB else b)
    y = y if alpha == 1 else y * alpha
    if c is not None:
        y = y + (c if beta == 1 else c * beta)
    return y.astype(a.dtype)


@operator
def Einsum(*inputs, equation):
    return np.einsum(equation, *inputs)
