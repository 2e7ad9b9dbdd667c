"""``fastconv verify``: every step of a model against NumPy in float64."""

import argparse

from fastconv.tools.model_inputs import add_input_arguments, add_model_arguments, feeds_of, open_session
from fastconv.tools.output_files import check_file

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run an ONNX model, compute every step again in float64 on its actual inputs, and hold the differences against what "
        "the step's algorithm may err. The exit status is 1 if a step is beyond its bound."
    )
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--html", metavar="FILE", help="write the table there, too")


def run(arguments: argparse.Namespace) -> int:
    """Print the table.  Return 0 if every step keeps to its bound, else 1."""
    check_file("--html", arguments.html)
    session = open_session(arguments)
    verification = session.verify(feeds_of(session, arguments))
    if arguments.html:
        verification.to_html(arguments.html)
    print(verification)
    return 0 if verification.ok else 1
