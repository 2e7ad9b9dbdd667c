"""The reader of ONNX files: fields, damaged and hostile bytes, agreement with the onnx package."""

import os
import struct
from pathlib import Path

import numpy as np
import onnx_bytes as write
import pytest

from fastconv.errors import ArgumentError, ModelError
from fastconv.onnx import model, proto, tensors

SMALL_MODEL = write.model(
    write.graph(
        [
            write.node("Conv", "x w b", "y", name="conv", pads=[1, 1, 1, 1], auto_pad="NOTSET"),
            write.node("LeakyRelu", "y", "z", alpha=0.5),
            write.node("If", "c", "u", then_branch=("g", write.graph([write.node("Neg", "z", "t")], [], ["t"]))),
        ],
        [write.value("x", [1, 2, "h", None]), write.value("c", [], 9)],
        ["u"],
        [write.tensor(np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3), "w"), write.tensor(np.ones(2, "f4"), "b")],
    ),
    metadata_props=[write.message("StringStringEntryProto", key="author", value="nobody")],
)


class TestWire:
    def test_fields_by_hand(self):
        # key 0x08: field 1 varint 150; key 0x12: field 2, 2 bytes "hi"; key 0xa0 0x01: field 20 varint, -1 in 10 bytes
        data = bytes.fromhex("089601 12026869") + bytes.fromhex("a001") + b"\xff" * 9 + b"\x01"
        assert proto.decode("ModelProto", data[:7]).ir_version == 150
        assert proto.decode("ModelProto", data[:7]).producer_name == "hi"
        assert proto.decode("AttributeProto", data[7:]).type == -1

    def test_defaults_and_presence(self):
        message = proto.decode("NodeProto", b"")
        assert (message.op_type, message.input, message.attribute) == ("", (), ())
        assert "op_type" not in message
        dimension = proto.decode("TensorShapeProto.Dimension", write.field(1, 0))
        assert "dim_value" in dimension
        assert "dim_param" not in dimension

    def test_repeated_numbers_packed_and_not(self):
        packed = write.field(8, write.varint(3) + write.varint(-4)) + write.field(7, struct.pack("<2f", 0.5, 2))
        loose = write.field(8, 3) + write.field(8, -4) + write.field(7, 0.5) + write.field(7, 2.0)
        for data in (packed, loose):
            message = proto.decode("AttributeProto", data)
            assert message.ints == [3, -4]
            assert message.floats == [0.5, 2.0]

    def test_a_message_given_twice_is_merged(self):
        data = write.field(7, write.message("GraphProto", name="a")) + write.field(7, write.graph([], ["x"], []))
        assert [v.name for v in proto.decode("ModelProto", data).graph.input] == ["x"]
        assert proto.decode("ModelProto", data).graph.name == "test"

    def test_unknown_fields_are_skipped(self):
        data = write.field(1000, 5) + write.field(1001, b"abc") + write.field(1002, 1.0) + write.field(1, 7)
        assert proto.decode("ModelProto", data).ir_version == 7

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"\x08", "cut off at the end"),
            (b"\x08" + b"\xff" * 10, "more than 10 bytes"),
            (b"\x12\x05ab", "field 2 needs 5 bytes, 2 remain"),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "remain"),
            (b"\x0b", "wire type 3 of field 1"),
            (b"\x0d\0\0\0\0", "field 1 has wire type 5"),
            (b"\x12\x01\xff", "producer_name: a name or text is not UTF-8"),
            (write.field(7, write.field(1, write.field(5, b"\x0a\x05a"))), r"graph.node\[0\].attribute\[0\]: field 1"),
        ],
    )
    def test_damage_is_named(self, data, message):
        with pytest.raises(ModelError, match=message):
            proto.decode("ModelProto", data)

    def test_floats_cut_off(self):
        with pytest.raises(ModelError, match="7 bytes are no whole number"):
            proto.decode("AttributeProto", write.field(7, b"1234567"))

    def test_nesting_is_limited(self):
        data = b""
        for _ in range(60):
            data = write.field(1, write.field(5, write.field(6, data)))
        with pytest.raises(ModelError, match="nest more than 100 deep"):
            proto.decode("GraphProto", data)

    def test_error_is_catchable_and_keeps_its_place(self):
        error = ModelError("broken", "node[3]").inside("graph")
        assert isinstance(error, ArgumentError)
        assert str(error) == "graph.node[3]: broken"
        assert (error.what, error.where) == ("broken", "graph.node[3]")


class TestDamage:
    """Whatever the bytes, reading ends with a model or with ModelError."""

    @staticmethod
    def outcome(data: bytes) -> bool:
        try:
            model.load(data)
        except ModelError:
            return False
        return True

    def test_cut_off_at_every_byte(self):
        assert self.outcome(SMALL_MODEL)
        assert sum(self.outcome(SMALL_MODEL[:n]) for n in range(len(SMALL_MODEL))) < 100

    @pytest.mark.parametrize("seed", range(4))
    def test_flipped_bits(self, seed):
        rng = np.random.default_rng(seed)
        readable = 0
        for _ in range(1500):
            data = bytearray(SMALL_MODEL)
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            readable += self.outcome(bytes(data))
        assert 0 < readable < 1500

    @pytest.mark.parametrize("seed", range(2))
    def test_noise_and_splices(self, seed):
        rng = np.random.default_rng(seed)
        for _ in range(1000):
            data = bytearray(SMALL_MODEL)
            start, size = rng.integers(len(data)), rng.integers(1, 20)
            data[start : start + size] = rng.bytes(rng.integers(0, 20))
            self.outcome(bytes(data))
            self.outcome(rng.bytes(rng.integers(1, 60)))


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx", reason="the onnx package is not installed: nothing to compare the reader with")


# What a ModelProto can hold and an inference engine has no use for.
UNREAD = {
    "ModelProto": {"training_info", "configuration"},
    "NodeProto": {"device_configurations"},
    "GraphProto": {"quantization_annotation"},
}


class TestAgainstOnnx:
    """The onnx package, where it is installed, reads the same."""

    def test_table_of_fields(self, onnx):
        descriptors = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name
        for kind, fields in proto.MESSAGES.items():
            outer, *inner = kind.split(".")
            descriptor = descriptors[outer]
            for name in inner:
                descriptor = descriptor.nested_types_by_name[name]
            known = {f.number: f for f in descriptor.fields}
            left_out = {f.name for f in known.values()} - {name for name, _ in fields.values()}
            assert left_out == UNREAD.get(kind, set())
            for number, (name, written) in fields.items():
                assert known[number].name == name
                assert self.kind_of(known[number]) == written.replace("view", "bytes").replace("[]", "*"), name

    @staticmethod
    def kind_of(field) -> str:
        if field.message_type is not None:
            kind = field.message_type.full_name.removeprefix("onnx.")
        elif field.enum_type is not None:
            kind = "int32"
        else:
            kind = {
                field.TYPE_INT64: "int64",
                field.TYPE_INT32: "int32",
                field.TYPE_UINT64: "uint64",
                field.TYPE_FLOAT: "float",
                field.TYPE_DOUBLE: "double",
                field.TYPE_STRING: "string",
                field.TYPE_BYTES: "bytes",
            }[field.type]
        return kind + "*" * field.is_repeated

    def assert_same(self, ours, theirs):
        for name, kind in proto.MESSAGES[type(ours).__name__].values():
            mine, other = getattr(ours, name), getattr(theirs, name)
            if kind.rstrip("*") in proto.MESSAGES:
                pairs = zip(mine, other, strict=True) if kind[-1] == "*" else [(mine, other)] * theirs.HasField(name)
                for a, b in pairs:
                    self.assert_same(a, b)
                assert kind[-1] == "*" or (mine is not None) == theirs.HasField(name)
            elif kind == "view":
                assert bytes(mine) == other
            elif kind[-1] == "]":
                assert bool(mine) == bool(len(other))
            else:
                assert (list(mine) if kind[-1] == "*" else mine) == (list(other) if kind[-1] == "*" else other)
        if type(ours).__name__ == "TensorProto" and ours.data_type in tensors.DTYPES:
            self.assert_same_array(ours, theirs)

    @staticmethod
    def assert_same_array(ours, theirs):
        from onnx import numpy_helper

        array = tensors.array(ours, tensors.DataFiles(None))
        expected = numpy_helper.to_array(theirs)
        assert array.shape == expected.shape
        assert ours.data_type in (21, 22, 25, 26) or array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the suite casts out of range while it is built
    def test_models_of_the_suite(self, onnx):
        from onnx.backend.test.loader import DATA_DIR, load_model_tests

        for case in load_model_tests(kind="node"):
            data = case.model.SerializeToString()
            self.assert_same(proto.decode("ModelProto", data), case.model)
        for kind in ("pytorch-converted", "pytorch-operator", "simple"):
            for case in load_model_tests(kind=kind):
                path = os.path.join(case.model_dir, "model.onnx")
                self.assert_same(proto.decode("ModelProto", Path(path).read_bytes()), onnx.load(path))
        light = os.path.join(DATA_DIR, "light")
        for name in os.listdir(light):
            if name.endswith(".onnx"):
                path = os.path.join(light, name)
                self.assert_same(proto.decode("ModelProto", Path(path).read_bytes()), onnx.load(path))

    @pytest.mark.parametrize("raw", [False, True])
    def test_tensors_of_every_type(self, onnx, raw):
        rng = np.random.default_rng(1)
        for data_type in tensors.DTYPES:
            if raw and data_type == onnx.TensorProto.STRING:
                continue
            dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
            array = rng.integers(-2 if np.dtype(dtype).kind in "fi" else 0, 2, (3, 5)).astype(dtype)
            values = array.tobytes() if raw else array
            if data_type in (21, 22, 25, 26):
                made = onnx.numpy_helper.from_array(array)
            elif data_type == onnx.TensorProto.STRING:
                made = onnx.helper.make_tensor("t", data_type, (3, 5), [f"{v} é" for v in array.reshape(-1)])
            else:
                made = onnx.helper.make_tensor("t", data_type, (3, 5), values, raw=raw)
            self.assert_same(proto.decode("TensorProto", made.SerializeToString()), made)

    def test_our_writer_is_read_by_onnx(self, onnx):
        self.assert_same(proto.decode("ModelProto", SMALL_MODEL), onnx.load_from_string(SMALL_MODEL))
