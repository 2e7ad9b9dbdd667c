"""What is installed: small, complete, and documented by commands that exist."""

import io
import re
import zipfile
from importlib import resources
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).parent


def installed_files():
    return [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".c", ".pyc")]


def test_the_wheel_is_small():
    """Compressed as a wheel is, everything that is installed takes less than 4 MB.

    Most of it are the kernels, each for three instruction sets and two element types.
    """
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in installed_files():
            archive.write(path, path.relative_to(PACKAGE))
    assert len(memory.getvalue()) < 4_000_000


def test_data_files_are_there():
    models = {path.name for path in resources.files("fastconv.models").iterdir()}
    assert {"lenet5_mnist.npz", "mnist_samples.npz", "lenet5_mnist.md"} <= models
    shapes = {path.name for path in resources.files("fastconv.tools.bench.shapes").iterdir()}
    assert {"resnet50.txt", "edge.txt"} <= shapes


def test_every_public_name_is_there_and_documented():
    needs_onnx = {"onnx_backend"}
    for name in set(fastconv.__all__) - needs_onnx:
        value = getattr(fastconv, name)
        if not isinstance(value, str):
            assert value.__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'convolve'"):
        _ = fastconv.convolve


def test_the_readme_has_the_two_commands_that_ci_runs():
    readme = Path(__file__).parent.parent / "README.md"
    if not readme.exists():
        pytest.skip("the README is not beside the tests")
    blocks = re.findall(r"<!-- ci: (.*) -->\n```sh\n(.*)\n```", readme.read_text())
    assert [name for name, _ in blocks] == ["main job", "tests"]
    assert all("pip install" in command for _, command in blocks)
