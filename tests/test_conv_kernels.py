"""The compiled convolutions against the reference: every instruction set, element type, tile, tail and thread count."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance

from fastconv import config, machine, reference
from fastconv.errors import ArgumentError
from fastconv.ops import direct, filter_lanes
from fastconv.ops.conv import CONV, conv_plan
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec

# Those with errors of their own have files of their own: test_winograd.py, test_conv_fft.py; few images are below.
SPECIAL = ("reference", "winograd", "winograd_large", "fft", "few_images")
ALGORITHMS = [row.name for row in CONV.rows if row.name not in SPECIAL]


def arrays(rng, x_shape, w_shape, dtype, small_integers=False):
    if small_integers:
        return [rng.integers(-4, 5, shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1])]
    return [rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1])]


def plan_for(x, w, b, algorithm, stride=1, padding=0, dilation=1, groups=1):
    return conv_plan(x, w, b, stride, padding, dilation, groups, algorithm)


def check(x, w, b, algorithm, **geometry):
    if algorithm == "trimmed" and not np.any(geometry.get("padding", 0)):
        geometry["padding"] = 1  # what it is for
    plan = plan_for(x, w, b, algorithm, **geometry)
    actual = plan(x, plan.pack(w, b))
    expected = reference.conv(x, w, b, **geometry)
    problem = f"{algorithm} {x.shape} {w.shape} {geometry} {x.dtype}"
    assert_within(actual, expected, conv_tolerance(x, w, b, **geometry), problem)
    return actual


# x, w, geometry: plain, tail and strided forms of every parameter, in one to three dimensions
CASES = [
    ((1, 1, 1), (1, 1, 1), {}),
    ((2, 3, 31), (5, 3, 4), {"stride": 3, "padding": 2}),
    ((1, 2, 2000), (3, 2, 9), {"dilation": 5, "padding": ((3, 7),)}),
    ((1, 4, 700), (40, 4, 1), {}),
    ((1, 1, 32, 32), (6, 1, 5, 5), {}),
    ((1, 3, 35, 37), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 40, 40), (17, 3, 11, 11), {"stride": 4, "padding": 2}),
    ((2, 16, 14, 14), (32, 16, 3, 3), {"padding": 1}),
    ((1, 17, 15, 13), (33, 17, 3, 3), {"padding": 1}),
    ((1, 15, 7, 7), (47, 15, 3, 3), {"padding": ((0, 2), (1, 0))}),
    ((1, 20, 28, 28), (24, 20, 1, 1), {}),
    ((2, 20, 9, 9), (24, 20, 1, 1), {"stride": 2}),
    ((1, 8, 12, 12), (12, 8, 1, 5), {"padding": (0, 2)}),
    ((1, 8, 30, 1), (12, 8, 5, 1), {"padding": (2, 0), "stride": (2, 1)}),
    ((1, 2, 5, 3), (4, 2, 3, 3), {}),
    ((1, 8, 30, 5), (12, 8, 2, 5), {"stride": (1, 7)}),
    ((1, 3, 4, 9, 3), (5, 3, 2, 3, 3), {"dilation": (1, 2, 1)}),
    ((1, 6, 20, 20), (8, 6, 3, 3), {"dilation": (2, 3), "padding": (2, 3)}),
    ((1, 6, 20, 20), (8, 6, 3, 3), {"dilation": 3, "stride": 2}),
    ((2, 24, 10, 11), (24, 1, 3, 3), {"groups": 24, "padding": 1}),
    ((1, 24, 21, 70), (48, 1, 5, 5), {"groups": 24, "padding": 2, "stride": 2}),
    ((1, 32, 9, 33), (32, 4, 3, 3), {"groups": 8, "padding": 1}),
    ((1, 6, 18, 18), (21, 2, 3, 3), {"groups": 3}),
    ((1, 64, 8, 9), (64, 32, 3, 3), {"groups": 2, "padding": 1}),
    ((1, 130, 40, 40), (8, 130, 3, 3), {"padding": "same"}),
    ((1, 5, 12, 13), (7, 5, 4, 4), {"stride": 3, "padding": "SAME_LOWER"}),
    ((2, 5, 6, 7, 8), (9, 5, 3, 2, 3), {"padding": 1, "stride": (2, 1, 1)}),
    ((1, 4, 5, 9, 9), (4, 1, 3, 3, 3), {"groups": 4, "padding": 1, "dilation": (1, 2, 1)}),
    ((1, 3, 4, 5, 60), (40, 3, 1, 1, 1), {}),
    ((1, 5, 13, 33), (20, 5, 3, 3), {"padding": 12, "dilation": 12}),
    ((1, 3, 9, 40), (40, 3, 3, 3), {"padding": (5, 30), "dilation": (2, 17)}),
    ((1, 3, 4, 6), (17, 3, 3, 3), {"padding": ((5, 4), (6, 7))}),
    ((2, 3, 30, 30), (33, 3, 3, 5), {"padding": (9, 20), "dilation": (9, 10), "stride": (2, 3)}),
    ((1, 2, 6, 8, 9), (17, 2, 3, 3, 3), {"padding": 4, "dilation": (2, 4, 4)}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_case(isa, algorithm, dtype, case, rng):
    x_shape, w_shape, geometry = case
    check(*arrays(rng, x_shape, w_shape, dtype), algorithm, **geometry)


@pytest.mark.parametrize("columns", range(1, 46))
def test_every_width_of_the_tile(isa, columns, rng):
    for filters in (1, 3, 8, 16, 17, 40):
        x, w, b = arrays(rng, (1, 3, 2, columns), (filters, 3, 2, 1), np.float32)
        check(x, w, b, "direct")


@pytest.mark.parametrize("filters", range(1, 70))
def test_every_number_of_filters(isa, filters, rng):
    x, w, b = arrays(rng, (1, 2, 5, 9), (filters, 2, 3, 3), np.float64)
    check(x, w, b, "direct", padding=1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_small_integers_are_exact(isa, algorithm, rng):
    for stride, dilation, groups in itertools.product((1, 2, 3), (1, 2), (1, 3)):
        x, w, b = arrays(rng, (2, 9, 13, 17), (15, 9 // groups, 3, 3), np.float32, small_integers=True)
        geometry = {"stride": stride, "dilation": dilation, "groups": groups, "padding": 2}
        plan = plan_for(x, w, b, algorithm, **geometry)
        np.testing.assert_array_equal(plan(x, plan.pack(w, b)), reference.conv(x, w, b, **geometry))


@pytest.mark.parametrize("case", [CASES[5], CASES[8], CASES[17], CASES[21], CASES[23]], ids=lambda c: f"{c[0]}-{c[1]}")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_bits_for_any_number_of_threads(isa, algorithm, case, rng):
    x_shape, w_shape, geometry = case
    x, w, b = arrays(rng, x_shape, w_shape, np.float32)
    results = []
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            plan = plan_for(x, w, b, algorithm, **geometry)
            results += [plan(x, plan.pack(w, b)) for _ in range(2)]
    for other in results[1:]:
        assert other.tobytes() == results[0].tobytes()


def test_same_bits_for_any_batch(isa, rng):
    x, w, b = arrays(rng, (5, 12, 11, 11), (20, 12, 3, 3), np.float32)
    whole = check(x, w, b, "direct", padding=1)
    for image in range(5):
        alone = check(x[image : image + 1], w, b, "direct", padding=1)
        assert alone.tobytes() == whole[image].tobytes()


@pytest.mark.parametrize("loops_of", [direct.FilterLanes, direct.PixelLanes, direct.PointwiseLanes])
def test_writes_its_output_and_nothing_else(isa, loops_of, rng):
    x_shape, filters = ((2, 4, 9, 5), 40) if loops_of is direct.FilterLanes else ((2, 4, 9, 19), 3)
    x, w, b = arrays(rng, x_shape, (filters, 4, 3, 3), np.float32)
    plan = plan_for(x, w, b, "direct", padding=1)
    loops = loops_of(conv_nest(plan.spec))
    guard, size = 64, int(np.prod(plan.spec.y_shape))
    memory = np.full(size + 2 * guard, np.nan, np.float32)
    memory[:guard] = memory[-guard:] = 12345
    y = memory[guard:-guard].reshape(plan.spec.y_shape)
    loops.step(y, x, *loops.pack(w, b))
    assert not np.isnan(y).any()
    assert (memory[:guard] == 12345).all()
    assert (memory[-guard:] == 12345).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [2, 3, 4, 5, 16])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_strides_without_padding(isa, dtype, kernel, stride, rng):
    """Read where they lie, up to the last column, and packed where there are many filters; to the same bits."""
    for outputs, spare in ((1, 0), (13, 0), (15, 1), (30, 0)):
        columns = (outputs - 1) * stride + kernel + min(spare, stride - 1)
        x, w, b = arrays(rng, (2, 3, kernel + stride, columns), (300, 3, kernel, kernel), dtype)
        many = check(x, w, b, "direct", stride=stride)
        few = check(x, w[:17], b[:17], "direct", stride=stride)
        assert many[:, :17].tobytes() == few.tobytes()


@pytest.mark.parametrize("channels", [1, 5, 64])
def test_pixels_apart_in_memory(isa, channels, rng):
    """Channels-last and gaps between columns, all of them NaN."""
    memory = np.full((2, 6, 19, channels + 3), np.nan, np.float32)
    x = np.moveaxis(memory[..., 1:-2], -1, 1)
    x[...] = rng.standard_normal(x.shape)
    for kernel, stride, filters in itertools.product((1, 3), (1, 2), (7, 40, 300)):
        w = rng.standard_normal((filters, channels, kernel, kernel)).astype(np.float32)
        check(x, w, np.ascontiguousarray(w[:, 0, 0, 0]), "direct", stride=stride)


LAYOUTS = {
    "transposed": lambda x: np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2),
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=3), 2, axis=1)[:, ::2, :, ::2],
    "backwards": lambda x: np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1],
    "one row for all": lambda x: np.broadcast_to(x[:, :, :1], x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_any_strides(isa, algorithm, layout, kernel, rng):
    x, w, b = arrays(rng, (2, 6, 8, 10), (20, 6, kernel, kernel), np.float32)
    x = LAYOUTS[layout](x)
    x.flags.writeable = False
    before = x.copy()
    check(x, w, b, algorithm, padding=kernel // 2)
    np.testing.assert_array_equal(x, before)


def test_channels_last_gives_channels_last(isa, rng):
    x, w, b = arrays(rng, (2, 6, 8, 10), (20, 6, 3, 3), np.float32)
    for name in ("channels last", "transposed"):
        y = check(LAYOUTS[name](x), w, b, "direct")
        assert np.moveaxis(y, 1, -1).flags.c_contiguous == (name == "channels last")


def test_padded_zeros_multiply(isa):
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    w[0, 0, 0, 0] = np.nan
    for algorithm in ALGORITHMS:
        plan = plan_for(x, w, None, algorithm, padding=1)
        nan = np.isnan(plan(x, plan.pack(w, None)))
        assert nan[..., 1:, :].all()
        assert nan[..., 0, :].all() == (algorithm != "trimmed")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("x_shape", [(1, 70, 1, 1), (3, 5, 4, 7), (33, 3, 2), (2, 4, 2, 3, 3)], ids=str)
def test_filters_that_see_the_whole_image(isa, dtype, x_shape, rng):
    w_shape = (41, *x_shape[1:])
    if x_shape[0] > 32:
        with pytest.raises(ArgumentError, match="it is made for at most 32 images, and there are 33"):
            check(*arrays(rng, x_shape, w_shape, dtype), "few_images")
    else:
        check(*arrays(rng, x_shape, w_shape, dtype), "few_images")
        assert conv_plan(*arrays(rng, x_shape, w_shape, dtype), 1, 0, 1, 1, "auto").loops is not None


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "geometry", "reason"),
    [
        ((1, 3, 4, 4), (5, 3, 3, 3), {}, "this convolution has 4"),
        ((1, 3, 3, 3), (5, 3, 4, 4), {"padding": ((1, 0), (1, 0))}, "the window of a filter is not the whole input"),
        ((1, 4, 1, 1), (4, 2, 1, 1), {"groups": 2}, "the window of a filter is not the whole input"),
        ((1, 4, 3, 3), (4, 4, 2, 2), {"dilation": 2}, "the window of a filter is not the whole input"),
    ],
)
def test_few_images_says_why_not(x_shape, w_shape, geometry, reason, rng):
    with pytest.raises(ArgumentError, match=reason):
        check(*arrays(rng, x_shape, w_shape, np.float32), "few_images", **geometry)


def test_few_images_reads_contiguous_images_alone(rng):
    x, w, b = arrays(rng, (1, 4, 3, 6), (5, 4, 3, 3), np.float32)
    with pytest.raises(ArgumentError, match="are not contiguous"):
        check(x[..., ::2], w, b, "few_images")


@pytest.mark.parametrize(
    ("output", "kernel", "dilation", "stride", "before", "size"),
    [
        (7, 3, 1, 1, 1, 7),
        (8, 3, 2, 2, 4, 13),
        (30, 5, 3, 1, 6, 25),
        (20, 3, 1, 7, 40, 5),
        (11, 1, 1, 1, 5, 1),
        (9, 4, 5, 3, 2, 21),
    ],
)
@pytest.mark.parametrize("tile", [1, 4, 6, 14])
def test_taps_that_a_tile_keeps(output, kernel, dilation, stride, before, size, tile):
    """Counted one by one: a tap is left out of a tile where all its places lie on one side of the input."""
    kept = 0
    for part in np.array_split(np.arange(output) * stride - before, -(-output // tile)):
        for tap in np.arange(kernel) * dilation:
            kept += len(part) * bool(part[-1] + tap >= 0 and part[0] + tap < size)
    axis = SimpleNamespace(output=output, kernel=kernel, dilation=dilation, stride=stride, before=before, input=size)
    assert filter_lanes._share_of_taps.__wrapped__(axis, tile) == pytest.approx(kept / (kernel * output), rel=1e-12)


TAP_CASES = [
    ((1, 150, 5, 3), (40, 150, 3, 3), {"padding": 1}),
    ((2, 70, 9, 17), (33, 70, 3, 5), {"padding": ((1, 0), (2, 3)), "stride": (2, 1)}),
    ((1, 64, 6, 40), (20, 64, 3, 3), {"padding": 3, "dilation": 3}),
    ((1, 20, 4, 5, 6), (24, 20, 3, 3, 3), {"padding": 1}),
    ((1, 600, 13), (30, 600, 3), {"padding": 1}),
    ((1, 66, 30, 30), (16, 66, 5, 5), {"padding": 2}),
    ((1, 9, 2, 2), (8, 9, 3, 3), {"padding": 4}),
    ((1, 12, 11, 8), (20, 6, 3, 3), {"padding": 1, "stride": 3, "groups": 2}),
    ((1, 0, 4, 4), (3, 0, 3, 3), {"padding": 1}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", TAP_CASES, ids=str)
def test_trimmed_tap_after_tap_or_row_after_row(isa, dtype, case, rng, monkeypatch):
    """The same bits in both orders, for any number of threads: the taps of a sum come one after the other in both."""
    x_shape, w_shape, geometry = case
    x, w, b = arrays(rng, x_shape, w_shape, dtype)
    nest = conv_nest(plan_for(x, w, b, "direct", **geometry).spec)
    expected = reference.conv(x, w, b, **geometry)
    results = set()
    for by_taps in (False, True):
        monkeypatch.setattr(filter_lanes, "_trims_by_taps", lambda nest, by_taps=by_taps: by_taps)
        assert (direct.FilterLanes.tap_block(nest, True) > 0) == by_taps
        for threads in (1, 3):
            with config.threads(threads):
                loops = direct.FilterLanes(nest, trimmed=True)
                y = np.full_like(expected, np.nan)
                loops.step(y, x, *loops.pack(w, b))
                assert_within(
                    y, expected, conv_tolerance(x, w, b, **geometry), f"by taps: {by_taps}, {threads} threads"
                )
                results.add(y.tobytes())
    assert len(results) == 1


def test_trimmed_in_an_order_that_no_batch_changes(isa):
    """A small map of many channels goes tap by tap, a map of few channels row by row."""
    for x_shape, filters, by_taps in (((512, 4, 4), 512, True), ((8, 56, 56), 16, False)):
        for images in (1, 2, 64):
            x = np.broadcast_to(np.float32(0), (images, *x_shape))
            w = np.broadcast_to(np.float32(0), (filters, x_shape[0], 3, 3))
            strides = np.empty((1, *x_shape), np.float32).strides
            spec = conv_spec(x.shape, strides, x.dtype, w.shape, w.dtype, None, 1, 1, 1, 1, False)
            assert (direct.FilterLanes.tap_block(conv_nest(spec), True) > 0) == by_taps


def test_trimmed_needs_padding():
    spec = conv_spec((1, 3, 8, 8), (768, 256, 32, 4), np.dtype("f"), (4, 3, 3, 3), np.dtype("f"), None, 1, 0, 1, 1)
    (row,) = [row for row in CONV.rows if row.name == "trimmed"]
    assert row.refusal(spec) == "there is no padding"


@pytest.mark.parametrize("size", [7, 64, 512, 4096])
def test_scratch_of_the_direct_kernel_is_bounded(isa, size):
    """A packed chunk takes half the second-level cache, a panel's results for it a little more, whatever the image."""
    f = np.dtype(np.float32)
    strides = (256 * size * size, 4 * size * size, 4 * size, 4)
    spec = conv_spec((1, 64, size, size), strides, f, (64, 64, 3, 3), f, None, 1, 1, 1, 1)
    (row,) = [row for row in CONV.rows if row.name == "direct"]
    assert row.scratch_bytes(spec) <= machine.cache_bytes(2) // 2 + 96 * 1024


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["direct", "trimmed"])
@pytest.mark.parametrize("taps", [(3, 1, 1), (17, 1, 1), (16, 3, 3), (5, 5, 3)])
@pytest.mark.parametrize("filters", [1, 3, 7, 16, 31, 48, 53, 97, 112])
def test_packed_filters(isa, algorithm, dtype, filters, taps, rng):
    """[panel][tap][filter of the panel], zeros for missing filters; scaled as NumPy scales in float64, in no other memory."""
    (x, w, b), scale = arrays(rng, (1, taps[0], 60, 60), (filters, *taps), dtype), rng.standard_normal(filters)
    loops = plan_for(x, w, b, algorithm, padding=1).loops
    guard, size = 64, sum(loops.packed_elements)
    memory = np.full(size + 2 * guard, 12345, dtype)
    pieces = iter(np.split(memory[guard:-guard], [loops.packed_elements[0]]))
    packed, bias = loops.pack(w, b, lambda count, dtype: next(pieces), scale)
    assert (memory[:guard] == 12345).all()
    assert (memory[-guard:] == 12345).all()
    scaled = np.multiply(w, scale[:, None, None, None], out=np.empty_like(w), casting="same_kind")
    kernel = [axis.kernel for axis in loops.nest.axes]
    rows = loops._ordered(scaled.reshape(filters, taps[0], *kernel)).reshape(filters, -1)
    for first in range(0, filters, loops.panel):
        width = loops.panel if first + loops.panel < filters else loops.last_panel
        part = rows[first : first + width]
        expected = np.zeros((rows.shape[1], width), dtype)
        expected[:, : len(part)] = part.T
        panel, packed = packed[: expected.size], packed[expected.size :]
        np.testing.assert_array_equal(panel.reshape(expected.shape), expected)
        np.testing.assert_array_equal(bias[first : first + len(part)], b[first : first + width])
    assert not packed.size
    assert not bias[filters:].any()
