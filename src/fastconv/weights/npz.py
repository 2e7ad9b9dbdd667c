"""NumPy's ``.npz``: a zip archive of ``.npy`` members.  Only arrays of numbers are read, never pickles.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.  The header of a member is matched
rather than evaluated as NumPy does.
"""

from __future__ import annotations

import io
import re
import zipfile
from math import prod

import numpy as np

from fastconv.errors import WeightsError
from fastconv.weights.archive import Archive, write_member
from fastconv.weights.elements import checked_shape, shown

__all__ = ["load", "save"]

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000  # NumPy's own limit
_HEADER = re.compile(
    r"""\{(?=.*['"]descr['"]:\s*['"](?P<dtype>[^'"]*)['"])"""
    r"""(?=.*['"]fortran_order['"]:\s*(?P<fortran>True|False))"""
    r"""(?=.*['"]shape['"]:\s*\((?P<shape>[\d, ]*)\)).*\}\s*"""
)
_DTYPES = {dtype.newbyteorder(order).str for dtype in map(np.dtype, "?bBhHiIqQefdgFDG") for order in "<>"}


def load(file) -> dict[str, np.ndarray]:
    """The arrays of an open file by name."""
    archive = Archive(file)
    return {name.removesuffix(".npy"): _array(shown(name), archive.read(name)) for name in archive.members}


def _array(name: str, data: np.ndarray) -> np.ndarray:
    start = data[: MAX_HEADER_BYTES + 12].tobytes()
    size_bytes = 2 if start[6:7] == b"\1" else 4
    end = 8 + size_bytes + int.from_bytes(start[8 : 8 + size_bytes], "little")
    if not start.startswith(MAGIC) or end > len(start):
        raise WeightsError(f"{name} is no array of NumPy")
    header = start[8 + size_bytes : end].decode("latin1")
    match = _HEADER.fullmatch(header)
    if match is None or match["dtype"] not in _DTYPES:
        raise WeightsError(f"{name}: expected an array of numbers, got {header.strip()[:120]}")
    dtype = np.dtype(match["dtype"])
    shape = checked_shape([int(size) for size in re.findall(r"\d{1,19}", match["shape"])], name)
    content = data[end:]
    if content.size != prod(shape) * dtype.itemsize:
        raise WeightsError(f"{name}: shape {shape} of {dtype} does not make the {content.size} bytes that follow")
    array = content != 0 if dtype.kind == "b" else content.view(dtype)
    if not array.flags.aligned or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.reshape(shape, order="F" if match["fortran"] == "True" else "C")


def save(arrays: dict[str, np.ndarray], metadata, file) -> None:
    """Write `arrays`, uncompressed; `metadata` has no place here."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            write_member(archive, f"{name}.npy", member.getbuffer())
