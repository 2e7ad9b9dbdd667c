"""The table of ONNX operators: (domain, name) → the function that computes it with NumPy.

An operator's function takes ONNX's inputs by position, None for one that is omitted, and ONNX's attributes by keyword
with ONNX's defaults; it returns an array, or a tuple for several outputs.  What an older version passed as an attribute
and a newer one passes as an input is one parameter, usable either way.  Two keywords are not attributes: `opset`, the
version of the operator's domain, where a meaning has changed, and `outputs`, the number of outputs asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

__all__ = ["OPERATORS", "Operator", "operator"]

_FROM_EVALUATOR = ("opset", "outputs")
_IGNORED = {"consumed_inputs"}  # of opset 1, and without meaning


@dataclass(frozen=True, slots=True)
class Operator:
    function: Callable
    extras: tuple[str, ...]
    ignored: frozenset[str]
    needed: tuple[str, ...]  # by position, the names of inputs without a default, "" for the others

    def omitted(self, inputs: list[str]) -> list[str]:
        """The function's names for inputs that it needs and the node leaves out."""
        return [name for name, given in zip(self.needed, inputs, strict=False) if name and not given]

    def bind(self, attributes: dict, input_count: int, opset: int, output_count: int) -> dict:
        """The keywords to call the function with; TypeError where it does not take such attributes or inputs."""
        keywords = {name: value for name, value in attributes.items() if name not in self.ignored}
        unknown = keywords.keys() & set(_FROM_EVALUATOR)
        if unknown:
            raise TypeError(f"got an unexpected attribute {unknown.pop()!r}")
        given = {"opset": opset, "outputs": output_count}
        keywords.update({name: given[name] for name in self.extras})
        _check_call(self.function, input_count, tuple(keywords))
        return keywords


@lru_cache(maxsize=1024)
def _check_call(function: Callable, count: int, keywords: tuple[str, ...]) -> None:
    """TypeError where the function does not take so many inputs and these keywords."""
    _signature(function).bind(*(None,) * count, **dict.fromkeys(keywords))


_signature = cache(inspect.signature)  # takes longer to find than to bind


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(function: Callable | None = None, *, name: str | None = None, domain="", ignored: tuple[str, ...] = ()):
    """Decorator that enters a function into :data:`OPERATORS`, under its own name unless another is given.

    `ignored` names attributes that do not change the result.
    """

    def register(function: Callable) -> Callable:
        signature = _signature(function)
        extras = tuple(extra for extra in _FROM_EVALUATOR if extra in signature.parameters)
        needed = tuple(
            p.name if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD else ""
            for p in signature.parameters.values()
        )
        entry = Operator(function, extras, _IGNORED.union(ignored), needed)
        OPERATORS[domain, name or function.__name__] = entry
        return function

    return register(function) if function is not None else register
