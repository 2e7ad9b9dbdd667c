"""The lecture's general architecture: what a pattern builds, and where one that does not parse goes wrong."""

import re

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

from_pattern = fc.models.from_pattern
GENERAL = "[(CONV-RELU)*N-POOL?]*M-(FC-RELU)*K-SOFTMAX"


def layers(model):
    return [type(module).__name__ for module in model.modules() if not isinstance(module, nn.Sequential)]


def test_the_pattern_of_the_lecture():
    model = from_pattern("[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX", channels=8, hidden=20, num_classes=5)
    convolutions = ["Conv2d", "ReLU"] * 2 + ["MaxPool2d"]
    assert layers(model) == convolutions * 3 + ["Flatten", "Linear", "ReLU", "Linear", "Softmax"]
    shapes = {key: array.shape for key, array in model.state_dict().items() if key.endswith("weight")}
    assert shapes == {
        "features.0.weight": (8, 3, 3, 3),
        "features.2.weight": (8, 8, 3, 3),
        "features.5.weight": (16, 8, 3, 3),
        "features.7.weight": (16, 16, 3, 3),
        "features.10.weight": (32, 16, 3, 3),
        "features.12.weight": (32, 32, 3, 3),
        "classifier.0.weight": (20, 32 * 4 * 4),
        "classifier.2.weight": (5, 20),
    }
    probabilities = model(np.random.default_rng(7).normal(size=(2, 3, 32, 32)).astype(np.float32))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert nn.summary(model, (1, 3, 32, 32)).rows[14].output_shape == (1, 32, 4, 4)


@pytest.mark.parametrize("separator", ["-", " - ", ",", " -> "])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_ways_of_writing_the_same(separator, case):
    model = from_pattern(separator.join(map(case, ["(CONV", "RELU) * 2", "POOL", "FC"])))
    assert layers(model) == ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_counts_by_name(n, m, k):
    found = layers(from_pattern(GENERAL, N=n, M=m, K=k, channels=2, hidden=3))
    assert (found.count("Conv2d"), found.count("MaxPool2d"), found.count("Linear")) == (n * m, m, k + 1)
    assert found[-1] == "Softmax"


def test_optional_layers():
    counts = {"N": 1, "M": 3, "K": 0, "channels": 2}
    assert layers(from_pattern(GENERAL, optional=False, **counts)).count("MaxPool2d") == 0
    found = layers(from_pattern(GENERAL, optional=[False, True, True], **counts))
    assert found[:8] == ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d"]
    with pytest.raises(fc.ArgumentError, match="optional: expected True, False or 3 answers, got 2"):
        from_pattern(GENERAL, optional=[True, False], **counts)
    assert layers(from_pattern("(CONV-RELU)?-FC", optional=False)) == ["Flatten", "Linear"]


def test_where_the_classes_come_out():
    shapes = {
        "CONV-FC": [(10, 4 * 8 * 8)],
        "CONV-FC-SOFTMAX": [(10, 4 * 8 * 8)],
        "CONV-SOFTMAX": [(10, 4 * 8 * 8)],
        "FC-FC-RELU-FC": [(6, 3 * 8 * 8), (6, 6), (10, 6)],
        "FC-RELU": [(6, 3 * 8 * 8)],
        "CONV-RELU": [],
    }
    for pattern, expected in shapes.items():
        model = from_pattern(pattern, channels=4, hidden=6, input_size=8)
        assert [module.weight.shape for module in model.modules() if isinstance(module, nn.Linear)] == expected


def test_sizes_layer_by_layer():
    model = from_pattern("CONV-POOL-CONV-FC-FC-SOFTMAX", channels=[5, 7], hidden=[9], input_size=(9, 14), in_channels=1)
    assert model(np.ones((2, 1, 9, 14), np.float32)).shape == (2, 10)
    assert model.features[2].weight.shape == (7, 5, 3, 3)
    assert model.classifier[0].weight.shape == (9, 7 * 4 * 7)
    even = from_pattern("CONV", kernel_size=4, channels=2)
    assert even(np.ones((1, 3, 32, 32), np.float32)).shape == (1, 2, 32, 32)
    for options, message in (
        ({"channels": [5]}, "channels: expected one number, or 2, got 1"),
        ({"hidden": [5, 6]}, "hidden: expected one number, or 1, got 2"),
        ({"num_classes": 0}, "num_classes: expected at least 1"),
        ({"input_size": 0}, "input_size: expected at least 1"),
        ({"L": 3}, "L: the pattern has no such count"),
        ({"N": -1}, "N: expected at least 0"),
    ):
        with pytest.raises(fc.ArgumentError, match=message):
            from_pattern("CONV-POOL-CONV-FC-FC-SOFTMAX", **options)


@pytest.mark.parametrize(
    ("pattern", "position", "what"),
    [
        ("", 0, "expected a layer, ( or [, got the end"),
        ("   ", 3, "expected a layer, ( or [, got the end"),
        ("CONV-", 5, "expected a layer, ( or [, got the end"),
        ("CONV--RELU", 5, "expected a layer, ( or [, got '-'"),
        ("-CONV", 0, "expected a layer, ( or [, got '-'"),
        ("CONV-FOO", 5, "expected one of CONV, RELU, POOL, FC, SOFTMAX, got 'FOO'"),
        ("3*CONV", 0, "expected one of CONV, RELU, POOL, FC, SOFTMAX, got '3'"),
        ("CONV RELU", 5, "expected - or the end, got 'RELU'"),
        ("CONV)", 4, "expected - or the end, got ')'"),
        ("(CONV", 5, "expected - or ) for the ( at position 0, got the end"),
        ("[CONV-(RELU]", 11, "expected - or ) for the ( at position 6, got ']'"),
        ("()", 1, "expected a layer, ( or [, got ')'"),
        ("CONV*", 5, "expected a number of repetitions, got the end"),
        ("CONV*-", 5, "expected a number of repetitions, got '-'"),
        ("CONV*Q", 5, "'Q' has no number: pass Q=… to from_pattern (given: none)"),
        ("CONV&RELU", 4, "'&' has no meaning"),
        ("CONV*1001", 4, "more than 1000 layers"),
        ("CONV*1000-CONV", 9, "more than 1000 layers"),
        ("CONV*99999999999999", 5, "more than 1000 layers"),
        ("((CONV*100)*100)*2", 11, "more than 1000 layers"),
        ("(" * 101 + "CONV", 100, "nested more than 100 deep"),
        ("(" * 100_000, 100, "nested more than 100 deep"),
        ("FC-CONV", 3, "CONV cannot follow FC or SOFTMAX"),
        ("FC-RELU-POOL", 8, "POOL cannot follow FC or SOFTMAX"),
        ("CONV-SOFTMAX-RELU", 13, "RELU cannot follow SOFTMAX"),
        ("(CONV-POOL)*7", 6, "POOL cannot halve a map of 1×1"),
    ],
)
def test_patterns_that_do_not_parse(pattern, position, what):
    with pytest.raises(fc.ArgumentError, match=re.escape(f"pattern: position {position}: {what}")) as caught:
        from_pattern(pattern, channels=1)
    assert str(caught.value).endswith(f"\n  {pattern}\n  {' ' * position}^")


def test_a_pattern_that_is_no_text():
    with pytest.raises(TypeError, match="pattern: expected text, got list"):
        from_pattern(["CONV"])
