"""Winograd's transforms by algebra, and its results within a bound derived from the transforms themselves."""

import numpy as np
import pytest
from specs import padded_by_one
from tolerance import assert_within, wider

from fastconv import _kernels, config, reference
from fastconv.errors import ArgumentError
from fastconv.geometry import Window
from fastconv.nn import functional as F
from fastconv.ops.conv import CONV, conv_plan
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.winograd import WinogradLoops
from fastconv.ops.winograd_error import LARGE_CHANNELS, MOST_CHANNELS, winograd_error, winograd_errors, winograd_forms
from fastconv.ops.winograd_forms import LARGE_FORMS, SMALL_FORMS, STRIDED_FORMS
from fastconv.ops.winograd_tiling import Tiling

ALL_FORMS = [
    *SMALL_FORMS.values(),
    *LARGE_FORMS.values(),
    *(forms for both in STRIDED_FORMS.values() for forms in both),
]
# Every form of stride 1 that the kernel has, as an algorithm and the taps of rows and columns that have it.
FORMS = [
    *(("winograd", kernel) for kernel in SMALL_FORMS),
    *(("winograd_large", kernel) for kernel in LARGE_FORMS),
]


def forms_of(algorithm, w):
    """The forms by which a kernel of two dimensions is computed."""
    if algorithm == "winograd":
        return winograd_forms(w.shape[2:], w.shape[1])
    return LARGE_FORMS[w.shape[2:]]


def same_padding(kernel):
    return tuple(taps // 2 for taps in kernel)


@pytest.mark.parametrize(
    "form",
    sorted({form for forms in ALL_FORMS for form in forms}, key=str),
    ids=str,
)
def test_the_matrices_compute_a_correlation(form, rng):
    d, g = rng.standard_normal(form.points), rng.standard_normal(form.taps)
    y = form.output_transform() @ ((form.filter_transform() @ g) * (form.input_transform() @ d))
    np.testing.assert_allclose(
        y, [d[i : i + form.taps] @ g for i in range(0, form.step, form.stride)], rtol=1e-12, atol=1e-12
    )


def bound(x, w, b, padding, dtype, algorithm="winograd"):
    """Largest error of an output element: the same computation on magnitudes, times the roundings on one path.

    Every stage is a sum of products with fixed coefficients, so its rounding errors are at most gamma(n) times the
    stage applied to magnitudes (Higham, section 3.5); paths have at most 6 roundings in each of two passes of the
    input and of the output transform, one per channel in between, one of the filter transform, and the bias.
    """
    forms = forms_of(algorithm, w)
    (a_down, a_across), (b_down, b_across), (g_down, g_across) = (
        [np.abs(getattr(form, f"{name}_transform")()) for form in forms] for name in ("output", "input", "filter")
    )
    (m, n), points = (form.outputs for form in forms), tuple(form.points for form in forms)
    batch, channels, height, width = x.shape
    (top, left), (rows, columns) = padding, w.shape[2:]
    out_h, out_w = height + 2 * top - rows + 1, width + 2 * left - columns + 1
    down, across = -(-out_h // m), -(-out_w // n)
    padded = np.zeros((batch, channels, down * m + rows - 1, across * n + columns - 1))
    padded[:, :, top : top + height, left : left + width] = np.abs(x)
    tiles = np.lib.stride_tricks.sliding_window_view(padded, points, axis=(2, 3))[:, :, ::m, ::n]
    v = b_down @ tiles @ b_across.T
    u = g_down @ np.abs(w.astype(np.float64)) @ g_across.T
    products = u.transpose(2, 3, 0, 1) @ v.transpose(4, 5, 1, 0, 2, 3).reshape(*points, channels, -1)
    products = products.reshape(*points, len(w), batch, down, across)
    y = np.einsum("pi,ijonyx,qj->noypxq", a_down, products, a_across, optimize=True)
    magnitude = y.reshape(batch, w.shape[0], down * m, across * n)[:, :, :out_h, :out_w] + np.abs(b)[:, None, None]
    roundings = channels + 4 * 6 + 3
    return (2 * roundings + 2) * np.finfo(dtype).eps / 2 * magnitude


SHAPES = [
    (1, 1, 4, 4, 1),
    (2, 3, 5, 5, 7),
    (1, 16, 14, 14, 32),
    (1, 17, 7, 7, 33),
    (1, 5, 28, 31, 20),
    (1, 3, 90, 6, 48),
    (3, 40, 9, 66, 8),
]


def test_large_tiles_of_5_by_5_taps_are_chosen_up_to_the_bound_of_many_channels_of_3_by_3():
    most = winograd_error(SMALL_FORMS[3, 3], MOST_CHANNELS, "float32")
    bounds = [winograd_error(LARGE_FORMS[5, 5], LARGE_CHANNELS + more, "float32") for more in (0, 1)]
    assert bounds[0] <= most < bounds[1]
    assert winograd_forms((5, 5), LARGE_CHANNELS) == LARGE_FORMS[5, 5]
    assert winograd_forms((5, 5), LARGE_CHANNELS + 1) == SMALL_FORMS[5, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("algorithm", "kernel"), FORMS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_within_the_derived_bound(isa, team, algorithm, kernel, shape, dtype, rng):
    batch, channels, height, width, filters = shape
    if algorithm == "winograd_large" and kernel == (5, 5):
        channels = 100  # with fewer, the small form is the same
    x = rng.standard_normal((batch, channels, height, width)).astype(dtype)
    w = rng.standard_normal((filters, channels, *kernel)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    for padding in ((1, 1), same_padding(kernel), (4, 4)):
        if height + 2 * padding[0] < kernel[0] or width + 2 * padding[1] < kernel[1]:
            continue
        y = F.conv2d(x, w, b, padding=padding, algorithm=algorithm)
        expected = reference.conv(x, w, b, padding=padding, accumulate=np.float64)
        assert_within(y, expected, bound(x, w, b, padding, dtype, algorithm), f"{shape} padding {padding}")


def images(kind, shape, rng):
    """Arrays on which rounding shows in different ways."""
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "positive":
        return rng.random(shape)
    if kind == "cancelling":
        return rng.choice([-1.0, 1.0], shape) * (1 + 1e-3 * rng.random(shape))
    if kind == "constant":
        return 1 + 1e-3 * rng.random(shape)
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 4, shape)  # wide


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("algorithm", "kernel"), FORMS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 40, 200])
@pytest.mark.parametrize("kinds", [("normal", "normal"), ("positive", "normal"), ("positive", "positive"),
                                   ("constant", "cancelling"), ("wide", "wide"), ("cancelling", "wide")], ids=str)  # fmt: skip
def test_the_bounds_hold_and_that_for_known_arrays_is_close(kinds, channels, algorithm, kernel, dtype, rng):
    """The bound for planning, which knows the arrays' largest values alone, is no smaller than that for the arrays."""
    x = images(kinds[0], (2, 2 * channels, 13, 10), rng).astype(dtype)
    w = images(kinds[1], (10, channels, *kernel), rng).astype(dtype)
    b = rng.standard_normal(10).astype(dtype)
    pads = ((0, 2), (1, 3))
    forms = forms_of(algorithm, w)
    if algorithm == "winograd_large" and forms == winograd_forms(kernel, channels):
        algorithm = "winograd"
    y = F.conv2d(x, w, b, padding=pads, groups=2, algorithm=algorithm)
    wide = (array.astype(wider(dtype)) for array in (x, w, b))
    exact = reference.conv(*wide, padding=pads, groups=2, accumulate=wider(dtype))
    errors = np.abs(y - exact)
    window = Window.of(x.shape[2:], w.shape[2:], padding=pads)
    name = np.dtype(dtype).name
    bounds = winograd_errors(x, w, b, window, 2, name, forms)
    assert bounds.shape == y.shape
    assert (errors <= bounds).all()
    close = 1500 if forms in LARGE_FORMS.values() else 400
    assert (bounds.max(axis=(2, 3)) <= close * errors.max()).any()
    magnitudes = np.abs(x).max() * np.abs(w).sum((1, 2, 3), np.float64) + np.abs(b)
    assert (bounds <= winograd_error(forms, channels, name) * magnitudes[:, None, None]).all()


def test_a_5x5_kernel_has_large_tiles_where_they_err_no_more_than_many_channels_of_3x3():
    large, most = LARGE_FORMS[5, 5], winograd_error(SMALL_FORMS[3, 3], 1024, "float32")
    channels = [n for n in range(1, 200) if winograd_error(large, n, "float32") <= most]
    assert channels == list(range(1, channels[-1] + 1))
    assert 64 <= channels[-1] < 96
    assert winograd_forms((5, 5), channels[-1]) == large
    assert winograd_forms((5, 5), channels[-1] + 1) == SMALL_FORMS[5, 5]
    assert winograd_forms((5, 5), channels[-1] + 1, large=True) == large
    assert winograd_forms((3, 3), 1) == SMALL_FORMS[3, 3]
    assert winograd_forms((3, 3), 1, large=True) == LARGE_FORMS[3, 3]


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5)])
def test_one_dimension_is_one_row(isa, kernel, rng):
    """Also where the rows or the columns are one: the loops have the axis in another place then."""
    taps = kernel[0]
    x = rng.standard_normal((2, 6, 150)).astype(np.float32)
    w = rng.standard_normal((20, 6, taps)).astype(np.float32)
    b = rng.standard_normal(20).astype(np.float32)
    y = F.conv1d(x, w, b, padding=taps // 2, algorithm="winograd")
    as_row = F.conv2d(x[:, :, None], w[:, :, None], b, padding=(0, taps // 2), algorithm="winograd")
    as_column = F.conv2d(x[..., None], w[..., None], b, padding=(taps // 2, 0), algorithm="winograd")
    assert y.tobytes() == as_row.tobytes() == as_column.tobytes()
    window = Window.of((150,), (taps,), padding=taps // 2)
    exact = reference.conv(x, w, b, padding=taps // 2, accumulate=np.float64)
    forms = winograd_forms((1, taps), 6)
    bounds = winograd_errors(x, w, b, window, 1, "float32", forms)
    assert bounds.shape == y.shape
    assert (np.abs(y - exact) <= bounds).all()


def test_the_bound_for_known_arrays_follows_the_image(rng):
    """A tile of zeros has no error, one of large values leaves its neighbours alone."""
    x = np.zeros((1, 4, 16, 16), np.float32)
    x[..., :4, :4] = 1000 * rng.standard_normal((4, 4, 4))
    w = rng.standard_normal((3, 4, 3, 3)).astype(np.float32)
    bounds = winograd_errors(x, w, None, Window.of((16, 16), (3, 3)), 1, "float32", SMALL_FORMS[3, 3])
    assert (bounds[..., :4, :4] > 0).all()
    assert not bounds[..., 4:, :].any()
    assert not bounds[..., 4:].any()


def test_groups_and_asymmetric_padding(isa, rng):
    x = rng.standard_normal((2, 12, 11, 10)).astype(np.float64)
    w = rng.standard_normal((21, 4, 3, 3)).astype(np.float64)
    geometry = {"padding": ((0, 2), (1, 0)), "groups": 3}
    y = F.conv2d(x, w, algorithm="winograd", **geometry)
    np.testing.assert_allclose(y, reference.conv(x, w, **geometry), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("algorithm", "kernel"), FORMS, ids=str)
def test_same_bits_for_any_number_of_threads_and_any_batch(isa, algorithm, kernel, rng):
    x = rng.standard_normal((3, 100, 30, 30)).astype(np.float32)
    w = rng.standard_normal((40, 100, *kernel)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            results.append(F.conv2d(x, w, padding=1, algorithm=algorithm))
    alone = F.conv2d(x[1:2], w, padding=1, algorithm=algorithm)
    assert all(result.tobytes() == results[0].tobytes() for result in results)
    assert alone.tobytes() == results[0][1:2].tobytes()


@pytest.mark.parametrize(("algorithm", "kernel"), FORMS, ids=str)
@pytest.mark.parametrize(("images", "side", "width"), [(9, 4, 5), (5, 7, 7), (3, 14, 6), (2, 1, 150), (1, 70, 70)])
def test_images_that_share_a_chunk_and_maps_of_many_chunks(isa, team, images, side, width, algorithm, kernel, rng):
    """Also channels last in memory, and filters enough to be streamed."""
    channels = 90 if (algorithm, kernel) == ("winograd_large", (5, 5)) else 19
    x = rng.standard_normal((images, channels, side, width)).astype(np.float32)
    w = rng.standard_normal((37, channels, *kernel)).astype(np.float32)
    b = rng.standard_normal(37).astype(np.float32)
    padding = same_padding(kernel)
    expected = reference.conv(x, w, b, padding=padding, accumulate=np.float64)
    tolerance = bound(x, w, b, padding, np.float32, algorithm)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for memory in (x, last, np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]):
        y = F.conv2d(memory, w, b, padding=padding, algorithm=algorithm)
        assert_within(y, expected, tolerance, f"{memory.strides}")


# images, channels, side, width, filters, kernel, algorithm: filters that stay in the second-level cache, and such as do not
CUT = [
    (1, 24, 30, 30, 40, (3, 3), "winograd"),
    (1, 9, 5, 130, 33, (3, 3), "winograd"),
    (5, 12, 7, 6, 20, (3, 3), "winograd"),
    (1, 16, 4, 100, 70, (5, 5), "winograd"),
    (1, 30, 33, 33, 40, (3, 3), "winograd"),
    (1, 120, 14, 13, 260, (3, 3), "winograd"),
    (1, 260, 4, 40, 130, (3, 3), "winograd"),
    (3, 100, 6, 7, 300, (3, 3), "winograd"),
    (1, 130, 9, 9, 250, (5, 5), "winograd"),
    (1, 60, 13, 13, 150, (5, 5), "winograd"),
    (1, 130, 19, 9, 250, (5, 5), "winograd_large"),
    (1, 40, 70, 31, 40, (3, 3), "winograd_large"),
    (1, 40, 17, 19, 40, (1, 7), "winograd"),
    (2, 200, 17, 17, 200, (7, 1), "winograd"),
    (3, 300, 8, 8, 300, (3, 1), "winograd"),
    (3, 300, 8, 8, 300, (1, 3), "winograd"),
    (1, 30, 1, 300, 40, (1, 5), "winograd"),
    (1, 30, 40, 10, 40, (5, 1), "winograd"),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CUT, ids=str)
def test_chunks_that_are_cut_for_threads_give_the_same_bits(isa, case, dtype, rng):
    """Whether the threads come or not; every output is written, and no other memory."""
    images, channels, side, width, filters, kernel, algorithm = case
    padding = same_padding(kernel)
    x = rng.standard_normal((images, channels, side, width)).astype(dtype)
    w = rng.standard_normal((filters, channels, *kernel)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    expected = None
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            plan = conv_plan(x, w, b, 1, padding, 1, 1, algorithm)
            packed = plan.pack(w, b)
        for present in {threads, 1}:
            memory = np.full(int(np.prod(plan.y_shape)) + 128, np.nan, dtype)
            memory[:64] = memory[-64:] = 12345
            with config.threads(present):
                plan.step(memory[64:-64], x, *packed)
            assert (memory[:64] == 12345).all()
            assert (memory[-64:] == 12345).all()
            y = memory[64:-64].reshape(plan.y_shape)
            assert not np.isnan(y).any()
            expected = y if expected is None else expected
            assert y.tobytes() == expected.tobytes()
    assert_within(
        expected,
        reference.conv(x, w, b, padding=padding, accumulate=wider(dtype)),
        bound(x, w, b, padding, dtype, algorithm),
        f"{case}",
    )


def tasks_of(x_shape, w_shape, threads):
    with config.threads(threads):
        return WinogradLoops(conv_nest(padded_by_one(x_shape, w_shape))).step


def test_threads_end_at_the_same_time():
    """Chunks are cut where there are few for each thread: one that is left over, else one for each."""
    tiling = Tiling(conv_nest(padded_by_one((1, 64, 56, 56), (64, 64, 3, 3))))
    assert not tiling.streams
    for threads, left in ((1, 0), (2, tiling.units % 2 or 2), (3, tiling.units % 3 or 3)):
        with config.threads(threads):
            cuts = tiling.cuts(2, False)
        assert (cuts["whole_chunks"], cuts["cut_chunks"]) == (tiling.units - left, left)
        assert (tiling.units - left) % threads == 0
        step = tasks_of((1, 64, 56, 56), (64, 64, 3, 3), threads)
        assert step.tasks == tiling.units - left + left * cuts["bands"]
        assert step.shared == 0
    with config.threads(2):
        assert Tiling(conv_nest(padded_by_one((32, 64, 56, 56), (64, 64, 3, 3)))).cuts(2, False)["cut_chunks"] == 0


def test_parts_of_tiles_are_as_equal_as_can_be():
    with config.threads(2):
        cuts = [
            Tiling(conv_nest(padded_by_one((1, 8, *side), (40, 8, 3, 3)))).cuts(2, False)
            for side in ((33, 33), (8, 40))
        ]
        assert [(c["bands"], c["bands_across"]) for c in cuts] == [(2, True), (2, False)]
        streamed = [
            Tiling(conv_nest(padded_by_one((1, 120, *side), (260, 120, 3, 3)))).cuts(9, True)
            for side in ((12, 30), (4, 30))
        ]
        assert [(c["bands"], c["bands_across"]) for c in streamed] == [(2, False), (2, True)]


def test_threads_share_the_input_of_filters_that_are_streamed():
    """Its channels are transformed by all; panels that the threads cannot take in equal numbers are cut."""
    tiling = Tiling(conv_nest(padded_by_one((1, 300, 14, 14), (300, 300, 3, 3))))
    assert tiling.streams
    assert tiling.units == 1
    with config.threads(4):
        cuts = tiling.cuts(7, False)
        assert tiling.cuts(8, False)["whole_panels"] == 8
        assert tiling.cuts(8, True)["whole_panels"] == 4
    assert cuts["pieces"] * cuts["piece_channels"] >= 300 > (cuts["pieces"] - 1) * cuts["piece_channels"]
    assert cuts["pieces"] >= 4
    assert (cuts["whole_chunks"], cuts["cut_chunks"], cuts["whole_panels"]) == (0, 1, 4)
    one, four = (tasks_of((1, 300, 14, 14), (300, 300, 3, 3), threads) for threads in (1, 4))
    assert one.shared == 0
    assert four.shared > 4 * 6**2 * 300 * 16
    assert four.scratch < one.scratch


def test_same_bits_for_small_images_whoever_shares_a_chunk(isa, rng):
    x = rng.standard_normal((7, 20, 7, 9)).astype(np.float32)
    w = rng.standard_normal((40, 20, 3, 3)).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        with config.threads(threads):
            results.append(F.conv2d(x, w, padding=1, algorithm="winograd"))
    alone = np.concatenate([F.conv2d(x[i : i + 1], w, padding=1, algorithm="winograd") for i in range(7)])
    assert all(result.tobytes() == alone.tobytes() for result in results)
    assert F.conv2d(x[:0], w, padding=1, algorithm="winograd").shape == (0, 40, 7, 9)


def test_writes_its_output_and_nothing_else(isa, rng):
    x = rng.standard_normal((1, 5, 18, 23)).astype(np.float32)
    w = rng.standard_normal((35, 5, 3, 3)).astype(np.float32)
    plan = conv_plan(x, w, None, 1, 1, 1, 1, "winograd")
    memory = np.full(int(np.prod(plan.spec.y_shape)) + 128, np.nan, np.float32)
    memory[:64] = memory[-64:] = 12345
    y = memory[64:-64].reshape(plan.spec.y_shape)
    plan.loops.step(y, x, *plan.pack(w, None))
    assert not np.isnan(y).any()
    assert (memory[:64] == 12345).all()
    assert (memory[-64:] == 12345).all()


@pytest.mark.parametrize(
    ("images", "channels", "filters", "side", "taps", "faster"),
    [
        (1, 64, 64, 56, 3, True),
        (1, 256, 256, 14, 3, True),
        (1, 512, 512, 7, 3, True),
        (8, 512, 512, 7, 3, True),
        (1, 24, 24, 28, 3, True),
        (1, 32, 96, 28, 5, True),
        (1, 3, 64, 224, 3, True),
        (1, 3, 16, 32, 3, True),
        (1, 8, 8, 28, 3, True),
        (1, 64, 64, 2, 3, False),
        (1, 64, 192, 27, 5, True),
        (1, 1, 6, 28, 5, False),
    ],
)
def test_is_chosen_where_it_is_faster(images, channels, filters, side, taps, faster):
    """Shapes at which it and the rest were measured to differ by far with AVX-512; the rates behind it are nominal."""
    spec = conv_spec(
        (images, channels, side, side),
        tuple(4 * step for step in (channels * side * side, side * side, side, 1)),
        np.dtype(np.float32), (filters, channels, taps, taps), np.dtype(np.float32), None, 1, taps // 2, 1, 1,
    )  # fmt: skip
    if _kernels.ISA != "avx512":
        pytest.skip(f"the figures are those of AVX-512, this machine has {_kernels.ISA}")
    assert (CONV.choose(spec).name == "winograd") == faster


@pytest.mark.parametrize(
    ("kernel", "geometry", "reason"),
    [
        ((1, 1), {}, r"it computes kernels of several taps in a plane, this one has \(1, 1\)"),
        ((3, 1, 3), {}, r"with depth it computes kernels of several rows and columns, this one has \(3, 1, 3\)"),
        ((3, 1, 1), {}, r"with depth it computes kernels of several rows and columns, this one has \(3, 1, 1\)"),
        ((9, 3, 3), {}, r"it computes at most 8 taps along the depth, the kernel is \(9, 3, 3\)"),
    ],
)
def test_refusals_are_sentences(kernel, geometry, reason):
    x, w = np.ones((1, 2, *(9,) * len(kernel)), np.float32), np.ones((4, 2, *kernel), np.float32)
    with pytest.raises(ArgumentError, match="algorithm: 'winograd' refuses this convolution: " + reason):
        (F.conv2d if len(kernel) == 2 else F.conv3d)(x, w, algorithm="winograd", **geometry)


def test_an_unknown_algorithm_lists_those_that_exist():
    x, w = np.ones((1, 2, 9, 9), np.float32), np.ones((4, 2, 3, 3), np.float32)
    known = ", ".join(repr(row.name) for row in CONV.rows)
    with pytest.raises(ArgumentError, match=f"expected 'auto' or one of {known} for convolution, got 'fastest'"):
        F.conv2d(x, w, algorithm="fastest")
