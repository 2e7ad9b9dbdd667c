"""torch.nn.functional's names and semantics on NumPy arrays: check, then hand over to the op table.

Arrays are batched (N, C, *spatial) or unbatched (C, *spatial); any strides, read-only arrays, and anything with
``__array__`` or ``__dlpack__`` are accepted, and no argument is ever changed.  A wrong argument raises
:class:`fastconv.ArgumentError` (a ``ValueError`` and a ``RuntimeError``) or :class:`fastconv.ArgumentTypeError`
(a ``TypeError``) before any work is done.
"""

from fastconv.nn.functional.convolution import conv1d, conv2d, conv3d
from fastconv.nn.functional.linear import bilinear, linear

__all__ = ["bilinear", "conv1d", "conv2d", "conv3d", "linear"]
