"""Winograd convolution with kernels of any size, as sums of blocks of taps, within the bound for the arrays."""

from functools import cache

import numpy as np
import pytest

from fastconv import _kernels, config, reference
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.ops.conv import CONV, conv_plan
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.table import forget_plans
from fastconv.ops.winograd_error import winograd_error, winograd_errors, winograd_forms
from fastconv.ops.winograd_forms import BLOCK_TAPS, SMALL_FORMS, UNCHANGED, AxisForm, block_forms, taps_in_blocks

CASES = [  # images, input of one group, filters, kernel, padding
    (1, (3, 20, 22), 16, (4, 4), ((0, 0), (0, 0))),
    (2, (5, 20, 22), 33, (7, 7), ((3, 3), (3, 3))),
    (2, (3, 30, 31), 10, (11, 11), ((5, 5), (5, 5))),
    (1, (2, 64, 64), 5, (9, 9), ((4, 4), (0, 7))),
    (5, (20, 7, 7), 40, (7, 7), ((3, 3), (3, 3))),
    (3, (9, 40, 13), 9, (6, 10), ((7, 0), (2, 3))),
    (2, (1, 12, 70), 9, (2, 2), ((1, 1), (1, 1))),
    (2, (4, 40, 40), 1, (32, 29), ((1, 1), (0, 0))),
    (1, (3, 11, 8), 4, (11, 8), ((0, 0), (0, 0))),
    (2, (20, 12, 12), 34, (6, 6), ((3, 2), (2, 3))),
    (2, (8, 20, 41), 9, (1, 9), ((0, 0), (4, 4))),
    (2, (8, 20, 41), 9, (13, 1), ((2, 2), (1, 1))),
    (2, (8, 20, 1), 9, (9, 1), ((4, 4), (0, 0))),
    (1, (3, 5, 14, 17), 6, (3, 7, 7), ((1, 1), (3, 3), (3, 3))),
    (2, (20, 300), 33, (9,), ((4, 4),)),
    (3, (6, 30), 7, (4,), ((2, 1),)),
]
WINOGRAD = next(row for row in CONV.rows if row.name == "winograd")


def arrays(case, dtype, rng, kind="normal"):
    """Input, weight and bias of a convolution in two groups."""
    images, (channels, *size), filters, kernel, _ = case
    x = rng.standard_normal((images, 2 * channels, *size))
    w = rng.standard_normal((2 * filters, channels, *kernel))
    if kind == "cancelling":
        x = 1 + 1e-3 * rng.random(x.shape)
        w = rng.choice([-1.0, 1.0], w.shape) * (1 + 1e-3 * rng.random(w.shape))
    elif kind == "wide":
        x, w = (array * 10.0 ** rng.integers(-4, 4, array.shape) for array in (x, w))
    elif kind == "positive":
        x, w = abs(x), abs(w)
    return x.astype(dtype), w.astype(dtype), rng.standard_normal(2 * filters).astype(dtype)


def convolve(x, w, b, padding, algorithm):
    return (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3](x, w, b, padding=padding, groups=2, algorithm=algorithm)


def spec_of(x, w, padding, groups=2):
    return conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, None, 1, padding, 1, groups)


@pytest.fixture(params=BLOCK_TAPS)
def tiles(request, monkeypatch):
    """Both forms for every case, whatever the bound says of its channels: so many outputs, and taps of a block."""
    for module in ("conv_winograd", "winograd_tiling"):
        monkeypatch.setattr(
            f"fastconv.ops.{module}.winograd_forms",
            lambda kernel, channels, large=False: block_forms(kernel, request.param),
        )
    forget_plans()
    yield request.param
    forget_plans()


@pytest.mark.parametrize("taps", BLOCK_TAPS)
@pytest.mark.parametrize("kernel", [1, 2, 4, 7, 9])
def test_blocks_of_the_matrices_add_up_to_a_correlation(taps, kernel, rng):
    """Each block meets the transform of the values that a whole tile further begin."""
    (form, _), blocks = block_forms((max(kernel, 2), 1), taps), -(-max(kernel, 2) // taps)
    assert (form.taps, form.outputs, form.points, form.blocks) == (taps, taps, 2 * taps - 1, blocks)
    d, g = rng.standard_normal((blocks + 1) * taps - 1), rng.standard_normal(kernel)
    parts = taps_in_blocks(g[None, :, None], (form, UNCHANGED))
    assert parts.shape == (blocks, taps, 1)
    products = sum(
        (form.filter_transform() @ part[:, 0]) * (form.input_transform() @ d[i * taps : i * taps + form.points])
        for i, part in enumerate(parts)
    )
    np.testing.assert_allclose(
        form.output_transform() @ products, [d[i : i + kernel] @ g for i in range(taps)], rtol=0, atol=1e-12
    )


def test_blocks_of_taps_come_before_the_channels():
    w = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    parts = taps_in_blocks(w, block_forms((4, 5), 3))
    assert parts.shape == (2, 4 * 3, 3, 3)
    assert parts[1, 2].tolist() == w[1, 2, :3, :3].tolist()
    assert parts[1, 3 + 2].tolist() == [[*row, 0] for row in w[1, 2, :3, 3:].tolist()]
    assert parts[1, 6 + 2].tolist() == [w[1, 2, 3, :3].tolist(), [0] * 3, [0] * 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_within_the_bound_for_known_arrays(isa, tiles, case, dtype):
    """With the same bits for any threads and any batch."""
    (x, w, b), exact, bounds = known(case, dtype, tiles)
    results = set()
    for threads in (1, 2, 5):
        with config.threads(threads):
            y = convolve(x, w, b, case[-1], "winograd")
        assert y.shape == bounds.shape
        assert (np.abs(y - exact) <= bounds).all()
        results.add(y.tobytes())
    alone = convolve(x[-1:], w, b, case[-1], "winograd")
    results.add(np.concatenate([y[:-1], alone]).tobytes())
    assert len(results) == 1


@cache
def known(case, dtype, taps):
    """Arrays, their exact result, and the bound of its errors in blocks of so many taps: the same for all instruction sets."""
    x, w, b = arrays(case, dtype, np.random.default_rng(7))
    window, forms = spec_of(x, w, case[-1]).window, block_forms((1, *case[3])[-2:], taps)
    return (x, w, b), exact_result(x, w, b, case[-1]), winograd_errors(x, w, b, window, 2, np.dtype(dtype).name, forms)


def exact_result(x, w, b, padding):
    wide = (array.astype(np.longdouble) for array in (x, w, b))
    return reference.conv(*wide, padding=padding, groups=2, accumulate=np.longdouble)


@pytest.mark.parametrize("kind", ["cancelling", "wide", "positive"])
@pytest.mark.parametrize("case", [CASES[i] for i in (1, 5, 10)], ids=str)
def test_the_bounds_hold_for_arrays_on_which_rounding_shows(tiles, kind, case, rng):
    """The bound for planning, which knows the arrays' largest values alone, is no smaller than that for the arrays."""
    x, w, b = arrays(case, np.float32, rng, kind)
    spec = spec_of(x, w, case[-1])
    errors = np.abs(convolve(x, w, b, case[-1], "winograd") - exact_result(x, w, b, case[-1]))
    bounds = WINOGRAD.errors(spec, x, w, b)
    assert (errors <= bounds).all()
    assert bounds.max() <= 1000 * errors.max()
    magnitudes = np.abs(x).max() * np.abs(w).sum((1, 2, 3), np.float64) + np.abs(b)
    assert (bounds <= WINOGRAD.error_bound(spec) * magnitudes[:, None, None]).all()


@pytest.mark.parametrize("case", [CASES[i] for i in (1, 4, 10, 14)], ids=str)
def test_columns_that_are_apart_in_memory_give_the_same_bits(isa, tiles, case, rng):
    x, w, b = arrays(case, np.float32, rng)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, y_last = (convolve(array, w, b, case[-1], "winograd") for array in (x, last))
    np.testing.assert_array_equal(y, y_last)


# Filters that stay in the second-level cache and such as do not, whose input the threads share; rows and columns are cut.
CUT = [
    (1, (8, 40, 40), 40, (7, 7), ((3, 3), (3, 3))),
    (1, (60, 17, 19), 100, (7, 7), ((3, 3), (3, 3))),
    (3, (60, 9, 9), 100, (6, 6), ((3, 3), (3, 3))),
    (1, (300, 400), 70, (9,), ((4, 4),)),
    (1, (20, 500), 30, (9,), ((4, 4),)),
    (1, (300, 4, 90), 70, (1, 9), ((0, 0), (4, 4))),
]


@pytest.mark.parametrize("case", CUT, ids=str)
def test_chunks_that_are_cut_for_threads_give_the_same_bits(isa, case, rng):
    """Whether the threads come or not; every output is written, and no other memory."""
    x, w, b = arrays(case, np.float32, rng)
    bits = set()
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            plan = conv_plan(x, w, b, 1, case[-1], 1, 2, "winograd")
            packed = plan.pack(w, b)
        for present in (threads, 1):
            memory = np.full(int(np.prod(plan.y_shape)) + 128, np.nan, np.float32)
            memory[:64] = memory[-64:] = 12345
            with config.threads(present):
                plan.step(memory[64:-64], x, *packed)
            assert (memory[:64] == 12345).all()
            assert (memory[-64:] == 12345).all()
            assert not np.isnan(memory).any()
            bits.add(memory.tobytes())
    assert len(bits) == 1
    y = memory[64:-64].reshape(plan.y_shape)
    assert (np.abs(y - exact_result(x, w, b, case[-1])) <= WINOGRAD.errors(plan.spec, x, w, b)).all()


def test_small_tiles_are_for_channels_of_which_large_ones_would_err_too_much():
    most = winograd_error(SMALL_FORMS[3, 3], 1024, "float32")
    for kernel, channels in (((7, 7), 64), ((11, 11), 30), ((1, 8), 1000), ((4, 4), 290)):
        large = block_forms(kernel, 4)
        assert winograd_forms(kernel, channels) == large
        assert winograd_error(large, channels, "float32") <= most
    for kernel, channels in (((7, 7), 80), ((11, 11), 64), ((4, 4), 320)):
        assert winograd_forms(kernel, channels) == block_forms(kernel, 3)
        assert winograd_error(block_forms(kernel, 4), channels, "float32") > most
        assert winograd_forms(kernel, channels, large=True) == block_forms(kernel, 4)
    assert winograd_forms((1, 4), 3) == (UNCHANGED, AxisForm(4, 4))
    for kernel in ((2, 3), (6, 6), (9, 9), (1, 9)):  # large ones have more products
        assert winograd_forms(kernel, 3, large=True) == block_forms(kernel, 3)


@pytest.mark.parametrize(
    ("channels", "side", "filters", "taps"), [(64, 56, 64, 11), (32, 28, 64, 7), (3, 64, 64, 9), (64, 56, 64, 4)]
)
def test_is_chosen_where_it_is_faster(channels, side, filters, taps):
    if _kernels.ISA != "avx512":
        pytest.skip(f"the figures are those of AVX-512, this machine has {_kernels.ISA}")
    x = np.broadcast_to(np.float32(0), (1, channels, side, side))
    strides = tuple(4 * step for step in (channels * side**2, side**2, side, 1))
    w = np.broadcast_to(np.float32(0), (filters, channels, taps, taps))
    spec = conv_spec(x.shape, strides, x.dtype, w.shape, w.dtype, None, 1, taps // 2, 1, 1)
    assert CONV.choose(spec).name == "winograd"
    few = conv_spec(x.shape, strides, x.dtype, (1, *w.shape[1:]), w.dtype, None, 1, taps // 2, 1, 1)
    assert CONV.choose(few).name != "winograd"


def test_scratch_is_reported_and_bounded():
    """A chunk of few tiles where there are many channels."""
    for channels in (8, 512, 4096):
        spec = conv_spec(
            (1, channels, 99, 99), tuple(4 * step for step in (channels * 99**2, 99**2, 99, 1)), np.dtype("f4"),
            (64, channels, 7, 7), np.dtype("f4"), None, 1, 3, 1, 1,
        )  # fmt: skip
        assert 0 < WINOGRAD.scratch_bytes(spec) <= 2 << 20 or channels > 8
        assert WINOGRAD.scratch_bytes(spec) <= 4 * 49 * channels * 100 + (2 << 20)


def test_refusals_are_sentences():
    x, w = np.ones((1, 2, 40, 40), np.float32), np.ones((4, 2, 33, 2), np.float32)
    with pytest.raises(
        ArgumentError, match=r"it computes kernels of up to 32 taps along an axis, this one has \(33, 2\)"
    ):
        F.conv2d(x, w, algorithm="winograd")
    with pytest.raises(
        ArgumentError, match=r"it computes dilations of kernels of 3×3, .* and 7×1, this one has \(7, 7\)"
    ):
        F.conv2d(x, w[:, :, :7, :1].repeat(7, 3), dilation=2, algorithm="winograd")
    with pytest.raises(ArgumentError, match=r"its tiles are those of 'winograd'"):
        F.conv2d(x, w[:, :, :7, :1].repeat(7, 3), algorithm="winograd_large")
