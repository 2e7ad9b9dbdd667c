"""What is installed: small, complete, and documented by commands that exist."""

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).parent


SOURCES = {".c", ".h", ".pxd", ".pyx"}  # beside the compiled modules in a source tree, and in no wheel


def installed_files():
    return [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in {".pyc", *SOURCES}]


def after(statement, printed):
    """What `printed` is in a new process that has imported NumPy and run `statement`."""
    program = (
        f"import sys, time, numpy; before = {{*sys.modules}}; t = time.perf_counter(); {statement}; print({printed})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_wheel_is_small():
    """Compressed as a wheel is, everything that is installed takes less than 4.7 MB.

    Most of it are the kernels, each for three instruction sets and two element types.
    """
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in installed_files():
            archive.write(path, path.relative_to(PACKAGE))
    assert len(memory.getvalue()) < 4_700_000


def test_importing_the_package_loads_nothing_heavy():
    loaded = "*sorted(name for name in {*sys.modules} - before)"
    assert after("import fastconv", loaded).split() == ["fastconv", "fastconv.errors"]
    layers = after("from fastconv import nn", loaded).split()
    assert "fastconv.nn.conv" in layers
    for part in ("onnx", "graph", "models", "weights", "tools", "tracing", "compat"):
        assert f"fastconv.{part}" not in layers


def test_importing_the_layers_takes_a_fraction_of_a_second():
    """Some 60 ms from compiled Python, 140 ms where nothing may be written beside the sources."""
    seconds = min(float(after("from fastconv import nn", "time.perf_counter() - t")) for _ in range(3))
    assert seconds < 0.5


def test_a_tree_that_was_not_built_says_so(tmp_path):
    for name in ("__init__.py", "errors.py", "_kernels/__init__.py"):
        (tmp_path / "fastconv" / name).parent.mkdir(exist_ok=True)
        shutil.copy(PACKAGE / name, tmp_path / "fastconv" / name)
    done = subprocess.run(
        [sys.executable, "-c", "import fastconv._kernels"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "fastconv's compiled kernels are missing; install the package (pip install .)" in done.stderr


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
