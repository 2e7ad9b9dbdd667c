"""The operators that kernels compute; everything else is NumPy's.  Importing this package fills the table."""

from fastconv.graph.lowerings import (  # noqa: F401
    activation,
    arithmetic,
    concatenation,
    convolution,
    matmul,
    normalization,
    pooling,
    resize,
    shape,
)
