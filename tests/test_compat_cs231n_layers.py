"""The course CS231n's normalisation, affine and loss functions, and networks written with its names."""

import numpy as np
import pytest
from tolerance import assert_within

import fastconv as fc
from fastconv import reference
from fastconv.compat import cs231n
from fastconv.compat.cs231n import fast_layers, layer_utils, layers
from fastconv.compat.cs231n.fast_layers import *  # noqa: F403
from fastconv.compat.cs231n.layer_utils import *  # noqa: F403
from fastconv.compat.cs231n.layers import *  # noqa: F403

EPS = np.finfo(np.float64).eps


class TestNormalisation:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_batchnorm_moves_the_dictionary(self, rng, dtype):
        x, gamma, beta = (rng.standard_normal(shape).astype(dtype) for shape in ((5, 3), 3, 3))
        bn_param = {"mode": "train", "momentum": 0.75, "eps": 1e-3}
        out, cache = cs231n.batchnorm_forward(x, gamma, beta, bn_param)
        wide = x.astype(np.float64)
        mean, var = wide.mean(axis=0), wide.var(axis=0)
        expected = (wide - mean) / np.sqrt(var + 1e-3) * gamma + beta
        bound = 100 * float(np.finfo(dtype).eps)
        assert_within(out, expected.astype(dtype), bound)
        assert isinstance(cache, tuple)
        assert bn_param["running_mean"] == pytest.approx(0.25 * mean, rel=bound)
        assert bn_param["running_var"] == pytest.approx(0.25 * var, rel=bound)  # biased, unlike torch's
        assert bn_param["running_mean"].dtype == dtype
        first = bn_param["running_mean"]
        cs231n.batchnorm_forward(x, gamma, beta, bn_param)
        assert bn_param["running_mean"] == pytest.approx((0.1875 + 0.25) * mean, rel=bound)
        assert first == pytest.approx(0.25 * mean, rel=bound)  # a new array, as in the course
        bn_param["mode"] = "test"
        running = bn_param["running_mean"], bn_param["running_var"]
        out, _ = cs231n.batchnorm_forward(x, gamma, beta, bn_param)
        expected = (wide - running[0]) / np.sqrt(running[1] + 1e-3) * gamma + beta
        assert_within(out, expected.astype(dtype), 10 * bound)
        assert bn_param["running_mean"] is not None

    def test_one_example_and_an_untrained_test(self):
        ones = np.ones(2)
        out, _ = cs231n.batchnorm_forward(np.array([[3.0, 4.0]]), ones, 2 * ones, {"mode": "train"})
        assert out.tolist() == [[2, 2]]
        bn_param = {"mode": "test"}
        out, _ = cs231n.batchnorm_forward(np.array([[3.0, 4.0]]), ones, ones, bn_param)
        assert out == pytest.approx(np.array([[3, 4]]) / np.sqrt(1e-5) + 1)
        assert bn_param["running_var"].tolist() == [0, 0]

    def test_spatial_batchnorm_is_batchnorm_of_pixels(self, rng):
        x, gamma, beta = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal(3), rng.standard_normal(3)
        spatial, flat = {"mode": "train"}, {"mode": "train"}
        out, _ = cs231n.spatial_batchnorm_forward(x, gamma, beta, spatial)
        rows, _ = cs231n.batchnorm_forward(x.transpose(0, 2, 3, 1).reshape(-1, 3), gamma, beta, flat)
        assert_within(out, rows.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2), 100 * EPS)
        assert spatial["running_var"] == pytest.approx(flat["running_var"], rel=100 * EPS)

    def test_layernorm(self, rng):
        x, gamma, beta = rng.standard_normal((4, 6)), rng.standard_normal(6), rng.standard_normal(6)
        out, _ = cs231n.layernorm_forward(x, gamma, beta, {"eps": 1e-2})
        centred = x - x.mean(axis=1, keepdims=True)
        assert_within(out, centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-2) * gamma + beta, 100 * EPS)

    @pytest.mark.parametrize("shape", [(6,), (1, 6, 1, 1)], ids=["older years", "newer years"])
    def test_groupnorm(self, rng, shape):
        x, gamma, beta = rng.standard_normal((2, 6, 4, 5)), rng.standard_normal(shape), rng.standard_normal(shape)
        out, _ = cs231n.spatial_groupnorm_forward(x, gamma, beta, 2, {})
        groups = x.reshape(2, 2, -1)
        normed = (groups - groups.mean(axis=2, keepdims=True)) / np.sqrt(groups.var(axis=2, keepdims=True) + 1e-5)
        expected = normed.reshape(x.shape) * gamma.reshape(1, 6, 1, 1) + beta.reshape(1, 6, 1, 1)
        assert_within(out, expected, 100 * EPS)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda x, g: cs231n.batchnorm_forward(x, g, g, {"mode": "eval"}), "bn_param: .*'train' or 'test'.*'eval'"),
            (lambda x, g: cs231n.batchnorm_forward(x, g, g, None), "bn_param"),
            (lambda x, g: cs231n.batchnorm_forward(x, g[:2], g, {"mode": "test"}), r"gamma: expected 3 values .*\(2,\)"),
            (lambda x, g: cs231n.batchnorm_forward(x[None], g, g, {"mode": "test"}), r"x: expected \(N, D\)"),
            (lambda x, g: cs231n.batchnorm_forward(x[:0], g, g, {"mode": "train"}), "at least one value per feature"),
            (lambda x, g: cs231n.spatial_batchnorm_forward(x, g, g, {"mode": "train"}), "x: expected images"),
            (lambda x, g: cs231n.layernorm_forward(x, g, g[:1], {}), "beta: expected 3 values"),
            (lambda x, g: cs231n.layernorm_forward(x, g, g, 1e-5), "ln_param: expected a dictionary"),
            (lambda x, g: cs231n.spatial_groupnorm_forward(x[..., None, None], g, g, 2, {}), "num_groups"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told(self, call, message):
        with pytest.raises(fc.ArgumentError, match=message):
            call(np.ones((4, 3)), np.ones(3))


class TestOthers:
    def test_affine_by_hand(self):
        x, w, b = np.arange(4.0).reshape(1, 2, 2), np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]]), np.array([10.0, 20])
        out, cache = cs231n.affine_forward(x, w, b)
        assert out.tolist() == [[44, 60]]
        assert all(a is b for a, b in zip(cache, (x, w, b), strict=True))
        with pytest.raises(
            fc.ArgumentError, match=r"w: expected \(4, M\) for examples of shape \(2, 2\), got shape \(2, 2\)"
        ):
            cs231n.affine_forward(x, w[:2], b)
        with pytest.raises(fc.ArgumentError, match=r"b: expected \(2,\), got shape \(1,\)"):
            cs231n.affine_forward(x, w, b[:1])

    def test_relu(self):
        x = np.array([-1.0, 0, 2])
        out, cache = cs231n.relu_forward(x)
        assert out.tolist() == [0, 0, 2]
        assert cache is x

    def test_dropout_draws_as_the_course_does(self):
        x = np.ones((50, 40), np.float32)
        out, (_, mask) = cs231n.dropout_forward(x, {"p": 0.25, "mode": "train", "seed": 7})
        expected = (np.random.RandomState(7).rand(50, 40) < 0.25) / 0.25
        assert np.array_equal(mask, expected)
        assert np.array_equal(out, expected.astype(np.float32))
        assert out.dtype == np.float32
        again, _ = cs231n.dropout_forward(x, {"p": 0.25, "mode": "train"})  # goes on in the same stream
        assert not np.array_equal(again, out)
        same, (_, mask) = cs231n.dropout_forward(x, {"p": 0.25, "mode": "test"})
        assert same is x
        assert mask is None
        for p in (0, 1.5, None, "half"):
            with pytest.raises(fc.ArgumentError, match=r"dropout_param\['p'\]: expected the probability of keeping"):
                cs231n.dropout_forward(x, {"p": p, "mode": "train"})

    def test_losses_and_their_gradients(self, rng):
        x, y = np.array([[1.0, 2, 4], [0, 3, 1]]), np.array([1, 1])
        loss, dx = cs231n.svm_loss(x, y)
        assert loss == pytest.approx((0 + 3 + 0 + 0) / 2)
        assert dx.tolist() == [[0, -0.5, 0.5], [0, 0, 0]]
        loss, dx = cs231n.softmax_loss(np.log([[1.0, 2, 5]]), np.array([2]))
        assert loss == pytest.approx(np.log(8 / 5))
        assert dx[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8 - 1])
        x, y = rng.standard_normal((3, 4)), np.array([0, 3, 1])
        for function in (cs231n.svm_loss, cs231n.softmax_loss):
            step = np.zeros_like(x)
            step[1, 2] = 1e-6
            slope = (function(x + step, y)[0] - function(x - step, y)[0]) / 2e-6
            assert function(x, y)[1][1, 2] == pytest.approx(slope, abs=1e-8)
        assert np.isfinite(cs231n.softmax_loss(1e4 * x, y)[0])
        with pytest.raises(IndexError, match="y: expected classes from 0 to 3, got 0 to 4"):
            cs231n.softmax_loss(x, np.array([0, 4, 1]))
        with pytest.raises(TypeError, match="y: expected integer classes"):
            cs231n.svm_loss(x, np.ones(3))

    def test_backward_functions_say_that_they_are_not_there(self):
        names = [name for name in cs231n.__all__ if "backward" in name]
        assert len(names) == 20
        assert {name.replace("_alt", "").replace("backward", "forward") for name in names} <= set(cs231n.__all__)
        for name in names:
            function = getattr(cs231n, name)
            assert function.__name__ == name
            with pytest.raises(NotImplementedError, match=f"^{name}: fastconv computes forward passes only"):
                function(None, None)

    def test_every_name_is_in_the_course_module(self):
        assert set(cs231n.__all__) >= {*fast_layers.__all__, *layers.__all__, *layer_utils.__all__}
        assert len(set(cs231n.__all__)) == len(cs231n.__all__)


class ThreeLayerConvNet:
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax, as the course's cnn.py writes it."""

    def __init__(
        self, input_dim=(3, 32, 32), num_filters=32, filter_size=7, hidden_dim=100, num_classes=10, dtype=np.float32
    ):
        rng, scale = np.random.default_rng(231), 1e-1
        channels, height, width = input_dim
        self.params = {
            "W1": scale * rng.standard_normal((num_filters, channels, filter_size, filter_size)),
            "b1": scale * rng.standard_normal(num_filters),
            "W2": scale * rng.standard_normal((num_filters * height * width // 4, hidden_dim)),
            "b2": scale * rng.standard_normal(hidden_dim),
            "W3": scale * rng.standard_normal((hidden_dim, num_classes)),
            "b3": scale * rng.standard_normal(num_classes),
        }  # fmt: skip
        for k, v in self.params.items():
            self.params[k] = v.astype(dtype)

    def loss(self, X, y=None):
        W1, b1 = self.params["W1"], self.params["b1"]
        W2, b2 = self.params["W2"], self.params["b2"]
        W3, b3 = self.params["W3"], self.params["b3"]
        filter_size = W1.shape[2]
        conv_param = {"stride": 1, "pad": (filter_size - 1) // 2}
        pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
        scores, _ = conv_relu_pool_forward(X, W1, b1, conv_param, pool_param)  # noqa: F405
        scores, _ = affine_relu_forward(scores, W2, b2)  # noqa: F405
        scores, _ = affine_forward(scores, W3, b3)  # noqa: F405
        if y is None:
            return scores
        return softmax_loss(scores, y)[0]  # noqa: F405


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_convnet_of_the_course(rng, dtype):
    model = ThreeLayerConvNet(input_dim=(3, 16, 16), num_filters=8, filter_size=3, hidden_dim=20, dtype=dtype)
    x, y = rng.standard_normal((5, 3, 16, 16)).astype(dtype), rng.integers(0, 10, 5)
    p = {name: value.astype(np.float64) for name, value in model.params.items()}
    maps = np.maximum(0, reference.conv(x.astype(np.float64), p["W1"], p["b1"], padding=1))
    pooled = maps.reshape(5, 8, 8, 2, 8, 2).max(axis=(3, 5))
    hidden = np.maximum(0, pooled.reshape(5, -1) @ p["W2"] + p["b2"])
    expected = hidden @ p["W3"] + p["b3"]
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert_within(model.loss(x), expected.astype(dtype), tolerance * abs(expected).max())
    shifted = expected - expected.max(axis=1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(5), y]).mean()
    assert model.loss(x, y) == pytest.approx(loss, rel=tolerance)


def test_conv_bn_relu(rng):
    x, w, b = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    gamma, beta = rng.standard_normal(4), rng.standard_normal(4)
    bn_param = {"mode": "train"}
    out, cache = cs231n.conv_bn_relu_forward(x, w, b, gamma, beta, {"stride": 1, "pad": 1}, bn_param)
    maps = reference.conv(x, w, b, padding=1)
    centred = maps - maps.mean(axis=(0, 2, 3), keepdims=True)
    normed = centred / np.sqrt(maps.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    expected = np.maximum(0, normed * gamma.reshape(1, 4, 1, 1) + beta.reshape(1, 4, 1, 1))
    assert_within(out, expected, 1e-12)
    assert len(cache) == 3
    assert bn_param["running_mean"].shape == (4,)
    out, _ = cs231n.conv_relu_forward(x, w, b, {"stride": 1, "pad": 1})
    assert_within(out, np.maximum(0, maps), 1e-12)
