"""Sessions of one file share its weights and their packed forms."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv.onnx import loaded


@pytest.fixture
def model(rng):
    return models.residual(rng, channels=32)


@pytest.fixture
def x(rng):
    return rng.standard_normal((1, 3, 24, 24)).astype(np.float32)


def packed(session):
    (compiler,) = session._compilers.values()
    return [array for entry, _ in compiler.packings.values() for array in entry]


def all_shared(one, other):
    return all(np.shares_memory(a, b) for a, b in zip(packed(one), packed(other), strict=True))


class TestSharing:
    def test_bytes(self, model, x):
        one, other = fc.InferenceSession(model), fc.InferenceSession(bytearray(model), threads=1)
        results = [session.run(None, {"x": x})[0] for session in (one, other)]
        assert np.array_equal(*results)
        assert len(packed(one)) >= 4
        assert all_shared(one, other)
        assert one._model is other._model

    def test_paths(self, model, x, tmp_path):
        for name in ("a.onnx", "b.onnx"):
            (tmp_path / name).write_bytes(model)
        sessions = [fc.InferenceSession(tmp_path / name) for name in ("a.onnx", "b.onnx", "a.onnx")]
        sessions.append(fc.InferenceSession(model))
        for session in sessions:
            session.run(None, {"x": x})
        for session in sessions[1:]:
            assert all_shared(sessions[0], session)

    def test_a_file_and_its_bytes(self, rng, x, tmp_path):
        """Weights of more than a block, which are read from the file one by one."""
        model = models.residual(rng, channels=64)
        path = tmp_path / "model.onnx"
        path.write_bytes(model)
        sessions = [fc.InferenceSession(source) for source in (path, model, str(path))]
        assert sessions[0]._model is sessions[1]._model is sessions[2]._model
        results = [session.run(None, {"x": x})[0] for session in sessions]
        assert np.array_equal(results[0], results[1])
        changed = bytearray(model)
        changed[len(model) // 2] ^= 1  # among the weights
        path.write_bytes(changed)
        assert fc.InferenceSession(path)._model is not sessions[0]._model
        assert fc.InferenceSession(model)._model is sessions[0]._model

    def test_another_precision_shares_the_weights_of_the_file(self, model, x):
        one, strict = fc.InferenceSession(model), fc.InferenceSession(model, precision="strict")
        assert one._model is strict._model
        assert one._compilers[frozenset()] is not strict._compilers[frozenset()]
        assert one._compilers[frozenset()] is not fc.InferenceSession(model, passes=())._compilers[frozenset()]

    def test_other_bytes_of_the_same_length_are_another_model(self, rng, model, x):
        other = bytearray(model)
        other[len(model) // 2] ^= 1  # among the weights
        sessions = [fc.InferenceSession(data) for data in (model, bytes(other))]
        assert sessions[0]._model is not sessions[1]._model

    def test_a_file_that_has_been_written_anew_is_read_anew(self, rng, model, x, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(model)
        first = fc.InferenceSession(path)
        status = os.stat(path)
        again = models.residual(np.random.default_rng(5), channels=32)
        assert len(again) == len(model)
        path.write_bytes(again)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        second = fc.InferenceSession(path)
        assert not np.array_equal(first.run(None, {"x": x})[0], second.run(None, {"x": x})[0])

    def test_nothing_is_kept_for_nobody(self, model, x):
        session = fc.InferenceSession(model)
        session.run(None, {"x": x})
        weights = weakref.ref(packed(session)[0])
        assert session._loaded in loaded._known.values()
        del session
        gc.collect()
        assert weights() is None
        assert not loaded._known

    def test_many_threads_at_once(self, model, x):
        sessions, start = [], threading.Barrier(8)
        expected = fc.InferenceSession(models.residual(np.random.default_rng(20160120), channels=32)).run(
            None, {"x": x}
        )[0]

        def work():
            start.wait()
            sessions.append((session := fc.InferenceSession(model), session.run(None, {"x": x})[0]))

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(sessions) == 8
        assert all(np.array_equal(result, expected) for _, result in sessions)


class TestDataOfItsOwn:
    @staticmethod
    def save(folder, w):
        entries = [write.message("StringStringEntryProto", key="location", value="w.bin")]
        tensor = write.message(
            "TensorProto", dims=list(w.shape), data_type=1, name="w", data_location=1, external_data=entries
        )
        node = write.node("Conv", "x w", "y")
        folder.mkdir(exist_ok=True)
        (folder / "w.bin.new").write_bytes(w.tobytes())
        (folder / "w.bin.new").replace(folder / "w.bin")
        data = write.model(write.graph([node], [write.value("x", (1, 3, 24, 24))], ["y"], [tensor]))
        (folder / "model.onnx").write_bytes(data)
        return folder / "model.onnx"

    def test_the_files_beside_the_model_count(self, rng, x, tmp_path):
        weights = [rng.standard_normal((8, 3, 3, 3)).astype(np.float32) for _ in range(3)]
        first = fc.InferenceSession(self.save(tmp_path / "a", weights[0]))
        same = fc.InferenceSession(tmp_path / "a" / "model.onnx")
        elsewhere = fc.InferenceSession(self.save(tmp_path / "b", weights[1]))
        anew = fc.InferenceSession(self.save(tmp_path / "a", weights[2]))
        assert first._model is same._model
        results = [session.run(None, {"x": x})[0] for session in (first, elsewhere, anew)]
        for result, w in zip(results, weights, strict=True):
            np.testing.assert_allclose(result, fc.reference.conv(x, w), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_a_second_session_takes_no_second_copy():
    """Resident memory before and after it, in a process of its own, with 32 MiB of weights and as much packed."""
    code = """
import sys
sys.path[:0] = {path!r}
import numpy as np, onnx_bytes as write, fastconv as fc

def resident():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmRSS"))

w = np.random.default_rng(0).standard_normal((2048, 4096)).astype(np.float32)
graph = write.graph([write.node("MatMul", "x w", "y")], [write.value("x", (1, 2048))], ["y"], [write.tensor(w, "w")])
data = write.model(graph)
x = np.ones((1, 2048), np.float32)
first = fc.InferenceSession(data)
y = first.run(None, {{"x": x}})[0]
before = resident()
second = fc.InferenceSession(bytearray(data))
assert np.array_equal(second.run(None, {{"x": x}})[0], y)
print(resident() - before, w.nbytes)
"""
    done = subprocess.run(
        [sys.executable, "-c", code.format(path=sys.path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    grown, weights = map(int, done.stdout.split())
    assert grown < weights / 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_file_is_in_memory_once(tmp_path):
    """The most memory at any time, in a process of its own: 32 MiB of weights that are read where they lie."""
    code = """
import sys
sys.path[:0] = {path!r}
import numpy as np, fastconv as fc

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

x = np.ones((1, 4096), np.float32)
before = peak()
session = fc.InferenceSession({file!r})
assert session.run(None, {{"x": x}})[0].shape == (1, 2048)
print(peak() - before)
"""
    w = np.random.default_rng(0).standard_normal((2048, 4096)).astype(np.float32)
    gemm = write.node("Gemm", "x w", "y", transB=1)
    file = tmp_path / "model.onnx"
    file.write_bytes(write.model(write.graph([gemm], [write.value("x", (1, 4096))], ["y"], [write.tensor(w, "w")])))
    code = code.format(path=sys.path, file=str(file))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert w.nbytes < int(done.stdout) < 1.5 * w.nbytes
