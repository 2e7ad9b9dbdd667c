"""Architectures built from ``fastconv.nn``, with torchvision's state-dict names where torchvision has them.

``fastconv.models.lenet5(weights="mnist")`` is trained and shipped; each architecture is imported when it is first used.
"""

from importlib import import_module

_MODULE_OF = {"lenet5": "lenet", "mnist_samples": "lenet"}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name in _MODULE_OF:
        return getattr(import_module(f"fastconv.models.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'fastconv.models' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__
