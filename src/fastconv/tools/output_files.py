"""Where a command is to write: refused before the work is done, not after it."""

import os
from pathlib import Path

from fastconv.errors import ArgumentError

__all__ = ["check_file", "check_folder"]


def check_file(argument: str, path: str | None) -> None:
    """Raise :class:`ArgumentError` where no file can be written at ``path``; None is for no file at all."""
    if path is None:
        return
    file = Path(path)
    if not path or file.is_dir():
        raise ArgumentError(f"{argument}: expected a file to write, got {f'the folder {path}' if path else 'no name'}")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ArgumentError(f"{argument}: there is no folder {folder}")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise ArgumentError(f"{argument}: {path} cannot be written: permission denied")


def check_folder(argument: str, path: str | None) -> None:
    """Raise :class:`ArgumentError` where ``path`` is no folder and none can be made; None is for no folder at all."""
    if path is None:
        return
    if not path:
        raise ArgumentError(f"{argument}: expected a folder to write to, got no name")
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ArgumentError(f"{argument}: expected a folder to write to, got {path}, where {place} is a file")
    if not os.access(place, os.W_OK):
        raise ArgumentError(f"{argument}: {path} cannot be written: permission denied")
