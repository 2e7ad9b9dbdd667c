"""Files of ``torch.save`` written by hand: the tests that read them need no torch, and they may be wrong in any way."""

import io
import struct
import zipfile

import numpy as np

SIX = np.arange(6, dtype="<f4")
SIX_BYTES = SIX.tobytes()

ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(kind="FloatStorage", key="0", elements=6, module="torch"):
    kind = f"c{module}\n{kind}\n".encode()
    return b"(" + text("storage") + kind + text(key) + text("cpu") + integer(elements) + b"tQ"


def tensor(stored=None, offset=0, size=(2, 3), stride=(3, 1)):
    """The operations that leave a tensor on the stack; `stored` are those that leave its storage there."""
    function = b"ctorch._utils\n_rebuild_tensor_v2\n("
    stored = storage() if stored is None else stored
    return function + stored + integer(offset) + integers(size) + integers(stride) + b"\x89" + ORDERED_DICT + b"tR"


def dictionary(**entries):
    return ORDERED_DICT + b"(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


def pickled(*operations):
    return b"\x80\x02" + b"".join(operations) + b"."


def archive(pickle, blobs=(), byteorder=b"little", **more):
    """A zip archive as bytes; `blobs` are the storages "0", "1" and so on."""
    members = {"archive/data.pkl": pickle, "archive/byteorder": byteorder}
    members |= {f"archive/data/{key}": blob for key, blob in enumerate(blobs)} | more
    return zipped(members)


def zipped(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


def legacy(content, blobs, little_endian=True):
    """The format before PyTorch 1.6; `blobs` maps keys to (elements, bytes)."""
    order = "little" if little_endian else "big"
    facts = b"}" + text("little_endian") + (b"\x88" if little_endian else b"\x89") + b"s"
    keys = b"](" + b"".join(map(text, blobs)) + b"e"
    magic = b"\x8a\x0a" + bytes.fromhex("6cfc9c46f9206aa85019")
    pickles = b"".join(pickled(part) for part in (magic, integer(1001), facts, content, keys))
    return pickles + b"".join(elements.to_bytes(8, order) + data for elements, data in blobs.values())


def legacy_file(content=None, blobs=None, **options):
    content = dictionary(weight=tensor()) if content is None else content
    return legacy(content, {"0": (6, SIX_BYTES)} if blobs is None else blobs, **options)


def file(folder, content, suffix=".pth"):
    """The path of a file with `content`."""
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    return path


def assert_same(loaded, expected):
    assert list(loaded) == list(expected)
    for key, array in expected.items():
        assert (loaded[key].shape, loaded[key].dtype) == (np.shape(array), array.dtype.newbyteorder("=")), key
        np.testing.assert_array_equal(loaded[key], array)
