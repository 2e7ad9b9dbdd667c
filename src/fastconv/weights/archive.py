"""Weight files as bytes: mapped into memory, and the members of zip archives among them."""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib

import numpy as np

from fastconv.errors import WeightsError

__all__ = ["Archive", "mapped", "write_member"]

_LOCAL_HEADER = struct.Struct("<4s22xHH")
ALIGNMENT = 64  # of the data of members that are written; bytes


def mapped(file) -> np.ndarray:
    """The bytes of an open file, uint8: changes to them stay in memory."""
    if not os.fstat(file.fileno()).st_size:
        raise WeightsError("the file is empty")
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)


class Archive:
    """The members of a zip archive by name; nothing is ever extracted to a file."""

    def __init__(self, file):
        self.data = mapped(file)
        try:
            self._zip = zipfile.ZipFile(file)
            members = self._zip.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OverflowError) as error:
            raise WeightsError(f"not a complete zip archive: {error}") from error
        self.members = {member.filename: member for member in members}
        if len(self.members) < len(members):
            raise WeightsError("the archive has two members of one name")

    def read(self, name: str) -> np.ndarray:
        """The bytes of a member, uint8: mapped where it is stored uncompressed."""
        if name not in self.members:
            raise WeightsError(f"the archive has no member {name!r:.200}")
        member = self.members[name]
        if member.flag_bits & 1:
            raise WeightsError(f"member {name!r:.200} is encrypted")
        if member.compress_type == zipfile.ZIP_STORED:
            return self._stored(member)
        try:
            content = self._zip.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            raise WeightsError(f"member {name!r:.200} cannot be decompressed: {error}") from error
        if len(content) != member.file_size:
            raise WeightsError(f"member {name!r:.200} has {len(content)} bytes, and {member.file_size} are announced")
        return np.frombuffer(bytearray(content), np.uint8)

    def _stored(self, member: zipfile.ZipInfo) -> np.ndarray:
        header = self.data[member.header_offset : member.header_offset + _LOCAL_HEADER.size].tobytes()
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header.ljust(_LOCAL_HEADER.size, b"\0"))
        start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        inside = member.header_offset >= 0 and start + member.file_size <= self._zip.start_dir
        if signature != zipfile.stringFileHeader or not inside or member.file_size != member.compress_size:
            raise WeightsError(f"member {member.filename!r:.200} does not lie where the archive's directory says")
        return self.data[start : start + member.file_size]


def write_member(archive: zipfile.ZipFile, name: str, content) -> None:
    """Add a stored member whose data starts at a multiple of 64 bytes, as PyTorch and mapping want it."""
    content = memoryview(content)
    member = zipfile.ZipInfo(name)
    member.file_size = content.nbytes
    before = archive.fp.tell() + _LOCAL_HEADER.size + len(name.encode()) + 4
    if member.file_size * 1.05 > zipfile.ZIP64_LIMIT:
        before += 20  # the extra field that zipfile puts first in the header of such a member
    padding = -before % ALIGNMENT
    member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(member, "w") as destination:
        destination.write(content)
