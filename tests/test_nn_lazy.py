"""Layers that take the size of their input from the first one."""

import copy

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError

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


def test_a_summary_gives_lazy_layers_their_sizes():
    summary = nn.summary(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)), (1, 3, 8, 8))
    assert [row.type for row in summary.rows] == ["Conv2d", "Flatten", "Linear"]
    assert summary.parameters == 4 * 3 * 9 + 4 + 144 * 2 + 2


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
