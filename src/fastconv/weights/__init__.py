"""State dicts in files: PyTorch's, safetensors and NumPy's, read without PyTorch and without running anything.

========================================  =============================================================================
``.pth .pt .bin .ckpt .tar``              ``torch.save``: the zip format, and the one before PyTorch 1.6
``.safetensors``                          https://github.com/huggingface/safetensors, format
``.npz``                                  ``numpy.savez``, arrays of numbers only
========================================  =============================================================================

Arrays that lie uncompressed in the file are mapped, not copied: they cost no memory until they are read, and writing to
one changes the memory alone.  Such a file must not be cut short while its arrays live; saving to it again by
:func:`save_state_dict` is safe.  Element types that NumPy lacks (bfloat16, float8) are widened to float32.

Every file is checked before anything is returned: whatever does not fit raises :class:`fastconv.WeightsError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentTypeError, WeightsError
from fastconv.weights import npz, pytorch, safetensors

__all__ = ["SUFFIXES", "load", "load_state_dict", "save_state_dict"]

_FORMATS = dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".tar"), pytorch) | {".safetensors": safetensors, ".npz": npz}
SUFFIXES = tuple(_FORMATS)


def load_state_dict(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a weight file by name, for :meth:`fastconv.nn.Module.load_state_dict`.

    A checkpoint that holds its state dict beside other things, such as ``{"state_dict": …, "epoch": 3}``, gives that
    state dict; of several, `key` says which.

    Raises:
        OSError: the file cannot be opened.
        WeightsError: it is broken, names something that is no data, or holds no state dict, or several and no `key`;
            the suffix is unknown.
    """
    content = load(path)
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            raise WeightsError(f"{os.fspath(path)}: key: there is no {key!r}; it holds {_described(content)}")
        content = content[key]
    if _is_state_dict(content):
        return content
    if key is None and isinstance(content, Mapping):
        found = [name for name, value in content.items() if _is_state_dict(value)]
        if len(found) == 1:
            return content[found[0]]
        if found:
            raise WeightsError(
                f"{os.fspath(path)}: several state dicts: choose one by key={' or '.join(map(repr, found))}"
            )
    raise WeightsError(
        f"{os.fspath(path)}: expected arrays by name, or a checkpoint with one such entry; found {_described(content)}"
    )


def load(path: str | os.PathLike):
    """All that a weight file holds: dictionaries, lists, numbers and text, with arrays in place of tensors.

    Raises as :func:`load_state_dict` does.
    """
    name, reader = _format_of(path)
    with open(name, "rb") as file:
        try:
            return reader.load(file)
        except WeightsError as error:
            raise WeightsError(f"{name}: {error}; nothing was loaded") from error.__cause__
        except MemoryError:
            raise WeightsError(f"{name}: there is not enough memory for what the file announces") from None


def save_state_dict(state: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Write the arrays of `state` to a file that replaces the one at `path` when it is complete.

    `.pth` and its like are the zip format that ``torch.load(…, weights_only=True)`` reads.

    Raises:
        OSError: the file cannot be written.
        WeightsError: the suffix is unknown, or an element type has no place in the format.
        ArgumentTypeError: `state` is no mapping of names to arrays.
    """
    name, writer = _format_of(path)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ArgumentTypeError(f"state: expected a mapping of names to arrays, got {_described(state)}")
    arrays = {key: as_array(value, key) for key, value in state.items()}
    unfinished = f"{name}.{os.getpid()}.unfinished"
    try:
        with open(unfinished, "wb") as file:
            writer.save(arrays, getattr(state, "_metadata", None), file)
        os.replace(unfinished, name)
    except BaseException:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise


def _format_of(path):
    """`path` as text, and the module that reads and writes its format."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise ArgumentTypeError(f"path: expected the path of a file, got {type(path).__name__}") from None
    name = os.fsdecode(name)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in _FORMATS:
        raise WeightsError(f"path: expected a name that ends in {', '.join(SUFFIXES)}, got {name!r}")
    return name, _FORMATS[suffix]


def _is_state_dict(value) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in value.items())
    )


def _described(value) -> str:
    if not isinstance(value, Mapping):
        return type(value).__name__
    entries = [f"{name!r}: {type(entry).__name__}" for name, entry in list(value.items())[:10]]
    return f"{{{', '.join(entries)}{', …' if len(value) > 10 else ''}}}"
