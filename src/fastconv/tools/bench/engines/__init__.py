"""The engines that a run compares: one row each, one module per library, all with the same functions.

======================================================  ========================================================
``available() -> str``                                  version, or an empty string if the library is missing
``prepare_layer(problem, arrays, threads, variant)``    a callable that computes the layer once
``prepare_network(path, feeds, threads, variant)``      a callable that runs the network once
``.plan()`` of that callable                            optional: what its first run does for new shapes
``convert_network(path, folder) -> path``               where `converts`: the file for prepare_network
``start()``                                             optional: what a user would do once, before all calls
======================================================  ========================================================

All do the same work: float32 (or float64) from NCHW memory to NCHW memory in the library's own array, or NHWC to NHWC
for a problem that says so.  Reordering to whatever layout the kernels want, and back, is part of the timing, whether
the library does it (OpenVINO, onnxruntime, ncnn, MNN) or its user (torch with channels-last weights).  Outside of it
stay what is done once per model, and copies between the library's array and NumPy's: the callable returns something
that ``numpy.asarray`` turns into the output, N×C×spatial.  Every library is set up as its documentation advises for
the shortest latency in full precision.  What an engine cannot do it refuses with :class:`Refusal` and a sentence.
A module imports its library inside the functions, and runs in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import util

from fastconv.errors import ArgumentError

__all__ = ["ENGINES", "Engine", "Refusal", "find_engines", "is_installed"]


class Refusal(Exception):
    """The engine cannot do this, and says why."""


@dataclass(frozen=True)
class Engine:
    """How an engine is found, started and judged.

    `converts`: it does not read ONNX files.  `growth` is how much its fastest algorithms amplify rounding over a direct
    sum (Winograd tiles of 6×6 outputs: LARGE_TILES, most of it at few channels).
    """

    name: str
    module: str
    library: str
    distribution: str
    variant: str = ""
    growth: float = 1.0
    by_default: bool = True
    converts: bool = False

    def growth_of(self, algorithm: str) -> float:
        """The same of one of fastconv's algorithms by name."""
        return LARGE_TILES if algorithm == "winograd_large" else self.growth


_HERE = __name__
LARGE_TILES = 16.0
ENGINES = {
    engine.name: engine
    for engine in (
        Engine("fastconv", f"{_HERE}.own", "fastconv.nn", "fastconv", "auto", growth=4.0),
        Engine("torch", f"{_HERE}.pytorch", "torch", "torch", "nchw", converts=True),
        Engine("torch-channels-last", f"{_HERE}.pytorch", "torch", "torch", "channels-last", converts=True),
        Engine("torch-compiled", f"{_HERE}.pytorch", "torch", "torch", "compiled", by_default=False, converts=True),
        Engine("onnxruntime", f"{_HERE}.ort", "onnxruntime", "onnxruntime"),
        Engine("openvino", f"{_HERE}.ov", "openvino", "openvino"),
        Engine("ncnn", f"{_HERE}.ncnn_engine", "ncnn", "ncnn", growth=LARGE_TILES, converts=True),
        Engine("mnn", f"{_HERE}.mnn_engine", "MNN", "MNN", growth=LARGE_TILES, converts=True),
        Engine("scipy", f"{_HERE}.scipy_engine", "scipy.signal", "scipy", by_default=False),
    )
}


def is_installed(engine: Engine) -> bool:
    try:
        return util.find_spec(engine.library) is not None
    except ModuleNotFoundError:  # the package of a submodule
        return False


def find_engines(names: list[str], table: dict[str, Engine] = ENGINES) -> list[Engine]:
    """The engines called `names`; ``all`` stands for every installed one, ``default`` leaves out the slow ones.

    Raises :class:`ArgumentError` that lists the engines for an unknown name.
    """
    found: dict[str, Engine] = {}
    for name in names:
        if name in ("all", "default"):
            chosen = [e for e in table.values() if is_installed(e) and (e.by_default or name == "all")]
        elif name in table:
            chosen = [table[name]]
        else:
            raise ArgumentError(f"peers: {name!r} is none of {', '.join(table)}, all, default")
        found |= {engine.name: engine for engine in chosen}
    return list(found.values())
