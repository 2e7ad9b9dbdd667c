"""What torch.save wrote is read as torch.load reads it, and what fastconv wrote is read by torch."""

from argparse import Namespace

import numpy as np
import pytest

from fastconv import nn
from fastconv.weights import load, load_state_dict, save_state_dict

FORMS = [(True, 2), (True, 4), (False, 2), (False, 5)]  # zip or older, protocol of the pickle
PLAIN = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "complex64", "complex128", "bool")
NEWER = ("uint16", "uint32", "uint64")
WIDENED = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")


@pytest.fixture(params=FORMS, ids=lambda form: f"{'zip' if form[0] else 'older'}-{form[1]}")
def saved(request, torch, tmp_path):
    """Saves an object by torch and returns the path."""

    def save(content):
        path = tmp_path / "weights.pt"
        torch.save(content, path, _use_new_zipfile_serialization=request.param[0], pickle_protocol=request.param[1])
        return path

    return save


def numpy_of(torch, tensor):
    wide = tensor.float() if str(tensor.dtype).removeprefix("torch.") in WIDENED else tensor
    return wide.detach().resolve_conj().numpy()


def assert_equal(torch, loaded, tensors):
    assert list(loaded) == list(tensors)
    for key, tensor in tensors.items():
        expected = numpy_of(torch, tensor)
        assert (loaded[key].shape, loaded[key].dtype) == (expected.shape, expected.dtype), key
        np.testing.assert_array_equal(loaded[key], expected, err_msg=key)


def test_every_element_type(saved, torch):
    numbers = torch.arange(12).reshape(3, 4)
    tensors = {name: numbers.to(getattr(torch, name)) for name in PLAIN + NEWER}
    tensors["bfloat16"] = torch.randn(3, 4).bfloat16()
    for name in WIDENED[1:]:
        tensors[name] = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    assert_equal(torch, load_state_dict(saved(tensors)), tensors)


def test_views_shared_storages_and_memory_formats(saved, torch):
    base = torch.randn(4, 6)
    tensors = {
        "base": base,
        "part": base[1:3, ::2],
        "transposed": base.T,
        "expanded": torch.randn(1, 3).expand(5, 3),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 3),
    }
    loaded = load_state_dict(saved(tensors))
    assert_equal(torch, loaded, tensors)
    assert np.shares_memory(loaded["base"], loaded["part"])
    assert np.shares_memory(loaded["base"], loaded["transposed"])
    assert loaded["channels_last"].strides == tuple(4 * s for s in tensors["channels_last"].stride())


def test_parameters_and_tensors_with_attributes(saved, torch):
    marked, tensor = torch.nn.Parameter(torch.randn(2)), torch.randn(3)
    marked.note, tensor.note = "learnt", [1, 2]
    tensors = {"plain": torch.nn.Parameter(torch.randn(2, 2)), "marked": marked, "tensor": tensor}
    assert_equal(torch, load_state_dict(saved(tensors)), tensors)


def test_a_checkpoint_of_a_training(saved, torch):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "best": np.float64(0.5), "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    content |= {"args": Namespace(lr=0.1), "size": torch.Size([1, 2]), "where": torch.device("cuda:1"), "loss": None}
    path = saved(content)
    state = load_state_dict(path)
    assert_equal(torch, state, model.state_dict())
    assert state._metadata["1"] == {"version": 2}
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    own.load_state_dict(state)
    everything = load(path)
    momentum = everything["optimizer"]["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(momentum, optimizer.state_dict()["state"][0]["momentum_buffer"])
    expected = {"epoch": 3, "best": 0.5, "args": {"lr": 0.1}, "size": (1, 2), "where": "cuda:1", "loss": None}
    assert {key: everything[key] for key in expected} == expected


def test_a_whole_model_is_refused(saved, torch):
    with pytest.raises(ValueError, match=r"it names torch\.nn\.modules\.linear\.Linear, .*model\.state_dict\(\)"):
        load(saved(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_fastconv_wrote(mmap, torch, tmp_path):
    path = tmp_path / "weights.pth"
    numbers = np.arange(6).reshape(2, 3)
    state = {name: numbers.astype(name) for name in PLAIN + NEWER}
    state |= {"transposed": np.arange(6.0).reshape(2, 3).T, "scalar": np.array(7), "empty": np.zeros((0, 4))}
    save_state_dict(state, path)
    loaded = torch.load(path, weights_only=True, mmap=mmap)
    assert list(loaded) == list(state)
    for key, array in state.items():
        assert tuple(loaded[key].shape) == array.shape
        np.testing.assert_array_equal(loaded[key].numpy(), array)


def test_a_module_of_fastconv_becomes_one_of_torch(torch, tmp_path):
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU())
    save_state_dict(own.state_dict(), tmp_path / "weights.pth")
    state = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert state._metadata["1"] == {"version": 2}
    torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.PReLU()).load_state_dict(state)


def test_safetensors_agree_with_the_library(torch, tmp_path):
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    tensors = {"weight": torch.randn(2, 3), "half": torch.randn(4).bfloat16(), "count": torch.tensor(3)}
    library.save_file(tensors, tmp_path / "weights.safetensors")
    loaded = load_state_dict(tmp_path / "weights.safetensors")
    assert_equal(torch, {key: loaded[key] for key in tensors}, tensors)
    save_state_dict(loaded, tmp_path / "again.safetensors")
    for key, tensor in library.load_file(tmp_path / "again.safetensors").items():
        np.testing.assert_array_equal(tensor, loaded[key])
