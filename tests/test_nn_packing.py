"""A layer never computes with stale weights, however they were changed."""

import copy
import pickle

import numpy as np
import pytest

from fastconv import nn


@pytest.fixture(params=["conv", "conv_transpose", "linear"])
def layer(request):
    return {
        "conv": lambda: nn.Conv2d(3, 8, 3, padding=1),
        "conv_transpose": lambda: nn.ConvTranspose2d(3, 8, 3),
        "linear": lambda: nn.Linear(12, 8),
    }[request.param]()


@pytest.fixture
def x(layer):
    # 64 rows: a linear layer on few reads its weights where they lie
    return np.ones((64, 12) if isinstance(layer, nn.Linear) else (2, 3, 12, 12), np.float32)


def set_item(layer):
    layer.weight[...] = 0


def through_a_view(layer):
    layer.weight.reshape(-1)[:] = 0


def in_place_operator(layer):
    weight = layer.weight
    weight *= 0


def copyto(layer):
    np.copyto(layer.weight, 0)


def through_memory(layer):
    memoryview(layer.weight).cast("B")[:] = bytes(layer.weight.nbytes)


def reassigned(layer):
    layer.weight = np.zeros_like(layer.weight)


def loaded(layer):
    layer.load_state_dict({name: np.zeros_like(array) for name, array in layer.state_dict().items()})


def through_parameters(layer):
    for parameter in layer.parameters():
        parameter.fill(0)


def initialised(layer):
    nn.init.zeros_(layer.weight)


CHANGES = [
    set_item, through_a_view, in_place_operator, copyto, through_memory, reassigned, loaded, through_parameters, initialised
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_next_call_uses_the_new_weights(layer, x, change):
    before = layer(x)
    assert layer(x).tobytes() == before.tobytes()
    change(layer)
    after = layer(x)
    bias = layer.bias if isinstance(layer, nn.Linear) else layer.bias[:, None, None]
    np.testing.assert_array_equal(after, np.broadcast_to(bias, after.shape))


def test_a_view_that_was_taken_early_is_watched(layer, x):
    view = layer.weight[0]
    for value in range(3):
        layer(x)
        view[...] = value
        layer(x)
        rest = np.array(layer.weight)
        other = copy.deepcopy(layer)
        other.weight = rest
        assert layer(x).tobytes() == other(x).tobytes()


def test_an_array_of_the_caller_is_watched(layer, x):
    mine = np.array(layer.weight)
    layer.weight = mine
    layer(x)
    mine[...] = 0
    after = layer(x)
    assert (
        after.tobytes()
        == np.broadcast_to(after[:1, :, :1, :1] if after.ndim == 4 else after[:1], after.shape).tobytes()
    )


def test_weights_nobody_holds_are_not_checked_again(layer, x):
    layer.weight[...] = 1
    layer(x)
    assert not layer._handed_out
    held = layer.weight
    layer(x)
    assert layer._handed_out
    del held
    layer(x)
    assert not layer._handed_out


def test_reset_parameters_is_seen(layer, x):
    before = layer(x)
    layer.reset_parameters()
    assert layer(x).tobytes() != before.tobytes()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_their_own(layer, x, clone):
    before = layer(x)
    other = clone(layer)
    assert other(x).tobytes() == before.tobytes()
    other.weight[...] = 0
    assert layer(x).tobytes() == before.tobytes()
    assert other(x).tobytes() != before.tobytes()


def test_shapes_take_turns(layer, rng):
    shapes = (
        [(1, 12), (16, 12), (3, 12)] if isinstance(layer, nn.Linear) else [(1, 3, 9, 9), (2, 3, 30, 30), (1, 3, 4, 5)]
    )
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    first = [layer(x) for x in inputs]
    layer.weight *= 2
    layer.bias *= 2
    for x, y in zip(inputs * 2, first * 2, strict=True):
        np.testing.assert_allclose(layer(x), 2 * y, rtol=1e-5, atol=1e-5)
