"""The compiled kernels; here only the instruction set is chosen, once, before anything compiled wide is loaded.

``FASTCONV_ISA=baseline|avx2|avx512`` forces a level.  ``family("conv", "float32")`` is the kernel module of a family
for an element type at the chosen level.
"""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from fastconv.errors import ArgumentError

try:
    from fastconv._kernels import engine, probe, team
except ImportError as error:
    if not list(Path(__file__).parent.glob("probe.*.*")):
        hint = "install the package (pip install .), or in its source tree run: python setup.py build_ext --inplace"
        raise ImportError(f"fastconv's compiled kernels are missing; {hint}") from error
    raise

__all__ = ["ISA", "ISA_REASON", "engine", "family", "has", "levels", "preload", "team"]

levels = probe.levels()


def _choose() -> tuple[str, str]:
    forced = os.environ.get("FASTCONV_ISA", "")
    if not forced:
        return levels[0], "the best that this processor has"
    if forced in levels:
        return forced, "forced by FASTCONV_ISA"
    if forced in ("baseline", "avx2", "avx512"):
        raise ArgumentError(f"FASTCONV_ISA: this processor lacks {forced!r}; it has {', '.join(levels)}")
    raise ArgumentError(f"FASTCONV_ISA: expected one of baseline, avx2, avx512, got {forced!r}")


ISA, ISA_REASON = _choose()


HALF = {"avx512": "avx2"}  # the level with registers half as wide that are worth their while for narrow arrays
HALVED = ("depthwise", "depthwise_planes")  # the families of which float32 arrays use both levels


@cache
def family(name: str, element: str, half: bool = False):
    """The kernel module; with `half`, the one with registers half as wide, where there is one."""
    return import_module(f"fastconv._kernels.{HALF.get(ISA, ISA) if half else ISA}_{element}.{name}")


def preload(element: str) -> None:
    """Load all families for an element type, so that nobody waits for them later."""
    for module in iter_modules(import_module(f"fastconv._kernels.{ISA}_{element}").__path__):
        family(module.name, element)
        if ISA in HALF and module.name in HALVED:
            family(module.name, element, half=True)


def has(name: str, element: str) -> bool:
    """Whether there is such a module at the chosen level."""
    return find_spec(f"fastconv._kernels.{ISA}_{element}.{name}") is not None
