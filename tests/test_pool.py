"""The compiled pooling against the reference: every instruction set, element type, loop, tail and thread count."""

import itertools

import numpy as np
import pytest
from pools import INF, NAN, average_pool, channels_last, check_average, check_max, max_pool, numbers, same_bits
from protected import run_protected

import fastconv.nn.functional as F
from fastconv import config, reference
from fastconv.ops import pool_loops
from fastconv.ops.pool import adaptive_average_plan, adaptive_max_plan, average_pool_plan, max_pool_plan
from fastconv.ops.pool_flat import FlatLoops, GrownLoops, is_flat, is_grown
from fastconv.ops.pool_loops import BoxLoops, SlidingLoops, TurnedLoops
from fastconv.ops.pool_plans import axes_of, planes_of
from fastconv.ops.table import forget_plans

FLOATS = [np.float32, np.float64]
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


# shape, kernel, stride, padding, dilation: the usual windows, and plain, tail and strided forms of every parameter
CASES = [
    ((2, 3, 16), 2, 2, 0, 1),
    ((1, 2, 1), 1, 1, 0, 1),
    ((1, 3, 5000), 4, 4, 0, 1),
    ((1, 2, 701), 7, 4, 3, 1),
    ((2, 2, 333), 3, 5, 1, 2),
    ((1, 70, 12, 12), 2, 2, 0, 1),
    ((2, 5, 13, 15), 2, 2, 1, 1),
    ((1, 4, 112, 112), 3, 2, 1, 1),
    ((1, 2, 57, 43), 3, 2, 0, 1),
    ((2, 33, 28, 28), 3, 1, 1, 1),
    ((1, 3, 7, 7), 3, 1, 1, 1),
    ((1, 7, 13, 13), 5, 1, 2, 1),
    ((1, 2, 40, 600), 3, 1, 1, 1),
    ((1, 1, 9, 2000), 3, 2, 1, 1),
    ((1, 64, 14, 14), 3, 1, 1, 1),
    ((2, 3, 20, 21), (2, 3), (3, 1), (1, 0), (2, 4)),
    ((1, 2, 31, 37), 5, 3, 2, 1),
    ((1, 2, 33, 31), (3, 1), (1, 2), (1, 0), 1),
    ((1, 2, 50, 70), (9, 40), (7, 11), (4, 20), 1),
    ((1, 40, 7, 7), 7, 7, 0, 1),
    ((1, 3, 12, 37), (12, 37), 1, 0, 1),
    ((1, 2, 20, 1024), 3, 1, 1, 1),
    ((1, 2, 12, 64), 4, 2, ((0, 2), (1, 2)), 1),
    ((1, 3, 6, 10, 12), (1, 2, 2), (1, 2, 2), 0, 1),
    ((2, 2, 5, 9, 20), 3, 2, 1, 1),
    ((1, 20, 6, 7, 8), (2, 3, 2), (2, 1, 3), (1, 1, 0), (2, 1, 3)),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("memory", ["planes", "channels last"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case(isa, dtype, memory, case, rng):
    shape, kernel, stride, padding, dilation = case
    for ceil_mode in (False, True):
        x = numbers(rng, shape, dtype)
        x = channels_last(x) if memory == "channels last" else x
        check_max(x, kernel, stride, padding, dilation, ceil_mode)
        x = rng.standard_normal(shape).astype(dtype)
        x = channels_last(x) if memory == "channels last" else x
        for include_pad in (False, True):
            check_average(x, kernel, stride, padding, ceil_mode, include_pad, dilation=dilation)


WINDOWS = [(2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 1, 1), (5, 1, 2), (2, 1, 0), (4, 4, 0), (6, 4, 2), (3, 3, 1), (9, 2, 4)]


@pytest.mark.parametrize("window", WINDOWS, ids="k{0[0]} s{0[1]} p{0[2]}".format)
def test_every_width_around_the_vectors(isa, window, rng):
    kernel, stride, padding = window
    for columns in range(max(kernel - 2 * padding, 1), 70):
        x = numbers(rng, (1, 3, 11, columns), np.float32)
        arguments = (kernel if columns % 2 else (2, kernel), stride, (min(padding, 1), padding))
        check_max(x, *arguments)
        x = rng.standard_normal((1, 2, 11, columns)).astype(np.float64)
        check_average(x, *arguments, True, columns % 3 > 0)


@pytest.mark.parametrize("channels", range(1, 71, 3))
def test_every_number_of_channels_of_a_pixel(isa, channels, rng):
    for stride in (1, 2):
        check_max(channels_last(numbers(rng, (2, channels, 7, 9), np.float32)), 3, stride, 1)
        check_average(channels_last(rng.standard_normal((2, channels, 7, 9))), 3, stride, 1, True, False)


@pytest.mark.parametrize("case", [c for c in CASES if np.all(np.array(c[4]) == 1)], ids=str)
def test_all_loops_compute_what_the_chosen_one_does(isa, case, rng):
    shape, kernel, stride, padding, dilation = case
    x = numbers(rng, shape, np.float32)
    plan = max_pool_plan(x, x.ndim - 2, kernel, stride, padding, dilation, False, False, "direct")
    planes = planes_of(plan.spec, axes_of(plan.spec), 1)
    for loops in (SlidingLoops, BoxLoops, TurnedLoops, FlatLoops, GrownLoops):
        if loops is TurnedLoops and x.ndim == 5:  # its planes have no depth
            continue
        if (loops is FlatLoops and not is_flat(planes)) or (loops is GrownLoops and not is_grown(planes)):
            continue
        y = np.full(plan.spec.y_shape, NAN, np.float32)
        loops(planes).step(y, x)
        same_bits(y, reference.max_pool(x, kernel, stride, padding)[0], loops.__name__)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("memory", ["planes", "channels last"])
@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 40])
def test_channels_in_lanes(isa, memory, channels, dtype, rng, monkeypatch):
    """Windows of all kinds, in one block of rows and in many."""
    for size in (64 << 10, 1):
        monkeypatch.setattr(pool_loops, "TURNED_BYTES", size)
        for shape, kernel, stride, padding, dilation in [
            ((2, channels, 7, 9), 3, 3, 1, 1),
            ((1, channels, 13, 5), (5, 2), (3, 5), (2, 1), 1),
            ((1, channels, 9, 17), (3, 4), (1, 3), (1, 2), (2, 3)),
            ((2, channels, 19), 9, 1, 4, 1),
            ((1, channels, 5, 5), 5, 5, 0, 1),
            ((1, channels, 1, 3), (1, 2), 1, (0, 1), (1, 3)),
            ((1, channels, 6, 7), 2, 3, 1, 7),  # windows altogether in the padding
        ]:
            x = numbers(rng, shape, dtype)
            x = channels_last(x) if memory == "channels last" else x
            plan = max_pool_plan(x, x.ndim - 2, kernel, stride, padding, dilation, False, False, "direct")
            unit = channels if plan.spec.channels_last else 1
            axes = axes_of(plan.spec)
            y = plan(x)
            y.fill(NAN)
            TurnedLoops(planes_of(plan.spec, axes, unit)).step(y, x)
            same_bits(y, reference.max_pool(x, kernel, stride, padding, dilation)[0], (shape, kernel))
            x[...] = rng.integers(-9, 10, shape)
            plan = average_pool_plan(x, x.ndim - 2, kernel, stride, padding, False, False, None, "direct", dilation)
            y.fill(NAN)
            TurnedLoops(planes_of(plan.spec, axes, unit), plan.spec.divisors(axes)).step(y, x)
            same_bits(y, reference.avg_pool(x, kernel, stride, padding, False, False, None, dilation=dilation), shape)


@pytest.mark.parametrize("dtype", FLOATS)
def test_whole_planes(isa, team, dtype, rng):
    """Global pooling: lines of every length, single NaN, zeros of both signs, planes that do not follow on."""
    for shape in [(2, 17, side, side + side % 2) for side in range(1, 12)] + [(1, 40, 300), (3, 5, 3, 4, 5)]:
        x = numbers(rng, shape, dtype)
        x[rng.random(shape) < 0.5] = -0.0
        for view in (x, x[:, ::2], x[:, 1:], x[..., 1:]):
            if view.shape[-1]:
                rank = view.ndim - 2
                check_max(view, view.shape[2:])
                y = adaptive_max_plan(view, rank, 1, False, "direct")(view)
                same_bits(y, reference.adaptive_max_pool(view, (1,) * rank)[0], view.shape)
        x = rng.integers(-9, 10, shape).astype(dtype)
        for view in (x, x[:, ::2], x[:, 1:]):
            y = adaptive_average_plan(view, view.ndim - 2, 1, "direct")(view)
            same_bits(y, reference.adaptive_avg_pool(view, (1,) * (view.ndim - 2)), view.shape)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("channels", [2, 7, 16, 33, 130])
def test_places_of_pixels(isa, team, channels, dtype, rng):
    """Channels-last maxima: windows that slide, adapt, have a depth, and lie in the padding altogether."""
    for shape, kernel, stride, padding, dilation in [
        ((2, channels, 7, 9), 3, 2, 1, 1),
        ((1, channels, 3, 5, 6), 2, 2, 0, 1),
        ((1, channels, 3, 4, 5), (2, 3, 2), 1, (1, 1, 0), (1, 1, 2)),
        ((1, channels, 6, 7), 2, 3, 1, 7),
        ((2, channels, 19), 9, 1, 4, 1),
    ]:
        check_max(channels_last(numbers(rng, shape, dtype)), kernel, stride, padding, dilation)
    x = channels_last(numbers(rng, (2, channels, 7, 10), dtype))
    for actual, expected in zip(
        adaptive_max_plan(x, 2, (3, 4), True, "direct")(x), reference.adaptive_max_pool(x, (3, 4)), strict=True
    ):
        same_bits(actual, expected)
        assert np.moveaxis(actual, 1, -1).flags.c_contiguous


@pytest.mark.parametrize("kernel", [2, 3, 4, 7, 40])
def test_where_a_nan_lies_does_not_matter(isa, kernel, rng):
    """One at a time, at and around every border of vectors and chunks."""
    for columns in (7, 16, 40):
        x = rng.standard_normal((1, 1, 9, columns)).astype(np.float32)
        if columns < kernel:
            continue
        arguments = ((min(kernel, 9), kernel), (2, 1 + kernel % 2), (min(kernel, 9) // 2, kernel // 2))
        for place in range(0, x.size, 1 if kernel < 4 else 5):
            with_nan = x.copy()
            with_nan.flat[place] = NAN
            same_bits(max_pool(with_nan, *arguments), reference.max_pool(with_nan, *arguments)[0], place)


@pytest.mark.parametrize("case", [CASES[7], CASES[12], CASES[13], CASES[21]], ids=str)
def test_input_from_memory(isa, case, rng, monkeypatch):
    """Beyond the caches chunks are smaller; the results are the same."""
    shape, kernel, stride, padding, dilation = case
    x = numbers(rng, shape, np.float32)
    tasks = []
    for limit in (pool_loops.MEMORY_BYTES, 0):
        monkeypatch.setattr(pool_loops, "MEMORY_BYTES", limit)
        forget_plans()
        tasks.append(max_pool_plan(x, 2, kernel, stride, padding, dilation, False, False, "direct").step.tasks)
        check_max(x, kernel, stride, padding)
    assert tasks[0] < tasks[1]


def test_zeros_keep_the_sign_of_the_first(isa):
    x = np.full((1, 1, 2, 40), -1, np.float32)
    x[0, 0, 0, 30], x[0, 0, 1, 3] = 0.0, -0.0
    for kernel, sign in (((2, 40), False), ((2, 20), True)):
        assert np.signbit(max_pool(x, kernel)[0, 0, 0, 0]) == sign
    x[0, 0, 0, 30] = -0.0
    assert np.signbit(max_pool(x, (2, 40))).all()
    assert not np.signbit(average_pool(np.full((1, 1, 4, 4), -0.0), 2)).any()


def test_a_window_without_input_has_no_maximum_and_no_place(isa):
    x = np.ones((1, 1, 1), np.float32)
    values, indices = max_pool(x, 2, 1, 1, 2, indices=True)
    assert (values.tolist(), indices.tolist()) == ([[[-INF]]], [[[-1]]])
    assert max_pool(x, 2, 1, 1, 2).tolist() == [[[-INF]]]
    assert average_pool(x, 2, 1, 1, False, False, dilation=2).tolist() == [[[0]]]


@pytest.mark.parametrize("dtype", [*INTEGERS, np.float16])
def test_other_element_types(dtype, rng):
    for memory, (shape, kernel, stride, padding) in itertools.product(
        (np.asarray, channels_last), [((2, 3, 9, 8), 3, 2, 1), ((1, 5, 20), 2, 1, 0), ((1, 3, 4, 5, 6), 2, 2, 1)]
    ):
        check_max(memory(numbers(rng, shape, dtype)), kernel, stride, padding)
        if dtype in (np.int64, np.float16):
            x = memory(rng.integers(-50, 50, shape).astype(dtype))
            for options in ((True, True), (False, False), (True, True, -3)):
                y = average_pool(x, kernel, stride, padding, *options, algorithm="auto")
                same_bits(y, reference.avg_pool(x, kernel, stride, padding, *options))


def test_float16_is_summed_in_float32():
    assert F.avg_pool2d(np.full((1, 1, 64, 64), 60000, np.float16), 64).tolist() == [[[[60000]]]]
    assert F.adaptive_avg_pool2d(np.full((1, 1, 65, 65), 60000, np.float16), 2).tolist() == [[[[60000] * 2] * 2]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_of_small_integers_are_exact(isa, dtype, rng):
    for kernel, stride, padding, ceil_mode, include_pad, divisor in itertools.product(
        (2, 3, 5, 11), (1, 2, 3), (0, 1), (False, True), (False, True), (None, 5, -2)
    ):
        x = rng.integers(-9, 10, (2, 3, 14, 19)).astype(dtype)
        arguments = (kernel, stride, padding, ceil_mode, include_pad, divisor)
        same_bits(average_pool(x, *arguments), reference.avg_pool(x, *arguments), arguments)


@pytest.mark.parametrize("dtype", FLOATS)
def test_adaptive(isa, dtype, rng):
    for shape, output in itertools.product(
        [(2, 19, 7, 8), (1, 3, 40, 33)], [1, 2, 7, (3, None), (13, 4), (0, 2), (7, 9)]
    ):
        for memory in (np.asarray, channels_last):
            x = memory(numbers(rng, shape, dtype))
            outputs = output if isinstance(output, tuple) else (output, output)
            wanted = [s if o is None else o for s, o in zip(shape[2:], outputs, strict=True)]
            for actual, expected in zip(
                F.adaptive_max_pool2d(x, output, True), reference.adaptive_max_pool(x, wanted), strict=True
            ):
                same_bits(actual, expected, output)
            same_bits(F.adaptive_max_pool2d(x, output), reference.adaptive_max_pool(x, wanted)[0], output)
            x = memory(rng.integers(-9, 10, shape).astype(dtype))
            same_bits(F.adaptive_avg_pool2d(x, output), reference.adaptive_avg_pool(x, wanted), output)


def test_the_mean_of_nothing_is_nan(isa):
    for algorithm in ("direct", "reference"):
        y = F.adaptive_avg_pool2d(np.ones((1, 2, 0, 3), np.float32), (2, 2), algorithm=algorithm)
        assert y.shape == (1, 2, 2, 2)
        assert np.isnan(y).all()


THREADED = [CASES[2], CASES[7], CASES[9], CASES[12], CASES[18], CASES[19], CASES[24]]


@pytest.mark.parametrize("memory", ["planes", "channels last"])
@pytest.mark.parametrize("case", THREADED, ids=str)
def test_same_bits_for_any_number_of_threads_and_any_batch(isa, memory, case, rng):
    shape, kernel, stride, padding, dilation = case
    x = rng.standard_normal((3, shape[1] * 8, *shape[2:])).astype(np.float32)
    x = channels_last(x) if memory == "channels last" else x
    results = []
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            results += [average_pool(x, kernel, stride, padding, True, False, dilation=dilation) for _ in range(2)]
            results.append(np.concatenate([average_pool(x[i : i + 1], kernel, stride, padding, True, False,
                                                        dilation=dilation) for i in range(3)]))  # fmt: skip
            same_bits(max_pool(x, kernel, stride, padding, dilation), reference.max_pool(x, *case[1:])[0])
    for other in results[1:]:
        same_bits(other, results[0])


@pytest.mark.parametrize("memory", ["planes", "channels last"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_writes_its_output_and_nothing_else(isa, team, memory, case, rng):
    shape, kernel, stride, padding, dilation = case
    x = rng.standard_normal(shape).astype(np.float32)
    x = channels_last(x) if memory == "channels last" else x
    rank = x.ndim - 2
    for plan in (
        max_pool_plan(x, rank, kernel, stride, padding, dilation, False, False, "direct"),
        average_pool_plan(x, rank, kernel, stride, padding, False, False, None, "direct", dilation),
    ):
        guard, size = 64, int(np.prod(plan.spec.y_shape))
        memory_of_y = np.full(size + 2 * guard, NAN, np.float32)
        memory_of_y[:guard] = memory_of_y[-guard:] = 12345
        plan.step(memory_of_y[guard:-guard], x)
        assert not np.isnan(memory_of_y).any()
        assert (memory_of_y[:guard] == 12345).all()
        assert (memory_of_y[-guard:] == 12345).all()


PROTECTED = """
import fastconv.nn.functional as F

for at_end, last, dtype, columns in itertools.product((0, 1), (0, 1), "fd", (1, 5, 8, 14, 16, 31, 33, 70)):
    x = protected((2, 6, columns, 5) if last else (2, 5, 6, columns), dtype, at_end)
    x = np.moveaxis(x, -1, 1) if last else x
    for kernel, stride in itertools.product((1, 2, 3, 5), (1, 2, 3, 4)):
        if kernel <= columns:
            F.max_pool2d(x, kernel, stride, kernel // 2)
            F.avg_pool2d(x, kernel, stride, kernel // 2, True, False)
    F.adaptive_avg_pool2d(x, (4, 3)), F.adaptive_max_pool2d(x, 1)
    F.pad(x, (2, 1, 1, 2)), F.pad(x, (1, 0, 2, -1), "replicate"), F.pad(x, (1, 1, 1, 1), "circular")
"""


def test_reads_its_input_and_nothing_else(isa):
    run_protected(PROTECTED, isa)


LAYOUTS = {
    "transposed": lambda x: np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2),
    "channels last": channels_last,
    "some channels of pixels": lambda x: channels_last(np.concatenate([x, x], 1))[:, : x.shape[1]],
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=3), 2, axis=1)[:, ::2, :, ::2],
    "backwards": lambda x: np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1],
    "one row for all": lambda x: np.broadcast_to(x[:, :, :1], x.shape),
    "a byte between elements": lambda x: np.rec.fromarrays([x, np.zeros(x.shape, np.uint8)], names="x, byte")["x"],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(isa, layout, dtype, rng):
    x = LAYOUTS[layout](rng.integers(-9, 10, (2, 6, 9, 10)).astype(dtype))
    x.flags.writeable = False
    before = x.copy()
    for arguments in ((3, 2, 1), (2, 1, 0), (9, 1, 0)):
        check_max(x, *arguments)
        if x.dtype.kind == "f":
            check_average(x, *arguments)
    same_bits(x, before)


def test_channels_last_gives_channels_last(isa, rng):
    x = rng.standard_normal((2, 6, 8, 10)).astype(np.float32)
    for memory, last in ((channels_last, True), (np.asarray, False)):
        for y in (F.max_pool2d(memory(x), 2), F.avg_pool2d(memory(x), 3, 1, 1), F.adaptive_avg_pool2d(memory(x), 3),
                  *F.max_pool2d(memory(x), 2, return_indices=True)):  # fmt: skip
            assert np.moveaxis(y, 1, -1).flags.c_contiguous == last


def test_scratch_is_bounded(isa):
    """A chunk of reduced rows or some turned ones, whatever the image; the usual windows need none."""
    for size in (64, 512, 4096):
        x = np.broadcast_to(np.float32(0), (1, 64, size, size))[..., :, :]
        x = np.lib.stride_tricks.as_strided(x, strides=(0, 0, 4 * size, 4))
        plan = max_pool_plan(x, 2, 4, 3, 1, 1, False, False, "direct")
        assert plan.step.scratch <= 300 << 10
        assert max_pool_plan(x, 2, 4, 3, 1, 1, False, True, "direct").step.scratch <= 600 << 10
        assert max_pool_plan(x, 2, 3, 2, 1, 1, False, False, "direct").step.scratch == 64
