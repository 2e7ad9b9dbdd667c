"""Imports go one way, and only NumPy is needed."""

import ast
import sys
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).parent

# A part may import itself, the parts in its row, and what stands in no row (errors).
_FACTS = {"geometry", "arrays", "machine"}
_RUNNING = {"_kernels", "config", "roof"}
ARROWS = {
    "errors": set(),
    "from_torch": set(),
    "machine": set(),
    "geometry": set(),
    "arrays": set(),
    "reference": set(),
    "_kernels": set(),
    "config": {"_kernels", *_FACTS},
    "roof": {"_kernels", "config", *_FACTS},
    "weights": _FACTS,
    "ops": {"reference", *_RUNNING, *_FACTS},
    "nn": {"from_torch", "ops", "reference", *_RUNNING, *_FACTS},
    "models": {"nn", "weights", *_FACTS},
    "graph": {"ops", "reference", *_RUNNING, *_FACTS},
    "onnx": {"graph", "ops", "reference", *_RUNNING, *_FACTS},
    "onnxruntime": {"onnx", *_RUNNING, *_FACTS},
    "tracing": {"nn", "onnx", "graph", *_RUNNING, *_FACTS},
    "tools": {"onnx", "graph", "models", "weights", "nn", "ops", "reference", *_RUNNING, *_FACTS},
    "compat": {"nn", "onnx", "graph", "ops", "reference", "_kernels", *_FACTS},
    "cli": {"tools"},
}
# Modules about an extra, which nothing imports unless it is asked for.
OF_AN_EXTRA = ("onnx/backend.py", "compat/keras.py", "compat/onnx_reference.py", "tools/bench/")
EXTRAS = {"PIL", "matplotlib", "torch", "onnx", "onnxruntime", "openvino", "ncnn", "MNN", "scipy"}


def part(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def imports(file: Path):
    """(line, module, inside a function) for every import, names of `from fastconv import x` included."""
    tree = ast.parse(file.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            if node.module == "fastconv":
                for alias in node.names:
                    yield node.lineno, f"fastconv.{alias.name}", id(node) in inside
            else:
                yield node.lineno, node.module, id(node) in inside


FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    here = file.relative_to(PACKAGE).with_suffix("").parts[0]
    for line, module, _ in imports(file):
        if module.split(".")[0] == "fastconv" and (there := part(module)) in ARROWS:
            assert there in {here, "errors"} | ARROWS[here], f"{file}:{line}: {here} must not import {there}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_numpy_is_imported_at_import_time(file):
    for line, module, inside_function in imports(file):
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top in ("numpy", "fastconv"):
            continue
        assert top in EXTRAS, f"{file}:{line}: unknown dependency {top}"
        whole = str(file.relative_to(PACKAGE)).startswith(OF_AN_EXTRA)
        assert inside_function or whole, f"{file}:{line}: the extra {top} must be imported where it is used"


def test_the_reference_imports_numpy_alone():
    for file in (PACKAGE / "reference").rglob("*.py"):
        for line, module, _ in imports(file):
            top = module.split(".")[0]
            own = module.startswith("fastconv.reference")
            assert own or top == "numpy" or top in sys.stdlib_module_names, f"{file}:{line}: {module}"


def test_every_part_has_a_row():
    parts = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in FILES}
    assert parts <= ARROWS.keys()
