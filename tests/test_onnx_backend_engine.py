"""ONNX's own test suite, through the backend interface, by the inference engine; see test_onnx_backend."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed: its test suite is not there to run")

from onnx_suite import Suite  # noqa: E402

import fastconv as fc  # noqa: E402
from fastconv.errors import ArgumentError  # noqa: E402

SUITE = Suite(fc.onnx_backend, __name__)
globals().update(SUITE.test_cases)


@pytest.fixture(scope="module", autouse=True)
def _scratch_folder(tmp_path_factory):
    """Where the suite unpacks its networks, in place of the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_HOME", str(tmp_path_factory.mktemp("onnx")))
        yield


def test_counts():
    SUITE.check_counts()


def test_what_is_left_out_still_fails():
    SUITE.check_left_out()


class TestInterface:
    NODE = onnx.helper.make_node("Clip", ["x", "", "high"], ["y"])

    def model(self, op_type="Relu"):
        info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
        graph = onnx.helper.make_graph([onnx.helper.make_node(op_type, ["x"], ["y"])], "g", info[:1], info[1:])
        return onnx.helper.make_model(graph)

    def test_it_is_a_backend(self):
        assert issubclass(fc.onnx_backend, onnx.backend.base.Backend)
        assert fc.onnx_backend.supports_device("CPU")
        assert not fc.onnx_backend.supports_device("CUDA")
        with pytest.raises(ArgumentError, match="device: only CPU is supported, got 'CUDA'"):
            fc.onnx_backend.prepare(self.model(), "CUDA")

    def test_models_and_nodes(self):
        x = np.array([-1, 2], np.float32)
        for inputs in (x, [x], {"x": x}):
            assert fc.onnx_backend.run_model(self.model(), inputs)[0].tolist() == [0, 2]
        prepared = fc.onnx_backend.prepare(self.model(), threads=1, precision="strict")
        assert prepared.run([x])[0].tolist() == [0, 2]
        assert fc.onnx_backend.run_node(self.NODE, [np.float32(7), None, np.float32(5)])[0] == 5
        with pytest.raises(ArgumentError, match="inputs: the model takes 1, got 2"):
            prepared.run([x, x])

    def test_compatible_means_that_every_operator_is_there(self):
        assert fc.onnx_backend.is_compatible(self.model())
        assert not fc.onnx_backend.is_compatible(self.model("Nonesuch"))
