"""Safetensors and npz, written by hand and by NumPy, and everything that may be wrong with them."""

import json
import struct

import numpy as np
import pytest
import weight_bytes as wb

from fastconv.errors import WeightsError
from fastconv.weights import load, load_state_dict


def safetensors(header, data=wb.SIX_BYTES, size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def entry(**changed):
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changed


def test_safetensors_written_by_hand(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "weight": entry()}
    wb.assert_same(
        load_state_dict(wb.file(tmp_path, safetensors(header), ".safetensors")), {"weight": wb.SIX.reshape(2, 3)}
    )
    odd = json.dumps(header).encode() + b" " * 3
    wb.assert_same(
        load_state_dict(wb.file(tmp_path, safetensors(odd), ".safetensors")), {"weight": wb.SIX.reshape(2, 3)}
    )
    widened = {"weight": entry(dtype="BF16", shape=[2], data_offsets=[0, 4])}
    path = wb.file(tmp_path, safetensors(widened, struct.pack("<2H", 0x3F80, 0xC000)), ".safetensors")
    wb.assert_same(load_state_dict(path), {"weight": np.array([1, -2], np.float32)})
    assert load(wb.file(tmp_path, safetensors({}, b""), ".safetensors")) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "empty": (b"", "the file is empty"),
        "short": (b"1234567", "a file of 7 bytes is too short"),
        "longer": (safetensors({"a": entry()}, size=2**40), "a header of 1099511627776 bytes, in a file of"),
        "over the limit": (safetensors({"a": entry()}, size=2**64 - 1), "is too long"),
        "no brace": (safetensors(b' {"a":1}'), "does not start with {"),
        "no JSON": (safetensors(b"{"), "no JSON"),
        "deep": (safetensors(b'{"a":' + b"[" * 100_000), "no JSON"),
        "not UTF-8": (safetensors(b'{"\xff":1}'), "no JSON"),
        "NaN": (safetensors(b'{"a":NaN}'), "has the number NaN"),
        "infinity": (safetensors(b'{"a":-Infinity}'), "has the number -Infinity"),
        "twice": (safetensors(b'{"a":1,"a":2}'), "names something twice"),
        "metadata": (safetensors({"__metadata__": {"a": 1}}, b""), "__metadata__ is not text"),
        "metadata list": (safetensors({"__metadata__": []}, b""), "__metadata__ is not text"),
        "no entry": (safetensors({"a": 3}), "'a' is not described by dtype, shape and data_offsets alone"),
        "lacking": (safetensors({"a": {"dtype": "F32", "shape": [6]}}), "'a' is not described"),
        "unknown type": (safetensors({"a": entry(dtype="F4")}), "'a': expected elements of type BOOL, .*got 'F4'"),
        "scales": (safetensors({"a": entry(dtype="F8_E8M0")}), "got 'F8_E8M0'"),
        "type": (safetensors({"a": entry(dtype=3)}), "got 3"),
        "negative": (safetensors({"a": entry(shape=[-2, -3])}), r"got \(-2, -3\)"),
        "fraction": (safetensors({"a": entry(shape=[6.0])}), r"got \(float\)"),
        "true": (safetensors({"a": entry(shape=[True, 6])}), "that memory can hold"),
        "overflow": (safetensors({"a": entry(shape=[2**62, 2**62])}), "that memory can hold"),
        "axes": (safetensors({"a": entry(shape=[1] * 40)}), "at most 32 axes"),
        "no shape": (safetensors({"a": entry(shape=6)}), "got 6"),
        "size": (safetensors({"a": entry(shape=[5])}), "24 bytes, and F32 of shape [(]5,[)] needs 20"),
        "order": (safetensors({"a": entry(data_offsets=[24, 0])}), "two ascending data_offsets"),
        "before": (safetensors({"a": entry(data_offsets=[-24, 0])}), "two ascending data_offsets, got [(]-24, 0[)]"),
        "one": (safetensors({"a": entry(data_offsets=[0])}), "two ascending data_offsets"),
        "huge": (safetensors({"a": entry(data_offsets=[0, 2**70])}), "got [(]0, a huge number[)]"),
        "beyond": (safetensors({"a": entry(shape=[7], data_offsets=[0, 28])}), "have 28 bytes, and the file 24"),
        "unused": (safetensors({"a": entry(shape=[5], data_offsets=[0, 20])}), "have 20 bytes, and the file 24"),
        "overlap": (
            safetensors({"a": entry(), "b": entry(shape=[1], data_offsets=[20, 24])}),
            "'b' begins at byte 20, and the one before ends at 24",
        ),
        "gap": (
            safetensors({"a": entry(shape=[1], data_offsets=[0, 4]), "b": entry(shape=[1], data_offsets=[8, 12])}),
            "'b' begins at byte 8, and the one before ends at 4",
        ),
    }.values(),
)
def test_broken_safetensors(content, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        load_state_dict(wb.file(tmp_path, content, ".safetensors"))


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


def npy(header=HEADER, data=wb.SIX_BYTES, version=b"\1\0"):
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


def npz(member):
    return wb.zipped({"weight.npy": member})


def test_files_of_numpy(tmp_path):
    state = {
        "weight": wb.SIX.reshape(2, 3),
        "fortran": np.asfortranarray(wb.SIX.reshape(3, 2)),
        "flag": np.array([True]),
    }
    state |= {"scalar": np.array(7), "swapped": np.arange(3, dtype=">i2"), "empty": np.zeros((0, 2))}
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "weights.npz", **state)
        wb.assert_same(load_state_dict(tmp_path / "weights.npz"), state)


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
def test_headers_of_other_writers(version, tmp_path):
    header = """{"shape": (2,3), "fortran_order": False, "descr": "<f4"}"""
    path = wb.file(tmp_path, npz(npy(header, version=version)), ".npz")
    wb.assert_same(load_state_dict(path), {"weight": wb.SIX.reshape(2, 3)})


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "no zip": (b"PK", "not a complete zip archive"),
        "no array": (npz(b"text"), "'weight.npy' is no array of NumPy"),
        "header cut off": (npz(npy()[:50]), "is no array of NumPy"),
        "long header": (npz(npy("{" + " " * 20_000 + "}", version=b"\2\0")), "is no array of NumPy"),
        "code": (npz(npy("__import__('os').system('true')")), "expected an array of numbers, got __import__"),
        "negative": (npz(npy(HEADER.replace("(2, 3)", "(-2, -3)"))), "expected an array of numbers"),
        "size": (npz(npy(HEADER.replace("(2, 3)", "(2, 4)"))), r"shape \(2, 4\) of float32 does not make"),
        "huge": (npz(npy(HEADER.replace("(2, 3)", "(" + "9" * 5000 + ",)"))), "weight"),
        "overflow": (npz(npy(HEADER.replace("(2, 3)", "(4294967296, 4294967296)"))), "that memory can hold"),
        "type": (npz(npy(HEADER.replace("<f4", "<f3"))), "expected an array of numbers"),
        "void": (npz(npy(HEADER.replace("<f4", "|V4"))), "expected an array of numbers"),
    }.values(),
)
def test_broken_npz(content, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        load_state_dict(wb.file(tmp_path, content, ".npz"))


@pytest.mark.parametrize(
    "array", [np.array([{}], object), np.array(["a"]), np.zeros(1, [("a", "f4")]), np.zeros(1, "m8")]
)
def test_arrays_of_anything_but_numbers(array, tmp_path):
    np.savez(tmp_path / "weights.npz", weight=array)
    with pytest.raises(WeightsError, match=r"'weight\.npy': expected an array of numbers"):
        load_state_dict(tmp_path / "weights.npz")
