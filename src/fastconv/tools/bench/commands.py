"""``fastconv bench``: its arguments, and what each kind of run does with them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import util
from pathlib import Path

from fastconv.errors import ArgumentError
from fastconv.geometry import integer
from fastconv.machine import available_threads
from fastconv.tools.bench.aims import aimed_at
from fastconv.tools.bench.compare import comparison
from fastconv.tools.bench.engines import ENGINES, find_engines
from fastconv.tools.bench.modules import PEER, module_problems, slow_module_pairs
from fastconv.tools.bench.network_runs import run_networks
from fastconv.tools.bench.networks import network_names
from fastconv.tools.bench.picks import failed_picks, pick_table
from fastconv.tools.bench.report import check_markdown, terminal_report, write_html, write_markdown
from fastconv.tools.bench.results import OWN, Results, load_results
from fastconv.tools.bench.runs import (
    Plan,
    describe_engines,
    measure_roofs,
    repeat_slow_modules,
    repeat_slow_picks,
    run_aims,
    run_kernels,
    run_layers,
    set_roof_shares,
)
from fastconv.tools.bench.suites import find_problems
from fastconv.tools.output_files import check_file, check_folder

__all__ = ["add_arguments", "run"]

KINDS = {
    "kernels": "fastconv's algorithms against each other, on every instruction set",
    "layers": "fastconv's layers against those of other libraries",
    "modules": "nn.Conv, ConvTranspose, BatchNorm and MaxPool called alone against torch's",
    "networks": "whole networks from ONNX files, with load time, first run and memory",
    "overhead": "what a call, an import and an installation cost",
    "roof": "the machine's limits alone",
    "pick": "whether the planner picks the fastest algorithm",
    "aims": "what the kernels are held to: shares of the peak, Winograd over direct, two threads over one, and more",
    "all": "roof, layers, networks and overhead in one report",
    "show": "the tables and files of an earlier run, read from --from FILE",
}
LAYER_KINDS, NETWORK_KINDS = ("layers", "overhead", "all"), ("networks", "overhead", "all")
MEASURING = tuple(name for name in KINDS if name != "show")
# The kinds of run that each option means something to; those that write files are for all.
USED_BY = {
    "shapes": ("kernels", "layers", "modules", "overhead", "pick", "all"),
    "networks": NETWORK_KINDS,
    "batch": ("networks", "all"),
    "peers": ("layers", "networks", "overhead", "all"),
    "algorithms": ("kernels", "pick"),
    "threads": MEASURING,
    "isa": ("kernels", "pick", "aims"),
    "dtypes": ("kernels", "pick", "aims"),
    "budget": MEASURING,
    "cold": tuple(name for name in MEASURING if name not in ("roof", "aims")),
    "from": ("show",),
    "assert": ("pick", "modules", "aims"),
}
LAYER_SUITES = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "mobilenet_v2", "edge")
EVERY_SUITE = (*LAYER_SUITES, "tiny")
BUDGET = 720.0
THREADS = "1,all"
ELEMENTS = ("float32", "float64")
OVERHEAD_SUITES = ("tiny", "lenet5")
OVERHEAD_NETWORK = "lenet5"
LAYER_SHARE = 0.5  # of the time, where there are networks as well
REPEAT_SHARE = 0.2  # of the time, for picks and modules that look slow
PLOT_SECONDS = 20.0  # for drawing all of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Time convolutions: results are compared with the reference first, then all engines are\n"
        "timed in turn, each in a process of its own, beside the limits of this machine.\n\n"
        "All engines take and return NCHW memory, as one layer alone would; what they reorder inside\n"
        "is timed, and so are the conversions of torch-channels-last. A problem line with 'nhwc' in\n"
        "it asks for NHWC memory in and out."
    )
    kinds = "\n".join(f"  {name:9} {what}" for name, what in KINDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"kinds of run:\n{kinds}"
    add = parser.add_argument
    add("kind", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}")
    add("--shapes", nargs="+", metavar="SHAPES", help="suites, files or problem lines (default: all suites)")
    add("--networks", nargs="+", metavar="NAME", help="networks to run (default: all)")
    add("--batch", type=int, metavar="N", help="images of a run of a network (default: 1)")
    add("--peers", nargs="+", metavar="NAME", help=f"of {', '.join(ENGINES)}; all; default")
    add("--algorithms", nargs="+", metavar="NAME", help="algorithms for kernels and pick (default: all)")
    add("--threads", metavar="N,…", help="numbers of threads, 'all' for every core (default: 1,all)")
    add(
        "--isa",
        nargs="+",
        metavar="NAME",
        help="instruction sets for kernels, pick, aims (default: all; pick: the best)",
    )
    add(
        "--dtypes",
        nargs="+",
        choices=("float32", "float64"),
        help="element types for kernels, pick, aims (default: both; pick: float32)",
    )
    add("--budget", type=float, metavar="SECONDS", help=f"time for all of it (default: {BUDGET:g})")
    add("--cold", action="store_true", help="time calls with the weights out of the caches as well")
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--html", metavar="FILE", help="write one self-contained report")
    add("--markdown", metavar="FILE", help="write the summary, in a README between <!-- bench --> and <!-- /bench -->")
    add("--plots", metavar="FOLDER", help="write the plots as PNG files (needs matplotlib)")
    add("--compare", metavar="OLD.json", help="show the ratio to the results of an earlier run")
    add("--from", metavar="FILE", help="show: the JSON file of a run")
    add("--assert", action="store_true", help="pick, modules, aims: fail where fastconv is slower than it should be")


def run(arguments: argparse.Namespace) -> int:
    """Run, print the tables and write the files asked for.

    Returns 0; 1 if fastconv failed or differed, or ``--assert`` found a slow pick or module or a missed aim; 2 for
    arguments that mean nothing; 130 if it was interrupted, with everything that was finished written all the same.
    """
    try:
        _check_options(arguments)
        _check_files(arguments)
        earlier = load_results(arguments.compare) if arguments.compare else None
        results = _earlier_run(arguments) if arguments.kind == "show" else _new_run(arguments)
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
    is_slow = bool(failed_picks(results.rows) or slow_module_pairs(results.rows))
    is_slow |= not all(aim["met"] for aim in results.aims)
    return int(own_is_wrong or (vars(arguments)["assert"] and is_slow))


def _new_run(arguments: argparse.Namespace) -> Results:
    start = time.monotonic()
    budget = BUDGET if arguments.budget is None else arguments.budget
    if not 0 < budget < float("inf"):
        raise ArgumentError(f"budget: expected seconds above 0, got {budget:g}")
    plan = _plan(arguments)
    networks = _network_names(arguments)
    results = Results(["fastconv", "bench", *_command(arguments)])
    end = start + budget - (PLOT_SECONDS if arguments.html or arguments.plots else 0.0)
    try:
        _measure(arguments.kind, plan, networks, end, results)
    except KeyboardInterrupt:
        results.complete = False
    set_roof_shares(results)
    results.seconds = time.monotonic() - start
    return results


def _earlier_run(arguments: argparse.Namespace) -> Results:
    source = vars(arguments)["from"]
    if not source:
        raise ArgumentError("from: show needs the JSON file of a run")
    return load_results(source)


def _measure(kind: str, plan: Plan, networks: list[str], end: float, results: Results) -> None:
    """Everything that belongs to the kind of run, so that it ends at about `end` (of the monotonic clock)."""

    def left(share: float = 1.0) -> float:
        return share * (end - time.monotonic())

    if kind != "pick":
        begun = time.monotonic()
        measure_roofs(plan, results)
        end -= time.monotonic() - begun  # which is done again at the end
    if kind == "kernels":
        run_kernels(plan, left(), results)
    if kind == "pick":
        run_kernels(plan, left(1 - REPEAT_SHARE), results)
        repeat_slow_picks(plan, left(), results)
    if kind == "aims":
        run_aims(plan, left(), results)
    if kind in ("modules", *LAYER_KINDS, *NETWORK_KINDS):
        describe_engines(plan, results)
    if kind in LAYER_KINDS:
        run_layers(plan, left(LAYER_SHARE if networks else 1.0), results)
    if kind == "modules":
        run_layers(plan, left(1 - REPEAT_SHARE), results, kind="module")
        repeat_slow_modules(plan, left(), results)
    if networks:
        run_networks(networks, plan, left(), results)
    if kind not in ("pick", "roof", "aims"):
        measure_roofs(plan, results)


def _plan(arguments: argparse.Namespace) -> Plan:
    kind = arguments.kind
    peers = {"kernels": [], "pick": [], "aims": [], "modules": [PEER]}.get(kind, arguments.peers or ["default"])
    engines = find_engines([OWN, *peers])
    plan = Plan(engines, _threads(THREADS if arguments.threads is None else arguments.threads))
    plan.algorithms, plan.with_cold = arguments.algorithms or [], arguments.cold
    plan.batch = integer(1 if arguments.batch is None else arguments.batch, "batch", 1)
    if kind in ("kernels", "aims") or arguments.isa:
        plan.isas = _instruction_sets(arguments.isa)
    if kind == "aims" and not arguments.isa:
        plan.isas = aimed_at(plan.isas)
    if kind in ("kernels", "aims") or arguments.dtypes:
        plan.dtypes = arguments.dtypes or list(ELEMENTS)
    if kind not in ("networks", "roof", "aims"):
        suites = {"overhead": OVERHEAD_SUITES, "all": EVERY_SUITE, "modules": EVERY_SUITE}.get(kind, LAYER_SUITES)
        for what in arguments.shapes or suites:
            suite, problems = find_problems(what)
            plan.add(suite, module_problems(problems) if kind == "modules" else problems)
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
    if arguments.kind not in NETWORK_KINDS:
        return []
    known = network_names()
    for name in arguments.networks or ():
        if name not in known:
            raise ArgumentError(f"networks: {name!r} is none of {', '.join(known)}")
    if not util.find_spec("onnx"):
        if arguments.kind == "networks":
            raise ArgumentError("networks: they are ONNX files, and onnx is not installed (pip install onnx)")
        print("fastconv bench: no networks, onnx is not installed", file=sys.stderr)
        return []
    return arguments.networks or ([OVERHEAD_NETWORK] if arguments.kind == "overhead" else known)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse what this kind of run would not look at."""
    for name, kinds in USED_BY.items():
        value = vars(arguments)[name]
        if value is not None and value is not False and arguments.kind not in kinds:
            raise ArgumentError(f"{name}: bench {arguments.kind} does not use it; it is for {', '.join(kinds)}")


def _check_files(arguments: argparse.Namespace) -> None:
    """Refuse files that could not be written after minutes of measuring."""
    for name in ("json", "html", "markdown"):
        check_file(name, getattr(arguments, name))
    check_folder("plots", arguments.plots)
    if arguments.markdown:
        check_markdown(arguments.markdown)


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
    words += ["--batch", str(arguments.batch)] if arguments.batch is not None else []
    words += ["--threads", arguments.threads or THREADS, "--budget", f"{arguments.budget or BUDGET:g}"]
    return words + (["--cold"] if arguments.cold else [])


def _is_own(row) -> bool:
    return row.kind in ("kernel", "aim") or row.engine == OWN
