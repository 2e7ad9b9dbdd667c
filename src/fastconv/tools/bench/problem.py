"""A benchmark problem is one printable line that says everything needed to run it again.

::

    op         input           channels  options                               times  name
    conv2d     1x64x56x56   -> 64        k3 p1                                 *4     # layer1.0.conv1
    conv2d     1x3x224x224  -> 64        k11 s4 p2
    conv2d     1x32x112x112 -> 32        k3 s2 p0:1 g32 nobias f64 seed7
    max_pool2d 1x64x112x112              k3 s2 p1 ceil
    pad        1x64x56x56                p1:2x0:3
    linear     1x512        -> 1000
    batch_norm2d 1x64x56x56

The input is N×C×spatial (linear: N×features).  A number holds for every spatial axis, ``3x5`` gives one per axis, and a
padding ``before:after`` is asymmetric.

=============  ==========================================================================================
``k s p d g``  kernel, stride (pooling states it always), zeros on either side, dilation, groups
``o``          output padding of a transposed convolution
``nobias``     no bias is added
``ceil``       pooling keeps a last, partial window
``exclude``    average pooling divides by the taps inside the input only
``f32 f64``    element type, f32 unless given
``nchw nhwc``  order in memory of the input and output, NCHW unless given; the shape is always written N×C×spatial
``seed7``      seed of the data, 0 unless given
``*4``         how often the network has this layer
``# name``     any text, usually the layer's name in its network
=============  ==========================================================================================

A depthwise convolution is one with as many groups as input channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod

from fastconv.errors import ArgumentError
from fastconv.geometry import Window

__all__ = ["OPS", "Problem", "parse_problem"]

FAMILIES = ("conv", "conv_transpose", "max_pool", "avg_pool", "batch_norm", "pad", "linear")
WEIGHTED = ("conv", "conv_transpose", "linear")
WINDOWED = ("conv", "conv_transpose", "max_pool", "avg_pool")
OPS = (*(f"{family}{rank}d" for family in FAMILIES[:5] for rank in (1, 2, 3)), "pad", "linear")
OPTIONS = {
    "conv": ("k", "s", "p", "d", "g", "nobias"),
    "conv_transpose": ("k", "s", "p", "d", "g", "o", "nobias"),
    "max_pool": ("k", "s", "p", "d", "ceil"),
    "avg_pool": ("k", "s", "p", "ceil", "exclude"),
    "batch_norm": (),
    "pad": ("p",),
    "linear": ("nobias",),
}
COMMON_OPTIONS = ("f32", "f64", "nchw", "nhwc", "seed", "*")
NUMBERS = {
    "k": "kernel", "s": "stride", "p": "pads", "d": "dilation", "o": "output_padding",
    "g": "groups", "seed": "seed", "*": "count",
}  # fmt: skip
WORDS = {
    "nobias": ("bias", False),
    "ceil": ("ceil_mode", True),
    "exclude": ("count_include_pad", False),
    "f32": ("dtype", "float32"),
    "f64": ("dtype", "float64"),
    "nchw": ("layout", "nchw"),
    "nhwc": ("layout", "nhwc"),
}
MOST_CHANNELS_WHEN_SHRUNK, LANES = 48, 16
OUTPUTS_WHEN_SHRUNK = 5  # per axis, at least


@dataclass(frozen=True)
class Problem:
    """One layer with its shapes.  Sizes are in elements; `count` says how often its network has it."""

    op: str
    input: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    bias: bool = False
    ceil_mode: bool = False
    count_include_pad: bool = True
    dtype: str = "float32"
    layout: str = "nchw"
    seed: int = 0
    count: int = 1
    name: str = ""

    @property
    def family(self) -> str:
        return self.op[:-2] if self.op[-2:] in ("1d", "2d", "3d") else self.op

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.input) - 2

    @property
    def is_depthwise(self) -> bool:
        return self.family == "conv" and self.groups == self.input[1] > 1

    @cached_property
    def output(self) -> tuple[int, ...]:
        """Shape of the output, N×C×spatial."""
        batch, channels, *spatial = self.input
        if self.family == "linear":
            return (batch, self.channels)
        if self.family == "batch_norm":
            return self.input
        if self.family == "pad":
            return (batch, channels, *(size + b + a for size, (b, a) in zip(spatial, self.pads, strict=True)))
        if self.family == "conv_transpose":
            axes = zip(spatial, self.kernel, self.stride, self.pads, self.dilation, self.output_padding, strict=True)
            sizes = [(size - 1) * s - b - a + d * (k - 1) + 1 + extra for size, k, s, (b, a), d, extra in axes]
            if min(sizes) < 1:
                raise ArgumentError(f"padding: {self.op} of {self.input} would have an empty output {sizes}")
            return (batch, self.channels, *sizes)
        return (batch, self.channels, *self.window.output)

    @cached_property
    def window(self) -> Window:
        """The geometry of a convolution or pooling."""
        return Window.of(self.input[2:], self.kernel, self.stride, self.pads, self.dilation, self.ceil_mode)

    @property
    def padding(self) -> tuple:
        """`pads`, as one number per axis where both sides are alike."""
        if all(before == after for before, after in self.pads):
            return tuple(before for before, _ in self.pads)
        return self.pads

    @property
    def weight(self) -> tuple[int, ...] | None:
        """Shape of the weights as torch lays them out, or None."""
        if self.family == "linear":
            return (self.channels, self.input[1])
        if self.family == "conv":
            return (self.channels, self.input[1] // self.groups, *self.kernel)
        if self.family == "conv_transpose":
            return (self.input[1], self.channels // self.groups, *self.kernel)
        return None

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the layer's arrays by torch's names."""
        if self.family == "batch_norm":
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (self.channels,))
        shapes = {"weight": self.weight} if self.weight else {}
        return shapes | ({"bias": (self.channels,)} if self.bias else {})

    @property
    def terms(self) -> int:
        """Largest number of terms summed (or compared) into one output."""
        if self.family == "linear":
            return self.input[1]
        if self.family in ("pad", "batch_norm"):
            return 1
        if self.family == "conv_transpose":
            taps = prod(-(-k // s) for k, s in zip(self.kernel, self.stride, strict=True))
            return self.input[1] // self.groups * taps
        return prod(self.kernel) * (self.input[1] // self.groups if self.family == "conv" else 1)

    @property
    def macs(self) -> int:
        """Multiplications of the direct method, those with padding included; 0 for layers without weights."""
        if self.family == "conv_transpose":
            return prod(self.input) * self.channels // self.groups * prod(self.kernel)
        return prod(self.output) * self.terms if self.family in ("conv", "linear") else 0

    @property
    def flops(self) -> int:
        """Operations of the direct method: two per multiplication and addition, one per value pooled.

        Two per value normalised.
        """
        if self.family in ("max_pool", "avg_pool"):
            return prod(self.output) * self.terms
        if self.family == "batch_norm":
            return 2 * prod(self.output)
        return 2 * self.macs

    @property
    def itemsize(self) -> int:
        return 8 if self.dtype == "float64" else 4

    @property
    def bytes(self) -> int:
        """Least memory traffic in bytes: input, parameters and output once each."""
        parameters = sum(map(prod, self.parameters.values()))
        return self.itemsize * (prod(self.input) + parameters + prod(self.output))

    def __str__(self) -> str:
        parts = [self.op, _by(self.input)]
        if self.weight:
            parts += ["->", str(self.channels)]
        if self.family in WINDOWED:
            parts.append("k" + _axes(self.kernel))
        if self.family.endswith("_pool") or any(s != 1 for s in self.stride):
            parts.append("s" + _axes(self.stride))
        if self.family == "pad" or any(p != (0, 0) for p in self.pads):
            parts.append("p" + _axes([str(b) if b == a else f"{b}:{a}" for b, a in self.pads]))
        parts += [
            letter + _axes(values)
            for letter, values, default in (("d", self.dilation, 1), ("o", self.output_padding, 0))
            if any(v != default for v in values)
        ]
        words = (
            (self.groups != 1, f"g{self.groups}"),
            (self.family in WEIGHTED and not self.bias, "nobias"),
            (self.ceil_mode, "ceil"),
            (not self.count_include_pad, "exclude"),
            (self.dtype == "float64", "f64"),
            (self.layout != "nchw", self.layout),
            (self.seed != 0, f"seed{self.seed}"),
            (self.count != 1, f"*{self.count}"),
            (bool(self.name), f"# {self.name}"),
        )
        return " ".join(parts + [word for wanted, word in words if wanted])

    @property
    def line(self) -> str:
        """The line without multiplicity and name: what identifies the computation."""
        return str(self.replace(count=1, name=""))

    def replace(self, **changes) -> Problem:
        return Problem(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)

    def shrunk(self) -> Problem:
        """The same kind of layer in a few milliseconds: fewer images, channels and groups, and a smaller map.

        Kernel, stride, dilation and padding stay, and so does what the channels leave over after whole vectors.
        """
        batch, channels, *spatial = self.input
        groups = _fewer(self.groups)
        inputs, outputs = (_fewer(count // self.groups) * groups for count in (channels, self.channels))
        if self.family in WINDOWED:
            axes = zip(self.kernel, self.stride, self.dilation or (1,) * self.rank, strict=True)
            leasts = [d * (k - 1) + 1 + (OUTPUTS_WHEN_SHRUNK - 1) * s for k, s, d in axes]
        else:
            leasts = [OUTPUTS_WHEN_SHRUNK] * self.rank
        sizes = [
            least + (size - least) % 4 if least < size else size for size, least in zip(spatial, leasts, strict=True)
        ]
        return self.replace(input=(min(batch, 2), inputs, *sizes), channels=outputs, groups=groups)


def _fewer(count: int) -> int:
    """At most a few vectors of channels or groups, with the same remainder."""
    most = MOST_CHANNELS_WHEN_SHRUNK
    return count if count <= most else most - LANES + count % LANES


def parse_problem(line: str, where: str = "") -> Problem:
    """The problem that `line` describes.

    Raises :class:`ArgumentError`, prefixed with `where` (such as ``file:line``), for an unknown op or option, a value
    that cannot be read, and shapes that do not fit together.
    """
    try:
        return _parse(line)
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}" if where else str(error)) from None


def _parse(line: str) -> Problem:
    description, _, name = line.partition("#")
    op, *words = description.split() or [""]
    if op not in OPS:
        raise ArgumentError(f"op: {op!r} is none of {', '.join(OPS)}")
    family = Problem(op, (), 0).family
    shape = _input(op, family, words)
    channels, words = _channels(op, family, shape[1], words[1:])
    rank = len(shape) - 2
    windowed = family in WINDOWED
    values = {
        "stride": (1,) * rank if windowed else (),
        "dilation": (1,) * rank if windowed else (),
        "pads": ((0, 0),) * rank,
        "output_padding": (0,) * rank if family == "conv_transpose" else (),
        "bias": family in WEIGHTED,
    } | _options(words, family, rank)
    problem = Problem(op, shape, channels, name=name.strip(), **values)
    if family in ("conv", "conv_transpose") and (shape[1] % problem.groups or channels % problem.groups):
        raise ArgumentError(f"g: {problem.groups} groups do not divide {shape[1]} -> {channels} channels")
    _ = problem.output  # refuses a kernel that does not fit
    return problem


def _input(op: str, family: str, words: list[str]) -> tuple[int, ...]:
    if not words:
        raise ArgumentError(f"{op}: the input shape is missing, as in '{op} 1x64x56x56'")
    shape = _sizes(words[0], "input")
    if family == "pad":
        least, most = 3, 5
    else:
        least = most = 2 if family == "linear" else 2 + int(op[-2])
    if not least <= len(shape) <= most:
        wanted = f"{least} sizes" if least == most else f"{least} to {most} sizes"
        raise ArgumentError(f"input: {op} takes {wanted}, got {len(shape)}: {words[0]}")
    return shape


def _channels(op: str, family: str, channels: int, words: list[str]) -> tuple[int, list[str]]:
    """The output channels, and the words after them."""
    arrow = words[:1] == ["->"]
    if family not in WEIGHTED:
        if arrow:
            raise ArgumentError(f"'->': {op} keeps its {channels} channels")
        return channels, words
    if not arrow or len(words) < 2:
        raise ArgumentError(f"{op}: '-> channels' is missing after the input")
    return _sizes(words[1], "channels", 1)[0], words[2:]


def _options(words: list[str], family: str, rank: int) -> dict:
    values: dict = {}
    for word in words:
        match = re.fullmatch(r"(seed|\*|[a-z])([0-9:x]+)", word) if word not in WORDS else None
        key = match[1] if match else word
        if key not in OPTIONS[family] and key not in COMMON_OPTIONS:
            raise ArgumentError(
                f"{word!r}: not an option of {family}, which takes {', '.join((*OPTIONS[family], *COMMON_OPTIONS))}"
            )
        field, value = WORDS[word] if match is None else _numbers(key, match[2], rank)
        if field in values:
            raise ArgumentError(f"{word!r}: {field} is given twice")
        values[field] = value
    required = "p" if family == "pad" else "ks" if family.endswith("_pool") else "k" if family in WINDOWED else ""
    for letter in required:
        if NUMBERS[letter] not in values:
            raise ArgumentError(f"{letter}: {family} needs its {NUMBERS[letter]}")
    return values


def _numbers(key: str, text: str, rank: int) -> tuple:
    """The field and the value of an option with numbers."""
    least = 0 if key in ("o", "p", "seed") else 1
    if key == "p":
        pads = [_sizes(axis, "p", 2, least, ":") for axis in text.split("x")]
        return NUMBERS[key], tuple(_for_axes(pads, rank, "p", text))
    if key in ("k", "s", "d", "o"):
        return NUMBERS[key], _sizes(text, key, rank, least)
    return NUMBERS[key], _sizes(text, key, 1, least)[0]


def _sizes(text: str, what: str, count: int | None = None, least: int = 1, separator: str = "x") -> tuple[int, ...]:
    if not re.fullmatch(rf"\d+({separator}\d+)*", text):
        raise ArgumentError(f"{what}: expected numbers joined by {separator!r}, got {text!r}")
    sizes = [int(number) for number in text.split(separator)]
    if min(sizes) < least:
        raise ArgumentError(f"{what}: expected at least {least}, got {text!r}")
    return tuple(sizes if count is None else _for_axes(sizes, count, what, text))


def _for_axes(values: list, count: int, what: str, text: str) -> list:
    if len(values) not in (1, count):
        raise ArgumentError(f"{what}: expected {'1 or ' if count > 1 else ''}{count} values, got {text!r}")
    return values * count if len(values) == 1 else values


def _by(sizes) -> str:
    return "x".join(map(str, sizes))


def _axes(values) -> str:
    values = list(values)
    return str(values[0]) if len(set(values)) == 1 else _by(values)
