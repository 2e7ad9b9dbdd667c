"""The documentation: its examples are run, its links lead somewhere, and the table of names is complete."""

import doctest
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import session_models

import fastconv
import fastconv.onnxruntime as face
from fastconv import nn
from fastconv.nn import functional as F
from fastconv.nn import init

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
README = DOCS.parent / "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page, tmp_path, monkeypatch, rng):
    """In a folder with a ``model.onnx``, and with the imports that index.md names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(session_models.residual(rng))
    names = {"np": np, "fc": fastconv, "nn": nn, "F": F}
    test = doctest.DocTestParser().get_doctest(page.read_text(encoding="utf-8"), names, page.name, str(page), 0)
    said = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert failed == 0, "".join(said)


def test_every_page_with_a_python_block_has_examples():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
            assert block.startswith(">>> "), f"{page.name}: a block that no test runs:\n{block}"


@pytest.mark.parametrize("page", [*PAGES, README], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_index_lists_every_page():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.stem == "index" or f"({page.name})" in index, page.name


def table(heading):
    """name: (here, note) of the table under one heading of names.md."""
    text = (DOCS / "names.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| (.*) \|$", section, flags=re.M)
    assert len(rows) == len({name for name, _, _ in rows}), "a name is listed twice"
    return {name: (here, note) for name, here, note in rows}


MODULES = {"torch.nn": nn, "torch.nn.functional": F}


@pytest.mark.parametrize("heading", MODULES)
def test_the_table_has_every_name_of_ours(heading):
    names = table(heading)
    ours = {name for name in MODULES[heading].__all__ if not inspect.ismodule(getattr(MODULES[heading], name))}
    assert {name for name, (here, _) in names.items() if here != "no"} == ours
    assert {here for here, _ in names.values()} <= {"same", "same, and more", "extension", "no"}
    assert all(note.strip() for here, note in names.values() if here != "same"), "a note is missing"


@pytest.mark.parametrize("heading", MODULES)
def test_the_table_has_every_name_of_torch(torch, heading):
    module = {"torch.nn": torch.nn, "torch.nn.functional": torch.nn.functional}[heading]
    theirs = {name for name in dir(module) if name[0] != "_" and not inspect.ismodule(getattr(module, name))}
    names = table(heading)
    assert {name for name, (here, _) in names.items() if here != "extension"} == theirs


@pytest.mark.parametrize(
    "module",
    [fastconv, nn, F, init, fastconv.models, fastconv.reference, fastconv.weights, face],
    ids=lambda m: m.__name__,
)
def test_help_has_something_to_say(module):
    """Of every public class, function and method; `help` shows a class no docstring but its own."""
    silent = []
    for name in module.__all__:
        if name == "onnx_backend" and find_spec("onnx") is None:
            continue
        value = getattr(module, name)
        if not callable(value):
            continue
        if not value.__doc__:
            silent.append(name)
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(function, "fget", getattr(function, "__func__", function))
            if inspect.isfunction(function) and method[0] != "_" and not inspect.getdoc(getattr(value, method)):
                silent.append(f"{name}.{method}")
    left_out = {"forward", "extra_repr"}
    assert [name for name in silent if name.rpartition(".")[2] not in left_out] == []


def test_type_checkers_know_the_lazy_names():
    text = Path(fastconv.__file__).read_text(encoding="utf-8")
    for name, module in fastconv._LAZY_NAMES.items():
        assert re.search(rf"^    from {module} import .*\b{name}\b", text, flags=re.M), name
    assert fastconv._LAZY_NAMES.keys() | fastconv._LAZY_MODULES <= set(fastconv.__all__)
    line = ", ".join(sorted(fastconv._LAZY_MODULES))
    assert f"    from fastconv import {line}\n" in text
    assert Path(fastconv.__file__).with_name("py.typed").exists()
