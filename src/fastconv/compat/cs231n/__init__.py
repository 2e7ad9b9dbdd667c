"""The layers of Stanford's course CS231n, under the course's names and conventions, without its Cython extension.

The modules are the course's: change ``from cs231n.fast_layers import *`` into
``from fastconv.compat.cs231n.fast_layers import *``, or take all names from here.  A forward function returns
``(out, cache)``, float64 stays float64, and the parameter dictionaries are the course's.  The backward functions exist by
name and raise ``NotImplementedError``: write your own on the caches, which are those of the course.

Source: https://cs231n.github.io, assignment 2.
"""

from fastconv.compat.cs231n.fast_layers import *  # noqa: F403
from fastconv.compat.cs231n.fast_layers import __all__ as _fast_layers
from fastconv.compat.cs231n.im2col import *  # noqa: F403
from fastconv.compat.cs231n.im2col import __all__ as _im2col
from fastconv.compat.cs231n.im2col_cython import *  # noqa: F403
from fastconv.compat.cs231n.im2col_cython import __all__ as _im2col_cython
from fastconv.compat.cs231n.layer_utils import *  # noqa: F403
from fastconv.compat.cs231n.layer_utils import __all__ as _layer_utils
from fastconv.compat.cs231n.layers import *  # noqa: F403
from fastconv.compat.cs231n.layers import __all__ as _layers

__all__ = [*_fast_layers, *_im2col, *_im2col_cython, *_layer_utils, *_layers]
