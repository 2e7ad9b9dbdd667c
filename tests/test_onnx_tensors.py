"""Tensors of ONNX files: element types, storage, impossible sizes, data outside of the file."""

import os
import struct

import numpy as np
import onnx_bytes as write
import pytest

from fastconv.errors import ModelError
from fastconv.onnx import model, proto, tensors


def read(tensor_bytes: bytes, folder=None) -> np.ndarray:
    files = tensors.DataFiles(None if folder is None else os.path.join(folder, "model.onnx"))
    return tensors.array(proto.decode("TensorProto", tensor_bytes), files)


def external(**entries) -> list[bytes]:
    return [write.message("StringStringEntryProto", key=key, value=str(value)) for key, value in entries.items()]


class TestTensors:
    @pytest.mark.parametrize("dtype", list(write.DATA_TYPES))
    def test_raw(self, dtype):
        array = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
        result = read(write.tensor(array))
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result, array)

    @pytest.mark.parametrize(
        ("data_type", "values", "expected"),
        [
            (1, {"float_data": struct.pack("<2f", 0.5, -2)}, np.float32([0.5, -2])),
            (11, {"double_data": struct.pack("<2d", 0.5, -2)}, np.float64([0.5, -2])),
            (14, {"float_data": struct.pack("<4f", 1, 2, 3, 4)}, np.complex64([1 + 2j, 3 + 4j])),
            (7, {"int64_data": write.varint(-5) + write.varint(2**40)}, np.int64([-5, 2**40])),
            (13, {"uint64_data": write.varint(2**63) + write.varint(1)}, np.uint64([2**63, 1])),
            (12, {"uint64_data": write.varint(2**31) + write.varint(1)}, np.uint32([2**31, 1])),
            (6, {"int32_data": write.varint(-5) + write.varint(300)}, np.int32([-5, 300])),
            (3, {"int32_data": [-5, 7]}, np.int8([-5, 7])),
            (9, {"int32_data": [0, 1]}, np.array([False, True])),
            (10, {"int32_data": [0x3C00, 0xC000]}, np.float16([1, -2])),
            (22, {"raw_data": b"\xf7"}, np.int8([7, -1])),
            (21, {"int32_data": [0xF7]}, np.uint8([7, 15])),
            (25, {"raw_data": b"\x0e"}, np.uint8([2, 3])),
            (26, {"raw_data": b"\x0e"}, np.int8([-2, -1])),
            (8, {"string_data": [b"a", "é".encode()]}, np.array(["a", "é"], object)),
        ],
    )
    def test_other_storage(self, data_type, values, expected):
        result = read(write.message("TensorProto", dims=[2], data_type=data_type, **values))
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize(("dims", "shape"), [([], ()), ([0], (0,)), ([3, 0, 2], (3, 0, 2))])
    def test_scalars_and_empty_arrays(self, dims, shape):
        count = int(np.prod(shape))
        data = write.message("TensorProto", dims=dims, data_type=1, raw_data=bytes(4 * count))
        assert read(data).shape == shape
        if not count:
            assert read(write.message("TensorProto", dims=dims, data_type=1)).shape == shape
            assert read(write.message("TensorProto", dims=dims, data_type=7)).shape == shape

    def test_aligned_contents_are_not_copied(self):
        for padding in range(4):
            data = write.message("TensorProto", dims=[3], data_type=1, name="n" * padding, raw_data=bytes(12))
            buffer = np.frombuffer(data, np.uint8)
            result = read(data)
            address = buffer[data.index(bytes(12)) :].__array_interface__["data"][0]
            assert result.flags.aligned
            assert np.shares_memory(result, buffer) == (address % 4 == 0)
            assert not result.flags.writeable or not np.shares_memory(result, buffer)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"dims": [2], "data_type": 1, "raw_data": b"1234"}, "raw_data has 4 bytes, and the type and dims need 8"),
            ({"dims": [2], "data_type": 1, "float_data": [1.0]}, "float_data has 1 numbers; dims need 2"),
            ({"dims": [2], "data_type": 1}, "float_data has 0 numbers"),
            ({"dims": [2], "data_type": 7, "int64_data": [1]}, "int64_data has 1 values, and the type and dims need 2"),
            ({"dims": [1], "data_type": 7, "int64_data": b"\x81"}, "int64_data has 0 values"),
            ({"dims": [1], "data_type": 7, "int64_data": b"\x01\x81"}, "the last number is cut off"),
            ({"dims": [1], "data_type": 7, "int64_data": b"\x81" * 11 + b"\x01"}, "more than 10 bytes"),
            ({"dims": [2], "data_type": 8, "string_data": [b"a"]}, "string_data has 1 values"),
            ({"dims": [1], "data_type": 8, "string_data": [b"\xff"]}, "not UTF-8"),
            ({"dims": [-1], "data_type": 1}, "are not the shape of an array"),
            ({"dims": [2**40, 2**40], "data_type": 1}, "are not the shape of an array"),
            ({"dims": [2**62, 2**62, 0], "data_type": 1}, "are not the shape of an array"),
            ({"dims": [1] * 40, "data_type": 1, "raw_data": b"1234"}, "are not the shape of an array"),
            (
                {"dims": [1], "data_type": 1, "float_data": [1.0], "raw_data": b"1234"},
                "more than once: raw_data, float",
            ),
            ({"dims": [1], "data_type": 1, "segment": b""}, "segments"),
            ({"dims": [1], "data_type": 99}, "element type 99 is unknown; expected one of 1 to 28"),
            ({"dims": [1], "data_type": 16, "raw_data": b"12"}, "'weights': element type bfloat16 is not supported"),
            ({"dims": [1], "data_type": 17, "raw_data": b"1"}, "element type float8e4m3fn is not supported"),
        ],
    )
    def test_impossible_tensors(self, values, message):
        with pytest.raises(ModelError, match=message):
            read(write.message("TensorProto", name="weights", **values))


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
class TestExternalData:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(100))
        inner = tmp_path / "models"
        (inner / "deeper").mkdir(parents=True)
        np.arange(10, dtype=np.float32).tofile(inner / "weights.bin")
        np.arange(10, dtype=np.float32).tofile(inner / "deeper" / "weights.bin")
        (inner / "empty.bin").write_bytes(b"")
        return inner

    @staticmethod
    def tensor(count=3, data_type=1, **entries):
        return write.message(
            "TensorProto",
            dims=[count],
            data_type=data_type,
            name="w",
            external_data=external(**entries),
            data_location=1,
        )

    @pytest.mark.parametrize("location", ["weights.bin", "deeper/weights.bin", "./weights.bin"])
    @pytest.mark.parametrize("entries", [{"offset": 8}, {"offset": 8, "length": 12}])
    def test_read(self, folder, location, entries):
        result = read(self.tensor(location=location, **entries), folder)
        np.testing.assert_array_equal(result, np.float32([2, 3, 4]))
        assert not result.flags.writeable

    def test_unaligned_offset_is_copied(self, folder):
        data = (folder / "weights.bin").read_bytes()
        result = read(self.tensor(2, location="weights.bin", offset=3), folder)
        assert result.tobytes() == data[3:11]
        assert result.flags.aligned

    def test_empty_tensor_of_an_empty_file(self, folder):
        assert read(self.tensor(0, location="empty.bin"), folder).shape == (0,)

    def test_whole_model(self, folder):
        nodes = [write.node("Add", "x w", "y")]
        path = folder / "model.onnx"
        path.write_bytes(write.model(write.graph(nodes, ["x"], ["y"], [self.tensor(10, location="weights.bin")])))
        assert model.load(path).graph.constants["w"][9] == 9
        with pytest.raises(
            ModelError, match=r"graph.initializer\[0\]: tensor 'w': .* came as bytes; pass the model's path"
        ):
            model.load(path.read_bytes())

    def test_links_of_a_store(self, folder, tmp_path):
        store, shown = tmp_path / "store", tmp_path / "shown"
        store.mkdir()
        shown.mkdir()
        (folder / "weights.bin").rename(store / "abc")
        (store / "def").write_bytes(
            write.model(write.graph([], ["x"], ["w"], [self.tensor(10, location="weights.bin")]))
        )
        (shown / "weights.bin").symlink_to(store / "abc")
        (shown / "model.onnx").symlink_to(store / "def")
        assert model.load(shown / "model.onnx").graph.constants["w"][9] == 9

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({}, "location '' is not a plain path"),
            ({"location": "/etc/passwd"}, "is not a plain path inside the model's folder"),
            ({"location": "../secret"}, "is not a plain path"),
            ({"location": "deeper/../../secret"}, "is not a plain path"),
            ({"location": "..\\secret"}, "is not a plain path"),
            ({"location": "C:\\secret"}, "is not a plain path"),
            ({"location": "link.bin"}, "leads out of the model's folder, by a link"),
            ({"location": "linked/secret"}, "leads out of the model's folder, by a link"),
            ({"location": "deeper"}, "there is no file 'deeper'"),
            ({"location": "pipe"}, "there is no file 'pipe'"),
            ({"location": "absent.bin"}, "there is no file 'absent.bin'"),
            ({"location": "weights.bin", "offset": 36}, "4 bytes given, and the tensor's type and dims need 12"),
            ({"location": "weights.bin", "offset": 41}, "bytes 41 to 41 asked of 'weights.bin', which has 40"),
            ({"location": "weights.bin", "length": 41}, "bytes 0 to 41 asked of 'weights.bin', which has 40"),
            ({"location": "weights.bin", "length": 8}, "8 bytes given, and the tensor's type and dims need 12"),
            ({"location": "weights.bin", "offset": -4}, "offset is '-4'; expected a number of bytes"),
            ({"location": "weights.bin", "offset": "9" * 5000}, "expected a number of bytes"),
            ({"location": "weights.bin", "offset": "٣"}, "expected a number of bytes"),
            ({"location": "weights.bin", "length": "1e3"}, "length is '1e3'"),
        ],
    )
    def test_attacks(self, folder, tmp_path, entries, message):
        (folder / "link.bin").symlink_to(tmp_path / "secret")
        (folder / "linked").symlink_to(tmp_path)
        os.mkfifo(folder / "pipe")
        with pytest.raises(ModelError, match=message):
            read(self.tensor(**entries), folder)
