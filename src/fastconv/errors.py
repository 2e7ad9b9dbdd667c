"""The exceptions fastconv raises.

They derive from the exceptions of both worlds the callers come from: torch raises ``RuntimeError`` where NumPy
raises ``ValueError`` or ``TypeError``, and code written for either catches these.
"""

__all__ = [
    "ArgumentError",
    "ArgumentIndexError",
    "ArgumentTypeError",
    "MemoryLimitError",
    "ModelError",
    "WeightsError",
]


class ArgumentError(ValueError, RuntimeError):
    """An argument has the right type and an impossible value: a shape, a size, a name or a combination."""


class ArgumentIndexError(ArgumentError, IndexError):
    """An axis, a class or another index lies outside its range."""


class ArgumentTypeError(TypeError, RuntimeError):
    """An argument has the wrong type or element type."""


class ModelError(ArgumentError):
    """A model that cannot be read or run: `what` is wrong, and `where`, as in ``graph.node[3].attribute[1].t``."""

    def __init__(self, what: str, where: str = ""):
        super().__init__(f"{where}: {what}" if where else what)
        self.what = what
        self.where = where

    def __reduce__(self):
        return type(self), (self.what, self.where)

    def inside(self, outer: str) -> "ModelError":
        """The same error seen from one level further out."""
        separator = "." if self.where and not self.where.startswith("[") else ""
        return type(self)(self.what, outer + separator + self.where)


class MemoryLimitError(ModelError, MemoryError):
    """A model asks for more memory than its session may take; nothing of that size has been allocated."""


class WeightsError(ArgumentError):
    """A weight file that is broken, hostile, or of a kind that cannot be read; nothing was loaded from it."""
