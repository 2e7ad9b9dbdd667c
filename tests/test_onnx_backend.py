"""ONNX's own test suite, through the backend interface.

Every test runs, or stands in onnx_left_out.txt with a reason, and one that is left out and passes all the same fails.
"""

import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed: its test suite is not there to run")

from onnx.backend.test import BackendTest  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402

from fastconv.errors import ArgumentError  # noqa: E402
from fastconv.onnx.backend import ReferenceBackend  # noqa: E402
from fastconv.onnx.operators import OPERATORS  # noqa: E402

HERE = Path(__file__).parent


def listed(name: str) -> list[str]:
    """The lines of a text file without its comments."""
    return [line for line in (HERE / name).read_text().splitlines() if line and not line.startswith("#")]


def left_out() -> tuple[dict[str, str], dict[str, str]]:
    """(operators, tests) that are left out, each with its reason."""
    tables: dict[str, dict[str, str]] = {"operators": {}, "tests": {}}
    for line in listed("onnx_left_out.txt"):
        if line.startswith("["):
            kind, reason = line.strip("[]").split(": ")
        else:
            tables[kind].update(dict.fromkeys(line.split(), reason))
    return tables["operators"], tables["tests"]


def operators_of(case) -> set[str]:
    """The operators that a test's model uses, subgraphs included."""
    model = case.model if case.model is not None else onnx.load(os.path.join(case.model_dir, "model.onnx"))
    found, graphs = set(), [model.graph]
    while graphs:
        for node in graphs.pop().node:
            found.add(f"{node.domain}::{node.op_type}" if node.domain else node.op_type)
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return found


def subject_of(case) -> str:
    """The operator that a node test is about; its "expanded" form consists of others."""
    return SUBJECTS.get(case.name.split("_expanded")[0], "")


with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # the suite casts out of range while it is built
    SUITE = BackendTest(ReferenceBackend, __name__).test_cases
    CASES = {
        case.name: case
        for kind in ("node", "simple", "pytorch-converted", "pytorch-operator")
        for case in load_model_tests(kind=kind)
    }
SUBJECTS = {name: case.model.graph.node[0].op_type for name, case in CASES.items() if case.model is not None}
CNN_OPERATORS = set(" ".join(listed("onnx_cnn_operators.txt")).split())
LEFT_OUT_OPERATORS, LEFT_OUT_TESTS = left_out()
AVAILABLE = {f"{domain}::{name}" if domain else name for domain, name in OPERATORS}
MISSING = {name: operators_of(case) - AVAILABLE for name, case in CASES.items()}

NUMPY_1 = np.lib.NumpyVersion(np.__version__) < "2.0.0"  # its assert_allclose cannot compare types of ml_dtypes
expected_to_fail = {}
counts: Counter = Counter()
for suite_name, suite in SUITE.items():
    for test_name, function in list(vars(suite).items()):
        name = test_name.removesuffix("_cpu").removesuffix("_cuda")
        if not test_name.startswith("test_"):
            continue
        incomparable = NUMPY_1 and name.startswith("test_castlike_") and ("_to_FLOAT4" in name or "_to_FLOAT8" in name)
        if test_name.endswith("_cuda") or MISSING.get(name) or (incomparable and name not in LEFT_OUT_TESTS):
            delattr(suite, test_name)
        elif name in LEFT_OUT_TESTS:
            expected_to_fail[name] = function
            delattr(suite, test_name)
        else:
            kind = "expanded" if "_expanded" in name else suite_name
            counts[kind, name not in CASES or subject_of(CASES[name]) in CNN_OPERATORS] += 1
globals().update(SUITE)


@pytest.fixture(scope="module", autouse=True)
def _scratch_folder(tmp_path_factory):
    """Where the suite unpacks its networks, in place of the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_HOME", str(tmp_path_factory.mktemp("onnx")))
        yield


def test_counts():
    """How many tests are not left out, all of which have to pass."""
    assert len(CNN_OPERATORS) == 129
    assert counts["OnnxBackendNodeModelTest", True] >= 825
    assert counts["expanded", True] >= 188
    assert counts["OnnxBackendPyTorchConvertedModelTest", False] == 82
    assert counts["OnnxBackendPyTorchOperatorModelTest", False] == 35
    assert counts["OnnxBackendRealModelTest", True] == 9


def test_only_listed_operators_are_missing():
    assert set().union(*MISSING.values()) == LEFT_OUT_OPERATORS.keys()
    assert not LEFT_OUT_OPERATORS.keys() & CNN_OPERATORS


def test_what_is_left_out_still_fails():
    assert expected_to_fail.keys() == LEFT_OUT_TESTS.keys()
    passed = []
    for name, function in expected_to_fail.items():
        try:
            function(None)
        except (ArgumentError, AssertionError, TypeError):
            continue
        passed.append(name)
    assert not passed


class TestInterface:
    NODE = onnx.helper.make_node("Clip", ["x", "", "high"], ["y"])

    def test_run_node(self):
        (y,) = ReferenceBackend.run_node(self.NODE, [np.float32(7), None, np.float32(5)])
        assert y == 5
        (y,) = ReferenceBackend.run_node(self.NODE, {"x": np.float32(7), "high": np.float32(5)})
        assert y == 5
        node = onnx.helper.make_node("Softmax", ["x"], ["y"])
        x = np.zeros((2, 2, 2), np.float32)
        assert ReferenceBackend.run_node(node, [x], opset_version=11)[0].max() == 0.25
        assert ReferenceBackend.run_node(node, x)[0].max() == 0.5

    def test_devices(self):
        assert ReferenceBackend.supports_device("CPU")
        assert ReferenceBackend.supports_device("CPU:0")
        assert not ReferenceBackend.supports_device("CUDA")
        with pytest.raises(ArgumentError, match="device: only CPU is supported, got 'CUDA:1'"):
            ReferenceBackend.run_node(self.NODE, [], device="CUDA:1")
