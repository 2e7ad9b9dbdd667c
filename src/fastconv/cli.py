"""The command line: ``python -m fastconv COMMAND`` and, installed, ``fastconv COMMAND``.

A command is a module of ``fastconv.tools`` with ``add_arguments(parser)`` and ``run(arguments) -> exit status``, and a
row in the table below.  Only the module of the command that is asked for is imported.  What it raises because of its
arguments, its files or the memory becomes one line on the standard error stream.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import fastconv

__all__ = ["main"]

# name: what it does, in the words of the overview
_COMMANDS = {
    "bench": "time convolutions and networks, fastconv's and other libraries', beside the machine's limits",
    "classify": "read handwritten digits from image files with LeNet-5",
    "explain": "show the algorithm of every step of an ONNX model, why it was chosen, and its cost or time",
    "info": "show the version, compiler, instruction set and threads, and why they were chosen",
    "run": "run an ONNX model on NumPy files, images or random numbers",
    "show": "draw what each convolution of a network has learnt, and what it sees in an image",
    "verify": "compute every step of an ONNX model again in float64 and compare",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status: 0, 1 if the command failed, 2 for a wrong command line."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may have characters that the terminal lacks
    try:
        arguments = _parser(argv).parse_args(argv)
    except fastconv.ArgumentError as error:  # of what the environment asks for, when the kernels are chosen
        print(f"fastconv: {error}", file=sys.stderr)
        return 1
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `fastconv classify | head`: let the interpreter's last flush go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (fastconv.ArgumentError, fastconv.ArgumentTypeError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"fastconv {arguments.command}: {_reason(error)}", file=sys.stderr)
        return 1
    return status


def _reason(error: Exception) -> str:
    """What an error says; of the operating system's the file and the reason, without its number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fspath(error.filename)}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, complete for the commands whose name is in ``argv``; the others have a name and a line of help."""
    parser = argparse.ArgumentParser(prog="fastconv", description="A convolution engine for CPUs.")
    parser.add_argument("--version", action="version", version=f"fastconv {fastconv.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in argv:
            module = import_module(f"fastconv.tools.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
