"""Networks from the one-line patterns in which lectures write architectures down.

    chain  =  term { separator term }             separator: - or , or ->
    term   =  ( layer | ( chain ) | [ chain ] ) { * count | ? }
    layer  =  CONV | RELU | POOL | FC | SOFTMAX
    count  =  a number, or a name that the caller gives a number

Spaces have no meaning, nor has the case of a layer.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer, is_sequence, per_axis

__all__ = ["from_pattern"]

LAYERS = ("CONV", "RELU", "POOL", "FC", "SOFTMAX")
CLOSING = {"(": ")", "[": "]"}
MAX_LAYERS = 1000
MAX_DEPTH = 100
_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z_]\w*|\d+)|(?P<separator>->|-|,)|(?P<symbol>[()\[\]*?]))")


class _Layer(NamedTuple):
    kind: str
    position: int
    optional: bool = False


class _Parser:
    """One pass over the tokens; every method reads its part of the grammar and returns the layers, repeated."""

    def __init__(self, pattern: str, counts: dict[str, int]):
        self.pattern = pattern
        self.counts = counts
        self.position = 0
        self.depth = 0
        self.used: set[str] = set()
        self._advance()

    def error(self, what: str, position: int | None = None) -> ArgumentError:
        position = self.start if position is None else position
        return ArgumentError(f"pattern: position {position}: {what}\n  {self.pattern}\n  {' ' * position}^")

    def _advance(self) -> None:
        match = _TOKEN.match(self.pattern, self.position)
        if match:
            self.kind, self.token = match.lastgroup, match[match.lastgroup]
            self.start, self.position = match.start(match.lastgroup), match.end()
        else:
            self.start = len(self.pattern) - len(self.pattern[self.position :].lstrip())
            self.kind, self.token = "end", self.pattern[self.start : self.start + 1]
            if self.token:
                raise self.error(f"{self.token!r} has no meaning")

    def _found(self) -> str:
        return "the end" if self.kind == "end" else repr(self.token)

    def whole(self) -> list[_Layer]:
        layers = self._chain()
        if self.kind != "end":
            raise self.error(f"expected - or the end, got {self._found()}")
        return layers

    def _chain(self) -> list[_Layer]:
        layers = self._term()
        while self.kind == "separator":
            start = self.start
            self._advance()
            layers += self._term()
            if len(layers) > MAX_LAYERS:
                raise self.error(f"more than {MAX_LAYERS} layers", start)
        return layers

    def _term(self) -> list[_Layer]:
        if self.kind == "word":
            if self.token.upper() not in LAYERS:
                raise self.error(f"expected one of {', '.join(LAYERS)}, got {self._found()}")
            layers = [_Layer(self.token.upper(), self.start)]
            self._advance()
        elif self.token in CLOSING:
            layers = self._group()
        else:
            raise self.error(f"expected a layer, ( or [, got {self._found()}")
        while self.kind == "symbol" and self.token in "*?":
            if self.token == "?":
                layers = [layer._replace(optional=True) for layer in layers]
                self._advance()
            else:
                star = self.start
                self._advance()
                count = self._count()
                if len(layers) * count > MAX_LAYERS:
                    raise self.error(f"more than {MAX_LAYERS} layers", star)
                layers = layers * count
        return layers

    def _group(self) -> list[_Layer]:
        opened, self.depth = (self.token, self.start), self.depth + 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep")
        self._advance()
        layers = self._chain()
        if self.token != CLOSING[opened[0]] or self.kind == "end":
            raise self.error(
                f"expected - or {CLOSING[opened[0]]} for the {opened[0]} at position {opened[1]}, got {self._found()}"
            )
        self.depth -= 1
        self._advance()
        return layers

    def _count(self) -> int:
        if self.kind != "word":
            raise self.error(f"expected a number of repetitions, got {self._found()}")
        word = self.token
        if not word.isdecimal() and word not in self.counts:
            given = ", ".join(self.counts) or "none"
            raise self.error(f"{word!r} has no number: pass {word}=… to from_pattern (given: {given})")
        if len(word) > len(str(MAX_LAYERS)) and word.isdecimal():
            raise self.error(f"more than {MAX_LAYERS} layers")
        self.used.add(word)
        self._advance()
        return int(word) if word.isdecimal() else self.counts[word]


def from_pattern(
    pattern: str,
    *,
    in_channels: int = 3,
    input_size: int | tuple[int, int] = 32,
    channels: int | Sequence[int] = 32,
    hidden: int | Sequence[int] = 256,
    num_classes: int = 10,
    kernel_size: int = 3,
    optional: bool | Sequence[bool] = True,
    **counts: int,
) -> nn.Sequential:
    """The network that a pattern such as ``"[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX"`` describes.

    Input (n, in_channels, *input_size).  CONV keeps the size, POOL halves it by max pooling, the first FC flattens.
    SOFTMAX is a softmax classifier: a full connection to `num_classes`, unless an FC stands right before it, and the
    probabilities.  Without SOFTMAX an FC that ends the pattern gives the logits.  The state dict has keys
    ``features.i`` and ``classifier.i``.

    Args:
        pattern: layers joined by ``-``; ``(…)*2`` repeats, ``?`` marks what `optional` may leave out.  A count may be a
            name: ``from_pattern("[(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K-SOFTMAX", N=2, M=3, K=1)``.
        channels: filters of the first CONV, doubled after every POOL; or one number per CONV.
        hidden: units of every hidden FC, or one number per hidden FC.
        kernel_size: of every CONV.
        optional: whether the layers marked ``?`` are built; or one answer for each, in the order in which they come.
        counts: numbers of the names in the pattern.

    Raises:
        ArgumentError: the pattern does not parse, its layers do not fit one another, or the input is too small; the
            message names the position, counted from 0.

    Source: CS231n, "Convolutional neural networks", 2016, lecture 7: typical architectures.
    """
    if not isinstance(pattern, str):
        raise ArgumentTypeError(f"pattern: expected text, got {type(pattern).__name__}")
    counts = {name: integer(count, name, 0) for name, count in counts.items()}
    parser = _Parser(pattern, counts)
    layers = parser.whole()
    if unused := [name for name in counts if name not in parser.used]:
        raise ArgumentError(f"{', '.join(unused)}: the pattern has no such count")
    layers = _chosen(layers, optional)
    size = per_axis(input_size, 2, "input_size")
    return _Builder(parser, layers, in_channels, size, channels, hidden, num_classes, kernel_size).network()


def _chosen(layers: list[_Layer], optional) -> list[_Layer]:
    """`layers` without the optional ones that are not wanted."""
    marked = sum(layer.optional for layer in layers)
    answers = list(optional) if is_sequence(optional) else [optional] * marked
    if len(answers) != marked:
        raise ArgumentError(f"optional: expected True, False or {marked} answers, got {len(answers)}")
    answers = iter(answers)
    return [layer for layer in layers if not layer.optional or next(answers)]


def _numbers(value, count: int, name: str) -> Iterator[int]:
    values = list(value) if is_sequence(value) else [value] * count
    if len(values) != count:
        raise ArgumentError(f"{name}: expected one number, or {count}, got {len(values)}: {values}")
    return iter([integer(v, name, 1) for v in values])


class _Builder:
    """Makes the modules of `layers` one after the other, from the shape that the one before leaves."""

    def __init__(self, parser, layers, in_channels, size, channels, hidden, num_classes, kernel_size):
        self.parser = parser
        self.layers = layers
        self.size = size
        self.width = integer(in_channels, "in_channels", 1)
        self.num_classes = integer(num_classes, "num_classes", 1)
        self.kernel_size = kernel_size
        kinds = [layer.kind for layer in layers]
        self.gives_classes = [
            kind == "FC" and following in (["SOFTMAX"], [])
            for kind, following in zip(kinds, (kinds[i + 1 :] for i in range(len(kinds))), strict=True)
        ]
        self.filters = self._filters(kinds, channels)
        self.hidden = _numbers(hidden, kinds.count("FC") - sum(self.gives_classes), "hidden")
        self.features: list[nn.Module] = []
        self.classifier: list[nn.Module] = []

    @staticmethod
    def _filters(kinds, channels) -> Iterator[int]:
        if is_sequence(channels):
            return _numbers(channels, kinds.count("CONV"), "channels")
        first = integer(channels, "channels", 1)
        return iter([first * 2 ** kinds[:i].count("POOL") for i, kind in enumerate(kinds) if kind == "CONV"])

    def network(self) -> nn.Sequential:
        for layer, gives_classes in zip(self.layers, self.gives_classes, strict=True):
            if layer.kind in ("CONV", "POOL") and self.classifier:
                raise self.parser.error(f"{layer.kind} cannot follow FC or SOFTMAX", layer.position)
            if self.classifier and isinstance(self.classifier[-1], nn.Softmax):
                raise self.parser.error(f"{layer.kind} cannot follow SOFTMAX", layer.position)
            getattr(self, f"_{layer.kind.lower()}")(layer, gives_classes)
        parts = OrderedDict(features=nn.Sequential(*self.features))
        if self.classifier:
            parts |= OrderedDict(flatten=nn.Flatten(), classifier=nn.Sequential(*self.classifier))
        return nn.Sequential(parts)

    def _conv(self, layer, gives_classes) -> None:
        filters = next(self.filters)
        self.features.append(nn.Conv2d(self.width, filters, self.kernel_size, padding="same"))
        self.width = filters

    def _relu(self, layer, gives_classes) -> None:
        (self.classifier or self.features).append(nn.ReLU())

    def _pool(self, layer, gives_classes) -> None:
        if min(self.size) < 2:
            raise self.parser.error(f"POOL cannot halve a map of {self.size[0]}×{self.size[1]}", layer.position)
        self.features.append(nn.MaxPool2d(2))
        self.size = tuple(n // 2 for n in self.size)

    def _fc(self, layer, gives_classes) -> None:
        units = self.num_classes if gives_classes else next(self.hidden)
        inputs = self.width if self.classifier else self.width * self.size[0] * self.size[1]
        self.classifier.append(nn.Linear(inputs, units))
        self.width = units

    def _softmax(self, layer, gives_classes) -> None:
        if not (self.classifier and isinstance(self.classifier[-1], nn.Linear)):
            self._fc(layer, True)
        self.classifier.append(nn.Softmax(dim=1))
