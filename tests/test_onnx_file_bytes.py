"""Bytes read from a file, as a memoryview of them would answer."""

import numpy as np
import pytest

from fastconv.errors import ModelError
from fastconv.onnx.file_bytes import BLOCK, FileBytes, are_equal
from fastconv.onnx.model import load


@pytest.fixture
def path(tmp_path, rng):
    path = tmp_path / "bytes"
    path.write_bytes(rng.integers(0, 256, 3 * BLOCK + 17, np.uint8).tobytes())
    return path


def plain(part) -> bytes:
    return part.read().tobytes() if isinstance(part, FileBytes) else bytes(part)


def test_places_and_slices_are_those_of_the_bytes(path, rng):
    expected = path.read_bytes()
    with open(path, "rb", buffering=0) as file:
        data = FileBytes.of(file)
        assert len(data) == len(expected)
        for _ in range(300):
            start, stop = sorted(rng.integers(0, len(expected) + 1, 2).tolist())
            part = data[start:stop]
            assert (len(part), isinstance(part, FileBytes)) == (stop - start, stop - start > BLOCK)
            assert plain(part) == expected[start:stop]
            if stop > start:
                assert part[0] == expected[start]
                assert plain(part[1 : stop - start]) == expected[start + 1 : stop]
        assert plain(data[5:3]) == b""
        assert plain(data[len(expected) - 3 : len(expected) + 9]) == expected[-3:]
        for short in (data, data[7 : BLOCK + 9]):
            with pytest.raises(IndexError):
                short[len(short)]


def test_pieces_are_all_bytes_and_the_arrays_that_were_read(path):
    expected = path.read_bytes()
    with open(path, "rb", buffering=0) as file:
        data = FileBytes.of(file)
        first, second = data[2 * BLOCK - 9 :].read(), data[5 : BLOCK + 8].read()
        again = data[7 : BLOCK + 9].read()
        pieces = data.pieces()
        assert b"".join(map(bytes, pieces)) == expected
        held = [id(piece) for piece in pieces]
        assert id(first) in held
        assert id(second) in held
        assert id(again) not in held
        assert are_equal(pieces, data)
    assert are_equal([], b"")
    assert are_equal(pieces, expected)
    assert not are_equal(pieces, expected[:-1])
    assert not are_equal(pieces, expected + b"1")
    for place in (0, 7, BLOCK, 2 * BLOCK, len(expected) - 1):
        other = bytearray(expected)
        other[place] ^= 1
        assert not are_equal(pieces, bytes(other))


def test_a_file_that_becomes_shorter_is_found(path):
    with open(path, "rb", buffering=0) as file:
        data = FileBytes.of(file)
        with open(path, "r+b") as other:
            other.truncate(2 * BLOCK)
        for read in (data.read, data.pieces, lambda: data[2 * BLOCK + 5 : 2 * BLOCK + 9], lambda: data[3 * BLOCK]):
            with pytest.raises(ModelError, match="became shorter"):
                read()


def test_a_model_in_a_file_is_the_model_in_bytes(tmp_path, rng):
    onnx = pytest.importorskip("onnx", reason="the onnx package, which writes the model, is not installed")
    from onnx import helper, numpy_helper

    arrays = {
        "large": rng.standard_normal((300, 257)).astype(np.float32),
        "small": rng.standard_normal(3).astype(np.float32),
        "whole": rng.integers(0, 255, 2 * BLOCK + 1).astype(np.uint8),
        "bits": rng.integers(0, 2, BLOCK + 99).astype(bool),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    typed = {"typed": (onnx.TensorProto.FLOAT, 40000), "numbers": (onnx.TensorProto.INT64, 30000)}
    for name, (kind, count) in typed.items():
        arrays[name] = np.arange(count).astype(helper.tensor_dtype_to_np_dtype(kind))
        tensors.append(helper.make_tensor(name, kind, [count], arrays[name].tolist()))
    outputs = [
        helper.make_tensor_value_info(name, t.data_type, t.dims) for name, t in zip(arrays, tensors, strict=True)
    ]
    model = helper.make_model(helper.make_graph([], "g", [], outputs, tensors))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    for loaded in (load(path), load(path.read_bytes())):
        assert loaded.graph.constants.keys() == arrays.keys()
        for name, array in arrays.items():
            constant = loaded.graph.constants[name]
            assert constant.dtype == array.dtype
            assert constant.flags.aligned
            np.testing.assert_array_equal(constant, array)
    assert not load(path).graph.constants["large"].flags.writeable
