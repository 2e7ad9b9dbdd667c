"""Attention by several heads and the transformer's encoder, by hand."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError


def identity_attention(size, heads, **how):
    """One whose projections pass everything on."""
    layer = nn.MultiheadAttention(size, heads, **how).double().eval()
    layer.in_proj_weight = np.concatenate([np.eye(size)] * 3)
    layer.out_proj.weight = np.eye(size)
    return layer


def test_one_head_by_hand():
    layer = identity_attention(1, 1)
    x = np.array([[[0.0]], [[np.log(3)]]])  # two positions of one sample
    y, weights = layer(x, x, x)
    second = 3 ** np.log(3) / (1 + 3 ** np.log(3))
    np.testing.assert_allclose(weights, [[[0.5, 0.5], [1 - second, second]]], rtol=1e-14)
    np.testing.assert_allclose(y[:, 0, 0], [np.log(3) / 2, np.log(3) * second], rtol=1e-14)
    assert layer(x, x, x, need_weights=False)[1] is None
    hidden, weights = layer(x, x, x, key_padding_mask=np.array([[False, True]]))
    assert hidden.tolist() == [[[0.0]], [[0.0]]]
    assert weights.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]


def test_heads_look_at_their_own_features():
    layer = identity_attention(2, 2, batch_first=True)
    q, k = np.array([[[1.0, 0.0]]]), np.array([[[np.log(2), 5.0], [0.0, 7.0]]])
    y, weights = layer(q, k, k, average_attn_weights=False)
    np.testing.assert_allclose(weights, [[[[2 / 3, 1 / 3]], [[0.5, 0.5]]]], rtol=1e-14)
    np.testing.assert_allclose(y, [[[2 / 3 * np.log(2), 6.0]]], rtol=1e-14)
    np.testing.assert_allclose(layer(q, k, k)[1], [[[7 / 12, 5 / 12]]], rtol=1e-14)


def test_a_query_that_sees_no_key():
    layer = identity_attention(2, 1)
    x, nobody = np.ones((2, 1, 2)), np.ones((2, 2), bool)
    y, weights = layer(x, x, x, attn_mask=nobody)
    assert np.isnan(y).all()
    assert np.isnan(weights).all()
    assert layer(x, x, x, attn_mask=nobody, need_weights=False)[0].tolist() == np.zeros((2, 1, 2)).tolist()


def test_names_shapes_and_text():
    layer = nn.MultiheadAttention(4, 2)
    assert {name: array.shape for name, array in layer.state_dict().items()} == {
        "in_proj_weight": (12, 4),
        "in_proj_bias": (12,),
        "out_proj.weight": (4, 4),
        "out_proj.bias": (4,),
    }
    other = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True, bias=False)
    assert {name: array.shape for name, array in other.state_dict().items()} == {
        "q_proj_weight": (4, 4),
        "k_proj_weight": (4, 3),
        "v_proj_weight": (4, 5),
        "bias_k": (1, 1, 4),
        "bias_v": (1, 1, 4),
        "out_proj.weight": (4, 4),
    }
    assert repr(layer) == (
        "MultiheadAttention(\n"
        "  (out_proj): NonDynamicallyQuantizableLinear(in_features=4, out_features=4, bias=True)\n"
        ")"
    )
    assert np.abs(layer.in_proj_weight).max() <= np.sqrt(6 / (4 + 12))
    assert not layer.in_proj_bias.any()
    assert not layer.out_proj.bias.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, x: nn.MultiheadAttention(5, 2), "num_heads: 2 heads do not divide embed_dim 5"),
        (lambda a, x: a(x[..., :3], x, x), r"query: expected 4 features on the last axis, .* got \(3, 2, 3\)"),
        (lambda a, x: a(x, x[:, :1], x[:, :1]), r"key, value: .* the batch of the query 2, .* batch_first=True"),
        (lambda a, x: a(x, x[0], x[0]), r"query, key, value: expected \(L, N, E\), .* got \(3, 2, 4\), \(2, 4\)"),
        (lambda a, x: a(x, x, x, is_causal=True), "is_causal: .* pass the mask as well"),
        (
            lambda a, x: a(x, x, x, attn_mask=np.ones((3, 2), bool)),
            r"attn_mask: expected shape \(3, 3\) or \(4, 3, 3\)",
        ),
        (lambda a, x: a(x, x, x, np.ones((3, 2), bool)), r"key_padding_mask: expected shape \(2, 3\), got \(3, 2\)"),
        (lambda a, x: nn.TransformerEncoderLayer(4, 2, activation="swish"), "activation: expected 'relu', 'gelu'"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(nn.MultiheadAttention(4, 2), np.zeros((3, 2, 4), np.float32))


def test_a_mask_of_integers_is_refused():
    x = np.zeros((3, 2, 4), np.float32)
    with pytest.raises(TypeError, match="attn_mask: expected bool or floating point, got elements of type int64"):
        nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=np.zeros((3, 3), np.int64))


def test_dropout_drops_weights_in_training_alone():
    layer = identity_attention(2, 1, dropout=1.0)
    x = np.ones((2, 1, 2))
    assert layer(x, x, x)[0].tolist() == x.tolist()
    y, weights = layer.train()(x, x, x)
    assert not y.any()
    assert not weights.any()
