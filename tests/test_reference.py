"""What holds for every function of the reference."""

import ast
from pathlib import Path

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv import reference

IMAGES = (2, 4, 5, 6)
WEIGHT, CHANNELS = (4, 2, 3, 3), (4,)
ALIKE = ["relu", "relu6", "hardtanh", "leaky_relu", "elu", "selu", "celu", "gelu", "sigmoid", "silu", "mish", "tanh"]
ALIKE += ["hardsigmoid", "hardswish", "softplus", "softsign", "log_sigmoid", "batch_norm_training", "instance_norm"]
ALIKE += ["hardshrink", "softshrink", "tanhshrink"]

# Each row: the shapes of the arrays that come first, then the other arguments.
CALLS = {
    **{name: ([IMAGES], (), {}) for name in ALIKE},
    "adaptive_avg_pool": ([IMAGES], (3,), {}),
    "adaptive_max_pool": ([IMAGES], (3,), {}),
    "affine_grid": ([(2, 2, 3)], ((2, 4, 5, 6),), {}),
    "avg_pool": ([IMAGES], (2, 1, 1), {}),
    "batch_norm": ([IMAGES, CHANNELS, CHANNELS, CHANNELS, CHANNELS], (), {}),
    "channel_shuffle": ([IMAGES], (2,), {}),
    "conv": ([IMAGES, WEIGHT, CHANNELS], (), {"groups": 2, "padding": 1}),
    "conv_transpose": ([IMAGES, WEIGHT, CHANNELS], (), {"groups": 2, "stride": 2}),
    "deform_conv": ([IMAGES, WEIGHT, (2, 18, 3, 4), CHANNELS], (), {"groups": 2}),
    "fold": ([(2, 12, 12)], ((4, 5), 2), {}),
    "grid_sample": ([IMAGES, (2, 3, 3, 2)], (), {"padding_mode": "reflection"}),
    "group_norm": ([IMAGES], (2,), {}),
    "interpolate": ([IMAGES], ((7, 3),), {"mode": "bilinear"}),
    "layer_norm": ([IMAGES], ((5, 6),), {}),
    "linear": ([(2, 3, 5), (4, 5), CHANNELS], (), {}),
    "local_response_norm": ([IMAGES], (3,), {}),
    "log_softmax": ([IMAGES], (1,), {}),
    "lp_pool": ([IMAGES], (2, 3), {}),
    "max_pool": ([IMAGES], (3, 2, 1), {}),
    "pad": ([IMAGES], ((1, 2, 0, 1), "reflect"), {}),
    "pixel_shuffle": ([IMAGES], (2,), {}),
    "pixel_unshuffle": ([(2, 3, 4, 6)], (2,), {}),
    "prelu": ([IMAGES, CHANNELS], (), {}),
    "rms_norm": ([IMAGES], ((5, 6),), {}),
    "softmax": ([IMAGES], (1,), {}),
    "threshold": ([IMAGES], (0.1, 20.0), {}),
    "unfold": ([IMAGES], (2,), {"padding": 1}),
}


def first_result(name, arrays):
    _, arguments, keywords = CALLS[name]
    result = getattr(reference, name)(*arrays, *arguments, **keywords)
    return result[0] if isinstance(result, tuple) else result


def test_every_function_has_a_call_here_and_a_docstring():
    assert sorted(CALLS) == sorted(reference.__all__)
    for name in reference.__all__:
        assert getattr(reference, name).__doc__, name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_result_has_the_type_of_the_input_whatever_its_layout(rng, name, dtype):
    arrays = [rng.uniform(0.1, 2, shape).astype(dtype) for shape in CALLS[name][0]]
    y = first_result(name, arrays)
    assert y.dtype == dtype
    assert np.isfinite(y).all()
    assert len(np.unique(y)) > 4
    for lay_out in (np.asfortranarray, lambda a: a[..., ::-1].copy()[..., ::-1]):
        views = [lay_out(a) for a in arrays]
        for view in views:
            view.flags.writeable = False
        # The order of a sum, of up to 120 values here, may depend on the layout.
        tolerance = sum_tolerance(120, 4 * np.abs(y.astype(np.float64)).max(), dtype)
        assert_within(first_result(name, views), y, tolerance, name)
        for view, a in zip(views, arrays, strict=True):
            assert_same_values(view, a)


def test_the_reference_imports_numpy_and_the_standard_library_alone():
    allowed = {"numpy", "functools", "math", "operator", "typing"}
    files = sorted(Path(reference.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                assert name.startswith("fastconv.reference.") or name in allowed, f"{file.name} imports {name}"
