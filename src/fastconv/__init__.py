"""fastconv: convolutional networks on CPUs, from NumPy arrays.

``fastconv.nn`` and ``fastconv.nn.functional`` follow torch's names and semantics, ``fastconv.reference`` specifies every
operation in plain NumPy, and the kernels behind them are chosen once per shape.  Everything heavy is imported on use.
"""

from importlib import import_module

from fastconv.errors import ArgumentError, ArgumentTypeError, MemoryLimitError, ModelError, WeightsError

__version__ = "0.1.0"

_LAZY_MODULES = {"geometry", "models", "nn", "reference", "weights"}
_LAZY_NAMES = {
    "InferenceSession": "fastconv.onnx.session",
    "algorithms": "fastconv.ops.candidates",
    "compile": "fastconv.tracing",
    "get_num_threads": "fastconv.config",
    "load_state_dict": "fastconv.weights",
    "manual_seed": "fastconv.nn.random",
    "onnx_backend": "fastconv.onnx.backend",
    "save_state_dict": "fastconv.weights",
    "set_num_threads": "fastconv.config",
    "show_config": "fastconv.config",
    "threads": "fastconv.config",
}

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "InferenceSession",
    "MemoryLimitError",
    "ModelError",
    "WeightsError",
    "__version__",
    "algorithms",
    "compile",
    "geometry",
    "get_num_threads",
    "load_state_dict",
    "manual_seed",
    "models",
    "nn",
    "onnx_backend",
    "reference",
    "save_state_dict",
    "set_num_threads",
    "show_config",
    "threads",
    "weights",
]


TYPE_CHECKING = False  # what type checkers take for typing's, which would have to be imported
if TYPE_CHECKING:
    from fastconv import geometry, models, nn, reference, weights
    from fastconv.config import get_num_threads, set_num_threads, show_config, threads
    from fastconv.nn.random import manual_seed
    from fastconv.onnx.backend import onnx_backend
    from fastconv.onnx.session import InferenceSession
    from fastconv.ops.candidates import algorithms
    from fastconv.tracing import compile
    from fastconv.weights import load_state_dict, save_state_dict


def __getattr__(name: str):
    if name in _LAZY_MODULES:
        return import_module(f"fastconv.{name}")
    if name in _LAZY_NAMES:
        return getattr(import_module(_LAZY_NAMES[name]), name)
    instead = ""
    if not name.startswith("_"):
        from fastconv.from_torch import FUNCTIONS

        instead = f": arrays are NumPy's, torch.{name} is {FUNCTIONS[name]}" if name in FUNCTIONS else ""
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}{instead}")


def __dir__():
    return __all__
