"""Containers behave as torch's and as the list or dictionary that they stand for."""

from collections import OrderedDict

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentTypeError


def layers(*sizes):
    return [nn.Linear(size, 1) for size in sizes]


def sizes(container):
    return [layer.in_features for layer in container]


def test_sequential_calls_its_modules_in_order():
    double, three = nn.Identity(), nn.Identity()
    double.register_forward_hook(lambda module, args, output: output * 2)
    three.register_forward_hook(lambda module, args, output: output + 3)
    assert nn.Sequential(double, three)(1) == 5
    assert nn.Sequential(three, double)(1) == 8
    assert nn.Sequential()(1) == 1


def test_sequential_takes_names():
    model = nn.Sequential(OrderedDict(a=nn.Linear(1, 1), b=nn.ReLU()))
    assert list(model.state_dict()) == ["a.weight", "a.bias"]
    assert model.a is model[0]
    assert isinstance(model[-1], nn.ReLU)
    assert list(dict(model[:1].named_children())) == ["a"]


def test_sequential_as_a_list():
    model = nn.Sequential(*layers(1, 2, 3))
    assert len(model) == 3
    assert sizes(model[1:]) == [2, 3]
    assert list(model[1:].state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert model.append(nn.Linear(4, 1)) is model
    model.extend(layers(5)).insert(0, nn.Linear(0, 1))
    assert sizes(model) == [0, 1, 2, 3, 4, 5]
    assert model.pop(-1).in_features == 5
    del model[0]
    del model[1:3]
    assert sizes(model) == [1, 4]
    assert list(model.state_dict())[2:] == ["1.weight", "1.bias"]
    model[1] = nn.Linear(7, 1)
    assert sizes(model) == [1, 7]


def test_sequential_arithmetic():
    one, two = nn.Sequential(*layers(1, 2)), nn.Sequential(*layers(3))
    assert sizes(one + two) == [1, 2, 3]
    assert sizes(one * 2) == sizes(2 * one) == [1, 2, 1, 2]
    one += two
    assert sizes(one) == [1, 2, 3]
    one *= 2
    assert sizes(one) == [1, 2, 3, 1, 2, 3]
    with pytest.raises(ValueError, match="expected a Sequential, got str"):
        one + "two"
    with pytest.raises(TypeError, match="expected an integer, got float"):
        one * 1.5
    with pytest.raises(ValueError, match="expected a positive integer, got 0"):
        one * 0


def test_module_list():
    model = nn.ModuleList(layers(1, 2))
    model.append(nn.Linear(3, 1)).extend(layers(4))
    model += layers(5)
    assert sizes(model) == [1, 2, 3, 4, 5]
    assert sizes(model[::2]) == [1, 3, 5]
    assert isinstance(model[1:], nn.ModuleList)
    assert sizes(model + layers(6)) == [1, 2, 3, 4, 5, 6]
    model.insert(1, nn.Linear(9, 1))
    assert sizes(model) == [1, 9, 2, 3, 4, 5]
    del model[1]
    assert model.pop(0).in_features == 1
    assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3"]
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        model(1)


def test_module_list_repr_collapses_equal_neighbours():
    assert repr(nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Sequential(nn.ReLU())])) == (
        "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Sequential(\n    (0): ReLU()\n  )\n)"
    )
    assert repr(nn.ModuleList()) == "ModuleList()"


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
def test_positions_and_types_are_checked(kind):
    model = kind()
    model.append(nn.ReLU())
    with pytest.raises(IndexError, match="index: expected -1 to 0, got 1"):
        model[1]
    with pytest.raises(IndexError, match="index: expected -1 to 1, got 2"):
        model.insert(2, nn.ReLU())
    with pytest.raises(ArgumentTypeError, match="1: expected a Module, got int"):
        model.append(3)
    with pytest.raises(ArgumentTypeError, match="module: expected a Module, got int"):
        model.insert(0, 3)
    with pytest.raises(ArgumentTypeError, match="expected an iterable of modules, got int"):
        model.extend(3)


def test_module_dict():
    model = nn.ModuleDict({"conv": nn.Conv1d(1, 1, 1)})
    model["act"] = nn.ReLU()
    model.update([("fc", nn.Linear(1, 1))])
    assert list(model) == list(model.keys()) == ["conv", "act", "fc"]
    assert "act" in model
    assert len(model) == 3
    assert isinstance(model.pop("act"), nn.ReLU)
    assert [type(layer).__name__ for layer in model.values()] == ["Conv1d", "Linear"]
    assert dict(model.items())["fc"] is model.fc
    del model["fc"]
    model.clear()
    assert len(model) == 0
    with pytest.raises(ArgumentTypeError, match="expected a mapping or an iterable of"):
        model.update([1])
    with pytest.raises(KeyError, match="already has an attribute 'keys'"):
        model["keys"] = nn.ReLU()


def test_parameter_list():
    values = nn.ParameterList([np.zeros((2, 3), np.float32), nn.Parameter(np.ones(1)), "word"])
    values.append(np.ones(2))
    values += [np.ones(5)]
    assert list(values.state_dict()) == ["0", "1", "3", "4"]
    assert [name for name, _ in values.named_parameters()] == ["0", "1", "3", "4"]
    assert values[2] == "word"
    assert values[-1].shape == (5,)
    assert len(values[:2]) == 2
    values[0] = np.ones(4)
    assert values[0].shape == (4,)
    assert repr(values[1:3]) == (
        "ParameterList(\n    (0): Parameter containing: [float64 of size 1]\n    (1): Object of type: str\n)"
    )
    with pytest.raises(ArgumentTypeError, match="expected an iterable of parameters, got ndarray"):
        values.extend(np.ones(3))
    with pytest.raises(TypeError, match="it cannot be called"):
        values()


def test_parameter_dict():
    values = nn.ParameterDict({"b": np.zeros(2), "a": np.ones(1), "c": 3})
    assert list(values) == ["a", "b", "c"]
    assert list(values.state_dict()) == ["a", "b"]
    assert values["c"] == 3
    assert values.get("d") is None
    assert values.setdefault("d", np.ones(4)).shape == (4,)
    assert (values | {"e": 1})["e"] == 1
    assert "e" not in values
    assert values.popitem()[0] == "d"
    assert values.pop("b").shape == (2,)
    assert list(reversed(values)) == ["c", "a"]
    assert len(values.copy()) == len(values) == 2
    assert "(a): Parameter containing: [float64 of size 1]" in repr(values)
    values.clear()
    assert list(values.items()) == list(values.values()) == list(values.keys()) == []
    with pytest.raises(KeyError):
        values["a"]
    with pytest.raises(ArgumentTypeError, match="key: expected a string, got 1"):
        values[1] = np.ones(1)
    with pytest.raises(ArgumentTypeError, match="parameters: expected a mapping"):
        values.update(3)


@pytest.mark.parametrize(
    "build",
    [
        lambda nn: nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(1, 2), nn.Sequential())),
        lambda nn: nn.ModuleList([nn.Linear(1, 2), nn.Linear(1, 2), nn.Sequential(nn.ReLU()), nn.ReLU()]),
        lambda nn: nn.ModuleDict({"a": nn.ModuleList([nn.Linear(1, 2)] * 3), "b": nn.ModuleDict()}),
    ],
)
def test_repr_and_names_equal_torch(torch, build):
    ours, theirs = build(nn), build(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
