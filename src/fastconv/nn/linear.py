"""Affine maps of the last axis, and the layer that does nothing."""

from __future__ import annotations

import math

from fastconv._kernels.recent import Recent
from fastconv.arrays import as_array
from fastconv.geometry import integer
from fastconv.nn import functional as F
from fastconv.nn import init
from fastconv.nn.annotations import DTypeLike
from fastconv.nn.factory import empty
from fastconv.nn.functional.linear import as_rows
from fastconv.nn.module import Module
from fastconv.nn.packing import Packing
from fastconv.ops.arguments import word
from fastconv.ops.linear import linear_plan

__all__ = ["Bilinear", "Identity", "Linear"]


class Identity(Module):
    """Returns its input itself; takes and ignores any constructor arguments."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__()

    def forward(self, input):
        return input


class Linear(Module):
    """``input @ weight.T + bias``: input (*, in_features), output (*, out_features).

    ``weight`` is (out_features, in_features) and ``bias`` (out_features,), both drawn from U(±1 / √in_features).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        algorithm: str = "auto",
    ) -> None:
        super().__init__()
        self.in_features = integer(in_features, "in_features", 0)
        self.out_features = integer(out_features, "out_features", 1)
        self.algorithm = word(algorithm, "algorithm")
        self._packing = Packing()
        self._recent = Recent()
        self._parameters["weight"] = empty((self.out_features, self.in_features), device, dtype)
        self._parameters["bias"] = empty(self.out_features, device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weight and bias again."""
        _reset(self, self.in_features)

    def forward(self, input):
        parameters = self._parameters
        facts = (self.algorithm,)
        plan = self._recent.find(input, parameters["weight"], parameters["bias"], facts)
        if plan is not None:
            return plan(input, self._packing.get(self, plan))
        x = as_array(input, "input")
        rows = as_rows(x)
        plan = linear_plan(
            rows, as_array(parameters["weight"], "weight"), parameters["bias"], self.algorithm, packed=True
        )
        if x is input and x.ndim == 2 and x.flags.c_contiguous:
            self.__dict__["_recent"] = Recent(plan, (x, parameters["weight"], parameters["bias"]), facts)
        y = plan(rows, self._packing.get(self, plan))
        return y.reshape(*x.shape[:-1], y.shape[1])

    def extra_repr(self) -> str:
        bias = self._parameters["bias"] is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"


class Bilinear(Module):
    """``input1 @ weight[k] @ input2 + bias[k]`` for every output k.

    Inputs (*, in1_features) and (*, in2_features), output (*, out_features); ``weight`` is (out_features, in1_features,
    in2_features) and ``bias`` (out_features,), both drawn from U(±1 / √in1_features).
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.in1_features = integer(in1_features, "in1_features", 1)
        self.in2_features = integer(in2_features, "in2_features", 1)
        self.out_features = integer(out_features, "out_features", 1)
        shape = (self.out_features, self.in1_features, self.in2_features)
        self._parameters["weight"] = empty(shape, device, dtype)
        self._parameters["bias"] = empty(self.out_features, device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weight and bias again."""
        _reset(self, self.in1_features)

    def forward(self, input1, input2):
        parameters = self._parameters
        return F.bilinear(input1, input2, parameters["weight"], parameters["bias"])

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self._parameters['bias'] is not None}"
        )


def _reset(layer: Module, fan_in: int) -> None:
    layer.__dict__["_handed_out"] = True
    bound = 1 / math.sqrt(max(fan_in, 1))
    for array in layer._parameters.values():
        if array is not None:
            init.uniform_(array, -bound, bound)
