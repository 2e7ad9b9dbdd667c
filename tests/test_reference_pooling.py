import itertools
from math import prod

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv.reference import adaptive_avg_pool, adaptive_max_pool, avg_pool, conv, lp_pool, max_pool

RANKS = (1, 2, 3)
FLOATS = [np.float16, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int32, np.int64]
SIZES = {1: (11,), 2: (7, 8), 3: (5, 6, 7)}
NAN, INF = np.nan, np.inf


def line(values, dtype=np.float32):
    return np.array(values, dtype)[None, None]


def pooled(values, *arguments, dtype=np.float32, **keywords):
    """Values and indices of a max pool along one line, as lists."""
    y, index = max_pool(line(values, dtype), *arguments, **keywords)
    assert y.dtype == dtype
    assert index.dtype == np.int64
    return y[0, 0].tolist(), index[0, 0].tolist()


class TestMaxPoolByHand:
    def test_values_and_places(self):
        assert pooled([1, 3, 2, 5, 4], 2) == ([3, 5], [1, 3])
        assert pooled([1, 3, 2, 5, 4], 2, 1) == ([3, 3, 5, 5], [1, 1, 3, 3])
        assert pooled([1, 3, 2, 5, 4], 3, 2, 1) == ([3, 5, 5], [1, 3, 3])
        assert pooled([1, 3, 2, 5, 4], 2, 1, dilation=3) == ([5, 4], [3, 4])
        assert pooled([1, 3, 2, 5, 4], 2, 2, ((0, 1),)) == ([3, 5, 4], [1, 3, 4])

    def test_indices_count_in_the_unpadded_plane(self):
        x = np.array([[0, 9, 0], [0, 0, 7]], np.float32)[None, None]
        values, indices = max_pool(x, 2, 1, 1)
        assert values[0, 0].tolist() == [[0, 9, 9, 0], [0, 9, 9, 7], [0, 0, 7, 7]]
        assert indices[0, 0].tolist() == [[0, 1, 1, 2], [0, 1, 1, 5], [3, 3, 5, 5]]

    def test_every_image_and_channel_on_its_own(self):
        x = np.array([[[1, 2], [4, 3]], [[6, 5], [7, 8]]], np.float64)
        values, indices = max_pool(x, 2)
        assert values.tolist() == [[[2], [4]], [[6], [8]]]
        assert indices.tolist() == [[[1], [0]], [[0], [1]]]

    def test_padding_never_wins(self):
        assert pooled([-3, -2, -5], 3, 1, 1) == ([-2, -2, -2], [1, 1, 1])
        for dtype in (np.int8, np.int32, np.int64):
            lowest = np.iinfo(dtype).min
            assert pooled([lowest, lowest], 2, 1, 1, dtype=dtype) == ([lowest] * 3, [0, 0, 1])
        assert pooled([0, 0, 7], 3, 1, 1, dtype=np.uint8) == ([0, 7, 7], [0, 2, 2])

    def test_the_first_of_equal_values_wins(self):
        assert pooled([2, 2, 1, 2], 4) == ([2], [0])
        assert pooled([1, 2, 2, 2], 4, dtype=np.int32) == ([2], [1])

    def test_the_last_nan_of_a_window_wins(self):
        values, indices = pooled([1, NAN, 5, NAN, 7], 5)
        assert_same_values(values, [NAN])
        assert indices == [3]
        values, indices = pooled([NAN, 9, 1, 2], 2)
        assert_same_values(values, [NAN, 2])
        assert indices == [0, 3]

    def test_a_window_of_minus_infinity_names_its_first_position(self):
        assert pooled([-INF] * 4, 2) == ([-INF, -INF], [0, 2])
        assert pooled([-INF] * 3, 3, 1, 1) == ([-INF] * 3, [0, 0, 1])

    def test_a_window_without_input_has_no_place(self):
        """torch 2.13 returns an index outside the plane."""
        assert pooled([5], 2, 1, 1, dilation=2) == ([-INF], [-1])

    def test_ceil_mode(self):
        assert pooled([1, 2], 1, 2, ceil_mode=True) == ([1], [0])
        assert pooled([1, 2, 3, 4], 1, 2, ceil_mode=True) == ([1, 3], [0, 2])
        assert pooled([1, 2, 3, 4, 5], 2, 2, ceil_mode=True) == ([2, 4, 5], [1, 3, 4])
        assert pooled([1, 2], 3, 2, ceil_mode=True) == ([2], [1])

    def test_stride_zero_raises(self):
        with pytest.raises(ValueError, match="must not be zero"):
            max_pool(line([1, 2]), 1, 0)


class TestAvgPoolByHand:
    def means(self, values, *arguments, dtype=np.float64, **keywords):
        y = avg_pool(line(values, dtype), *arguments, **keywords)
        assert y.dtype == dtype
        return y[0, 0].tolist()

    def test_means(self):
        assert self.means([1, 3, 2, 6, 4], 2) == [2, 4]
        assert self.means([1, 3, 2, 6, 4], 2, 1) == [2, 2.5, 4, 5]
        x = np.arange(16.0).reshape(1, 1, 4, 4)
        assert avg_pool(x, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
        assert avg_pool(x, (1, 4)).tolist() == [[[[1.5], [5.5], [9.5], [13.5]]]]

    def test_padding_counts_or_does_not(self):
        assert self.means([3, 3, 3], 3, 1, 1) == [2, 3, 2]
        assert self.means([3, 3, 3], 3, 1, 1, count_include_pad=False) == [3, 3, 3]
        assert self.means([3, 3], 2, 1, ((0, 1),)) == [3, 1.5]

    def test_ceil_mode_divides_by_what_lies_in_the_padded_input(self):
        """TORCH_SEMANTICS.md: ones(4), kernel 3, stride 2, padding 1 give 0.667, 1.0, 0.5."""
        assert self.means([1] * 4, 3, 2, 1, ceil_mode=True) == [2 / 3, 1, 0.5]
        assert self.means([1] * 4, 3, 2, 1, ceil_mode=True, count_include_pad=False) == [1, 1, 1]
        assert self.means([1] * 5, 2, 2, ceil_mode=True) == [1, 1, 1]

    def test_the_divisor_can_be_given_and_be_negative(self):
        assert self.means([1, 2, 3, 4], 2, divisor_override=1) == [3, 7]
        assert self.means([1, 2, 3, 4], 2, divisor_override=-2) == [-1.5, -3.5]
        assert self.means([1] * 4, 3, 2, 1, ceil_mode=True, divisor_override=2) == [1, 1.5, 0.5]
        with pytest.raises(ValueError, match="divisor_override: expected a number other than 0"):
            avg_pool(line([1, 2]), 2, divisor_override=0)

    def test_integers_round_towards_zero(self):
        assert self.means([-3, 0, 3, 0], 2, dtype=np.int64) == [-1, 1]
        assert self.means([-7, 0], 2, divisor_override=-2, dtype=np.int64) == [3]

    def test_float16_is_summed_in_float32(self):
        assert avg_pool(np.full((1, 1, 64, 64), 60000, np.float16), 64).tolist() == [[[[60000]]]]

    def test_dilation(self):
        assert self.means([1, 2, 3, 4, 5], 2, 1, dilation=3) == [2.5, 3.5]
        assert self.means([2, 4, 6], 2, 1, 2, dilation=2) == [1, 2, 4, 2, 3]
        assert self.means([2, 4, 6], 2, 1, 2, count_include_pad=False, dilation=2) == [2, 4, 4, 4, 6]

    def test_a_window_without_input_is_zero(self):
        assert self.means([5], 2, 1, 1, count_include_pad=False, dilation=2) == [0]

    def test_nan_stays_in_its_windows(self):
        y = avg_pool(line([1, NAN, 1, 1]), 2, 1, 1)
        assert_same_values(y, line([0.5, NAN, NAN, 1, 0.5]))


class TestAdaptiveByHand:
    def test_windows_overlap_where_the_size_is_no_multiple(self):
        assert adaptive_avg_pool(line(range(5)), 3).tolist() == [[[0.5, 2, 3.5]]]
        assert adaptive_avg_pool(line([1, 2, 3]), 5).tolist() == [[[1, 1.5, 2, 2.5, 3]]]
        values, indices = adaptive_max_pool(line([4, 1, 3, 0, 2]), 3)
        assert (values.tolist(), indices.tolist()) == ([[[4, 3, 2]]], [[[0, 2, 4]]])

    def test_global_average(self):
        x = np.arange(24.0).reshape(1, 2, 3, 4)
        assert adaptive_avg_pool(x, 1).tolist() == [[[[5.5]], [[17.5]]]]

    def test_none_keeps_an_axis_and_zero_empties_it(self):
        x = np.arange(12.0).reshape(1, 1, 3, 4)
        assert adaptive_avg_pool(x, (None, 1)).tolist() == [[[[1.5], [5.5], [9.5]]]]
        assert adaptive_avg_pool(x, (0, 2)).shape == (1, 1, 0, 2)
        assert [a.shape for a in adaptive_max_pool(x, (2, 0))] == [(1, 1, 2, 0)] * 2

    def test_the_mean_of_nothing_is_nan(self):
        y = adaptive_avg_pool(np.ones((1, 2, 0, 3), np.float32), 2)
        assert y.shape == (1, 2, 2, 2)
        assert np.isnan(y).all()

    def test_the_last_nan_wins(self):
        values, indices = adaptive_max_pool(line([NAN, 1, NAN, 9]), 1)
        assert_same_values(values, line([NAN]))
        assert indices.item() == 2


class TestLpPoolByHand:
    def test_norms(self):
        assert lp_pool(line([-3, 4, 0, 1]), 2, 2).tolist() == [[[5, 1]]]
        assert lp_pool(line([-3, 4, 0, 1]), 1, 2).tolist() == [[[7, 1]]]
        assert lp_pool(line([-3, 4, -9, 1]), INF, 2).tolist() == [[[4, 9]]]

    def test_odd_powers_of_negative_values(self):
        """torch 2.13 sums x ** 3 with its sign and returns NaN."""
        y = lp_pool(line([-3, -4, -5], np.float64), 3, 3)
        np.testing.assert_allclose(y, 216 ** (1 / 3), rtol=1e-15)

    def test_a_window_cut_off_by_ceil_mode_sums_what_it_sees(self):
        """torch 2.13 returns [2, 2]: it scales the last window to the full size."""
        assert lp_pool(line([1, 1, 1]), 1, 2, 2, ceil_mode=True).tolist() == [[[2, 1]]]


@pytest.mark.parametrize("rank", RANKS)
class TestAlgebra:
    def test_an_average_is_a_convolution(self, rng, rank):
        x = rng.standard_normal((2, 3, *SIZES[rank]))
        kernel = (2, 3, 2)[:rank]
        w = np.full((3, 1, *kernel), 1 / prod(kernel))
        tolerance = sum_tolerance(prod(kernel) + 1, avg_pool(np.abs(x), kernel, 2, 1), np.float64)
        assert_within(avg_pool(x, kernel, 2, 1), conv(x, w, stride=2, padding=1, groups=3), tolerance)

    def test_indices_point_at_the_values(self, rng, rank):
        x = rng.standard_normal((2, 3, *SIZES[rank]))
        for values, indices in (max_pool(x, 2, 1, 1), max_pool(x, 2, dilation=2), adaptive_max_pool(x, 3)):
            planes = x.reshape(2, 3, -1)
            found = np.take_along_axis(planes, indices.reshape(2, 3, -1), axis=2)
            assert_within(found.reshape(values.shape), values, 0.0)

    def test_adaptive_pooling_to_a_divisor_is_ordinary_pooling(self, rng, rank):
        x = rng.standard_normal((2, 3, *[12] * rank))
        assert_within(adaptive_avg_pool(x, 4), avg_pool(x, 3), 0.0)
        for adaptive, sliding in zip(adaptive_max_pool(x, 4), max_pool(x, 3), strict=True):
            assert_within(adaptive, sliding, 0.0)

    def test_lp_pool_approaches_max_pool(self, rng, rank):
        x = rng.uniform(1, 2, (1, 2, *SIZES[rank]))
        np.testing.assert_allclose(lp_pool(x, 500, 2), max_pool(x, 2)[0], rtol=0.01)

    def test_an_empty_batch(self, rank):
        x = np.ones((0, 3, *SIZES[rank]))
        assert max_pool(x, 2)[0].shape == avg_pool(x, 2).shape == (0, 3, *(n // 2 for n in SIZES[rank]))
        assert adaptive_avg_pool(x, 2).shape == (0, 3, *[2] * rank)


def legal(kernel, dilation, padding):
    """torch and the layers allow padding of up to half the dilated kernel."""
    return padding <= (dilation * (kernel - 1) + 1) // 2


def with_ties_and_holes(rng, shape, dtype):
    """Few distinct values; in floats also NaN and infinity."""
    x = rng.integers(1, 40, shape).astype(dtype)
    if x.dtype.kind == "f":
        for value in (NAN, -INF, -INF, -INF, INF):
            x[rng.random(shape) < 0.04] = value
        x = np.where(rng.random(shape) < 0.5, -x, x)
    elif x.dtype.kind == "i":
        x = x * np.array([-1, 1], dtype)[rng.integers(0, 2, shape)]
    return x


@pytest.mark.parametrize("rank", RANKS)
class TestAgainstTorch:
    @pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
    def test_max_pool(self, torch, rng, rank, dtype):
        function = getattr(torch.nn.functional, f"max_pool{rank}d")
        nowhere = 0
        for kernel, stride, padding, dilation, ceil_mode in itertools.product(
            (1, 2, 3), (None, 1, 2, 3), (0, 1), (1, 2), (False, True)
        ):
            if not legal(kernel, dilation, padding):
                continue
            problem = f"max_pool{rank}d k{kernel} s{stride} p{padding} d{dilation} ceil{ceil_mode} {np.dtype(dtype)}"
            x = with_ties_and_holes(rng, (2, 3, *SIZES[rank]), dtype)
            expected = function(torch.from_numpy(x), kernel, stride, padding, dilation, ceil_mode, return_indices=True)
            values, indices = max_pool(x, kernel, stride, padding, dilation, ceil_mode)
            assert_within(values, expected[0].numpy(), 0.0, problem)
            somewhere = indices >= 0
            assert_same_values(indices[somewhere], expected[1].numpy()[somewhere], 0.0, problem)
            nowhere += (~somewhere).sum()
        assert nowhere == 0

    def test_avg_pool(self, torch, rng, rank):
        function = getattr(torch.nn.functional, f"avg_pool{rank}d")
        dtypes = FLOATS if rank < 3 else [np.float32, np.float64]  # torch has no avg_pool3d for float16
        for dtype, kernel, stride, padding, ceil_mode, include, override in itertools.product(
            dtypes, (1, 2, 3), (None, 1, 2, 3), (0, 1), (False, True), (False, True), (None, 5, -2)
        ):
            if not legal(kernel, 1, padding) or (override and rank == 1):
                continue
            problem = f"avg_pool{rank}d k{kernel} s{stride} p{padding} ceil{ceil_mode} include{include} /{override}"
            x = rng.standard_normal((2, 3, *SIZES[rank])).astype(dtype)
            options = (ceil_mode, include) if rank == 1 else (ceil_mode, include, override)
            expected = function(torch.from_numpy(x), kernel, stride, padding, *options).numpy()
            arguments = (kernel, stride, padding, ceil_mode, include, override)
            magnitude = np.abs(avg_pool(np.abs(x.astype(np.float64)), *arguments))
            assert_within(avg_pool(x, *arguments), expected, sum_tolerance(kernel**rank + 1, magnitude, dtype), problem)

    def test_avg_pool_of_int64(self, torch, rng, rank):
        function = getattr(torch.nn.functional, f"avg_pool{rank}d")
        x = rng.integers(-50, 50, (2, 3, *SIZES[rank]))
        for kernel, padding, include in itertools.product((2, 3), (0, 1), (False, True)):
            expected = function(torch.from_numpy(x), kernel, 2, padding, True, include).numpy()
            assert_within(avg_pool(x, kernel, 2, padding, True, include), expected, 0.0, (kernel, padding, include))

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_adaptive_pools(self, torch, rng, rank, dtype):
        average = getattr(torch.nn.functional, f"adaptive_avg_pool{rank}d")
        maximum = getattr(torch.nn.functional, f"adaptive_max_pool{rank}d")
        for output in [1, 2, 3, 5, (13, 4, 7)[:rank]]:
            x = rng.standard_normal((2, 3, *SIZES[rank])).astype(dtype)
            magnitude = adaptive_avg_pool(np.abs(x.astype(np.float64)), output)
            tolerance = sum_tolerance(prod(SIZES[rank]) + 1, magnitude, dtype)
            expected = average(torch.from_numpy(x), output).numpy()
            assert_within(adaptive_avg_pool(x, output), expected, tolerance, output)
            x = with_ties_and_holes(rng, x.shape, dtype)
            found = zip(adaptive_max_pool(x, output), maximum(torch.from_numpy(x), output, True), strict=True)
            for actual, expected in found:
                assert_same_values(actual, expected.numpy(), 0.0, output)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_lp_pool(self, torch, rng, rank, dtype):
        """Positive values and whole windows, where torch's formula is the norm."""
        function = getattr(torch.nn.functional, f"lp_pool{rank}d")
        for power, kernel, stride in itertools.product((1, 2, 3, 2.5, INF), (1, 2, 3), (None, 1, 2)):
            x = rng.uniform(0.5, 2, (2, 3, *SIZES[rank])).astype(dtype)
            expected = function(torch.from_numpy(x), power, kernel, stride).numpy()
            # The powers, the mean and the root each add a few roundings to those of the sum.
            tolerance = sum_tolerance(kernel**rank + 12, np.abs(expected), dtype)
            assert_within(lp_pool(x, power, kernel, stride), expected, tolerance, (power, kernel, stride))
