"""ONNX's own test suite for a backend, without what onnx_left_out.txt lists.  Needs the onnx package."""

import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

from fastconv.errors import ArgumentError
from fastconv.onnx.operators import OPERATORS

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


class Suite:
    """``test_cases`` for pytest to collect; `counts` of the tests in them, by kind and whether they are about a CNN."""

    def __init__(self, backend, module: str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            self.test_cases = BackendTest(backend, module).test_cases
        self.expected_to_fail = {}
        self.counts: Counter = Counter()
        for suite_name, suite in self.test_cases.items():
            for test_name, function in list(vars(suite).items()):
                if test_name.startswith("test_"):
                    self._sort(suite, suite_name, test_name, function)

    def _sort(self, suite, suite_name: str, test_name: str, function) -> None:
        name = test_name.removesuffix("_cpu").removesuffix("_cuda")
        incomparable = NUMPY_1 and name.startswith("test_castlike_") and ("_to_FLOAT4" in name or "_to_FLOAT8" in name)
        if test_name.endswith("_cuda") or MISSING.get(name) or (incomparable and name not in LEFT_OUT_TESTS):
            delattr(suite, test_name)
        elif name in LEFT_OUT_TESTS:
            self.expected_to_fail[name] = function
            delattr(suite, test_name)
        else:
            kind = "expanded" if "_expanded" in name else suite_name
            self.counts[kind, name not in CASES or subject_of(CASES[name]) in CNN_OPERATORS] += 1

    def check_counts(self) -> None:
        """How many tests are not left out, all of which have to pass."""
        assert len(CNN_OPERATORS) == 129
        assert self.counts["OnnxBackendNodeModelTest", True] >= 825
        assert self.counts["expanded", True] >= 188
        assert self.counts["OnnxBackendPyTorchConvertedModelTest", False] == 82
        assert self.counts["OnnxBackendPyTorchOperatorModelTest", False] == 35
        assert self.counts["OnnxBackendRealModelTest", True] == 9

    def check_left_out(self) -> None:
        """What is left out still fails."""
        assert self.expected_to_fail.keys() == LEFT_OUT_TESTS.keys()
        passed = []
        for name, function in self.expected_to_fail.items():
            try:
                function(None)
            except (ArgumentError, AssertionError, TypeError):
                continue
            passed.append(name)
        assert not passed
