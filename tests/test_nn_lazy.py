"""Layers that wait for their first input, and the state of modules around hooks, extras and marks."""

import copy

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F

ONES = np.ones((2, 4, 6, 5), np.float32)
LAZY = [
    (nn.LazyConv1d(6, 3, groups=2), (2, 4, 7), nn.Conv1d, (6, 2, 3)),
    (nn.LazyConv2d(6, 3), (2, 4, 7, 5), nn.Conv2d, (6, 4, 3, 3)),
    (nn.LazyConv2d(6, 3), (4, 7, 5), nn.Conv2d, (6, 4, 3, 3)),
    (nn.LazyConv3d(6, 1), (2, 4, 3, 2, 2), nn.Conv3d, (6, 4, 1, 1, 1)),
    (nn.LazyConvTranspose1d(6, 3), (2, 4, 7), nn.ConvTranspose1d, (4, 6, 3)),
    (nn.LazyConvTranspose2d(6, 3, groups=2), (2, 4, 7, 5), nn.ConvTranspose2d, (4, 3, 3, 3)),
    (nn.LazyConvTranspose3d(6, 1), (2, 4, 3, 2, 2), nn.ConvTranspose3d, (4, 6, 1, 1, 1)),
    (nn.LazyLinear(6), (2, 3, 4), nn.Linear, (6, 4)),
    (nn.LazyBatchNorm1d(), (2, 4), nn.BatchNorm1d, (4,)),
    (nn.LazyBatchNorm2d(), (2, 4, 3, 2), nn.BatchNorm2d, (4,)),
    (nn.LazyBatchNorm3d(), (2, 4, 3, 2, 2), nn.BatchNorm3d, (4,)),
    (nn.LazyInstanceNorm1d(), (4, 3), nn.InstanceNorm1d, (4,)),
    (nn.LazyInstanceNorm2d(), (2, 4, 3, 2), nn.InstanceNorm2d, (4,)),
    (nn.LazyInstanceNorm3d(), (4, 3, 2, 2), nn.InstanceNorm3d, (4,)),
]


@pytest.mark.parametrize(("layer", "sizes", "becomes", "weight"), LAZY, ids=[type(case[0]).__name__ for case in LAZY])
def test_the_first_input_gives_the_size(layer, sizes, becomes, weight):
    layer = copy.deepcopy(layer).eval()
    seen = []
    layer.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    assert repr(layer.weight) == "<UninitializedParameter>"
    y = layer(np.ones(sizes, np.float32))
    assert type(layer) is becomes
    assert seen == [becomes]
    assert not layer.training
    assert layer.weight.shape == weight
    assert layer.weight.any()
    assert y.shape == layer(np.ones(sizes, np.float32)).shape


def test_before_the_first_input_nothing_has_a_shape():
    layer = nn.LazyConv2d(8, 3, bias=False)
    assert repr(layer) == "LazyConv2d(0, 8, kernel_size=(3, 3), stride=(1, 1), bias=False)"
    assert repr(nn.LazyLinear(3)) == "LazyLinear(in_features=0, out_features=3, bias=True)"
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with pytest.raises(
        ArgumentError, match="UninitializedParameter: it has no shape before the lazy layer's first call"
    ):
        _ = layer.weight.shape
    with pytest.raises(ArgumentError, match=r"LazyConv2d finds no in_channels in shape \(4, 4\)"):
        layer(np.ones((4, 4), np.float32))
    with pytest.raises(ArgumentError, match=r"expected a multiple of groups \(2\) channels, got 3"):
        nn.LazyConv2d(8, 3, groups=2)(np.ones((1, 3, 4, 4), np.float32))


def test_a_lazy_model_is_cast_and_loaded():
    built = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).double()
    lazy = nn.Sequential(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    assert lazy.load_state_dict(built.state_dict()) == ([], [])
    assert repr(lazy) == repr(built)
    np.testing.assert_array_equal(lazy(ONES.astype(float)), built(ONES.astype(float)))
    assert lazy(ONES.astype(float)).dtype == np.float64
    with pytest.raises(ArgumentError, match=r"missing: weight, bias"):
        nn.LazyLinear(3).load_state_dict({})


@pytest.mark.parametrize(
    "name", ["LazyConv2d", "LazyConvTranspose2d", "LazyLinear", "LazyBatchNorm2d", "LazyInstanceNorm2d"]
)
def test_lazy_layers_look_like_those_of_torch(torch, name):
    arguments = {"LazyLinear": (5,), "LazyBatchNorm2d": (), "LazyInstanceNorm2d": ()}.get(name, (5, 3))
    theirs = getattr(torch.nn, name)(*arguments)
    ours = getattr(nn, name)(*arguments)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs(torch.from_numpy(ONES))
    ours(ONES)
    assert repr(ours) == repr(theirs)
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("broken")


def test_an_always_called_hook_sees_a_failure():
    layer, seen = Broken(), []
    layer.register_forward_hook(lambda module, args, output: seen.append("never"))
    layer.register_forward_hook(lambda module, args, output: seen.append((args, output)), always_call=True)
    with pytest.raises(ValueError, match="broken"):
        layer(3)
    assert seen == [((3,), None)]
    fine = nn.Identity()
    fine.register_forward_hook(lambda module, args, output: output + 1, always_call=True)
    fine.register_forward_hook(lambda module, args, output: output * 2)
    assert fine(3) == 8


def test_an_always_called_hook_runs_once_and_its_own_failure_is_a_warning():
    layer, seen = nn.Identity(), []

    def fail(module, args, output):
        raise KeyError("hook")

    layer.register_forward_hook(lambda module, args, output: seen.append(output), always_call=True)
    layer.register_forward_hook(fail)
    with pytest.raises(KeyError):
        layer(5)
    assert seen == [5]
    broken = Broken()
    broken.register_forward_hook(fail, always_call=True)
    with pytest.warns(UserWarning, match="always_call=True failed"), pytest.raises(ValueError, match="broken"):
        broken(1)


def test_what_needs_gradients_or_another_device_says_so():
    layer = nn.ReLU()
    for call in (
        layer.register_full_backward_hook,
        layer.register_full_backward_pre_hook,
        layer.register_backward_hook,
    ):
        with pytest.raises(ArgumentError, match="fastconv computes no gradients"):
            call(print)
    for call in (layer.cuda, layer.xpu, layer.ipu, layer.mtia):
        with pytest.raises(ArgumentError, match="on the CPU only"):
            call()
    with pytest.raises(ArgumentError, match=r"use fastconv\.compile\(module, example_input\)"):
        layer.compile()
    assert layer.to_empty(device="cpu") is layer
    assert nn.Linear(2, 2).type(np.float64).weight.dtype == np.float64


def test_a_buffer_is_marked():
    module = nn.Module()
    module.seen = nn.Buffer(np.zeros(2))
    module.scratch = nn.Buffer(np.zeros(3), persistent=False)
    assert [name for name, _ in module.named_buffers()] == ["seen", "scratch"]
    assert list(module.state_dict()) == ["seen"]
    module.seen = nn.Parameter(np.ones(2))
    assert [name for name, _ in module.named_parameters()] == ["seen"]


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(2))
        self.calls = 0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def test_extra_state():
    model = nn.Sequential(Counting())
    model[0].calls = 7
    state = model.state_dict()
    assert list(state) == ["0.scale", "0._extra_state"]
    other = nn.Sequential(Counting())
    assert other.load_state_dict(state) == ([], [])
    assert other[0].calls == 7
    del state["0._extra_state"]
    with pytest.raises(ArgumentError, match=r"missing: 0\._extra_state"):
        other.load_state_dict(state)
    with pytest.raises(NotImplementedError, match="ReLU does not define get_extra_state"):
        nn.ReLU().get_extra_state()


def test_hooks_around_a_state_dict():
    model = nn.Sequential(nn.Linear(2, 1))
    order = []
    model[0].register_state_dict_pre_hook(lambda module, prefix, keep_vars: order.append((prefix, keep_vars)))

    def rename(module, state, prefix, metadata):
        state[prefix + "kernel"] = state.pop(prefix + "weight")
        order.append(metadata)

    model[0].register_state_dict_post_hook(rename)
    state = model.state_dict()
    assert list(state) == ["0.bias", "0.kernel"]
    assert order == [("0.", False), {"version": 1}]

    def back(module, state, prefix, metadata, strict, missing, unexpected, errors):
        state[prefix + "weight"] = state.pop(prefix + "kernel")

    with model[0].register_load_state_dict_pre_hook(back):
        assert model.load_state_dict(state) == ([], [])
    assert list(state) == ["0.bias", "0.kernel"]
    with pytest.raises(ArgumentError, match=r"missing: 0\.weight\n  unexpected: 0\.kernel"):
        model.load_state_dict(state)
    model.register_load_state_dict_post_hook(lambda module, keys: (keys[0].clear(), keys[1].clear()))
    assert model.load_state_dict(state) == ([], [])


def test_a_class_may_rename_what_it_loads():
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *rest):
            if prefix + "kernel" in state_dict:
                state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")
            super()._load_from_state_dict(state_dict, prefix, *rest)

    model = nn.Sequential(Renamed(2, 1, bias=False))
    model.load_state_dict({"0.kernel": np.array([[3.0, 4.0]])})
    assert model[0].weight.tolist() == [[3, 4]]


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
