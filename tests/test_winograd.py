"""Winograd's transforms by algebra, and its results within a bound derived from the transforms themselves."""

import numpy as np
import pytest
from tolerance import assert_within

from fastconv import _kernels, config, reference
from fastconv.errors import ArgumentError
from fastconv.geometry import Window
from fastconv.nn import functional as F
from fastconv.ops.conv import CONV, conv_nest, conv_plan
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.winograd import Tiling
from fastconv.ops.winograd_error import SIDE, filter_transform, input_transform, output_transform, winograd_errors


@pytest.mark.parametrize("taps", [3, 5])
def test_the_matrices_compute_a_correlation(taps, rng):
    outputs = SIDE + 1 - taps
    d, g = rng.standard_normal(SIDE), rng.standard_normal(taps)
    y = output_transform(outputs) @ ((filter_transform(taps) @ g) * (input_transform() @ d))
    np.testing.assert_allclose(y, [d[i : i + taps] @ g for i in range(outputs)], rtol=1e-13, atol=1e-13)


def bound(x, w, b, padding, dtype):
    """Largest error of an output element: the same computation on magnitudes, times the roundings on one path.

    Every stage is a sum of products with fixed coefficients, so its rounding errors are at most gamma(n) times the
    stage applied to magnitudes (Higham, section 3.5); paths have at most 6 roundings in each of two passes of the
    input and of the output transform, one per channel in between, one of the filter transform, and the bias.
    """
    taps = w.shape[-1]
    m = SIDE + 1 - taps
    absolute_a, absolute_b, absolute_g = (
        np.abs(matrix) for matrix in (output_transform(m), input_transform(), filter_transform(taps))
    )
    batch, channels, height, width = x.shape
    out_h, out_w = height + 2 * padding - taps + 1, width + 2 * padding - taps + 1
    down, across = -(-out_h // m), -(-out_w // m)
    padded = np.zeros((batch, channels, down * m + taps - 1, across * m + taps - 1))
    padded[:, :, padding : padding + height, padding : padding + width] = np.abs(x)
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(2, 3))[:, :, ::m, ::m]
    v = absolute_b @ tiles @ absolute_b.T
    u = absolute_g @ np.abs(w.astype(np.float64)) @ absolute_g.T
    products = np.einsum("ocij,ncyxij->noyxij", u, v)
    y = np.einsum("pi,noyxij,qj->noypxq", absolute_a, products, absolute_a)
    magnitude = y.reshape(batch, w.shape[0], down * m, across * m)[:, :, :out_h, :out_w] + np.abs(b)[:, None, None]
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_within_the_derived_bound(isa, team, taps, shape, dtype, rng):
    batch, channels, height, width, filters = shape
    x = rng.standard_normal((batch, channels, height, width)).astype(dtype)
    w = rng.standard_normal((filters, channels, taps, taps)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    for padding in (1, taps // 2, 4):
        if height + 2 * padding < taps:
            continue
        y = F.conv2d(x, w, b, padding=padding, algorithm="winograd")
        expected = reference.conv(x, w, b, padding=padding, accumulate=np.float64)
        assert_within(y, expected, bound(x, w, b, padding, dtype), f"{shape} padding {padding}")


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
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("channels", [1, 3, 40, 200])
@pytest.mark.parametrize("kinds", [("normal", "normal"), ("positive", "normal"), ("positive", "positive"),
                                   ("constant", "cancelling"), ("wide", "wide"), ("cancelling", "wide")], ids=str)  # fmt: skip
def test_the_bound_for_known_arrays_holds_and_is_close(kinds, channels, taps, dtype, rng):
    x = images(kinds[0], (2, 2 * channels, 13, 10), rng).astype(dtype)
    w = images(kinds[1], (10, channels, taps, taps), rng).astype(dtype)
    b = rng.standard_normal(10).astype(dtype)
    pads = ((0, 2), (1, 3))
    y = F.conv2d(x, w, b, padding=pads, groups=2, algorithm="winograd")
    wide = (array.astype(np.longdouble) for array in (x, w, b))
    exact = reference.conv(*wide, padding=pads, groups=2, accumulate=np.longdouble)
    errors = np.abs(y - exact)
    window = Window.of(x.shape[2:], w.shape[2:], padding=pads)
    bounds = winograd_errors(x, w, b, window, 2, np.dtype(dtype).name)
    assert bounds.shape == y.shape
    assert (errors <= bounds).all()
    assert (bounds.max(axis=(2, 3)) <= 400 * errors.max()).any()


def test_the_bound_for_known_arrays_follows_the_image(rng):
    """A tile of zeros has no error, one of large values leaves its neighbours alone."""
    x = np.zeros((1, 4, 16, 16), np.float32)
    x[..., :4, :4] = 1000 * rng.standard_normal((4, 4, 4))
    w = rng.standard_normal((3, 4, 3, 3)).astype(np.float32)
    bounds = winograd_errors(x, w, None, Window.of((16, 16), (3, 3)), 1, "float32")
    assert (bounds[..., :4, :4] > 0).all()
    assert not bounds[..., 4:, :].any()
    assert not bounds[..., 4:].any()


# images, channels, input, filters, kernel, and stride, padding and dilation along the depth
VOLUMES = [
    (1, 16, (8, 14, 14), 32, (3, 3, 3), 1, 1, 1),
    (2, 5, (7, 9, 13), 37, (3, 3, 3), 2, 1, 1),
    (1, 7, (9, 11, 6), 20, (3, 5, 5), 1, 2, 2),
    (3, 4, (5, 5, 5), 33, (2, 3, 3), 3, 0, 1),
    (1, 6, (4, 30, 31), 16, (1, 3, 3), 1, 0, 1),
    (1, 3, (2, 8, 8), 9, (4, 3, 3), 1, 5, 1),
    (1, 2, (20, 7, 7), 8, (8, 3, 3), 2, 3, 2),
]


def volume(case, dtype, rng):
    """Arrays and the geometry of a convolution in two groups."""
    images, channels, size, filters, kernel, stride, padding, dilation = case
    x = rng.standard_normal((images, 2 * channels, *size)).astype(dtype)
    w = rng.standard_normal((2 * filters, channels, *kernel)).astype(dtype)
    pads = ((padding, padding), (0, 2), (1, 1))
    geometry = {"stride": (stride, 1, 1), "padding": pads, "dilation": (dilation, 1, 1)}
    return x, w, rng.standard_normal(2 * filters).astype(dtype), geometry


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", VOLUMES, ids=str)
def test_depth_within_the_bound_for_known_arrays(isa, case, dtype, rng):
    x, w, b, geometry = volume(case, dtype, rng)
    wide = (array.astype(np.longdouble) for array in (x, w, b))
    exact = reference.conv(*wide, **geometry, groups=2, accumulate=np.longdouble)
    bounds = winograd_errors(x, w, b, Window.of(x.shape[2:], w.shape[2:], **geometry), 2, np.dtype(dtype).name)
    results = set()
    for threads in (1, 2, 5):
        with config.threads(threads):
            y = F.conv3d(x, w, b, **geometry, groups=2, algorithm="winograd")
        assert (np.abs(y - exact) <= bounds).all()
        results.add(y.tobytes())
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    results.add(np.ascontiguousarray(F.conv3d(last, w, b, **geometry, groups=2, algorithm="winograd")).tobytes())
    assert len(results) == 1


def test_depth_of_padding_alone_gives_the_bias(isa, rng):
    x, w, b, _ = volume(VOLUMES[5], np.float32, rng)
    y = F.conv3d(x, w, b, padding=(5, 1, 1), groups=2, algorithm="winograd")
    assert y.shape[2] == 9
    for depth in (0, 1, 7, 8):  # whose four planes, from depth - 5 on, all lie in the padding
        assert (y[:, :, depth] == b[:, None, None]).all()
    assert (y[:, :, 2:7] != b[:, None, None, None]).all()


@pytest.mark.parametrize("case", VOLUMES, ids=str)
def test_products_and_planes_are_counted(case):
    images, channels, size, filters, kernel, stride, padding, dilation = case
    spec = conv_spec(
        (images, channels, *size), (4,) * 5, np.dtype(np.float32), (filters, channels, *kernel), np.dtype(np.float32),
        None, (stride, 1, 1), (padding, 1, 1), (dilation, 1, 1), 1,
    )  # fmt: skip
    tiling = Tiling(conv_nest(spec))
    first = np.arange(spec.window.output[0])[:, None] * stride - padding
    planes = first + np.arange(kernel[0]) * dilation
    inside = (planes >= 0) & (planes < size[0])
    assert tiling.depth_taps == inside.sum()
    ring, loads = {}, 0
    for depth, (row, used) in enumerate(zip(planes, inside, strict=True)):
        for tap in np.flatnonzero(used):
            slot = (depth * stride // dilation + tap) % kernel[0]
            loads += ring.get(slot) != row[tap]
            ring[slot] = row[tap]
    assert tiling.depth_planes == loads if stride % dilation == 0 else tiling.depth_planes >= loads


def test_groups_and_asymmetric_padding(isa, rng):
    x = rng.standard_normal((2, 12, 11, 10)).astype(np.float64)
    w = rng.standard_normal((21, 4, 3, 3)).astype(np.float64)
    geometry = {"padding": ((0, 2), (1, 0)), "groups": 3}
    y = F.conv2d(x, w, algorithm="winograd", **geometry)
    np.testing.assert_allclose(y, reference.conv(x, w, **geometry), rtol=0, atol=1e-12)


def test_same_bits_for_any_number_of_threads_and_any_batch(isa, rng):
    x = rng.standard_normal((3, 20, 30, 30)).astype(np.float32)
    w = rng.standard_normal((40, 20, 3, 3)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            results.append(F.conv2d(x, w, padding=1, algorithm="winograd"))
    alone = F.conv2d(x[1:2], w, padding=1, algorithm="winograd")
    assert all(result.tobytes() == results[0].tobytes() for result in results)
    assert alone.tobytes() == results[0][1:2].tobytes()


@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize(("images", "side", "width"), [(9, 4, 5), (5, 7, 7), (3, 14, 6), (2, 1, 150), (1, 70, 70)])
def test_images_that_share_a_chunk_and_maps_of_many_chunks(isa, team, images, side, width, taps, rng):
    """Also channels last in memory, and filters enough to be streamed."""
    x = rng.standard_normal((images, 19, side, width)).astype(np.float32)
    w = rng.standard_normal((37, 19, taps, taps)).astype(np.float32)
    b = rng.standard_normal(37).astype(np.float32)
    expected = reference.conv(x, w, b, padding=taps // 2, accumulate=np.float64)
    tolerance = bound(x, w, b, taps // 2, np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for memory in (x, last, np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]):
        y = F.conv2d(memory, w, b, padding=taps // 2, algorithm="winograd")
        assert_within(y, expected, tolerance, f"{memory.strides}")


# images, channels, side, width, filters, taps: filters that stay in the second-level cache, and such as do not
CUT = [
    (1, 24, 30, 30, 40, 3),
    (1, 9, 5, 130, 33, 3),
    (5, 12, 7, 6, 20, 3),
    (1, 16, 4, 100, 70, 5),
    (1, 30, 33, 33, 40, 3),
    (1, 120, 14, 13, 260, 3),
    (1, 260, 4, 40, 130, 3),
    (3, 100, 6, 7, 300, 3),
    (1, 130, 9, 9, 250, 5),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CUT, ids=str)
def test_chunks_that_are_cut_for_threads_give_the_same_bits(isa, case, dtype, rng):
    """Whether the threads come or not; every output is written, and no other memory."""
    images, channels, side, width, filters, taps = case
    x = rng.standard_normal((images, channels, side, width)).astype(dtype)
    w = rng.standard_normal((filters, channels, taps, taps)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    expected = None
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            plan = conv_plan(x, w, b, 1, taps // 2, 1, 1, "winograd")
            packed = plan.pack(w, b)
        for present in (threads, 1):
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
        reference.conv(x, w, b, padding=taps // 2, accumulate=np.longdouble),
        bound(x, w, b, taps // 2, dtype),
        f"{case}",
    )


def tasks_of(x_shape, w_shape, threads):
    x, w = np.ones(x_shape, np.float32), np.ones(w_shape, np.float32)
    with config.threads(threads):
        return conv_plan(x, w, None, 1, 1, 1, 1, "winograd").step


def test_threads_end_at_the_same_time():
    """Chunks are cut where there are few for each thread: one that is left over, else one for each."""
    tiling = Tiling(conv_nest(_spec((1, 64, 56, 56), (64, 64, 3, 3))))
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
        assert Tiling(conv_nest(_spec((32, 64, 56, 56), (64, 64, 3, 3)))).cuts(2, False)["cut_chunks"] == 0


def test_parts_of_tiles_are_as_equal_as_can_be():
    with config.threads(2):
        cuts = [Tiling(conv_nest(_spec((1, 8, *side), (40, 8, 3, 3)))).cuts(2, False) for side in ((33, 33), (8, 40))]
        assert [(c["bands"], c["bands_across"]) for c in cuts] == [(2, True), (2, False)]
        streamed = [
            Tiling(conv_nest(_spec((1, 120, *side), (260, 120, 3, 3)))).cuts(9, True) for side in ((12, 30), (4, 30))
        ]
        assert [(c["bands"], c["bands_across"]) for c in streamed] == [(2, False), (2, True)]


def test_threads_share_the_input_of_filters_that_are_streamed():
    """Its channels are transformed by all; panels that the threads cannot take in equal numbers are cut."""
    tiling = Tiling(conv_nest(_spec((1, 300, 14, 14), (300, 300, 3, 3))))
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
    assert four.shared > 4 * SIDE**2 * 300 * 16
    assert four.scratch < one.scratch


def _spec(x_shape, w_shape):
    strides = np.cumprod((4, *x_shape[:0:-1]))[::-1]
    kind = np.dtype(np.float32)
    return conv_spec(x_shape, tuple(map(int, strides)), kind, w_shape, kind, None, 1, 1, 1, 1)


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
        (1, 3, 64, 224, 3, False),
        (1, 3, 16, 32, 3, False),
        (1, 8, 8, 28, 3, False),
        (1, 64, 64, 2, 3, False),
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
        ((1, 3), {}, r"it computes kernels of 3×3 and 5×5, this one has \(1, 3\)"),
        ((1, 3, 5), {}, r"it computes kernels of 3×3 and 5×5, this one has \(1, 3, 5\)"),
        ((9, 3, 3), {}, r"it computes at most 8 taps along the depth, the kernel is \(9, 3, 3\)"),
        ((1, 3, 3), {"stride": 2}, r"it needs stride and dilation 1, got \(2, 2\) and \(1, 1\)"),
        ((3, 3), {"stride": 2}, r"it needs stride and dilation 1, got \(2, 2\) and \(1, 1\)"),
        ((3, 3), {"dilation": 2}, r"it needs stride and dilation 1, got \(1, 1\) and \(2, 2\)"),
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
