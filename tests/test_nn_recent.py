"""Layers and sessions remember the plan of their last call, and never run it on a call of another form."""

import copy
import pickle

import numpy as np
import pytest
from fastconv._kernels.recent import Recent, RecentRun

import fastconv as fc
from fastconv import nn
from fastconv._kernels import team
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.ops.table import forget_plans

LAYERS = {
    "conv": lambda: nn.Conv2d(3, 4, 3),
    "reflecting conv": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "max": lambda: nn.MaxPool2d(2),
    "max with indices": lambda: nn.MaxPool2d(2, return_indices=True),
    "average": lambda: nn.AvgPool2d(2),
    "linear": lambda: nn.Linear(8, 5),
}


def forms(layer, rng):
    """Inputs of one layer that differ in a single thing each."""
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    x = x[0, 0] if isinstance(layer, nn.Linear) else x
    yield x
    yield x[..., :6, :]
    yield np.asfortranarray(x)
    yield x[::-1]
    yield np.repeat(x, 2, axis=0)[::2]
    if x.ndim == 4:
        yield x[0]
        yield x[..., ::2]
        yield np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2)
    yield x.astype(">f4")
    yield np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)


@pytest.mark.parametrize("name", LAYERS)
def test_every_form_of_input_gives_what_a_new_layer_gives(name, rng):
    layer = LAYERS[name]()
    inputs = list(forms(layer, rng))
    for first in inputs:
        for x in (first, *inputs):
            found, expected = layer(x), copy.deepcopy(layer)(x)
            results = [y if isinstance(y, tuple) else (y,) for y in (found, expected)]
            for a, b in zip(*results, strict=True):
                assert a.dtype == b.dtype
                assert a.strides == b.strides
                np.testing.assert_array_equal(a, b)


def test_a_changed_attribute_holds_from_the_next_call_on(rng):
    x = rng.standard_normal((1, 3, 9, 9)).astype(np.float32)
    conv, pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d([2, 2])
    assert conv(x).shape == (1, 4, 7, 7)
    conv.stride = (2, 2)
    assert conv(x).shape == (1, 4, 4, 4)
    assert pool(x).shape == (1, 3, 4, 4)
    pool.kernel_size[0] = 3
    assert pool(x).shape == (1, 3, 3, 4)  # the stride is the same list
    pool.ceil_mode = True
    pool.kernel_size = pool.stride = 2
    assert pool(x).shape == (1, 3, 5, 5)


def test_a_weight_of_another_type_or_shape_is_noticed(rng):
    x = rng.standard_normal((1, 8)).astype(np.float32)
    layer = nn.Linear(8, 5)
    layer(x)
    layer.weight = rng.standard_normal((7, 8)).astype(np.float32)
    with pytest.raises(ArgumentError, match="bias: expected shape"):
        layer(x)
    layer.bias = None
    assert layer(x).shape == (1, 7)
    layer.weight = layer.weight.astype(np.float64)
    with pytest.raises(ArgumentTypeError, match="expected one element type"):
        layer(x)


def test_the_input_is_checked_after_a_call_that_was_right(rng):
    x = rng.standard_normal((2, 8)).astype(np.float32)
    layer = nn.Linear(8, 5)
    layer(x)
    with pytest.raises(ArgumentError, match="expected 8 features"):
        layer(x[:, :7])
    with pytest.raises(ArgumentTypeError, match="expected an array"):
        layer(x.tolist())


def test_copies_and_pickles_start_without_a_plan(rng):
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    layer = nn.Conv2d(3, 4, 3)
    y = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x), y)


def test_recent_finds_the_same_form_only():
    x, facts = np.zeros((2, 3)), (1, (2, 2))
    recent = Recent("plan", (x, None, x), facts)
    assert recent.find(np.ones((2, 3)), None, x, facts) == "plan"
    assert recent.find(x, None, None, facts) is None
    assert recent.find(x, x, x, facts) is None
    assert recent.find(x.T, None, x, facts) is None
    assert recent.find(x.astype(np.int64), None, x, facts) is None
    assert recent.find(x, None, x, facts[:1]) is None
    assert recent.find(x, None, x, (2, facts[1])) is None
    assert recent.find([1], None, x, facts) is None
    assert Recent().find(None, None, None, ()) is None
    assert Recent("plan", (x,), ([1],)).find(x, None, None, ([1],)) is None
    assert Recent("plan", (np.zeros((1,) * 6),)).find(np.zeros((1,) * 6), None, None, ()) is None


def test_recent_forgets_with_the_plans_and_heeds_the_threads():
    x = np.zeros(3)
    recent = Recent("plan", (x,))
    before = team.limit_threads(2 if team.get_threads() == 1 else 1)
    try:
        assert recent.find(x, None, None, ()) is None
    finally:
        team.limit_threads(before)
    assert recent.find(x, None, None, ()) == "plan"
    forget_plans()
    assert recent.find(x, None, None, ()) is None


def test_a_result_that_is_read_only_is_refused(rng):
    layer = nn.AvgPool2d(2)
    x = rng.standard_normal((1, 1, 4, 4)).astype(np.float32)
    x.flags.writeable = False
    assert layer(x).shape == layer(x).shape == (1, 1, 2, 2)
    plan = fc.ops.pool.average_pool_plan(x, 2, 2, None, 0, False, True, None, "auto")
    y = np.empty((1, 1, 2, 2), np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        plan.step(y, x)


class _Context:
    def __init__(self, *segments):
        self.segments = segments


def test_recent_run_runs_feeds_of_the_same_form_only():
    def double(arrays):
        np.multiply(arrays["x"], 2, out=arrays["y"])

    x = np.arange(6.0).reshape(2, 3)
    context = _Context(double)
    contexts = [context]
    recent = RecentRun({"x": x}, (("y", (2, 3), x.dtype),), contexts)
    feeds = {"x": x + 1}
    (y,) = recent.run(feeds)
    np.testing.assert_array_equal(y, 2 * x + 2)
    assert feeds.keys() == {"x"}
    assert contexts == [context]
    for other in (x.T, x[:1], x.astype(np.float32), x.tolist(), None):
        assert recent.run({"x": other}) is None
    for other in ({}, {"z": x}, {"x": x, "z": x}, [x], None):
        assert recent.run(other) is None
    contexts.clear()
    assert recent.run(feeds) is None
    assert RecentRun().run({}) is None
    assert RecentRun({"x": np.zeros((1,) * 6)}, (), [_Context()]).run({"x": np.zeros((1,) * 6)}) is None


def test_recent_run_sets_the_threads_of_its_calls_and_drops_a_context_that_fails():
    seen = []

    def fail(arrays):
        seen.append(team.get_threads())
        raise KeyboardInterrupt

    x, before = np.zeros(3), team.get_threads()
    contexts = [_Context(fail)]
    recent = RecentRun({"x": x}, (), contexts, before + 1)
    with pytest.raises(KeyboardInterrupt):
        recent.run({"x": x})
    assert seen == [before + 1]
    assert team.get_threads() == before
    assert not contexts
    contexts.append(_Context())
    with fc.threads(before + 1):
        assert RecentRun({"x": x}, (), contexts).run({"x": x}) == []
    assert RecentRun({"x": x}, (), contexts, 0).run({"x": x}) == []
    recent = RecentRun({"x": x}, (), contexts)
    with fc.threads(before + 1):
        assert recent.run({"x": x}) is None
