"""Single nodes outside of a program: which go to kernels."""

import numpy as np
import pytest
from graphs import evaluate, node, whole

from fastconv.onnx.functions import FastFunctions, Kernels
from fastconv.onnx.operators import OPERATORS


@pytest.fixture
def kernels():
    return Kernels(FastFunctions("strict"), {})


@pytest.mark.parametrize(
    "of",
    [
        node("Conv", "x w", "y", pads=[1, 1, 1, 1]),
        node("ConvTranspose", "x w", "y", strides=[2, 2]),
        node("BatchNormalization", "x s s s one", "y", epsilon=0.0),
        node("MaxPool", "x", "y", kernel_shape=[2, 2]),
    ],
    ids=str,
)
def test_what_takes_time_goes_to_a_kernel(of, kernels, rng):
    x = whole(rng, (1, 4, 30, 30))
    constants = {"w": whole(rng, (4, 4, 3, 3)), "s": whole(rng, 4), "one": np.ones(4, np.float32)}
    inputs = [({"x": x} | constants)[name] for name in of.inputs]
    function = kernels(of, constants)
    (result,) = function(*inputs)
    np.testing.assert_array_equal(result, evaluate(of, inputs)[0])
    (program,) = function.programs.values()
    assert [call.algorithm for call in program.calls if call.algorithm == "numpy"] == []


@pytest.mark.parametrize("op_type", ["Cast", "Expand", "Gather", "Slice", "Split", "Transpose"])
def test_what_moves_nothing_is_numpys(op_type, kernels):
    assert kernels(node(op_type, "x", "y"), {}) is OPERATORS["", op_type].function


def test_what_a_kernel_does_not_compute_is_numpys(kernels, rng):
    of = node("ConvTranspose", "x w", "y")
    inputs = [whole(rng, (1, 4, 30, 30)), whole(rng, (4, 4, 3, 3))]
    np.testing.assert_array_equal(kernels(of, {})(*inputs), evaluate(of, inputs)[0])
