"""``fastconv explain``: what a model's steps will do and why, what they cost, and how long they take."""

import argparse
import sys

from fastconv.tools.model_inputs import add_input_arguments, add_model_arguments, feeds_of, open_session, shapes_of

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
    """Print the table.  Return 1 where the model or a file cannot be read or written, else 0."""
    try:
        session = open_session(arguments)
        if arguments.profile is not None:
            report = session.profile(feeds_of(session, arguments), arguments.profile)
            print(report)
        else:
            shapes = shapes_of(session, arguments)
            report = session.explain(shapes)
            print(report, session.predict_memory(shapes), sep="\n\n")
        if arguments.html:
            report.to_html(arguments.html)
        if arguments.json:
            with open(arguments.json, "w", encoding="utf-8") as file:
                file.write(report.to_json())
    except (ValueError, TypeError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"fastconv explain: {error}", file=sys.stderr)
        return 1
    return 0
