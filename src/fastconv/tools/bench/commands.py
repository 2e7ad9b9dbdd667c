"""``fastconv bench``: its arguments, and what each kind of run does with them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import util
from pathlib import Path

from fastconv.errors import ArgumentError
from fastconv.machine import available_threads
from fastconv.tools.bench.compare import comparison
from fastconv.tools.bench.engines import ENGINES, find_engines
from fastconv.tools.bench.network_runs import run_networks
from fastconv.tools.bench.networks import network_names
from fastconv.tools.bench.picks import failed_picks, pick_table
from fastconv.tools.bench.report import terminal_report, write_html, write_markdown
from fastconv.tools.bench.results import OWN, Results, load_results
from fastconv.tools.bench.runs import Plan, describe_engines, measure_roofs, run_kernels, run_layers, set_roof_shares
from fastconv.tools.bench.suites import find_problems

__all__ = ["add_arguments", "run"]

KINDS = {
    "kernels": "fastconv's algorithms against each other, on every instruction set",
    "layers": "fastconv's layers against those of other libraries",
    "networks": "whole networks from ONNX files, with load time, first run and memory",
    "overhead": "what a call, an import and an installation cost",
    "roof": "the machine's limits alone",
    "pick": "whether the planner picks the fastest algorithm",
    "all": "roof, layers, networks and overhead in one report",
}
LAYER_KINDS, NETWORK_KINDS = ("layers", "overhead", "all"), ("networks", "overhead", "all")
LAYER_SUITES = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "mobilenet_v2", "edge")
OVERHEAD_SUITES = ("tiny", "lenet5")
OVERHEAD_NETWORK = "lenet5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Time convolutions: results are compared with the reference first, then all engines are timed in turn, each in "
        "a process of its own, beside the limits of this machine."
    )
    kinds = "\n".join(f"  {name:9} {what}" for name, what in KINDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"kinds of run:\n{kinds}"
    add = parser.add_argument
    add("kind", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}")
    add("--shapes", nargs="+", metavar="SHAPES", help="suites, files or problem lines (default: all suites)")
    add("--networks", nargs="+", metavar="NAME", help="networks to run (default: all)")
    add("--peers", nargs="+", metavar="NAME", default=["default"], help=f"of {', '.join(ENGINES)}; all; default")
    add("--algorithms", nargs="+", metavar="NAME", default=[], help="algorithms for kernels and pick (default: all)")
    add("--threads", metavar="N,…", default="1,all", help="numbers of threads, 'all' for every core (default: 1,all)")
    add("--isa", nargs="+", metavar="NAME", help="instruction sets for kernels (default: all of this machine)")
    add("--dtypes", nargs="+", choices=("float32", "float64"), help="element types for kernels (default: both)")
    add("--budget", type=float, metavar="SECONDS", default=600.0, help="about how long to take (default: 600)")
    add("--cold", action="store_true", help="time calls with the weights out of the caches as well")
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--html", metavar="FILE", help="write one self-contained report")
    add("--markdown", metavar="FILE", help="write the summary as a section for a README")
    add("--plots", metavar="FOLDER", help="write the plots as PNG files (needs matplotlib)")
    add("--compare", metavar="OLD.json", help="show the ratio to the results of an earlier run")
    add("--assert", action="store_true", dest="assert_picks", help="pick: fail where the pick is over 10 %% slower")


def run(arguments: argparse.Namespace) -> int:
    """Run, print the tables and write the files asked for.

    Returns 0; 1 if fastconv failed or differed, or ``--assert`` found a slow pick; 2 for arguments that mean nothing;
    130 if it was interrupted, with everything that was finished written all the same.
    """
    try:
        plan = _plan(arguments)
        networks = _network_names(arguments)
        earlier = load_results(arguments.compare) if arguments.compare else None
        results = Results(["fastconv", "bench", *_command(arguments)])
        start = time.monotonic()
        try:
            _measure(arguments.kind, plan, networks, results)
        except KeyboardInterrupt:
            results.complete = False
        set_roof_shares(results)
        results.seconds = time.monotonic() - start
    except ArgumentError as error:
        print(f"fastconv bench: {error}", file=sys.stderr)
        return 2
    more = [pick_table(results.rows)] if arguments.kind == "pick" else []
    more += [comparison(earlier, results)] if earlier else []
    print(terminal_report(results, more), end="")
    _write_files(arguments, results, more)
    if not results.complete:
        return 130
    own_is_wrong = any(row.status in ("failed", "differs") for row in results.rows if _is_own(row))
    return int(own_is_wrong or (arguments.assert_picks and bool(failed_picks(results.rows))))


def _measure(kind: str, plan: Plan, networks: list[str], results: Results) -> None:
    if kind != "pick":
        measure_roofs(plan, results)
    if kind in ("kernels", "pick"):
        run_kernels(plan, results)
    if kind in (*LAYER_KINDS, *NETWORK_KINDS):
        describe_engines(plan, results)
    if kind in LAYER_KINDS:
        run_layers(plan, results)
    if kind in NETWORK_KINDS:
        run_networks(networks, plan, results)
    if kind not in ("pick", "roof"):
        measure_roofs(plan, results)


def _plan(arguments: argparse.Namespace) -> Plan:
    kind = arguments.kind
    own = kind in ("kernels", "pick")
    engines = find_engines([OWN] if own else [OWN, *arguments.peers])
    plan = Plan(engines, _threads(arguments.threads), arguments.budget / (2 if kind == "all" else 1))
    plan.algorithms, plan.with_cold = arguments.algorithms, arguments.cold
    if kind == "kernels":
        plan.isas = _instruction_sets(arguments.isa)
        plan.dtypes = arguments.dtypes or ["float32", "float64"]
    if kind not in ("networks", "roof"):
        suites = {"overhead": OVERHEAD_SUITES, "all": (*LAYER_SUITES, "tiny")}.get(kind, LAYER_SUITES)
        for what in arguments.shapes or suites:
            plan.add(*find_problems(what))
    return plan


def _threads(text: str) -> list[int]:
    counts = []
    for word in text.split(","):
        if word == "all":
            counts.append(available_threads(environ={}).count)
        elif word.isdecimal() and int(word) > 0:
            counts.append(int(word))
        else:
            raise ArgumentError(f"threads: expected numbers and 'all' joined by commas, got {text!r}")
    return list(dict.fromkeys(counts))


def _instruction_sets(names: list[str] | None) -> list[str]:
    from fastconv import _kernels

    for name in names or ():
        if name not in _kernels.levels:
            raise ArgumentError(f"isa: {name!r} is none that this machine has: {', '.join(_kernels.levels)}")
    return names or list(_kernels.levels)


def _network_names(arguments: argparse.Namespace) -> list[str]:
    known = network_names()
    for name in arguments.networks or ():
        if name not in known:
            raise ArgumentError(f"networks: {name!r} is none of {', '.join(known)}")
    if arguments.kind in NETWORK_KINDS and not util.find_spec("onnx"):
        if arguments.kind == "networks":
            raise ArgumentError("networks: they are ONNX files, and onnx is not installed (pip install onnx)")
        print("fastconv bench: no networks, onnx is not installed", file=sys.stderr)
        return []
    return arguments.networks or ([OVERHEAD_NETWORK] if arguments.kind == "overhead" else known)


def _write_files(arguments: argparse.Namespace, results: Results, more: list) -> None:
    if arguments.json:
        results.save(arguments.json)
    if arguments.markdown:
        write_markdown(arguments.markdown, results)
    if not (arguments.html or arguments.plots):
        return
    with tempfile.TemporaryDirectory() as temporary:
        plots: dict[str, Path] = {}
        if util.find_spec("matplotlib"):
            from fastconv.tools.bench.plots import write_plots

            plots = write_plots(results, arguments.plots or temporary)
        elif arguments.plots:
            print("fastconv bench: no plots, matplotlib is not installed", file=sys.stderr)
        if arguments.html:
            write_html(arguments.html, results, plots, more)


def _command(arguments: argparse.Namespace) -> list[str]:
    """The arguments as given, of this kind of run only."""
    words = [arguments.kind]
    for name in ("shapes", "networks", "peers", "algorithms", "isa", "dtypes"):
        if values := getattr(arguments, name):
            words += [f"--{name}", *values]
    words += ["--threads", arguments.threads, "--budget", f"{arguments.budget:g}"]
    return words + (["--cold"] if arguments.cold else [])


def _is_own(row) -> bool:
    return row.kind == "kernel" or row.engine == OWN
