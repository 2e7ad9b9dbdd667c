"""The module protocol: registration, iteration, state, hooks, text, and what an error says."""

import copy
import pickle
import timeit
from collections import OrderedDict

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError


class Block(nn.Module):
    """A convolution, a scale and a counter: one of each kind of entry."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.register_buffer("count", np.zeros(1, np.int64))
        self.register_buffer("scratch", np.zeros(3, np.float32), persistent=False)

    def forward(self, x):
        return self.conv(x)


def net():
    return nn.Sequential(Block(), nn.ReLU(), nn.Linear(3, 4))


NAMES = ["0.scale", "0.conv.weight", "0.conv.bias", "2.weight", "2.bias"]


def test_iteration_names_every_entry_in_order():
    model = net()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [name for name, _ in model.named_parameters("m", recurse=True)] == [f"m.{name}" for name in NAMES]
    assert list(model.named_parameters(recurse=False)) == []
    assert [name for name, _ in model.named_buffers()] == ["0.count", "0.scratch"]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.conv", "1", "2"]
    assert len(list(model.parameters())) == 5
    assert len(list(model.modules())) == 5
    assert [type(child).__name__ for child in model.children()] == ["Block", "ReLU", "Linear"]
    assert all(type(array) is np.ndarray for array in (*model.parameters(), *model.buffers()))


def test_a_module_used_twice_is_listed_once():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert [name for name, _ in model.named_modules(remove_duplicate=False)] == ["", "0", "1"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_access_by_path():
    model = net()
    assert model.get_submodule("0.conv") is model[0].conv
    assert model.get_submodule("") is model
    assert model.get_parameter("0.conv.weight") is model[0].conv.weight
    assert model.get_buffer("0.count") is model[0].count
    model.set_submodule("0.conv", nn.Identity())
    assert isinstance(model[0].conv, nn.Identity)
    with pytest.raises(AttributeError, match=r"'0\.deep\.conv': 0 has no module 'deep'"):
        model.get_submodule("0.deep.conv")
    with pytest.raises(AttributeError, match="has no parameter"):
        model.get_parameter("0.count")
    with pytest.raises(AttributeError, match="has no module 'new'"):
        model.set_submodule("0.new", nn.Identity(), strict=True)
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'fc'"):
        _ = model.fc


def test_assignment():
    layer = nn.Linear(2, 2)
    weight = np.ones((2, 2), np.float32)
    layer.weight = weight
    assert layer.weight is weight
    layer.bias = None
    assert layer.bias is None
    assert list(layer.state_dict()) == ["weight"]
    with pytest.raises(TypeError, match="weight: expected an array, got str"):
        layer.weight = "ones"
    with pytest.raises(TypeError, match="expected a Module or None"):
        net().__setattr__("0", np.ones(3))
    layer.plain = np.ones(3)
    assert "plain" not in layer.state_dict()
    layer.plain = nn.Parameter(np.ones(3))
    assert list(layer.state_dict()) == ["weight", "plain"]
    layer.plain = nn.ReLU()
    assert list(layer.state_dict()) == ["weight"]
    del layer.plain
    assert not hasattr(layer, "plain")


def test_a_parameter_shares_its_memory():
    array = np.zeros(3)
    module = nn.Module()
    module.first = nn.Parameter(array)
    module.second = nn.Parameter(array)
    assert module.first is array
    assert len(list(module.parameters())) == 1


def test_assigning_before_init_says_so():
    class Hasty(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"before super\(\).__init__\(\) of Hasty"):
        Hasty()


@pytest.mark.parametrize("register", ["add_module", "register_parameter", "register_buffer"])
def test_names(register):
    module = Block()
    for name in ("a.b", ""):
        with pytest.raises(KeyError, match=r"without '\."):
            getattr(module, register)(name, None)
    with pytest.raises(KeyError, match="already has an attribute 'forward'"):
        getattr(module, register)("forward", None)
    with pytest.raises(TypeError, match="expected a string, got 3"):
        getattr(module, register)(3, None)


def test_modes_reach_every_module():
    model = net()
    assert model.training
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_apply_visits_children_first():
    visited = []
    net().apply(lambda module: visited.append(type(module).__name__))
    assert visited == ["Conv2d", "Block", "ReLU", "Linear", "Sequential"]


def test_casts_change_floating_point_entries_only():
    model = nn.Sequential(Block(), nn.BatchNorm2d(2))
    assert model.double() is model
    assert {array.dtype for array in model.parameters()} == {np.dtype(np.float64)}
    assert model[0].count.dtype == np.int64
    assert model.half()[1].running_mean.dtype == np.float16
    assert model[1].num_batches_tracked.dtype == np.int64
    assert model.float()[0].scale.dtype == np.float32
    for argument in (np.float64, "float64", np.dtype("float64"), np.zeros(1)):
        assert model.float().to(argument)[0].scale.dtype == np.float64
    assert model.to("cpu", np.float32)[0].scale.dtype == np.float32
    assert model.to(device="cpu", dtype="float64")[0].scale.dtype == np.float64
    assert model.cpu() is model
    for move in (lambda: model.to("cuda"), lambda: model.to("cuda:0"), lambda: model.to(0), model.cuda):
        with pytest.raises(ArgumentError, match="on the CPU only"):
            move()
    with pytest.raises(ArgumentTypeError, match="floating point or complex, got int64"):
        model.to(np.int64)
    with pytest.raises(ArgumentError, match="no bfloat16"):
        model.bfloat16()


def test_casts_keep_tied_arrays_tied():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model.double()
    assert model[1].weight is model[0].weight
    assert len(list(model.parameters())) == 3


def test_gradient_methods_do_nothing():
    model = net()
    assert model.requires_grad_(False) is model
    model.zero_grad()


def test_state_dict_holds_the_arrays_themselves():
    model = net()
    state = model.state_dict()
    assert list(state) == ["0.scale", "0.count", "0.conv.weight", "0.conv.bias", "2.weight", "2.bias"]
    assert state["0.conv.weight"] is model[0].conv.weight
    assert state._metadata["0.conv"] == {"version": 1}
    assert nn.Sequential(nn.BatchNorm2d(2)).state_dict()._metadata["0"] == {"version": 2}
    assert next(iter(model.state_dict(prefix="model."))) == "model.0.scale"


def test_load_state_dict_copies_into_the_existing_arrays():
    source, target = net(), net()
    arrays = dict(target.named_parameters())
    result = target.load_state_dict({name: array.astype(np.float64) for name, array in source.state_dict().items()})
    assert str(result) == "<All keys matched successfully>"
    assert result == ([], [])
    for name, array in target.named_parameters():
        assert array is arrays[name]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, source.get_parameter(name))


def test_load_state_dict_can_assign():
    target = nn.Linear(2, 2)
    weight = np.ones((2, 2))
    target.load_state_dict({"weight": weight, "bias": np.zeros(2)}, assign=True)
    assert target.weight is weight


def test_load_state_dict_replaces_what_cannot_be_written():
    layer = nn.Linear(2, 2, bias=False)
    frozen = np.zeros((2, 2), np.float32)
    frozen.flags.writeable = False
    layer.weight = frozen
    layer.load_state_dict({"weight": np.ones((2, 2))})
    assert layer.weight.dtype == np.float32
    assert layer.weight.min() == 1
    assert frozen.max() == 0


def test_a_state_dict_that_does_not_fit_names_every_entry_and_loads_nothing():
    model = net()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = OrderedDict(model.state_dict())
    del state["2.bias"]
    state |= {
        "0.scale": np.zeros(2),
        "0.conv.weight": np.zeros((2, 2, 3, 3)),
        "0.count": {},
        "2.weight": np.zeros((4, 3), complex),
        "extra": np.zeros(1),
    }
    with pytest.raises(ArgumentError) as raised:
        model.load_state_dict(state)
    assert str(raised.value).split("\n") == [
        "state_dict: does not fit Sequential; nothing was loaded",
        "  missing: 2.bias",
        "  unexpected: extra",
        "  0.count: expected an array, got dict",
        "  0.conv.weight: expected shape (2, 2, 1, 1), got (2, 2, 3, 3)",
        "  2.weight: expected real numbers, got complex128",
    ]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_state_dict_without_strict_returns_what_is_missing():
    model = net()
    state = {**model.state_dict(), "extra": np.zeros(1)}
    del state["2.bias"]
    assert model.load_state_dict(state, strict=False) == (["2.bias"], ["extra"])
    with pytest.raises(ArgumentError, match=r"2\.weight: expected shape \(4, 3\), got \(1,\)"):
        model.load_state_dict({"2.weight": np.zeros(1)}, strict=False)
    with pytest.raises(ArgumentTypeError, match="expected a mapping of names to arrays, got list"):
        model.load_state_dict([])


def test_the_prefix_of_data_parallel_is_recognised():
    model = nn.Linear(1, 1)
    state = {f"module.{name}": array for name, array in model.state_dict().items()}
    with pytest.raises(ArgumentError, match="DataParallel adds: remove it"):
        model.load_state_dict(state)


def test_num_batches_tracked_may_be_missing_from_old_state_dicts_only():
    layer = nn.BatchNorm2d(2)
    state = layer.state_dict()
    del state["num_batches_tracked"]
    with pytest.raises(ArgumentError, match="missing: num_batches_tracked"):
        layer.load_state_dict(state)
    assert layer.load_state_dict(dict(state)) == ([], [])


def test_torch_tensors_load_and_parameters_too(torch):
    twin = torch.nn.Linear(3, 2)
    layer = nn.Linear(3, 2)
    layer.load_state_dict(dict(twin.named_parameters()))
    np.testing.assert_array_equal(layer.weight, twin.weight.detach().numpy())
    with pytest.raises(ArgumentError, match=r"weight: Tensor cannot be read as a NumPy array: .*BFloat16"):
        layer.load_state_dict(twin.bfloat16().state_dict())


def test_forward_hooks_see_and_replace():
    layer = nn.Identity()
    seen = []
    first = layer.register_forward_pre_hook(lambda module, args: seen.append(("before", module, args)))
    layer.register_forward_pre_hook(lambda module, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True)
    layer.register_forward_pre_hook(lambda module, args: args[0] * 2)
    layer.register_forward_hook(lambda module, args, output: seen.append(("after", args, output)))
    assert layer(3) == 8
    assert seen == [("before", layer, (3,)), ("after", (8,), 8)]
    first.remove()
    first.remove()
    with layer.register_forward_hook(lambda module, args, output: -output, prepend=True):
        assert layer(3) == -8
    with layer.register_forward_hook(lambda module, args, kwargs, output: (args, kwargs), with_kwargs=True):
        assert layer(3) == ((8,), {})
    assert layer(3) == 8
    assert [entry[0] for entry in seen] == ["before", "after", "after", "after", "after"]
    with pytest.raises(TypeError, match="hook: expected a function, got int"):
        layer.register_forward_hook(3)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module does not define forward\(\)"):
        nn.Module()(1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_independent(duplicate):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    twin = duplicate(model)
    assert repr(twin) == repr(model)
    for name, array in twin.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])
        assert array is not model.state_dict()[name]
    twin[0].weight[...] = 0
    assert model[0].weight.any()


def test_repr():
    assert repr(nn.Sequential(OrderedDict(block=Block(), act=nn.ReLU(inplace=True)))) == (
        "Sequential(\n"
        "  (block): Block(\n"
        "    (conv): Conv2d(2, 2, kernel_size=(1, 1), stride=(1, 1))\n"
        "  )\n"
        "  (act): ReLU(inplace=True)\n"
        ")"
    )
    assert "0" not in dir(net())
    assert "scale" in dir(Block())


@pytest.mark.parametrize(
    "touch",
    [
        lambda layer: layer.weight,
        lambda layer: list(layer.parameters()),
        lambda layer: list(layer.named_parameters()),
        lambda layer: layer.state_dict(),
        lambda layer: layer.get_parameter("bias"),
        lambda layer: layer.load_state_dict(nn.Conv2d(1, 2, 3).state_dict()),
        lambda layer: layer.double(),
        lambda layer: layer.to(np.float64),
        lambda layer: setattr(layer, "weight", np.zeros((2, 1, 3, 3), np.float32)),
        lambda layer: layer.register_parameter("bias", None),
        lambda layer: list(nn.Sequential(layer).parameters()),
        lambda layer: nn.Sequential(layer).state_dict(),
    ],
)
def test_a_module_knows_when_its_arrays_have_been_handed_out(touch):
    layer = nn.Conv2d(1, 2, 3)
    layer(np.zeros((1, 1, 4, 4), np.float32))
    repr(layer)
    layer.eval()
    nn.summary(layer, (1, 1, 4, 4))
    assert not layer._handed_out
    touch(layer)
    assert layer._handed_out


def test_tied_arrays_are_handed_out_with_both_their_modules():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1]._parameters["weight"] = model[0]._parameters["weight"]
    list(model.parameters())
    assert model[0]._handed_out
    assert model[1]._handed_out


def test_calling_costs_little_more_than_forward():
    layer, x = nn.Identity(), np.zeros(1)

    def nanoseconds(call):
        return min(timeit.repeat(lambda: call(x), number=2000, repeat=50)) / 2000 * 1e9

    assert nanoseconds(layer) - nanoseconds(layer.forward) < 1000  # 130 on an idle machine
