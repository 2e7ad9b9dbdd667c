"""``fastconv explain``: what a model's steps will do and why, what they cost, and how long they take."""

import argparse
from pathlib import Path

from fastconv.geometry import integer
from fastconv.tools.model_inputs import add_input_arguments, add_model_arguments, feeds_of, known_shapes, open_session
from fastconv.tools.output_files import check_file

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show for every step of an ONNX model the algorithm that was chosen and why, and the memory that a run takes. "
        "With --profile the model is run, and every step is timed."
    )
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--profile", type=int, metavar="N", help="time every step, the median of N runs")
    parser.add_argument("--html", metavar="FILE", help="write the table there, too, with a bar for every step")
    parser.add_argument("--json", metavar="FILE", help="write the rows there, too")


def run(arguments: argparse.Namespace) -> int:
    """Print the table.  Return 0."""
    check_file("--html", arguments.html)
    check_file("--json", arguments.json)
    repeats = None if arguments.profile is None else integer(arguments.profile, "--profile", 1)
    session = open_session(arguments)
    if repeats is None:
        shapes = known_shapes(session, arguments)
        report = session.explain(shapes)
        text = f"{report}\n\n{session.predict_memory(shapes)}"
    else:
        report = session.profile(feeds_of(session, arguments), repeats)
        text = str(report)
    if arguments.html:
        report.to_html(arguments.html)
    if arguments.json:
        Path(arguments.json).write_text(report.to_json(), encoding="utf-8")
    print(text)
    return 0
