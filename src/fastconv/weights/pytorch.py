"""The files of ``torch.save``: zip archives, and the format before PyTorch 1.6.

Zip: ``<any>/data.pkl`` is a pickle that refers to storages, ``<any>/data/<key>`` their bytes, uncompressed and aligned,
``<any>/byteorder`` their byte order.  Before: pickles of a magic number, a version, facts of the machine, the data, and
the keys of the storages; then per key a 64-bit count of elements and their bytes.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
from functools import cache, partial
from math import prod

import numpy as np

from fastconv.errors import WeightsError
from fastconv.weights.archive import Archive, write_member
from fastconv.weights.elements import ITEM_BYTES, decoded, shown
from fastconv.weights.pickles import STORAGES, Storage, read_pickle

__all__ = ["load", "save"]

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
_STORAGE_OF = {name: storage for storage, name in STORAGES.items() if storage != "UntypedStorage"}


def load(file):
    """The data of an open file, tensors as arrays."""
    start = file.peek(512)[:512]
    if not start:
        raise WeightsError("the file is empty")
    if start.startswith(b"PK"):
        return _load_zip(Archive(file))
    if start[:1] == b"\x80":
        return _load_legacy(file)
    if start[8:9] == b"{":
        raise WeightsError("it looks like a safetensors file; give it the suffix .safetensors")
    if start[257:262] == b"ustar":
        raise WeightsError("it is in the tar format that PyTorch left in 2017; load and save it there first")
    raise WeightsError(f"it is no file of torch.save; it starts with {start[:16]!r}")


def _load_zip(archive: Archive):
    pickles = [name for name in archive.members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"expected one member */data.pkl in the archive, found {len(pickles)}")
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{folder}code/") for name in archive.members):
        raise WeightsError("it is a TorchScript archive, which holds a program; save the state_dict() of its module")
    order = archive.read(f"{folder}byteorder").tobytes() if f"{folder}byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise WeightsError(f"its byte order is {order[:20]!r}, neither little nor big")
    sizes = {}

    @cache
    def read(key: str, dtype: str) -> np.ndarray:
        return decoded(dtype, archive.read(f"{folder}data/{key}"), order == b"big")

    def storage(dtype: str, key: str, elements: int) -> Storage:
        size = elements * ITEM_BYTES[dtype]
        if sizes.setdefault(key, size) != size:
            raise WeightsError(f"storage {shown(key)} has two sizes")
        name = f"{folder}data/{key}"
        if name in archive.members and archive.members[name].file_size != size:
            raise WeightsError(
                f"storage {shown(key)} has {archive.members[name].file_size} bytes, and {shown(elements)} elements of "
                f"{dtype} need {shown(size)}"
            )
        return Storage(dtype, partial(read, key))

    return read_pickle(io.BytesIO(archive.read(pickles[0]).tobytes()), storage)


class _LegacyStorages:
    """The storages of a file whose bytes follow the pickle: arrays that are filled when these are read."""

    def __init__(self, file_size: int):
        self.left = file_size
        self.sizes: dict[str, tuple[int, int]] = {}  # key → elements, bytes of one
        self.arrays: dict[tuple[str, str], np.ndarray] = {}

    def __call__(self, dtype: str, key: str, elements: int) -> Storage:
        size = elements, ITEM_BYTES[dtype]
        if key not in self.sizes:
            self.left -= elements * ITEM_BYTES[dtype]
        if elements < 0 or self.left < 0 or self.sizes.setdefault(key, size) != size:
            raise WeightsError(f"storage {shown(key)} of {shown(elements)} elements does not fit into the file")
        return Storage(dtype, partial(self._array, key))

    def _array(self, key: str, dtype: str) -> np.ndarray:
        if (key, dtype) not in self.arrays:
            elements, item_bytes = self.sizes[key]
            kind = decoded(dtype, np.empty(0, np.uint8)).dtype
            self.arrays[key, dtype] = np.empty(elements * item_bytes // ITEM_BYTES[dtype], kind)
        return self.arrays[key, dtype]

    def fill(self, file, big_endian: bool) -> None:
        """Read what follows the pickle: the keys, then for each the number of elements and their bytes."""
        keys = read_pickle(file, _no_storage)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(self.sizes):
            raise WeightsError("the list of its storages is not that of its tensors")
        for key in keys:
            elements, item_bytes = self.sizes[key]
            count = int.from_bytes(file.read(8), "big" if big_endian else "little")
            data = file.read(elements * item_bytes)
            if count != elements or len(data) != elements * item_bytes:
                raise WeightsError(f"storage {shown(key)} of {elements} elements is cut off or of another size")
            for (owner, dtype), array in self.arrays.items():
                if owner == key:
                    array[...] = decoded(dtype, np.frombuffer(data, np.uint8), big_endian)


def _no_storage(dtype, key, elements):
    raise WeightsError("it refers to a storage before its tensors")


def _load_legacy(file):
    for expected in (MAGIC_NUMBER, PROTOCOL_VERSION):
        value = read_pickle(file, _no_storage)
        if type(value) is not int or value != expected:
            raise WeightsError("it is a pickle, but none that torch.save has written")
    machine = read_pickle(file, _no_storage)
    if not isinstance(machine, dict) or machine.get("little_endian") not in (True, False):
        raise WeightsError("it does not say its byte order")
    storages = _LegacyStorages(os.fstat(file.fileno()).st_size)
    content = read_pickle(file, storages)
    storages.fill(file, not machine["little_endian"])
    return content


def save(arrays: dict[str, np.ndarray], metadata, file) -> None:
    """Write a state dict as ``torch.save`` does; `metadata` are the versions of modules, or None."""
    storages = {}  # id of an array → key, array; arrays that are the same object share one
    entries = []
    for name, array in arrays.items():
        key, _ = storages.setdefault(id(array), (str(len(storages)), array))
        entries += [_text(name), _tensor(array, key)]
    pickle = [b"\x80\x02", _EMPTY_DICT, b"(", *entries, b"u", *_versions(metadata), b"."]
    with zipfile.ZipFile(file, "w") as archive:
        write_member(archive, "archive/data.pkl", b"".join(pickle))
        write_member(archive, "archive/byteorder", sys.byteorder.encode())
        for key, array in storages.values():
            write_member(archive, f"archive/data/{key}", np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        write_member(archive, "archive/version", b"3\n")


_EMPTY_DICT = b"ccollections\nOrderedDict\n)R"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integers(*numbers: int) -> bytes:
    return b"".join(b"\x8a\x08" + struct.pack("<q", number) for number in numbers)


def _tensor(array: np.ndarray, key: str) -> bytes:
    """The pickle's call that makes a tensor from storage `key`."""
    dtype = array.dtype.name
    if dtype in _STORAGE_OF:
        function, storage, elements = b"_rebuild_tensor_v2", b"torch\n" + _STORAGE_OF[dtype].encode(), array.size
        type_name = b""
    elif dtype in ITEM_BYTES:
        function, storage, elements = b"_rebuild_tensor_v3", b"torch.storage\nUntypedStorage", array.nbytes
        type_name = b"ctorch\n" + dtype.encode() + b"\n"
    else:
        raise WeightsError(f"state: PyTorch has no element type {dtype}")
    strides = [prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    parts = (
        b"ctorch._utils\n" + function + b"\n((" + _text("storage") + b"c" + storage + b"\n",
        _text(key) + _text("cpu") + _integers(elements) + b"tQ" + _integers(0),
        b"(" + _integers(*array.shape) + b"t(" + _integers(*strides) + b"t",
        b"\x89" + _EMPTY_DICT + type_name + b"tR",
    )
    return b"".join(parts)


def _versions(metadata):
    """The pickle's operations that put the versions of modules beside the state dict."""
    if metadata is None:
        return
    yield b"}" + _text("_metadata") + _EMPTY_DICT + b"("
    for path, entry in metadata.items():
        yield _text(path) + b"}" + _text("version") + _integers(entry["version"]) + b"s"
    yield b"usb"
