"""The module protocol around hooks, extra state, marks of buffers, and what is put together while loading."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError


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


@pytest.mark.parametrize(
    "names", [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")]
)
def test_a_normed_weight_is_put_together(names):
    layer = nn.Sequential(nn.Linear(2, 2, bias=False))
    g, v = np.array([[10.0], [1.0]]), np.array([[3.0, 4.0], [0.0, 2.0]])
    layer.load_state_dict({f"0.{names[0]}": g, f"0.{names[1]}": v})
    assert layer[0].weight.tolist() == [[6, 8], [0, 1]]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_normed_weight_of_torch(torch, rng):
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float32)
    for norm in (torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm):
        for theirs in (torch.nn.Conv2d(3, 4, 3), torch.nn.ConvTranspose2d(3, 4, 3)):
            normed = norm(theirs)
            ours = getattr(nn, type(theirs).__name__.removeprefix("Parametrized"))(3, 4, 3)
            ours.load_state_dict(normed.state_dict())
            expected = normed(torch.from_numpy(x)).detach().numpy()
            np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)
