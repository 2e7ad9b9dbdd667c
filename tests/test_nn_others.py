"""Functions and layers beside convolution: in place, distances, embedding, attention, fractional pools."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F


def test_functions_in_place():
    for name, arguments, expected in (
        ("relu_", (), [0.0, 0.0, 2.0]),
        ("leaky_relu_", (0.5,), [-0.5, 0.0, 2.0]),
        ("hardtanh_", (), [-1.0, 0.0, 1.0]),
        ("threshold_", (1, 7), [7.0, 7.0, 2.0]),
        ("elu_", (0.0,), [0.0, 0.0, 2.0]),
        ("celu_", (), [np.expm1(-1), 0.0, 2.0]),
        ("selu_", (), F.selu(np.array([-1.0, 0.0, 2.0]))),
        ("rrelu_", (0.5, 0.5), [-0.5, 0.0, 2.0]),
    ):
        x = np.array([-1.0, 0.0, 2.0])
        assert getattr(F, name)(x, *arguments) is x
        np.testing.assert_allclose(x, expected, rtol=1e-15)
    with pytest.raises(TypeError, match="input: expected a NumPy array to change in place, got a read-only array"):
        F.relu_(np.broadcast_to(1.0, 3))


def test_similarity_and_distance_by_hand():
    a, b = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [0.0, 2.0]])
    np.testing.assert_allclose(nn.CosineSimilarity()(a, b), [24 / 25, 0])
    np.testing.assert_allclose(nn.PairwiseDistance(eps=0)(a, b), [np.sqrt(2), np.sqrt(5)])
    assert nn.PairwiseDistance(p=1, eps=0, keepdim=True)(a, b).tolist() == [[2.0], [3.0]]
    assert F.cosine_similarity(np.zeros(3), np.ones(3), dim=0) == 0
    with pytest.raises(
        ArgumentError, match=r"x2: expected a shape that broadcasts with that of x1, \(2, 2\), got \(3,\)"
    ):
        F.cosine_similarity(a, np.ones(3))


def test_embedding_by_hand():
    layer = nn.Embedding.from_pretrained(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 12.0]]), max_norm=6.5)
    assert layer(np.array([[0, 1]])).tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    np.testing.assert_allclose(layer(np.array(2)), [2.5, 6.0], rtol=1e-6)
    assert nn.Embedding(3, 2, padding_idx=-1).weight[2].tolist() == [0, 0]
    assert repr(nn.Embedding(3, 4, 1)) == "Embedding(3, 4, padding_idx=1)"
    with pytest.raises(IndexError, match=r"input: expected rows from 0 to 2 of weight \(3, 2\), got 3"):
        layer(np.array([3]))
    with pytest.raises(TypeError, match="input: expected int32 or int64, got elements of type float64"):
        layer(np.array([1.0]))


def test_attention_by_hand():
    q, k, v = np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.array([[[2.0], [4.0]]])
    assert F.scaled_dot_product_attention(q, k, v).tolist() == [[[3.0], [3.0]]]
    assert F.scaled_dot_product_attention(q, k, v, is_causal=True).tolist() == [[[2.0], [3.0]]]
    mask = np.array([[False, True], [False, False]])
    assert F.scaled_dot_product_attention(q, k, v, mask).tolist() == [[[4.0], [0.0]]]
    heads = F.scaled_dot_product_attention(
        np.zeros((4, 2, 3)), np.zeros((2, 2, 3)), np.ones((2, 2, 1)), enable_gqa=True
    )
    assert heads.shape == (4, 2, 1)
    with pytest.raises(ArgumentError, match=r"key, value: expected \(\.\.\., S, 3\)"):
        F.scaled_dot_product_attention(q, k[..., 1:], v)


def test_fractional_pooling_layers():
    samples = np.full((1, 1, 2), 0.5, np.float32)
    x = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    pool = nn.FractionalMaxPool2d(2, output_size=3, _random_samples=samples)
    np.testing.assert_array_equal(pool(x), F.fractional_max_pool2d(x, 2, 3, _random_samples=samples))
    assert repr(pool) == "FractionalMaxPool2d()"
    _, places = nn.FractionalMaxPool3d(1, output_ratio=0.5, return_indices=True)(np.ones((1, 1, 4, 4, 4)))
    assert places.shape == (1, 1, 2, 2, 2)
    with pytest.raises(ArgumentError, match="expected either an output_size or an output_ratio"):
        nn.FractionalMaxPool2d(2)
    with pytest.raises(ArgumentError, match="output_ratio: expected 1 or 2 numbers between 0 and 1, got"):
        nn.FractionalMaxPool2d(2, output_ratio=1.5)
