"""Weight files of every format: what is saved comes back, and what is damaged is refused."""

import os
import re
from collections import OrderedDict

import numpy as np
import pytest
import weight_bytes as wb

from fastconv import nn
from fastconv.errors import ArgumentTypeError, WeightsError
from fastconv.weights import SUFFIXES, load, load_state_dict, save_state_dict

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32")
DTYPES += ("float64", "complex64")
FORMATS = (".pth", ".safetensors", ".npz")


def owner(array):
    """What holds the memory of an array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_state_dict_comes_back_as_it_was(suffix, tmp_path):
    state = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).state_dict()
    save_state_dict(state, tmp_path / f"weights{suffix}")
    loaded = load_state_dict(tmp_path / f"weights{suffix}")
    wb.assert_same({key: loaded[key] for key in state}, state)
    assert len(loaded) == len(state)


@pytest.mark.parametrize("suffix", FORMATS)
def test_arrays_of_every_type_and_layout(suffix, tmp_path):
    numbers = np.arange(6).reshape(2, 3)
    state = {name: numbers.astype(name) for name in DTYPES}
    state |= {"transposed": numbers.T.copy().T, "strided": np.arange(12.0)[::2], "reversed": np.arange(3.0)[::-1]}
    state |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3)), "swapped": np.arange(3, dtype=">f4")}
    state |= {"file": np.ones(2), "é/☃": np.ones(1)}
    save_state_dict(state, tmp_path / f"weights{suffix}")
    loaded = load_state_dict(tmp_path / f"weights{suffix}")
    wb.assert_same({key: loaded[key] for key in state}, state)


@pytest.mark.parametrize("suffix", FORMATS)
def test_arrays_are_mapped_and_changing_them_leaves_the_file(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_state_dict({"weight": wb.SIX.reshape(2, 3), "half": np.ones(3, np.float16)}, path)
    before = path.read_bytes()
    loaded = load_state_dict(path)
    assert all(type(owner(array).obj).__name__ == "mmap" for array in loaded.values())
    loaded["weight"][...] = 7
    assert path.read_bytes() == before
    assert load_state_dict(path)["weight"][1, 2] == 5


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_loaded_may_be_saved_to_the_same_file(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_state_dict({"weight": wb.SIX}, path)
    loaded = load_state_dict(path)
    save_state_dict({}, path)
    save_state_dict(loaded, path)
    wb.assert_same(load_state_dict(path), {"weight": wb.SIX})
    assert os.listdir(tmp_path) == [path.name]


def test_data_starts_where_it_is_aligned(tmp_path):
    path = tmp_path / "weights.pth"
    save_state_dict({"a": np.ones(1, np.uint8), "b": np.ones(1), "c": np.ones(3, np.complex64)}, path)
    assert all(array.ctypes.data % 64 == 0 for array in load_state_dict(path).values())


def test_arrays_that_are_one_are_stored_once(tmp_path):
    tied = np.ones((100, 100))
    save_state_dict({"a": tied, "b": tied}, tmp_path / "weights.pth")
    loaded = load_state_dict(tmp_path / "weights.pth")
    assert np.shares_memory(loaded["a"], loaded["b"])
    assert (tmp_path / "weights.pth").stat().st_size < 90_000


def test_versions_of_modules_come_along(tmp_path):
    state = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).state_dict()
    save_state_dict(state, tmp_path / "weights.pth")
    assert load_state_dict(tmp_path / "weights.pth")._metadata == state._metadata


@pytest.mark.parametrize("state", [None, [np.ones(1)], {1: np.ones(1)}])
def test_only_arrays_by_name_are_saved(state, tmp_path):
    with pytest.raises(ArgumentTypeError, match="state: expected a mapping of names to arrays"):
        save_state_dict(state, tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("suffix", "array"), [(".pth", np.ones(1, np.longdouble)), (".safetensors", np.ones(1, "c16"))]
)
def test_a_type_that_the_format_lacks(suffix, array, tmp_path):
    with pytest.raises(WeightsError, match=f"state: .*{array.dtype}"):
        save_state_dict({"weight": array}, tmp_path / f"weights{suffix}")
    assert not os.listdir(tmp_path)


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_state_dict({"weight": wb.SIX}, tmp_path / "nowhere" / "weights.pth")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_state_dict(tmp_path / "weights.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(IsADirectoryError):
        load_state_dict(tmp_path / "folder.pth")


@pytest.mark.parametrize("name", ["weights", "weights.h5", "weights.pth.gz", "IMAGENET1K_V1", ""])
def test_an_unknown_suffix(name):
    message = r"path: expected a name that ends in \.pth, .*got " + re.escape(repr(name))
    for function in (load_state_dict, load, lambda path: save_state_dict({}, path)):
        with pytest.raises(WeightsError, match=message):
            function(name)


@pytest.mark.parametrize("path", [None, 3, b"x", open])
def test_something_that_is_no_path(path):
    with pytest.raises((ArgumentTypeError, WeightsError), match="path: expected"):
        load_state_dict(path)


def checkpoint(**more):
    return wb.pickled(b"}(", wb.text("epoch"), wb.integer(3), *(wb.text(k) + v for k, v in more.items()), b"u")


def test_the_state_dict_of_a_checkpoint(tmp_path):
    path = wb.file(
        tmp_path, wb.archive(checkpoint(state_dict=wb.dictionary(weight=wb.tensor())), [wb.SIX_BYTES]), ".pth.tar"
    )
    wb.assert_same(load_state_dict(path), {"weight": wb.SIX.reshape(2, 3)})
    wb.assert_same(load_state_dict(path, key="state_dict"), {"weight": wb.SIX.reshape(2, 3)})
    assert load(path)["epoch"] == 3


def test_a_checkpoint_with_several_state_dicts_asks_which(tmp_path):
    one = wb.dictionary(weight=wb.tensor())
    path = wb.file(tmp_path, wb.archive(checkpoint(model=one, model_ema=one), [wb.SIX_BYTES]))
    with pytest.raises(WeightsError, match="several state dicts: choose one by key='model' or 'model_ema'"):
        load_state_dict(path)
    assert list(load_state_dict(path, key="model_ema")) == ["weight"]
    with pytest.raises(WeightsError, match=r"key: there is no 'net'; it holds \{'epoch': int, 'model': OrderedDict"):
        load_state_dict(path, key="net")


@pytest.mark.parametrize("content", [b"N", wb.integer(3), b"]", b"}", wb.tensor(), b"}" + wb.text("a") + b"Ns"])
def test_a_file_without_a_state_dict(content, tmp_path):
    path = wb.file(tmp_path, wb.archive(wb.pickled(content), [wb.SIX_BYTES]))
    with pytest.raises(WeightsError, match="expected arrays by name, or a checkpoint with one such entry; found"):
        load_state_dict(path)


@pytest.mark.parametrize("suffix", [*FORMATS, "legacy"])
def test_a_file_cut_off_anywhere_is_refused(suffix, tmp_path):
    path = tmp_path / ("weights.pth" if suffix == "legacy" else f"weights{suffix}")
    if suffix == "legacy":
        path.write_bytes(wb.legacy_file())
    else:
        save_state_dict({"weight": wb.SIX, "bias": np.ones(3)}, path)
    content = path.read_bytes()
    for end in {*range(0, len(content), 7), *range(len(content) - 30, len(content))}:
        path.write_bytes(content[:end])
        with pytest.raises(WeightsError):
            load_state_dict(path)


@pytest.mark.parametrize("suffix", [*FORMATS, "legacy"])
def test_changed_bytes_give_an_error_or_arrays(suffix, tmp_path, rng):
    path = tmp_path / ("weights.pth" if suffix == "legacy" else f"weights{suffix}")
    if suffix == "legacy":
        path.write_bytes(wb.legacy_file())
    else:
        save_state_dict(OrderedDict(weight=wb.SIX, bias=np.ones(3)), path)
    content = path.read_bytes()
    outcomes = set()
    for _ in range(300):
        changed = bytearray(content)
        for position in rng.integers(len(changed), size=rng.integers(1, 5)):
            changed[position] = rng.integers(256)
        path.write_bytes(changed)
        try:
            loaded = load_state_dict(path)
            outcomes.add(type(loaded))
            assert all(isinstance(array, np.ndarray) for array in loaded.values())
        except WeightsError:
            outcomes.add(WeightsError)
    assert len(outcomes) > 1
