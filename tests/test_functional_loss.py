"""Losses: by hand, torch's semantics, torch itself, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from tolerance import assert_same_values

from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.nn import functional as F

NAN, INF = np.nan, np.inf
LOG2 = math.log(2)


def reductions(function, *arguments, **keywords):
    return [function(*arguments, reduction=r, **keywords).tolist() for r in ("none", "sum", "mean")]


class TestCrossEntropy:
    """TORCH_SEMANTICS.md, section 1.3."""

    logits = np.log(np.array([[1.0, 1.0, 2.0], [2.0, 1.0, 1.0]]))  # probabilities ¼ ¼ ½ and ½ ¼ ¼
    classes = np.array([2, 1])

    def test_by_hand(self):
        losses, total, mean = reductions(F.cross_entropy, self.logits, self.classes)
        np.testing.assert_allclose(losses, [LOG2, 2 * LOG2])
        np.testing.assert_allclose([total, mean], [3 * LOG2, 1.5 * LOG2])

    def test_the_weighted_mean_divides_by_the_sum_of_the_weights(self):
        weight = np.array([9.0, 1.0, 3.0])
        losses, total, mean = reductions(F.cross_entropy, self.logits, self.classes, weight)
        np.testing.assert_allclose(losses, [3 * LOG2, 2 * LOG2])
        np.testing.assert_allclose([total, mean], [5 * LOG2, 5 * LOG2 / 4])

    def test_ignored_targets_do_not_count(self):
        losses, _, mean = reductions(F.cross_entropy, self.logits, np.array([2, -100]))
        np.testing.assert_allclose([*losses, mean], [LOG2, 0, LOG2])
        assert_same_values(F.cross_entropy(self.logits, self.classes, ignore_index=1), LOG2, 1e-15)
        assert np.isnan(F.cross_entropy(self.logits, np.array([-100, -100])))
        assert F.cross_entropy(self.logits, np.array([-100, -100]), reduction="sum") == 0

    def test_smoothing_mixes_with_the_uniform_distribution(self):
        log_p = np.log([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
        expected = [-(0.7 * log_p[i, c] + 0.1 * log_p[i].sum()) for i, c in enumerate(self.classes)]
        np.testing.assert_allclose(
            reductions(F.cross_entropy, self.logits, self.classes, label_smoothing=0.3)[0], expected
        )
        probabilities = np.eye(3)[self.classes]
        losses, _, mean = reductions(F.cross_entropy, self.logits, probabilities, label_smoothing=0.3)
        np.testing.assert_allclose([*losses, mean], [*expected, sum(expected) / 2])

    def test_probabilities_as_target(self):
        losses, total, mean = reductions(F.cross_entropy, self.logits, np.array([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]))
        np.testing.assert_allclose(losses, [1.5 * LOG2, 2 * LOG2])
        np.testing.assert_allclose([total, mean], [3.5 * LOG2, 1.75 * LOG2])

    def test_the_classes_are_axis_1(self, rng):
        x = rng.standard_normal((2, 3, 4, 5))
        target = rng.integers(0, 3, (2, 4, 5))
        losses = F.cross_entropy(x, target, reduction="none")
        assert losses.shape == (2, 4, 5)
        assert_same_values(losses[1, 2, 3], F.cross_entropy(x[1, :, 2, 3], target[1, 2, 3]), 1e-14)

    def test_one_sample(self):
        for reduction in ("none", "mean", "sum"):
            y = F.cross_entropy(self.logits[0], np.array(2), reduction=reduction)
            assert (y.shape, y.dtype) == ((), np.float64)
            assert_same_values(y, LOG2, 1e-15)

    def test_large_logits_and_float16(self):
        assert F.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])) == 1e4
        y = F.cross_entropy(self.logits.astype(np.float16), self.classes)
        assert y.dtype == np.float16
        assert_same_values(y, 1.5 * LOG2, 1e-3)

    def test_no_samples(self):
        nothing = np.ones((0, 3)), np.ones(0, np.int64)
        assert np.isnan(F.cross_entropy(*nothing))
        assert F.cross_entropy(*nothing, reduction="sum") == 0
        assert F.cross_entropy(*nothing, reduction="none").shape == (0,)

    @pytest.mark.parametrize(
        ("error", "arguments", "message"),
        [
            (ArgumentIndexError, {"target": np.array([0, 3])}, "target: expected classes from 0 to 2, got 3"),
            (IndexError, {"target": np.array([0, -1])}, "target: expected classes from 0 to 2, got -1"),
            (ArgumentError, {"target": np.array([0])}, r"target: expected shape \(2,\) for an input of shape \(2, 3\)"),
            (
                ArgumentTypeError,
                {"target": np.array([True, False])},
                "target: expected integer classes, got elements of",
            ),
            (
                ArgumentError,
                {"target": np.ones((2, 2))},
                r"target: expected probabilities of the input's shape \(2, 3\), got",
            ),
            (
                ArgumentError,
                {"target": np.ones((2, 3)), "ignore_index": 1},
                "ignore_index: has no meaning for a target of",
            ),
            (ArgumentError, {"weight": np.ones(2)}, r"weight: expected shape \(3,\), one value per class, got \(2,\)"),
            (ArgumentError, {"label_smoothing": 1.5}, "label_smoothing: expected 0 to 1, got 1.5"),
            (ArgumentError, {"reduction": "avg"}, "reduction: expected one of mean, sum, none, got 'avg'"),
            (
                ArgumentError,
                {"input": np.array(1.0)},
                r"input: expected \(C,\), \(N, C\) or \(N, C, ...\), got a single",
            ),
            (
                ArgumentTypeError,
                {"input": np.ones((2, 3), int)},
                "input: expected floating point, got elements of type",
            ),
        ],
    )
    def test_refusals(self, error, arguments, message):
        with pytest.raises(error, match=message):
            F.cross_entropy(**{"input": self.logits, "target": self.classes} | arguments)


def test_nll_loss():
    log_p = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    losses, total, mean = reductions(F.nll_loss, log_p, np.array([1, 0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(losses, [-2 * math.log(0.75), LOG2])
    np.testing.assert_allclose(mean, total / 3)
    assert F.nll_loss(log_p[0], np.array(0)) == -log_p[0, 0]
    with pytest.raises(ArgumentIndexError, match="target: expected classes from 0 to 1, got 2"):
        F.nll_loss(log_p, np.array([0, 2]))


class TestRegression:
    x, target = np.array([1.0, 2.0, 5.0]), np.array([1.5, 2.0, 2.0])

    def test_by_hand(self):
        assert reductions(F.mse_loss, self.x, self.target) == [[0.25, 0, 9], 9.25, 9.25 / 3]
        assert reductions(F.l1_loss, self.x, self.target) == [[0.5, 0, 3], 3.5, 3.5 / 3]
        assert reductions(F.smooth_l1_loss, self.x, self.target)[0] == [0.125, 0, 2.5]
        assert reductions(F.smooth_l1_loss, self.x, self.target, beta=2.0)[0] == [0.0625, 0, 2]
        assert reductions(F.smooth_l1_loss, self.x, self.target, beta=0)[0] == [0.5, 0, 3]
        assert reductions(F.huber_loss, self.x, self.target, delta=2.0)[0] == [0.125, 0, 4]

    def test_weights(self):
        weight = np.array([2.0, 1.0, 1.0])
        assert reductions(F.mse_loss, self.x, self.target, weight=weight) == [[0.5, 0, 9], 9.5, 9.5 / 4]
        assert reductions(F.l1_loss, self.x, self.target, weight=weight) == [[1, 0, 3], 4, 1]
        assert reductions(F.huber_loss, self.x, self.target, weight=weight) == [[0.25, 0, 2.5], 2.75, 2.75 / 3]

    def test_shapes_that_differ_broadcast_with_a_warning(self):
        with pytest.warns(UserWarning, match=r"target: its shape \(3, 1\) is not the input's \(3,\); they broadcast"):
            y = F.mse_loss(self.x, self.target[:, None], reduction="none")
        assert y.shape == (3, 3)
        with pytest.raises(ArgumentError, match=r"target: expected the input's shape \(3,\), got \(2,\)"):
            F.l1_loss(self.x, self.target[:2])

    def test_the_older_way_to_say_reduction(self):
        for keywords, expected in (
            ({"size_average": False}, 9.25),
            ({"size_average": True}, 9.25 / 3),
            ({"reduce": False}, [0.25, 0, 9]),
            ({"reduce": True, "size_average": False}, 9.25),
        ):
            assert F.mse_loss(self.x, self.target, **keywords).tolist() == expected

    def test_types(self):
        assert F.mse_loss(self.x.astype(np.float32), self.target).dtype == np.float64
        half = F.mse_loss(np.array([300.0], np.float16), np.array([-300.0], np.float16), reduction="none")
        assert (half.dtype, half.tolist()) == (np.float16, [INF])
        assert np.isnan(F.mse_loss(np.ones(0), np.ones(0)))
        assert isinstance(F.mse_loss(self.x, self.target), np.ndarray)

    def test_refusals(self):
        for call, error, message in (
            (lambda: F.smooth_l1_loss(self.x, self.x, beta=-1), ArgumentError, "beta: expected 0 or more, got -1"),
            (lambda: F.huber_loss(self.x, self.x, delta=0), ArgumentError, "delta: expected more than 0, got 0"),
            (
                lambda: F.mse_loss(self.x, self.x, weight=self.x[:2]),
                ArgumentError,
                r"weight: expected the input's shape \(3,\)",
            ),
            (lambda: F.mse_loss(self.x, np.ones(3, int)), ArgumentTypeError, "target: expected floating point"),
            (
                lambda: F.mse_loss(self.x, self.x, reduction="batchmean"),
                ArgumentError,
                "reduction: expected one of mean, sum",
            ),
        ):
            with pytest.raises(error, match=message):
                call()


class TestBinary:
    def test_by_hand(self):
        x, target = np.array([0.5, 0.25]), np.array([1.0, 0.0])
        np.testing.assert_allclose(reductions(F.binary_cross_entropy, x, target)[0], [LOG2, -math.log(0.75)])
        weighted = reductions(F.binary_cross_entropy, x, target, np.array([2.0]))
        np.testing.assert_allclose(weighted[0], [2 * LOG2, -2 * math.log(0.75)])
        np.testing.assert_allclose(weighted[2], weighted[1] / 2)

    def test_logarithms_end_at_minus_100(self):
        assert F.binary_cross_entropy(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == 100
        assert F.binary_cross_entropy(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0

    def test_logits_do_not_overflow(self):
        losses = reductions(F.binary_cross_entropy_with_logits, np.array([1000.0, -1000, 0]), np.array([0.0, 0, 1]))[0]
        assert losses[:2] == [1000, 0]
        np.testing.assert_allclose(losses[2], LOG2)

    def test_logits_are_probabilities_through_the_sigmoid(self, rng):
        x, target, weight, positive = rng.standard_normal((4, 3, 5))
        target, p = 1 / (1 + np.exp(-target)), 1 / (1 + np.exp(-x))
        expected = F.binary_cross_entropy(p, target, weight, reduction="none")
        y = F.binary_cross_entropy_with_logits(x, target, weight, reduction="none")
        np.testing.assert_allclose(y, expected, rtol=1e-12)
        y = F.binary_cross_entropy_with_logits(x, target, reduction="none", pos_weight=positive[0])
        np.testing.assert_allclose(y, -(positive[0] * target * np.log(p) + (1 - target) * np.log(1 - p)), rtol=1e-12)

    def test_refusals(self):
        half, one = np.array([0.5]), np.array([1.0])
        for call, error, message in (
            (
                lambda: F.binary_cross_entropy(2 * one, one),
                ArgumentError,
                "input: expected probabilities from 0 to 1; binary",
            ),
            (
                lambda: F.binary_cross_entropy(half, 2 * one),
                ArgumentError,
                "target: expected probabilities from 0 to 1",
            ),
            (lambda: F.binary_cross_entropy(half * NAN, one), ArgumentError, "input: expected probabilities"),
            (
                lambda: F.binary_cross_entropy(half, one[None]),
                ArgumentError,
                r"target: expected the input's shape \(1,\)",
            ),
            (
                lambda: F.binary_cross_entropy(half, np.ones(1, int)),
                ArgumentTypeError,
                "target: expected floating point",
            ),
            (
                lambda: F.binary_cross_entropy(half, one, np.ones(2)),
                ArgumentError,
                r"weight: expected a shape that broadcasts to \(1,\), got \(2,\)",
            ),
            (
                lambda: F.binary_cross_entropy_with_logits(half, one, pos_weight=np.ones(2)),
                ArgumentError,
                r"pos_weight: expected a shape that broadcasts to \(1,\)",
            ),
        ):
            with pytest.raises(error, match=message):
                call()


def test_kl_div():
    x, target = np.log(np.array([[0.5, 0.5], [0.25, 0.75]])), np.array([[0.25, 0.75], [0.0, 1.0]])
    expected = np.array([[0.25 * math.log(0.5), 0.75 * math.log(1.5)], [0, -math.log(0.75)]])
    losses, total, mean = reductions(F.kl_div, x, target)
    np.testing.assert_allclose(losses, expected)
    np.testing.assert_allclose([total, mean], [expected.sum(), expected.mean()])
    np.testing.assert_allclose(F.kl_div(x, target, reduction="batchmean"), expected.sum() / 2)
    np.testing.assert_allclose(F.kl_div(x[0], np.log(target[0]), log_target=True, reduction="none"), expected[0])


def test_one_hot():
    assert F.one_hot(np.array([[0, 2], [1, 1]])).tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]]
    assert F.one_hot(np.array([1]), 4).tolist() == [[0, 1, 0, 0]]
    assert F.one_hot(np.array([1], np.uint8)).dtype == np.int64
    assert F.one_hot(np.ones(0, int), 3).shape == (0, 3)
    for arguments, error, message in (
        ((np.array([3]), 3), ArgumentIndexError, "tensor: expected classes from 0 to 2, got 3"),
        ((np.array([-1]), 3), ArgumentError, "tensor: expected classes from 0 to 2, got -1"),
        ((np.ones(0, int),), ArgumentError, "num_classes: cannot be inferred from an empty array"),
        ((np.array([0]), 0), ArgumentError, "num_classes: expected at least 1, got 0"),
        ((np.array([0.5]),), ArgumentTypeError, "tensor: expected integer classes, got elements of type float64"),
    ):
        with pytest.raises(error, match=message):
            F.one_hot(*arguments)


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # torch advises against the mean of kl_div
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_against_torch(torch, rng, dtype):
    def compare(name, *arguments, **keywords):
        tensors = [torch.from_numpy(a) for a in arguments]
        named = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) and v.ndim else v for k, v in keywords.items()}
        for reduction in ("none", "sum", "mean"):
            expected = getattr(torch.nn.functional, name)(*tensors, reduction=reduction, **named).numpy()
            y = getattr(F, name)(*arguments, reduction=reduction, **keywords)
            assert y.dtype == expected.dtype
            tolerance = 40 * np.finfo(dtype).eps * np.maximum(np.abs(expected.astype(float)), 1)
            assert_same_values(y, expected, tolerance, (name, reduction, keywords))

    for shape in ((7, 4), (2, 4, 3), (2, 4, 3, 2), (4,)):
        x, y = (2 * rng.standard_normal((2, *shape))).astype(dtype)
        p, q, weights = rng.uniform(0.01, 0.99, (3, *shape)).astype(dtype)
        target = np.asarray(rng.integers(0, 4, () if shape == (4,) else (shape[0], *shape[2:])))
        per_class = rng.uniform(0.2, 2, 4).astype(dtype)
        for weight, smoothing in itertools.product(({}, {"weight": per_class}), (0.0, 0.2)):
            smooth = {"label_smoothing": smoothing}
            compare("cross_entropy", x, target, **weight, **smooth)
            compare("cross_entropy", x, p, **weight, **smooth)
            if (target != 2).any():
                compare("cross_entropy", x, target, ignore_index=2, **weight, **smooth)
                compare("nll_loss", x, target, ignore_index=2, **weight)
        for weight in ({}, {"weight": weights}):
            for name in ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits"):
                compare(name, x, q, **weight)
            compare("binary_cross_entropy", p, q, **weight)
        compare("binary_cross_entropy_with_logits", x, q, pos_weight=weights)
        compare("smooth_l1_loss", x, y, beta=0.5)
        compare("kl_div", x, p)
        compare("kl_div", x, y, log_target=True)
