"""The benchmark suite: algorithms and installed peers, compared first, then timed, beside the machine's limit.

A problem is a line (:mod:`problem`), a network's layers are a file of lines (:mod:`suites`), an engine is a small
module under :mod:`engines` that runs in a process of its own (:mod:`worker`, :mod:`process`), a :mod:`contest` lets
them do the same work, and a run is a list of rows (:mod:`results`) that :mod:`tables`, :mod:`plots`, :mod:`report` and
:mod:`compare` show.
"""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fastconv.tools.bench import commands

    commands.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from fastconv.tools.bench import commands

    return commands.run(arguments)
