"""Attention by several heads and the transformer's encoder against torch's."""

import itertools
import warnings

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import functional as F

EPS = np.finfo(np.float32).eps


def twins(torch, name, *args, **how):
    """fastconv's module and torch's with the same random state, both in evaluation mode."""
    theirs = getattr(torch.nn, name)(*args, **how).eval()
    with torch.no_grad():
        for array in theirs.parameters():  # biases are zero at first
            array.copy_(torch.randn_like(array) * 0.3)
    ours = getattr(nn, name)(*args, **how).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def masks(rng, length, keys, batch, heads):
    yield None, None
    yield np.triu(np.ones((length, keys), bool), 1), None
    padding = np.zeros((batch, keys), bool)
    padding[0, -1] = True
    yield None, padding
    yield rng.standard_normal((batch * heads, length, keys)).astype(np.float32), padding


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "how", [{}, {"bias": False}, {"kdim": 3, "vdim": 5}, {"add_bias_kv": True}, {"add_zero_attn": True}]
)
def test_attention_is_torchs(torch, rng, how, batch_first):
    length, keys, batch, heads, size = 4, 5, 3, 2, 6
    ours, theirs = twins(torch, "MultiheadAttention", size, heads, batch_first=batch_first, **how)
    assert repr(ours) == repr(theirs)

    def sequence(length, features):
        shape = (batch, length, features) if batch_first else (length, batch, features)
        return rng.standard_normal(shape).astype(np.float32)

    arrays = sequence(length, size), sequence(keys, how.get("kdim", size)), sequence(keys, how.get("vdim", size))
    tensors = [torch.from_numpy(array) for array in arrays]
    for (mask, padding), wanted, averaged in itertools.product(
        masks(rng, length, keys, batch, heads), (True, False), (True, False)
    ):
        options = {"need_weights": wanted, "average_attn_weights": averaged}
        actual = ours(*arrays, key_padding_mask=padding, attn_mask=mask, **options)
        given = {"key_padding_mask": padding, "attn_mask": mask}
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of masks of two types
            given = {name: None if m is None else torch.from_numpy(m) for name, m in given.items()}
            expected = theirs(*tensors, **given, **options)
        for one, other in zip(actual, expected, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert one.shape == other.shape
                np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=64 * EPS * float(other.abs().max()))


def test_attention_without_a_batch_is_torchs(torch, rng):
    ours, theirs = twins(torch, "MultiheadAttention", 6, 3, batch_first=True)
    x = rng.standard_normal((4, 6)).astype(np.float32)
    hidden = np.array([False, False, True, False])
    with torch.no_grad():
        expected = theirs(*[torch.from_numpy(x)] * 3, key_padding_mask=torch.from_numpy(hidden))
    for one, other in zip(ours(x, x, x, key_padding_mask=hidden), expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=64 * EPS * float(other.abs().max()))


@pytest.mark.parametrize(
    "how", [{}, {"norm_first": True}, {"activation": "gelu"}, {"batch_first": True}, {"bias": False}]
)
def test_the_encoder_is_torchs(torch, rng, how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nested tensors cannot be used
        ours, theirs = (
            package.TransformerEncoder(package.TransformerEncoderLayer(6, 2, 8, **how), 2, package.LayerNorm(6)).eval()
            for package in (nn, torch.nn)
        )
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.load_state_dict(theirs.state_dict())
        own = repr(ours)
        assert own == repr(theirs)
        x = rng.standard_normal((3, 4, 6)).astype(np.float32)
        length = 4 if how.get("batch_first") else 3
        causal = np.triu(np.ones((length, length), bool), 1)
        for mask in (None, causal):
            with torch.no_grad():
                expected = theirs(torch.from_numpy(x), None if mask is None else torch.from_numpy(mask)).numpy()
            np.testing.assert_allclose(ours(x, mask), expected, rtol=0, atol=128 * EPS * np.abs(expected).max())
    assert [layer is not ours.layers[0] for layer in ours.layers] == [False, True]


def test_the_function_takes_static_keys(torch, rng):
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    q, key, value = normal(3, 2, 4), normal(4, 5, 2), normal(4, 5, 2)
    parameters = normal(12, 4), normal(12), None, None, False, 0.0, normal(4, 4), normal(4)
    arguments = (q, q, q, 4, 2, *parameters, False)
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    expected = torch.nn.functional.multi_head_attention_forward(
        *tensors, static_k=torch.from_numpy(key), static_v=torch.from_numpy(value)
    )
    for one, other in zip(
        F.multi_head_attention_forward(*arguments, static_k=key, static_v=value), expected, strict=True
    ):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=64 * EPS * float(other.abs().max()))
