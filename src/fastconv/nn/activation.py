"""Element-wise activations and the softmax family; outputs have the shape of the input.

With `inplace` the input array itself is changed and returned where its element type and writability allow.
"""

from __future__ import annotations

from fastconv.errors import ArgumentError
from fastconv.geometry import integer
from fastconv.nn import functional as F
from fastconv.nn import init
from fastconv.nn.annotations import DTypeLike
from fastconv.nn.factory import empty
from fastconv.nn.functional.arguments import number
from fastconv.nn.module import Module

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Activation(Module):
    """Applies ``F.<function>``."""

    function: str

    def forward(self, input):
        return getattr(F, self.function)(input)


class Sigmoid(_Activation):
    """1 / (1 + exp(−x))"""

    function = "sigmoid"


class Tanh(_Activation):
    """tanh x"""

    function = "tanh"


class Softsign(_Activation):
    """x / (1 + |x|)"""

    function = "softsign"


class LogSigmoid(_Activation):
    """log(1 / (1 + exp(−x)))"""

    function = "logsigmoid"


class Tanhshrink(_Activation):
    """x − tanh x"""

    function = "tanhshrink"


class _InplaceActivation(Module):
    function: str

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input):
        return getattr(F, self.function)(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU(_InplaceActivation):
    """max(x, 0); NaN stays NaN"""

    function = "relu"


class ReLU6(_InplaceActivation):
    """min(max(x, 0), 6)"""

    function = "relu6"


class SELU(_InplaceActivation):
    """1.0507 (x if x > 0 else 1.6733 (exp x − 1)).  Source: Klambauer et al. 2017."""

    function = "selu"


class SiLU(_InplaceActivation):
    """x sigmoid(x)"""

    function = "silu"


class Mish(_InplaceActivation):
    """x tanh(softplus(x)).  Source: Misra 2019."""

    function = "mish"


class Hardswish(_InplaceActivation):
    """x min(max(x + 3, 0), 6) / 6.  Source: Howard et al. 2019."""

    function = "hardswish"

    def extra_repr(self) -> str:
        return ""


class Hardsigmoid(_InplaceActivation):
    """min(max(x + 3, 0), 6) / 6"""

    function = "hardsigmoid"

    def extra_repr(self) -> str:
        return ""


class _ScaledActivation(Module):
    """An activation with one number, called `parameter`, and `inplace`."""

    function: str
    parameter: str

    def forward(self, input):
        return getattr(F, self.function)(input, getattr(self, self.parameter), self.inplace)

    def extra_repr(self) -> str:
        text = f"{self.parameter}={getattr(self, self.parameter)}"
        return text + (", inplace=True" if self.inplace else "")


class LeakyReLU(_ScaledActivation):
    """x if x > 0 else negative_slope · x"""

    function, parameter = "leaky_relu", "negative_slope"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace


class ELU(_ScaledActivation):
    """x if x > 0 else alpha (exp x − 1).  Source: Clevert et al. 2016."""

    function, parameter = "elu", "alpha"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace


class CELU(_ScaledActivation):
    """max(0, x) + min(0, alpha (exp(x / alpha) − 1)).  Source: Barron 2017."""

    function, parameter = "celu", "alpha"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if alpha == 0:
            raise ArgumentError("alpha: expected a number other than 0")
        self.alpha = alpha
        self.inplace = inplace


class GELU(Module):
    """x Φ(x), exact (`approximate` none) or through tanh.  Source: Hendrycks and Gimpel 2016."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f"approximate: expected 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, input):
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class PReLU(Module):
    """x if x > 0 else weight · x, with one weight for all channels or one per channel.  Source: He et al. 2015."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: object | None = None, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__()
        self.num_parameters = integer(num_parameters, "num_parameters", 1)
        self.init = number(init, "init")
        self._parameters["weight"] = empty(self.num_parameters, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every weight to the constructor's `init`."""
        init.constant_(self._parameters["weight"], self.init)

    def forward(self, input):
        return F.prelu(input, self._parameters["weight"])

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """x if x > 0 else a x, a drawn from U(lower, upper) in training mode, else their mean.  Source: Xu et al. 2015."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input):
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class Hardtanh(Module):
    """min(max(x, min_val), max_val)"""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not number(min_val, "min_val") <= number(max_val, "max_val"):
            raise ArgumentError(f"max_val: expected at least min_val ({min_val}), got {max_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input):
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class Threshold(Module):
    """x if x > threshold else value"""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input):
        return F.threshold(input, self.threshold, self.value, self.inplace)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above `threshold`"""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input):
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class _Shrink(Module):
    function: str

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input):
        return getattr(F, self.function)(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(_Shrink):
    """x where |x| > lambd, else 0"""

    function = "hardshrink"


class Softshrink(_Shrink):
    """x moved towards 0 by lambd, at most to 0"""

    function = "softshrink"


class _AlongAxis(Module):
    function: str

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input):
        return getattr(F, self.function)(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """exp x / Σ exp x along the axis `dim`"""

    function = "softmax"


class LogSoftmax(_AlongAxis):
    """x − log Σ exp x along the axis `dim`"""

    function = "log_softmax"


class Softmin(_AlongAxis):
    """softmax(−x) along the axis `dim`"""

    function = "softmin"


class GLU(_AlongAxis):
    """a · sigmoid(b), the input split into halves a and b along `dim`.  Source: Dauphin et al. 2017."""

    function = "glu"

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim)


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        if getattr(input, "ndim", None) not in (3, 4):
            shape = getattr(input, "shape", type(input).__name__)
            raise ArgumentError(f"input: expected (N, C, H, W) or (C, H, W), got {shape}")
        return F.softmax(input, -3)
