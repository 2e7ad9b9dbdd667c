"""The shipped shape files, and how ``--shapes`` finds problems: a suite, a file, or a problem itself."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastconv.errors import ArgumentError
from fastconv.tools.bench.problem import OPS, Problem, parse_problem

__all__ = ["find_problems", "parse_problems", "suite_names"]

SHAPES = "fastconv.tools.bench.shapes"  # the folder benchmarks/shapes, installed as package data
ORDER = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "mobilenet_v2", "edge", "tiny")


def suite_names() -> list[str]:
    """Names of the shipped suites, one per network, then ``edge`` and ``tiny``."""
    files = resources.files(SHAPES).iterdir()
    names = {Path(file.name).stem for file in files if file.name.endswith(".txt")}
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def find_problems(what: str) -> tuple[str, list[Problem]]:
    """``(name, problems)`` of a suite by name, of a file by path, or of one problem line.

    Raises :class:`ArgumentError` that lists the suites for an unknown name, and one with file and line for a
    malformed line.
    """
    if what.split()[:1] and what.split()[0] in OPS:
        return "line", [parse_problem(what)]
    names = suite_names()
    if what in names:
        file = resources.files(SHAPES).joinpath(f"{what}.txt")
        return what, parse_problems(file.read_text(encoding="utf-8"), f"{what}.txt")
    path = Path(what)
    if not path.is_file():
        raise ArgumentError(f"shapes: {what!r} is no suite ({', '.join(names)}), no file, and no problem line")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"shapes: {what}: {error}") from None
    return path.stem, parse_problems(text, what)


def parse_problems(text: str, file: str) -> list[Problem]:
    """The problems of a shape file; blank lines and lines that begin with ``#`` are skipped."""
    problems = [
        parse_problem(line, f"{file}:{number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not problems:
        raise ArgumentError(f"{file}: no problems in it")
    return problems
