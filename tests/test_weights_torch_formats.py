"""The formats of ``torch.save``, written by hand: views, byte orders, widened types, and all that may be wrong."""

import struct
import zipfile

import numpy as np
import pytest
import weight_bytes as wb

from fastconv.errors import WeightsError
from fastconv.weights import load, load_state_dict
from fastconv.weights.elements import decoded


def entries(*tensors):
    return wb.pickled(wb.dictionary(**{f"t{i}": value for i, value in enumerate(tensors)}))


def test_views_of_one_storage_share_it(tmp_path):
    pickle = entries(
        wb.tensor(),
        wb.tensor(size=(3, 2), stride=(1, 3)),
        wb.tensor(offset=4, size=(2,), stride=(1,)),
        wb.tensor(size=(), stride=()),
        wb.tensor(size=(4, 2), stride=(0, 1)),
        wb.tensor(size=(0, 3), stride=(3, 1), offset=10**6),
        wb.tensor(size=(2**40,), stride=(0,)),
    )
    for path in (
        wb.file(tmp_path, wb.archive(pickle, [wb.SIX_BYTES])),
        wb.file(tmp_path, wb.legacy(pickle[2:-1], {"0": (6, wb.SIX_BYTES)})),
    ):
        whole, transposed, tail, scalar, repeated, empty, endless = load_state_dict(path).values()
        np.testing.assert_array_equal(whole, wb.SIX.reshape(2, 3))
        np.testing.assert_array_equal(transposed, whole.T)
        np.testing.assert_array_equal(tail, [4, 5])
        np.testing.assert_array_equal(repeated, [[0, 1]] * 4)
        assert (scalar.shape, scalar, empty.shape, endless.shape) == ((), 0, (0, 3), (2**40,))
        whole[0, 0] = 9
        assert transposed[0, 0] == scalar == repeated[3, 0] == endless[2**39] == 9


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_both_byte_orders(order, form, tmp_path):
    data = wb.SIX.astype(">f4" if order == "big" else "<f4").tobytes()
    content = wb.dictionary(weight=wb.tensor())
    if form == "zip":
        path = wb.file(tmp_path, wb.archive(wb.pickled(content), [data], order.encode()))
    else:
        path = wb.file(tmp_path, wb.legacy(content, {"0": (6, data)}, order == "little"))
    wb.assert_same(load_state_dict(path), {"weight": wb.SIX.reshape(2, 3)})


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_bfloat16_is_widened(form, tmp_path):
    data = struct.pack("<6H", 0x3F80, 0xC000, 0x7F80, 0x7FC0, 0x0001, 0x8000)
    content = wb.dictionary(weight=wb.tensor(wb.storage("BFloat16Storage")))
    path = wb.file(
        tmp_path, wb.archive(wb.pickled(content), [data]) if form == "zip" else wb.legacy(content, {"0": (6, data)})
    )
    expected = np.array([[1, -2, np.inf], [np.nan, 2.0**-133, -0.0]], np.float32)
    wb.assert_same(load_state_dict(path), {"weight": expected})


def test_float8_values():
    bytes_ = np.array([0x00, 0x01, 0x38, 0x7E, 0x7F, 0x80, 0xC0], np.uint8)
    expected = {
        "float8_e4m3fn": [0, 2**-9, 1, 448, np.nan, -0.0, -2],
        "float8_e4m3fnuz": [0, 2**-10, 0.5, 224, 240, np.nan, -1],
        "float8_e5m2": [0, 2**-16, 0.5, np.nan, np.nan, -0.0, -2],
        "float8_e5m2fnuz": [0, 2**-17, 0.25, 49152, 57344, np.nan, -1],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(decoded(name, bytes_), np.array(values, np.float32), err_msg=name)
    np.testing.assert_array_equal(decoded("float8_e5m2", np.array([0x7C, 0xFC], np.uint8)), [np.inf, -np.inf])


def test_a_dictionary_of_python_2(tmp_path):
    pairs = b"](](U\6weight" + wb.tensor() + b"e](U\1b" + wb.tensor() + b"ee"
    path = wb.file(tmp_path, wb.legacy(b"ccollections\nOrderedDict\n" + pairs + b"\x85R", {"0": (6, wb.SIX_BYTES)}))
    assert list(load_state_dict(path)) == ["weight", "b"]


@pytest.mark.parametrize(
    ("tensor", "message"),
    {
        "beyond": (wb.tensor(size=(2, 4)), r"shape \(2, 4\) with strides \(3, 1\) from element 0 reaches element 6"),
        "offset": (wb.tensor(offset=1), "from element 1 reaches element 6 of a storage of 6"),
        "stride": (wb.tensor(stride=(4, 1)), "reaches element 6"),
        "product": (wb.tensor(size=(2**33, 2**33), stride=(2**40, 2**40)), "that memory can hold"),
        "overflow": (wb.tensor(size=(2**62, 4), stride=(0, 0)), "that memory can hold"),
        "negative size": (wb.tensor(size=(-1, 3)), r"got \(-1, 3\)"),
        "negative stride": (wb.tensor(stride=(-3, 1)), r"got 0 and \(-3, 1\)"),
        "negative offset": (wb.tensor(offset=-1), "got -1"),
        "ranks": (wb.tensor(size=(6,)), r"a stride for each axis of \(6,\)"),
        "many axes": (wb.tensor(size=(1,) * 65, stride=(1,) * 65), "at most 32 axes"),
        "no integer": (wb.tensor().replace(wb.integers((2, 3)), wb.text("2")), "got '2'"),
        "true": (wb.tensor().replace(wb.integers((2, 3)), b"(\x88\x88t"), "that memory can hold"),
        "elements": (wb.tensor(wb.storage(elements=7)), "storage '0' has 24 bytes, and 7 elements of float32 need 28"),
        "fewer": (wb.tensor(wb.storage(elements=5)), "has 24 bytes, and 5 elements"),
        "less than none": (wb.tensor(wb.storage(elements=-6)), "has 24 bytes, and -6 elements"),
        "huge": (wb.tensor(wb.storage(elements=2**63)), "elements of float32 need"),
        "type": (wb.tensor(wb.storage("DoubleStorage")), "6 elements of float64 need 48"),
        "missing": (wb.tensor(wb.storage(key="1")), "has no member 'archive/data/1'"),
        "elsewhere": (wb.tensor(wb.storage(key="../../../etc/passwd")), "has no member 'archive/data/../../../etc"),
        "absolute": (wb.tensor(wb.storage(key="/etc/passwd")), "has no member 'archive/data//etc/passwd'"),
        "two sizes": (wb.tensor() + b"0" + wb.tensor(wb.storage("HalfStorage", elements=12)) + b"0N", "found|expected"),
        "sizes": (wb.tensor() + b"0" + wb.tensor(wb.storage(elements=3)), "storage '0' has two sizes"),
    }.values(),
)
def test_tensors_that_do_not_fit_their_storage(tensor, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        load_state_dict(wb.file(tmp_path, wb.archive(entries(tensor), [wb.SIX_BYTES])))


def test_archives_that_are_none_of_torch(tmp_path):
    good = {"a/data.pkl": entries(wb.tensor()), "a/data/0": wb.SIX_BYTES}
    wb.assert_same(load(wb.file(tmp_path, wb.zipped(good))), {"t0": wb.SIX.reshape(2, 3)})
    broken = {
        "expected one member [*]/data.pkl in the archive, found 0": {"other": b""},
        "found 2": {**good, "b/data.pkl": b""},
        "found 0": {"/data.pkl/data.pkl": b""},
        "a TorchScript archive": {**good, "a/code/__torch__.py": b""},
        "its byte order is b'middle'": {**good, "a/byteorder": b"middle"},
    }
    for message, members in broken.items():
        with pytest.raises(WeightsError, match=message):
            load(wb.file(tmp_path, wb.zipped(members)))


def test_an_archive_that_was_compressed(tmp_path):
    members = {"a/data.pkl": entries(wb.tensor()), "a/data/0": wb.SIX_BYTES + bytes(1000)}
    with pytest.raises(WeightsError, match="has 1024 bytes"):
        load(wb.file(tmp_path, wb.zipped(members, zipfile.ZIP_DEFLATED)))
    members["a/data/0"] = wb.SIX_BYTES
    content = wb.zipped(members, zipfile.ZIP_DEFLATED)
    wb.assert_same(load(wb.file(tmp_path, content)), {"t0": wb.SIX.reshape(2, 3)})
    start = content.index(b"a/data.pkl") + len("a/data.pkl")
    damaged = content[:start] + bytes([content[start] ^ 255]) + content[start + 1 :]
    with pytest.raises(WeightsError, match="cannot be decompressed"):
        load(wb.file(tmp_path, damaged))


def test_members_that_lie_elsewhere_than_the_directory_says(tmp_path):
    content = wb.archive(entries(wb.tensor()), [wb.SIX_BYTES])
    directory = content.index(b"PK\1\2")
    entry = content.index(b"archive/data/0", directory) - 46
    for position, value in ((42, 2**31), (42, 5), (20, 10**6), (24, 10**6)):
        changed = bytearray(content)
        struct.pack_into("<I", changed, entry + position, value)
        if position == 20:
            struct.pack_into("<I", changed, entry + 24, value)
        with pytest.raises(WeightsError):
            load(wb.file(tmp_path, bytes(changed)))


def test_two_members_of_one_name(tmp_path):
    path = wb.file(tmp_path, wb.archive(entries(wb.tensor()), [wb.SIX_BYTES]))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", bytes(24))
    with pytest.raises(WeightsError, match="two members of one name"):
        load(path)


def test_an_encrypted_member(tmp_path):
    content = bytearray(wb.archive(entries(wb.tensor()), [wb.SIX_BYTES]))
    entry = content.index(b"archive/data/0", content.index(b"PK\1\2")) - 46
    content[entry + 8] |= 1
    with pytest.raises(WeightsError, match="is encrypted"):
        load(wb.file(tmp_path, bytes(content)))


def test_the_format_before_zip(tmp_path):
    loaded = load_state_dict(wb.file(tmp_path, wb.legacy_file(), ".pt"))
    wb.assert_same(loaded, {"weight": wb.SIX.reshape(2, 3)})


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "count": (wb.legacy_file(blobs={"0": (5, wb.SIX_BYTES)}), "storage '0' of 6 elements is cut off or of another"),
        "short": (wb.legacy_file(blobs={"0": (6, wb.SIX_BYTES[:-1])}), "storage '0' of 6 elements is cut off"),
        "keys": (wb.legacy_file(blobs={"1": (6, wb.SIX_BYTES)}), "not that of its tensors"),
        "more keys": (wb.legacy_file(blobs={"0": (6, wb.SIX_BYTES), "1": (0, b"")}), "not that of its tensors"),
        "larger than the file": (
            wb.legacy_file(wb.dictionary(weight=wb.tensor(wb.storage(elements=2**40)))),
            "storage '0' of 1099511627776 elements does not fit into the file",
        ),
        "less than none": (wb.legacy_file(wb.tensor(wb.storage(elements=-1))), "does not fit"),
        "two types": (
            wb.legacy_file(wb.tensor() + b"0" + wb.tensor(wb.storage("HalfStorage"))),
            "does not fit into the file",
        ),
        "no magic number": (wb.pickled(wb.integer(3)), "a pickle, but none that torch.save has written"),
        "a tensor for a magic number": (wb.pickled(wb.tensor()), "refers to a storage before its tensors"),
        "no byte order": (
            wb.legacy_file().replace(b"}" + wb.text("little_endian") + b"\x88s", b"}"),
            "does not say its byte order",
        ),
    }.values(),
)
def test_broken_files_of_the_format_before_zip(content, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        load_state_dict(wb.file(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"x", "no file of torch.save"),
        (b"PK\3\4 and more", "not a complete zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "no file of torch.save; it starts with"),
        ((60).to_bytes(8, "little") + b'{"a":', "give it the suffix .safetensors"),
        (bytes(257) + b"ustar" + bytes(300), "the tar format that PyTorch left in 2017"),
    ],
)
def test_files_that_are_something_else(content, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        load_state_dict(wb.file(tmp_path, content))
