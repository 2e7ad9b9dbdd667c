"""The geometry of sliding windows: arguments normalised, padding and output sizes per axis.

Every windowed operation (convolution, pooling) describes itself by one :class:`Window`; nobody else computes a
size.  A padding is, per axis, a number of zeros on either side, a pair ``(before, after)``, or for all axes one of
the words below.

========================  ==============================================================================
``"valid"``               no padding
``"same"``                output = ceil(input / stride); an odd total puts the extra zero *after*
``"SAME_UPPER"``          ONNX's name for the same rule
``"SAME_LOWER"``          as above, the extra zero *before*
========================  ==============================================================================
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fastconv.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "Window",
    "element_count",
    "exact_output_size",
    "fitting_paddings",
    "integer",
    "is_sequence",
    "pads_per_axis",
    "per_axis",
    "window_axis",
]

PADDING_WORDS = ("valid", "same", "SAME_UPPER", "SAME_LOWER")
MAX_ELEMENTS = 2**48  # beyond any memory; keeps every product of sizes and strides inside 64 bits


def integer(value, name: str, minimum: int) -> int:
    """`value` as an int not below `minimum`; NumPy integers are welcome, floats and bools are not."""
    try:
        if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "i") == "b":
            raise TypeError  # NumPy 1 lets its bools pass as integers
        number = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(f"{name}: expected an integer, got {value!r} ({type(value).__name__})") from None
    if not minimum <= number <= MAX_ELEMENTS:
        expected = f"at least {minimum}" if number < minimum else f"at most {MAX_ELEMENTS}"
        raise ArgumentError(f"{name}: expected {expected}, got {number}")
    return number


def is_sequence(value) -> bool:
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", 1) == 0:
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def per_axis(value, rank: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """`value` for each of `rank` axes: one integer for all, or a sequence of `rank` (or of one) integers."""
    if not is_sequence(value):
        return (integer(value, name, minimum),) * rank
    if len(value) not in (1, rank):
        expected = "1 value" if rank == 1 else f"1 or {rank} values"
        raise ArgumentError(f"{name}: expected {expected}, got {len(value)}: {tuple(value)}")
    values = tuple(integer(v, name, minimum) for v in value)
    return values * rank if len(values) == 1 else values


def pads_per_axis(padding, rank: int) -> tuple[tuple[int, int], ...]:
    """Numbers of zeros before and after each axis, from a number, one per axis, or a pair per axis."""
    if isinstance(padding, str):
        raise ArgumentError(f"padding: expected numbers, got {padding!r}")
    return tuple(p if is_sequence(p) else (p, p) for p in _paddings(padding, rank))


def element_count(shape: Sequence[int], name: str = "shape") -> int:
    """Product of `shape`, refused where no memory could hold it."""
    count = prod(shape)
    if count > MAX_ELEMENTS:
        raise ArgumentError(f"{name}: {tuple(shape)} has {count} elements, more than any memory holds ({MAX_ELEMENTS})")
    return count


def window_axis(
    size: int, kernel: int, stride: int, dilation: int, padding: int | tuple[int, int] | str, ceil_mode: bool = False
) -> tuple[int, int, int]:
    """One axis of a window: ``(zeros before, zeros after, output size)``; an output below 1 means that nothing fits.

    With `ceil_mode` a partial window may end the axis, unless it starts in the padding after the input.
    """
    extent = dilation * (kernel - 1) + 1
    if padding == "valid":
        before = after = 0
    elif isinstance(padding, str):
        output = -(-size // stride)
        total = max((output - 1) * stride + extent - size, 0)
        smaller, larger = total // 2, total - total // 2
        before, after = (larger, smaller) if padding == "SAME_LOWER" else (smaller, larger)
    else:
        before, after = (padding, padding) if isinstance(padding, int) else padding
    room = size + before + after - extent
    if ceil_mode:
        output = -(-room // stride) + 1
        if (output - 1) * stride >= size + before:
            output -= 1
    else:
        output = room // stride + 1
    return before, after, output


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel slides over an input: everything per spatial axis, 1 to 3 of them.  Sizes are in elements."""

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    output: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def of(cls, input, kernel, stride=1, padding=0, dilation=1, ceil_mode=False) -> Window:
        """Normalise and check.  `stride`, `padding` and `dilation` are one value for all axes or one per axis.

        Raises :class:`ArgumentError` for a value out of range, a wrong count, or a kernel larger than the padded
        input, and :class:`ArgumentTypeError` for anything but integers and padding words.
        """
        size = tuple(input)
        rank = len(size)
        kernel = per_axis(kernel, rank, "kernel_size")
        stride = per_axis(stride, rank, "stride")
        dilation = per_axis(dilation, rank, "dilation")
        paddings = _paddings(padding, rank)
        if any(s < 1 for s in size):
            raise ArgumentError(f"input: expected spatial sizes of at least 1, got {_by(size)}")
        ceil_mode = bool(ceil_mode)
        axes = [window_axis(*axis, ceil_mode) for axis in zip(size, kernel, stride, dilation, paddings, strict=True)]
        pads, output = tuple((b, a) for b, a, _ in axes), tuple(o for _, _, o in axes)
        window = cls(size, kernel, stride, dilation, pads, output, ceil_mode)
        if any(o < 1 for o in output):
            raise ArgumentError(
                f"kernel_size: a kernel of {_by(window.extent)} does not fit into the padded input of "
                f"{_by(window.padded)} (input {_by(size)}, padding {_describe(pads)}): the output would be empty; "
                "use a smaller kernel or dilation, or more padding"
            )
        element_count(window.padded, "padded input")
        return window

    @property
    def rank(self) -> int:
        return len(self.input)

    @property
    def extent(self) -> tuple[int, ...]:
        """Input positions from the first to the last tap of one window."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        return tuple(s + b + a for s, (b, a) in zip(self.input, self.pads, strict=True))

    @property
    def dropped(self) -> tuple[int, ...]:
        """Real input positions at the end of each axis that no window reaches, because the stride does not divide."""
        reach = ((o - 1) * s + e for o, s, e in zip(self.output, self.stride, self.extent, strict=True))
        return tuple(
            min(max(before + size - r, 0), size)
            for (before, _), size, r in zip(self.pads, self.input, reach, strict=True)
        )

    @property
    def is_pointwise(self) -> bool:
        """A 1×1 kernel that visits every position: a matrix product over the channels."""
        return self.input == self.padded == self.output and all(k == 1 for k in self.kernel)


def exact_output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """The lecture's (W − F + 2P) / S + 1, refused where it is no whole number."""
    size = integer(size, "size", 1)
    window = Window.of((size,), kernel, stride, padding, dilation)
    room = window.padded[0] - window.extent[0]
    if room % window.stride[0]:
        raise ArgumentError(
            f"stride: a kernel of {window.extent[0]} does not fit a padded input of {window.padded[0]} with stride "
            f"{window.stride[0]}: ({window.padded[0]} - {window.extent[0]}) / {window.stride[0]} + 1 = "
            f"{room / window.stride[0] + 1:.2f}; fitting_paddings() lists the paddings that fit"
        )
    return window.output[0]


def fitting_paddings(size: int, kernel: int, stride: int) -> list[int]:
    """The symmetric paddings below `kernel` with which the windows cover the padded input exactly."""
    size, kernel, stride = integer(size, "size", 1), integer(kernel, "kernel", 1), integer(stride, "stride", 1)
    rooms = ((padding, size + 2 * padding - kernel) for padding in range(kernel))
    return [padding for padding, room in rooms if room >= 0 and room % stride == 0]


def _paddings(padding, rank: int) -> Sequence[int | tuple[int, int] | str]:
    if isinstance(padding, str):
        if padding not in PADDING_WORDS:
            raise ArgumentError(f"padding: expected numbers or one of {', '.join(PADDING_WORDS)}, got {padding!r}")
        return (padding,) * rank
    if is_sequence(padding) and any(is_sequence(p) for p in padding):
        pairs = [per_axis(p, 2, "padding", 0) if is_sequence(p) else p for p in padding]
        if len(pairs) != rank or not all(is_sequence(p) for p in pairs):
            raise ArgumentError(f"padding: expected {rank} pairs (before, after), got {padding!r}")
        return pairs
    return per_axis(padding, rank, "padding", 0)


def _by(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _describe(pads: Sequence[tuple[int, int]]) -> str:
    return _by([b for b, _ in pads]) if all(b == a for b, a in pads) else str(tuple(pads))
