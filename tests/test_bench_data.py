"""Data, comparison and timing of the benchmark suite."""

import numpy as np
import pytest

from fastconv.tools.bench.data import error_bound, exact_output, judge, make_arrays, mistrust
from fastconv.tools.bench.problem import parse_problem
from fastconv.tools.bench.timing import Timing, sample, sample_cold

CONV = parse_problem("conv2d 1x8x9x7 -> 4 k3 p1")


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_the_same_line_gives_the_same_data(kind):
    first, second = make_arrays(CONV, kind), make_arrays(parse_problem(CONV.line + " *3 # name"), kind)
    assert first.keys() == {"x", "weight", "bias"}
    for name, array in first.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, second[name])
    other = make_arrays(parse_problem(CONV.line + " seed1"), kind)
    assert (other["x"] != first["x"]).any()


def test_denormal_inputs_give_denormal_outputs():
    normal, arrays = make_arrays(CONV), make_arrays(CONV, "denormal")
    smallest = np.finfo(CONV.dtype).smallest_normal
    for name in ("x", "bias"):
        assert np.mean(np.abs(arrays[name]) < smallest) > 0.99
        assert np.count_nonzero(arrays[name]) == arrays[name].size
    np.testing.assert_array_equal(arrays["weight"], normal["weight"])
    assert np.mean(np.abs(exact_output(CONV, arrays)) < smallest) > 0.9


def test_integer_data_is_exact_in_float32():
    arrays = make_arrays(CONV, "integer")
    exact = exact_output(CONV, arrays)
    assert set(np.unique(arrays["x"])) == set(range(-3, 4))
    np.testing.assert_array_equal(exact, np.round(exact))
    assert np.abs(exact).max() < 2**24


def test_nhwc_means_memory_and_not_shape():
    x = make_arrays(parse_problem("conv2d 1x8x9x7 -> 4 k3 nhwc"))["x"]
    assert x.shape == (1, 8, 9, 7)
    assert x.strides[1] == x.itemsize


def test_the_bound_follows_terms_type_and_algorithm():
    assert error_bound(parse_problem("max_pool2d 1x3x8x8 k2 s2")) == 0
    assert error_bound(CONV) == pytest.approx(4 * 2**-24 * 6)
    assert error_bound(CONV.replace(dtype="float64")) == pytest.approx(4 * 2**-53 * 6)
    assert error_bound(parse_problem("batch_norm2d 1x3x8x8")) == 8 * 2**-24
    assert error_bound(CONV, 8) == 8 * error_bound(CONV)


@pytest.mark.parametrize(
    "line", ["conv2d 1x64x14x14 -> 32 k3 p1", "linear 4x2048 -> 100", "avg_pool2d 1x8x16x16 k3 s1"]
)
def test_a_float32_computation_lies_within_the_bound(line):
    problem = parse_problem(line)
    arrays = make_arrays(problem)
    exact = exact_output(problem, arrays)
    y = exact.astype(np.float32)
    if problem.family == "linear":
        y = arrays["x"] @ arrays["weight"].T + arrays["bias"]
    verdict = judge(y, exact, error_bound(problem))
    assert verdict.status == "ok"
    assert 0 < verdict.error <= error_bound(problem)


def test_judgements():
    exact = np.linspace(-2, 2, 12).reshape(3, 4)
    assert judge(exact.ravel(), exact, 0.0).status == "ok"
    assert judge(exact + 2e-3, exact, 1e-5).status == "inexact"
    assert judge(exact + 2e-3, exact, 0.0).status == "differs"
    assert judge(exact + 1, exact, 1e-5).reason == "largest error 5.0e-01 of the largest output, bound 1.0e-05"
    assert "NaN" in judge(np.where(exact > 1, np.nan, exact), exact, 1.0).reason
    assert judge(exact[:2], exact, 1.0).reason == "output has shape (2, 4), expected (3, 4)"


def test_outputs_that_prove_nothing_are_mistrusted():
    varied = np.arange(100.0)
    assert mistrust(varied) == ""
    assert mistrust(np.full(5, 2.0)) == "the expected output is constant"
    assert mistrust(np.where(varied < 90, 0, varied)) == "90% of the expected output is zero"
    assert mistrust(np.array([1.0, np.inf])) == "the expected output has NaN or infinity"


def test_spread_is_robust_against_one_disturbed_round():
    quiet = [1.0, 1.01, 1.0, 0.99]
    timing = Timing([quiet, quiet, [9.0, 9.1, 9.0, 9.2], quiet, quiet])
    assert timing.median == pytest.approx(1.0, abs=0.02)
    assert timing.minimum == 0.99
    assert timing.spread < 0.05
    drifting = Timing([[1.0, 1.0], [1.2, 1.2], [1.4, 1.4], [1.6, 1.6], [1.8, 1.8]])
    assert drifting.spread == pytest.approx(0.4 / 1.4)


def test_samples_are_seconds_per_call():
    calls = []
    samples = sample(lambda: calls.append(1), 0.01)
    assert len(samples) >= 3
    assert len(calls) > 10 * len(samples)
    assert all(0 < s < 1e-3 for s in samples)


def test_a_long_call_is_sampled_once(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    assert len(sample(lambda: None, 0.5)) == 1


def test_a_cold_call_comes_after_an_eviction():
    order = []
    samples = sample_cold(lambda: order.append("call"), lambda: order.append("evict"), 0.0)
    assert len(samples) == 3
    assert order == ["evict", "call"] * 3
