"""ONNX's own test suite, through the backend interface, node by node with NumPy.

Every test runs, or stands in onnx_left_out.txt with a reason, and one that is left out and passes all the same fails.
"""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed: its test suite is not there to run")

from onnx_suite import CNN_OPERATORS, LEFT_OUT_OPERATORS, MISSING, Suite  # noqa: E402

from fastconv.errors import ArgumentError  # noqa: E402
from fastconv.onnx.backend import ReferenceBackend  # noqa: E402

SUITE = Suite(ReferenceBackend, __name__)
globals().update(SUITE.test_cases)


@pytest.fixture(scope="module", autouse=True)
def _scratch_folder(tmp_path_factory):
    """Where the suite unpacks its networks, in place of the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_HOME", str(tmp_path_factory.mktemp("onnx")))
        yield


def test_counts():
    SUITE.check_counts()


def test_only_listed_operators_are_missing():
    assert set().union(*MISSING.values()) == LEFT_OUT_OPERATORS.keys()
    assert not LEFT_OUT_OPERATORS.keys() & CNN_OPERATORS


def test_what_is_left_out_still_fails():
    SUITE.check_left_out()


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
