"""What code that takes arrays for tensors is told, and the table of what NumPy calls the same."""

import re
import sys
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.from_torch import FUNCTIONS, METHODS
from fastconv.nn import functional as F

PAGE = Path(__file__).parents[1] / "docs" / "from_torch.md"
TABLE = re.findall(r"^\| `(.*)` \| `(.*)` \|$", PAGE.read_text(encoding="utf-8"), flags=re.M)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_the_table_was_read():
    assert len(TABLE) > 20


@pytest.mark.parametrize(("theirs", "ours"), TABLE, ids=[theirs for theirs, _ in TABLE])
def test_both_columns_of_the_table_are_the_same(torch, rng, theirs, ours):
    x, y = (rng.standard_normal((2, 3, 4, 5)).astype(np.float32) for _ in range(2))
    if "expand" in theirs:
        x = x[:1]
    actual = eval(ours, {"np": np, "F": F, "x": x, "y": y})
    expected = eval(theirs, {"torch": torch, "x": torch.from_numpy(x), "y": torch.from_numpy(y)}).numpy()
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cat", "no_grad", "zeros"])
def test_functions_of_torch_say_what_to_write(name):
    with pytest.raises(AttributeError) as raised:
        getattr(fc, name)
    text = f"module 'fastconv' has no attribute {name!r}: arrays are NumPy's, torch.{name} is {FUNCTIONS[name]}"
    assert str(raised.value) == text
    assert not hasattr(fc, name)
    with pytest.raises(AttributeError, match=r"^module 'fastconv' has no attribute 'nonsense'$"):
        attrgetter("nonsense")(fc)


def test_what_is_named_does_not_exist_and_what_is_offered_does():
    assert not [name for name in METHODS if hasattr(np.ndarray, name)]
    assert not [name for name in FUNCTIONS if hasattr(fc, name)]
    for text in (*METHODS.values(), *FUNCTIONS.values()):
        for owner, name in re.findall(r"\b(numpy|fastconv\.nn\.functional|fastconv)\.(\w+)", text):
            module = {"numpy": np, "fastconv": fc, "fastconv.nn.functional": F}[owner]
            assert hasattr(module, name), text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes of exceptions: Python 3.11")
@pytest.mark.parametrize(
    ("forward", "note"),
    [
        (lambda x: x.permute(0, 2, 3, 1), "arrays are NumPy's: a tensor's permute is x.transpose(axes)"),
        (lambda x: x.unsqueeze(1), "arrays are NumPy's: a tensor's unsqueeze is numpy.expand_dims(x, axis)"),
        (lambda x: x.size(1), "arrays are NumPy's: of a tensor, x.size() is x.shape, and x.size(1) is x.shape[1]"),
        (lambda x: x.view(-1, 4), "arrays are NumPy's: of a tensor, x.view(sizes) is x.reshape(sizes)"),
        (lambda x: x.mean(dim=1), "arrays are NumPy's: of a tensor, dim= is axis="),
        (lambda x: x.mean([2, 3]), "arrays are NumPy's: of a tensor, several axes are a tuple, as in x.mean((2, 3))"),
        (lambda x: x.flatten(1), "arrays are NumPy's: of a tensor, x.flatten(1) is x.reshape(len(x), -1)"),
        (lambda x: x.transpose(1, 2), "arrays are NumPy's: of a tensor, x.transpose(1, 2) is x.swapaxes(1, 2)"),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_methods_of_tensors_are_explained(forward, note, compiled):
    module, x = Of(forward), np.zeros((1, 2, 3, 4), np.float32)
    with pytest.raises((AttributeError, TypeError, ValueError)) as raised:
        fc.compile(module, x) if compiled else module(x)
    notes = getattr(raised.value, "__notes__", [])
    assert note in notes, (raised.value, notes)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes of exceptions: Python 3.11")
def test_other_errors_are_not_explained():
    for forward in (lambda x: x.nonsense, lambda x: np.nonsense, lambda x: x + "text", lambda x: [][1]):
        with pytest.raises((AttributeError, TypeError, IndexError)) as raised:
            Of(forward)(np.zeros(3))
        assert [note for note in raised.value.__notes__ if "NumPy" in note] == []


def test_names_that_are_not_here_lead_to_the_table_of_names():
    with pytest.raises(AttributeError, match=r"^module 'fastconv\.nn' has no attribute 'LSTM'; docs/names\.md says"):
        attrgetter("LSTM")(nn)
    with pytest.raises(AttributeError, match=r"'fastconv\.nn\.functional' has no attribute 'gumbel_softmax'; docs/"):
        attrgetter("gumbel_softmax")(F)
    assert not hasattr(nn, "__wrapped__")


def test_torchs_dtypes_are_taken(torch):
    assert nn.Linear(2, 3).to(torch.float64).weight.dtype == np.float64
    assert nn.Linear(2, 3, dtype=torch.float16).weight.dtype == np.float16
    assert nn.Linear(2, 3).to(torch.device("cpu"), torch.float64).bias.dtype == np.float64
    with pytest.raises(TypeError, match=r"dtype: expected a NumPy dtype or its name, got torch\.bfloat16"):
        nn.Linear(2, 3, dtype=torch.bfloat16)


def test_older_and_mistaken_arguments_say_what_to_pass():
    with pytest.raises(fc.ArgumentError, match=r"pretrained: .* pass weights= and the path of a file"):
        fc.models.resnet18(pretrained=True)
    with pytest.raises(TypeError, match=r"example_input: .* got the sizes \(1, 3\); pass numpy\.zeros"):
        fc.compile(nn.Linear(3, 2), (1, 3))
