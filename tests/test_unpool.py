"""Max unpooling and fractional max pooling: by hand, errors, and torch's answers."""

import itertools

import numpy as np
import pytest

import fastconv.nn.functional as F
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.random import manual_seed


class TestMaxUnpool:
    def test_values_return_to_their_places(self):
        x = np.array([[[1, 5, 2, 6], [3, 4, 8, 7]]], np.float32)
        values, indices = F.max_pool2d(x, 2, return_indices=True)
        assert F.max_unpool2d(values, indices, 2).tolist() == [[[0, 5, 0, 0], [0, 0, 8, 0]]]

    def test_sizes(self):
        values, indices = np.ones((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.int64)
        assert F.max_unpool1d(values, indices, 2).shape == (1, 2, 6)
        assert F.max_unpool1d(values, indices, 3, 2, 1).shape == (1, 2, 5)
        for size in ((7,), 7, (1, 2, 7), np.array([7])):
            assert F.max_unpool1d(values, indices, 2, output_size=size).shape == (1, 2, 7)
        assert F.max_unpool1d(values[:, :0], indices[:, :0], 2).shape == (1, 0, 6)

    def test_of_values_for_one_position_the_last_stays(self):
        values = np.array([[[1, 2, 3]]], np.float32)
        assert F.max_unpool1d(values, np.array([[[4, 0, 4]]]), 2).tolist() == [[[2, 0, 0, 0, 3, 0]]]

    @pytest.mark.parametrize(
        ("indices", "size", "error", "text"),
        [
            ([[[0, 6]]], None, ArgumentError, "indices: 6 is outside a plane of 4 = 4 positions"),
            ([[[0, -1]]], None, ArgumentError, "indices: -1 is outside a plane"),
            ([[[0]]], None, ArgumentError, r"indices: expected the shape of the input, \(1, 1, 2\), got \(1, 1, 1\)"),
            (
                [[[0.0, 1.0]]],
                None,
                ArgumentTypeError,
                "indices: expected int64, as max_pool1d returns them, got float64",
            ),
            ([[[0, 1]]], (6,), ArgumentError, "output_size: expected 3 to 5 for axis 0, got 6"),
            ([[[0, 1]]], (4, 4), ArgumentError, r"output_size: expected 1 or 3 values, got \(4, 4\)"),
            ([[[0, 1]]], 4.0, ArgumentTypeError, "output_size: expected an integer, got 4.0"),
        ],
    )
    def test_errors(self, indices, size, error, text):
        with pytest.raises(error, match=text):
            F.max_unpool1d(np.ones((1, 1, 2)), np.array(indices), 2, output_size=size)

    def test_wrong_inputs(self):
        with pytest.raises(ArgumentError, match="input: expected 3 axes"):
            F.max_unpool2d(np.ones((2, 2)), np.zeros((2, 2), int), 2)
        with pytest.raises(ArgumentTypeError, match="input: expected floating point"):
            F.max_unpool1d(np.ones((1, 1, 2), int), np.zeros((1, 1, 2), int), 2)

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_against_torch(self, torch, rng, rank):
        for kernel, stride, padding in ((2, None, 0), (3, 2, 1), (2, 2, 1)):
            x = rng.standard_normal((2, 3, *(11, 9, 7)[:rank])).astype(np.float32)
            pool, unpool = f"max_pool{rank}d", f"max_unpool{rank}d"
            values, indices = getattr(F, pool)(x, kernel, stride, padding, return_indices=True)
            for size in (None, x.shape[2:], x.shape):
                arguments = (kernel, stride, padding, size)
                try:
                    expected = getattr(torch.nn.functional, unpool)(
                        *map(torch.from_numpy, (values, indices)), *arguments
                    )
                except (ValueError, RuntimeError):
                    with pytest.raises(ValueError, match=r"indices|output_size"):
                        getattr(F, unpool)(values, indices, *arguments)
                else:
                    np.testing.assert_array_equal(getattr(F, unpool)(values, indices, *arguments), expected.numpy())


class TestFractionalMaxPool:
    def test_windows_cover_both_ends(self):
        x = np.zeros((1, 4, 9, 10), np.float32)
        x[..., 0, 0], x[..., -1, -1] = 1, 2
        y = F.fractional_max_pool2d(x, 2, output_size=(4, 5))
        assert (y[..., 0, 0] == 1).all()
        assert (y[..., -1, -1] == 2).all()

    def test_the_package_generator_decides(self, rng):
        x = rng.standard_normal((2, 3, 20, 20))
        manual_seed(7)
        first = F.fractional_max_pool2d(x, 2, output_ratio=0.6)
        assert first.shape == (2, 3, 12, 12)
        assert (F.fractional_max_pool2d(x, 2, output_ratio=0.6) != first).any()
        manual_seed(7)
        np.testing.assert_array_equal(F.fractional_max_pool2d(x, 2, output_ratio=(0.6, 0.6)), first)
        assert F.fractional_max_pool3d(x, (1, 2, 2), (3, 4, 4)).shape == (2, 3, 4, 4)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({}, "output_size: expected either an output_size or an output_ratio"),
            ({"output_size": 3, "output_ratio": 0.5}, "output_size: expected either"),
            ({"output_ratio": 1.5}, "output_ratio: expected 1 or 2 numbers between 0 and 1, got 1.5"),
            ({"output_size": (3, 10)}, "output_size: 10 windows of 2 take at least 11 positions, got 9 of"),
            (
                {"output_size": 3, "_random_samples": np.zeros(2)},
                r"_random_samples: expected shape \(1, 1, 2\), got \(2,\)",
            ),
        ],
    )
    def test_errors(self, options, text):
        with pytest.raises(ArgumentError, match=text):
            F.fractional_max_pool2d(np.ones((1, 1, 9, 9)), 2, **options)

    @pytest.mark.parametrize("rank", [2, 3])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_against_torch(self, torch, rng, rank, dtype):
        for kernel, output in itertools.product((1, 2, 3), (1, 2, 5, (4, 6, 3)[:rank])):
            x = rng.standard_normal((2, 3, *(9, 11, 8)[:rank])).astype(dtype)
            x[rng.random(x.shape) < 0.03] = np.nan
            samples = rng.random((2, 3, rank)).astype(dtype)
            function = f"fractional_max_pool{rank}d_with_indices"
            expected = getattr(torch.nn.functional, function)(
                torch.from_numpy(x), kernel, (output,) * rank if output in (1, 2, 5) else output,
                _random_samples=torch.from_numpy(samples),
            )  # fmt: skip
            actual = getattr(F, function)(x, kernel, output, _random_samples=samples)
            for ours, theirs in zip(actual, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs.numpy())
