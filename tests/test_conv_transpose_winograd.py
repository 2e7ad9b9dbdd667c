"""Transposed convolution by Winograd's method: its forms, its results within their bound, and who chooses it."""

import numpy as np
import onnx_bytes as write
import pytest
from tolerance import assert_same_values

import fastconv as fc
from fastconv import config, reference
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.ops.conv_transpose import CONV_TRANSPOSE, conv_transpose_plan
from fastconv.ops.conv_transpose_spec import conv_transpose_spec
from fastconv.ops.conv_transpose_winograd import forms_of
from fastconv.ops.winograd_forms import TransposedForm

WINOGRAD = next(row for row in CONV_TRANSPOSE.rows if row.name == "winograd")

CASES = [  # images, channels of a group, input, filters of a group, padding, output padding
    (1, 16, (8, 8), 32, 1, 0),
    (2, 17, (7, 9), 33, 0, 1),
    (9, 20, (4, 4), 20, 1, 1),
    (2, 130, (5, 12), 70, (3, 1), (0, 1)),
    (3, 5, (1, 29), 20, (0, 2), 1),
    (1, 3, (40, 2), 7, (2, 0), 0),
    (1, 40, (14, 14), 16, 2, 0),
    (2, 64, (16, 16), 5, 1, 1),
    (1, 33, (3, 29), 20, (3, 1), 1),
]


def is_odd(padding):
    return np.min(np.atleast_1d(padding) % 2) == 1


def arrays(case, kernel, dtype, rng):
    """Input, weight, bias and geometry in two groups."""
    images, channels, size, filters, padding, extra = case
    x = rng.standard_normal((images, 2 * channels, *size)).astype(dtype)
    w = rng.standard_normal((2 * channels, filters, kernel, kernel)).astype(dtype)
    b = rng.standard_normal(2 * filters).astype(dtype)
    return x, w, b, {"stride": 2, "padding": padding, "output_padding": extra, "groups": 2}


def spec_of(x, w, *, stride=2, padding=0, output_padding=0, groups=1):
    pads = (padding,) * 2 if isinstance(padding, int) else padding
    pads = tuple((size, size) for size in pads)
    extra = (output_padding,) * 2 if isinstance(output_padding, int) else output_padding
    return conv_transpose_spec(
        x.shape, x.strides, x.dtype, w.shape, w.dtype, None, (stride,) * 2, pads, extra, groups, (1, 1)
    )


def bound(spec, x, w, b):
    """The row's error bound times max|x| · Σ|w| of each filter, and its bias."""
    by_group = np.abs(w).reshape(spec.groups, -1, *w.shape[1:]).sum((1, 3, 4), np.float64).reshape(-1)
    magnitudes = np.abs(x).max() * by_group + np.abs(b)
    return WINOGRAD.error_bound(spec) * magnitudes.reshape(-1, 1, 1)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("taps", [3, 4])
def test_forms_are_the_convolution(taps, before, rng):
    """Outputs of a tile: Σ x[q] w[k] over 2 q + k = output + before, the values beginning at the first that is met."""
    form = TransposedForm(taps, before)
    d, g = rng.standard_normal(form.values), rng.standard_normal(taps)
    expected = np.zeros(form.outputs)
    for output in range(form.outputs):
        for k in range(taps):
            value, odd = divmod(output + before - k, 2)
            expected[output] += 0 if odd else d[value - min(form.starts)] * g[k]
    y = form.output_transform() @ ((form.filter_transform() @ g) * (form.input_transform() @ d))
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize(("taps", "points"), [(3, 9), (4, 10)])
def test_products_of_a_tile(taps, points):
    """Eight outputs along an axis: four of two taps have five points, four of one tap have four."""
    assert [TransposedForm(taps, before).points for before in (0, 1)] == [points] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("case", "kernel"), [*((case, 4) for case in CASES), *((case, 3) for case in CASES if is_odd(case[4]))], ids=str
)
def test_within_the_bound(isa, case, kernel, dtype, rng):
    """Of any number of threads and images, and with channels last in memory, the bits are the same."""
    x, w, b, geometry = arrays(case, kernel, dtype, rng)
    wide = (array.astype(np.longdouble) for array in (x, w, b))
    exact = reference.conv_transpose(*wide, **geometry)
    limit = bound(spec_of(x, w, **geometry), x, w, b)
    results = set()
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            y = F.conv_transpose2d(x, w, b, **geometry, algorithm="winograd")
        assert y.shape == exact.shape
        assert (np.abs(y - exact) <= limit).all()
        results.add(y.tobytes())
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    results.add(np.ascontiguousarray(F.conv_transpose2d(last, w, b, **geometry, algorithm="winograd")).tobytes())
    ones = (F.conv_transpose2d(x[i : i + 1], w, b, **geometry, algorithm="winograd") for i in range(len(x)))
    results.add(b"".join(y.tobytes() for y in ones))
    assert len(results) == 1


@pytest.mark.parametrize("kernel", [3, 4])
def test_the_error_is_a_small_part_of_the_bound(isa, kernel, rng):
    """A wrong coefficient would hide in a bound for any values: these errors are those of a few roundings."""
    x, w, b, geometry = arrays((1, 64, (16, 16), 32, 1, 0), kernel, np.float32, rng)
    exact = reference.conv_transpose(*(a.astype(np.float64) for a in (x, w, b)), **geometry)
    y = F.conv_transpose2d(x, w, b, **geometry, algorithm="winograd")
    unit = np.finfo(np.float32).eps / 2
    assert np.abs(y - exact).max() <= 40 * unit * np.abs(exact).max()


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (4, 0), (4, 1)])
def test_writes_its_output_and_nothing_else(isa, kernel, padding, rng):
    x = rng.standard_normal((1, 20, 9, 11)).astype(np.float32)
    w = rng.standard_normal((20, 35, kernel, kernel)).astype(np.float32)
    plan = conv_transpose_plan(x, w, None, 2, padding, 0, 1, 1, "winograd")
    memory = np.full(int(np.prod(plan.spec.y_shape)) + 128, np.nan, np.float32)
    memory[:64] = memory[-64:] = 12345
    y = memory[64:-64].reshape(plan.spec.y_shape)
    plan.loops.step(y, x, *plan.pack(w, None))
    assert np.isfinite(y).all()
    assert (memory[:64] == 12345).all()
    assert (memory[-64:] == 12345).all()


@pytest.mark.parametrize(
    ("w_shape", "arguments", "text"),
    [
        ((8, 4, 5, 5), {"stride": 2}, r"it computes kernels of 3×3 and 4×4, this one has \(5, 5\)"),
        ((8, 4, 4, 4), {"stride": (2, 1)}, r"it needs stride 2 and dilation 1, got \(2, 1\) and \(1, 1\)"),
        ((8, 4, 3, 3), {"stride": 2, "dilation": 2}, r"it needs stride 2 and dilation 1, got \(2, 2\) and \(2, 2\)"),
        ((8, 4, 3, 3), {"stride": 2}, "with 3×3 taps it needs an odd padding before rows and columns, got"),
        ((8, 4, 4, 4), {"stride": 2, "padding": (1, 2)}, "padding before rows and before columns must both be even or"),
    ],
)
def test_refusals(w_shape, arguments, text):
    x, w = np.ones((1, 8, 6, 6), np.float32), np.ones(w_shape, np.float32)
    with pytest.raises(ArgumentError, match=text):
        F.conv_transpose2d(x, w, **arguments, algorithm="winograd")


def test_candidates_show_what_it_saves():
    answers = fc.algorithms("conv_transpose2d", (1, 64, 32, 32), (64, 64, 4, 4), stride=2, padding=1)
    rows = {answer.algorithm: answer for answer in answers}
    assert rows["winograd"].error_bound > rows["direct"].error_bound
    assert rows["winograd"].flops < rows["direct"].flops / 2
    assert rows["winograd"].seconds < rows["direct"].seconds
    few = fc.algorithms("conv_transpose2d", (1, 64, 32, 32), (64, 3, 4, 4), stride=2, padding=1)
    assert few[0].algorithm == "direct"


@pytest.mark.parametrize("precision", ["strict", "default", "fast"])
def test_strict_precision_sums_directly(precision, rng):
    """And what follows in a session, a clamp here, is part of either."""
    x = rng.standard_normal((1, 64, 16, 16)).astype(np.float32)
    w = rng.standard_normal((64, 64, 4, 4)).astype(np.float32)
    nodes = [
        write.node("ConvTranspose", "x w", "t", strides=[2, 2], pads=[1, 1, 1, 1]),
        write.node("Clip", "t low high", "y"),
    ]
    constants = {"w": w, "low": np.float32(-20), "high": np.float32(30)}
    tensors = [write.tensor(array, name) for name, array in constants.items()]
    data = write.model(write.graph(nodes, [write.value("x", x.shape)], ["y"], tensors))
    session = fc.InferenceSession(data, precision=precision)
    algorithms = [row.algorithm for row in session.explain().rows]
    assert algorithms == (["direct"] * 4 if precision == "strict" else ["winograd"])
    assert "keep to their bounds" in str(session.verify({"x": x}))
    expected = reference.conv_transpose(x.astype(np.float64), w.astype(np.float64), stride=2, padding=1).clip(-20, 30)
    limit = bound(spec_of(x, w, padding=1), x, w, np.zeros(64))
    assert_same_values(session.run(None, {"x": x})[0], expected, limit)


def test_forms_do_not_depend_on_how_much_padding_there_is(rng):
    x, w = np.ones((1, 2, 9, 9), np.float32), np.ones((2, 2, 4, 4), np.float32)
    assert forms_of(spec_of(x, w, padding=1)) is forms_of(spec_of(x, w, padding=3))
