"""Pooling through fastconv.nn.functional: arguments, errors, forced algorithms, and torch's answers."""

import itertools
import warnings

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

import fastconv.nn.functional as F
from fastconv import reference
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.ops.pool import AVERAGE_POOL, MAX_POOL, average_pool_plan, max_pool_plan
from fastconv.ops.pool_spec import AdaptiveWindow, AveragePoolSpec, MaxPoolSpec

X = {rank: np.arange(2 * 3 * 8**rank, dtype=np.float32).reshape(2, 3, *[8] * rank) % 23 for rank in (1, 2, 3)}
SIZES = {1: (23,), 2: (11, 14), 3: (5, 7, 8)}


def function(name, rank):
    return getattr(F, name.format(rank))


class TestArguments:
    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_unbatched(self, rank):
        x = X[rank]
        for call in (
            lambda x: function("max_pool{}d", rank)(x, 2),
            lambda x: function("avg_pool{}d", rank)(x, 3, 1, 1),
            lambda x: function("lp_pool{}d", rank)(x, 2, 2),
            lambda x: function("adaptive_avg_pool{}d", rank)(x, 3),
            lambda x: function("adaptive_max_pool{}d", rank)(x, 3),
            lambda x: function("adaptive_max_pool{}d_with_indices", rank)(x, 3)[1],
            lambda x: function("max_pool{}d_with_indices", rank)(x, 3)[1],
        ):
            np.testing.assert_array_equal(call(x[1]), call(x)[1])

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_empty_batch_and_no_channels(self, rank):
        for shape in ((0, 3, *[8] * rank), (2, 0, *[8] * rank)):
            x = np.ones(shape, np.float32)
            assert function("max_pool{}d", rank)(x, 2).shape == (*shape[:2], *[4] * rank)
            assert [a.dtype for a in function("max_pool{}d_with_indices", rank)(x, 2)] == [np.float32, np.int64]
            assert function("avg_pool{}d", rank)(x, 2).shape == (*shape[:2], *[4] * rank)
            assert function("adaptive_avg_pool{}d", rank)(x, 3).shape == (*shape[:2], *[3] * rank)

    def test_any_array_like_and_any_integer(self):
        class Wrapped:
            def __array__(self, dtype=None, copy=None):
                return X[2]

        expected = F.max_pool2d(X[2], 2)
        for arguments in ((np.int8(2),), ([2, 2],), (np.array([2, 2]), []), ((2,), (2,)), (2, None, [0, 0], 1, 0)):
            np.testing.assert_array_equal(F.max_pool2d(Wrapped(), *arguments), expected)

    def test_asymmetric_padding(self):
        y = F.avg_pool2d(X[2], 2, 1, ((0, 1), (1, 0)))
        np.testing.assert_array_equal(y, reference.avg_pool(X[2], 2, 1, ((0, 1), (1, 0))))
        assert F.max_pool2d(X[2], 3, 2, "same").shape == (2, 3, 4, 4)

    def test_equal_keys_are_not_equal_arguments(self):
        F.max_pool2d(X[2], 1, 1)
        for wrong in (1.0, True, (1.0, 1), (True, 1), [1, np.float64(1)]):
            with pytest.raises(ArgumentTypeError, match="kernel_size: expected an integer"):
                F.max_pool2d(X[2], wrong, 1)

    def test_a_second_call_finds_its_plan(self):
        plans = [max_pool_plan(X[2], 2, [2, 2], None, 0, 1, False, False, "auto") for _ in range(2)]
        assert plans[0] is plans[1]
        assert plans[0] is not max_pool_plan(X[2][:, ::-1], 2, [2, 2], None, 0, 1, False, False, "auto")

    def test_the_input_is_not_changed(self):
        x = X[2].copy()
        x.flags.writeable = False
        F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.lp_pool2d(x, 3, 2), F.adaptive_avg_pool2d(x, 3)
        np.testing.assert_array_equal(x, X[2])


ERRORS = [
    (
        lambda x: F.max_pool2d(x[0, 0], 2),
        "input: max pooling in 2-d expects 3 axes .* or 4 .*, got shape \\(8, 8\\)",
    ),
    (
        lambda x: F.avg_pool1d(x, 2),
        "input: average pooling in 1-d expects 2 axes .* or 3 .*, got shape \\(2, 3, 8, 8\\)",
    ),
    (lambda x: F.adaptive_avg_pool3d(x[0], 2), "input: adaptive pooling in 3-d expects 4 axes .* got shape"),
    (lambda x: F.max_pool2d(x, 9), "kernel_size: a kernel of 9×9 does not fit into the padded input of 8×8"),
    (lambda x: F.max_pool2d(x, 0), "kernel_size: expected at least 1, got 0"),
    (lambda x: F.max_pool2d(x, 2, 0), "stride: expected at least 1, got 0"),
    (lambda x: F.max_pool2d(x, 2, -1), "stride: expected at least 1, got -1"),
    (lambda x: F.max_pool2d(x, (2, 2, 2)), "kernel_size: expected 1 or 2 values, got 3"),
    (lambda x: F.max_pool2d(x, 2, 2, -1), "padding: expected at least 0, got -1"),
    (
        lambda x: F.max_pool2d(x, 3, 2, 2),
        "padding: expected at most 1, half of the window of 3 .* got 2: a window could lie",
    ),
    (lambda x: F.max_pool2d(x, 3, 2, 3, 2), "half of the window of 5 \\(kernel 3, dilation 2\\), got 3"),
    (lambda x: F.avg_pool2d(x, 2, 1, ((0, 2), (0, 0))), "padding: expected at most 1, half of the window of 2"),
    (lambda x: F.avg_pool2d(x, 2, padding="full"), "padding: expected numbers or one of valid, same"),
    (lambda x: F.max_pool2d(x, 2, dilation=0), "dilation: expected at least 1, got 0"),
    (lambda x: F.max_pool2d(x[:, :, :0], 1), "input: expected spatial sizes of at least 1, got 0×8"),
    (lambda x: F.avg_pool2d(x, 2, divisor_override=0), "divisor_override: expected a number other than 0, got 0"),
    (lambda x: F.adaptive_max_pool2d(x[:, :, :0], 1), "input: expected spatial sizes of at least 1, got shape"),
    (lambda x: F.adaptive_avg_pool2d(x, -1), "output_size: expected at least 0, got -1"),
    (lambda x: F.adaptive_avg_pool2d(x, (1, 2, 3)), "output_size: expected 1 or 2 values, got 3"),
    (lambda x: F.adaptive_avg_pool2d(x, 2**40), "output_size: .* more than any memory holds"),
    (lambda x: F.lp_pool2d(x, 0, 2), "norm_type: expected a positive power or inf, got 0"),
    (lambda x: F.max_pool2d(x, 2, algorithm="winograd"), "algorithm: expected 'auto' or one of 'direct', 'reference'"),
    (
        lambda x: F.avg_pool2d(x.astype(int), 2, algorithm="direct"),
        "refuses .* takes means of floats, the input is int64",
    ),
]
TYPE_ERRORS = [
    (lambda x: F.max_pool2d(x > 1, 2), "input: max pooling of bool is not defined; convert with astype"),
    (lambda x: F.max_pool2d(x + 1j, 2), "input: max pooling of complex64 is not defined"),
    (
        lambda x: F.avg_pool2d(x.astype(np.int32), 2),
        "input: average pooling takes floats and int64, as torch does, got int32",
    ),
    (
        lambda x: F.adaptive_avg_pool2d(x.astype(int), 2),
        "input: adaptive pooling takes floats, as torch does, got int64",
    ),
    (lambda x: F.adaptive_max_pool2d(x.astype(int), 2), "input: adaptive pooling takes floats"),
    (lambda x: F.lp_pool2d(x.astype(int), 2, 2), "input: expected floating point"),
    (lambda x: F.lp_pool2d(x, "two", 2), "norm_type: expected a number, got 'two'"),
    (lambda x: F.max_pool2d(x.tolist(), 2), "input: expected an array, got list"),
    (lambda x: F.max_pool2d(x, 2.0), "kernel_size: expected an integer, got 2.0"),
    (lambda x: F.max_pool2d(x, None), "kernel_size: expected an integer, got None"),
    (lambda x: F.avg_pool2d(x, 2, divisor_override=1.5), "divisor_override: expected an integer, got 1.5"),
]


class TestErrors:
    @pytest.mark.parametrize(("call", "text"), ERRORS)
    def test_impossible_arguments(self, call, text):
        for _ in range(2):
            with pytest.raises(ArgumentError, match=text):
                call(X[2])

    @pytest.mark.parametrize(("call", "text"), TYPE_ERRORS)
    def test_wrong_types(self, call, text):
        with pytest.raises(ArgumentTypeError, match=text):
            call(X[2])


class TestAlgorithms:
    def specs(self):
        window = max_pool_plan(X[2], 2, 3, 2, 1, 1, False, False, "direct").spec.window
        for dtype, indices in itertools.product(("float32", "float16", "int8"), (False, True)):
            yield MAX_POOL, MaxPoolSpec(2, 3, window, dtype, (768, 256, 32, 4), indices)
        for w, dtype in itertools.product((window, AdaptiveWindow((8, 8), (3, 5))), ("float64", "int64")):
            yield AVERAGE_POOL, AveragePoolSpec(2, 3, w, dtype, (1536, 512, 64, 8))

    def test_every_row_answers(self):
        for op, spec in self.specs():
            candidates = {candidate.algorithm: candidate for candidate in op.candidates(spec)}
            assert not candidates["reference"].refusal
            for candidate in candidates.values():
                assert candidate.refusal or candidate.seconds > 0
            assert op.choose(spec).name == ("reference" if candidates["direct"].refusal else "direct")

    def test_forced(self):
        for algorithm in ("reference", "direct", "auto"):
            np.testing.assert_array_equal(F.max_pool2d(X[2], 2, algorithm=algorithm), F.max_pool2d(X[2], 2))
            np.testing.assert_array_equal(F.adaptive_max_pool2d(X[2], (3, 2), algorithm=algorithm).shape, (2, 3, 3, 2))

    def test_the_error_of_a_mean_keeps_its_bound(self, rng):
        for kernel, dtype in itertools.product((2, 8, 64), (np.float32, np.float64, np.float16)):
            x = (rng.standard_normal((2, 3, 64, 64)) * 10.0 ** rng.integers(-3, 3, (2, 3, 64, 64))).astype(dtype)
            plan = average_pool_plan(x, 2, kernel, None, 0, False, True, None, "direct")
            bound = AVERAGE_POOL.rows[0].error_bound(plan.spec)
            wide = x.astype(np.float64)
            error = np.abs(plan(x) - reference.avg_pool(wide, kernel))
            assert (error <= bound * reference.avg_pool(np.abs(wide), kernel)).all()
        assert MAX_POOL.rows[0].error_bound(max_pool_plan(x, 2, 2, 2, 0, 1, False, False, "direct").spec) == 0


class TestLpPool:
    @pytest.mark.parametrize("rank", [1, 2, 3])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_against_the_reference(self, rank, dtype, rng):
        for power, kernel, stride, ceil_mode in itertools.product(
            (1, 2, 2.5, 3, np.inf), (2, 3), (None, 1), (False, True)
        ):
            x = rng.uniform(-2, 2, (2, 3, *SIZES[rank])).astype(dtype)
            y = function("lp_pool{}d", rank)(x, power, kernel, stride, ceil_mode)
            expected = reference.lp_pool(x, power, kernel, stride, ceil_mode)
            assert_within(
                y, expected, sum_tolerance(kernel**rank + 12, np.abs(expected), dtype), (power, kernel, stride)
            )

    def test_zeros_and_nan(self):
        x = np.array([[[0, 0, np.nan, 1, -3, 4]]], np.float32)
        assert_same_values(F.lp_pool1d(x, 2, 2), np.array([[[0, np.nan, 5]]]))


def with_ties_and_holes(rng, shape, dtype):
    x = rng.integers(1, 40, shape).astype(dtype)
    if x.dtype.kind == "f":
        for value in (np.nan, -np.inf, -np.inf, -np.inf, np.inf):
            x[rng.random(shape) < 0.03] = value
    return x if x.dtype.kind == "u" else x * np.array([-1, 1], dtype)[rng.integers(0, 2, shape)]


@pytest.mark.parametrize("rank", [1, 2, 3])
class TestAgainstTorch:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64])
    def test_max_pool(self, torch, rng, rank, dtype):
        for kernel, stride, dilation, ceil_mode in itertools.product((1, 2, 3), (None, 1, 2), (1, 2), (False, True)):
            padding = kernel // 2
            x = with_ties_and_holes(rng, (2, 3, *SIZES[rank]), dtype)
            arguments = (kernel, stride, padding, dilation, ceil_mode)
            expected = getattr(torch.nn.functional, f"max_pool{rank}d_with_indices")(torch.from_numpy(x), *arguments)
            values, indices = function("max_pool{}d_with_indices", rank)(x, *arguments)
            somewhere = indices >= 0
            assert_same_values(values, expected[0].numpy(), 0.0, arguments)
            assert_same_values(indices[somewhere], expected[1].numpy()[somewhere], 0.0, arguments)
            assert_same_values(function("max_pool{}d", rank)(x, *arguments), values, 0.0, arguments)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
    def test_avg_pool(self, torch, rng, rank, dtype):
        if rank == 3 and dtype == np.float16:
            pytest.skip("comparison with torch: avg_pool3d is not implemented for float16 there")
        for kernel, stride, ceil_mode, include_pad, divisor in itertools.product(
            (1, 2, 3), (None, 1, 2), (False, True), (False, True), (None, 5, -2)
        ):
            if rank == 1 and divisor:
                continue
            arguments = (kernel, stride, kernel // 2, ceil_mode, include_pad, divisor)[: 5 if rank == 1 else 6]
            x = (rng.standard_normal((2, 3, *SIZES[rank])) * 900).astype(dtype)
            expected = getattr(torch.nn.functional, f"avg_pool{rank}d")(torch.from_numpy(x), *arguments).numpy()
            magnitude = np.abs(reference.avg_pool(np.abs(x.astype(np.float64)), *arguments))
            y = function("avg_pool{}d", rank)(x, *arguments)
            assert_within(y, expected, sum_tolerance(kernel**rank + 1, magnitude, dtype), arguments)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_adaptive_pools(self, torch, rng, rank, dtype):
        for output in [1, 2, 3, 5, (13, 4, 7)[:rank]]:
            x = with_ties_and_holes(rng, (2, 3, *SIZES[rank]), dtype)
            expected = getattr(torch.nn.functional, f"adaptive_max_pool{rank}d")(torch.from_numpy(x), output, True)
            for actual, wanted in zip(function("adaptive_max_pool{}d", rank)(x, output, True), expected, strict=True):
                assert_same_values(actual, wanted.numpy(), 0.0, output)
            x = rng.standard_normal(x.shape).astype(dtype)
            expected = getattr(torch.nn.functional, f"adaptive_avg_pool{rank}d")(torch.from_numpy(x), output).numpy()
            magnitude = reference.adaptive_avg_pool(np.abs(x.astype(np.float64)), output)
            tolerance = sum_tolerance(x[0, 0].size + 1, magnitude, dtype)
            assert_within(function("adaptive_avg_pool{}d", rank)(x, output), expected, tolerance, output)

    def test_the_same_situations_raise(self, torch, rank):
        """Wherever torch raises, so do we, with an exception that code for torch catches."""
        for kernel, stride, padding in itertools.product((0, 1, 2, 9), (0, 1, -1), (-1, 0, 1, 2)):
            try:
                getattr(torch.nn.functional, f"max_pool{rank}d")(torch.from_numpy(X[rank]), kernel, stride, padding)
            except (RuntimeError, ValueError):
                with pytest.raises(RuntimeError):
                    function("max_pool{}d", rank)(X[rank], kernel, stride, padding)
            else:
                function("max_pool{}d", rank)(X[rank], kernel, stride, padding)


def test_no_warnings_from_special_values():
    x = np.array([[[np.nan, np.inf, -np.inf, 1e38, 1e38, 3e38]]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.max_pool1d(x, 2), F.avg_pool1d(x, 2), F.adaptive_avg_pool1d(x, 4), F.lp_pool1d(x, 2, 2)
        F.avg_pool1d(x.astype(np.float64).astype(np.float32), 3)
