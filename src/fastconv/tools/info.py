"""``fastconv info``: what this installation runs on."""

import argparse

from fastconv.config import show_config

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show the version, compiler, instruction set and threads, and why they were chosen."


def run(arguments: argparse.Namespace) -> int:
    """Print ``fastconv.show_config()``."""
    print(show_config())
    return 0
