"""Builds the kernels: every kernel text once per instruction set and element type.

The tables below are the whole of it.  ``FASTCONV_DEBUG=1`` turns on Cython's bounds and initialisation checks and the
compiler's for undefined behaviour (array bounds, overflow, shifts), which end the process.  ``FASTCONV_SANITIZE=address``
builds with AddressSanitizer, whose library then has to be preloaded (``.ci/run`` shows how).
"""

import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("src/fastconv/_kernels")
DEBUG = os.environ.get("FASTCONV_DEBUG") == "1"
SANITIZE = os.environ.get("FASTCONV_SANITIZE", "")
if SANITIZE not in ("", "address"):
    sys.exit(f"FASTCONV_SANITIZE: expected address, got {SANITIZE!r}")

# Kernel texts compiled for every instruction set and element type, and those compiled once, for the baseline.
VARIED = (
    "conv", "pointwise", "depthwise", "depthwise_planes", "im2col", "linear", "winograd", "roof", "elementwise",
    "normalization", "softmax", "resample", "pool", "pool_boxes", "pool_turned", "pool_picked", "pool_flat", "binary", "pad",
)  # fmt: skip
# Of these, the variants that are of use: elements of any type are moved as words, and few instruction sets pick any lanes
# or load under masks.
ONLY = {
    "depthwise_planes": ("avx2_float32", "avx512_float32"),
    "pad": ("baseline_float32", "avx2_float32", "avx512_float32"),
    "pool_picked": ("avx512_float32", "avx512_float64"),
    "pool_flat": ("avx512_float32",),
}
ONCE = ("probe", "array_memory", "team", "engine", "recent", "pool_indices", "strided_copy", "wire")
HEADERS = (
    "simd.h",
    "lanes.h",
    "team.h",
    "atomics.h",
    "clock.h",
    "fields.h",
    "array_memory.h",
    "array_memory.pxd",
    "team.pxd",
    "packing.pxd",
    "depthwise_rows.pxd",
    "depthwise_taps.pxd",
    "panels.pxd",
    "vector_math.h",
    "vector_math.pxd",
    "reduction.pxd",
    "pool_box.pxd",
    "pool_chunks.pxd",
    "pool_rows.pxd",
    "winograd_transforms.pxd",
    "winograd_tiles.pxd",
    "winograd_outputs.pxd",
    "winograd_channels.pxd",
    "winograd_filters.pxd",
    "winograd_lanes.pxd",
    "winograd_transposed.pxd",
)

# They stand behind Python's own flags and win: only -O3 unrolls the tiles into registers.  No -ffast-math: it would set
# flush-to-zero for the whole process, and NaN and infinity have to keep their meaning.
COMMON = [
    "-O3", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-g0",
]  # fmt: skip
# Kernels with register tiles: constants of the epilogue that move out of their loops would push sums onto the stack.
TILED = ("conv", "winograd")
TILED_FLAGS = ["-fno-move-loop-invariants"]
LEVELS = {
    "baseline": [],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
CHECKS = ["-O1", "-fsanitize=undefined", "-fno-sanitize=alignment,pointer-overflow", "-fno-sanitize-recover=all"]
ADDRESS_CHECKS = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fsanitize=address"]
# The unrolled tiles of this one take most of the build; checks of addresses that are calls, not code in place, shorten it.
MOSTLY_TILES = ("depthwise",)
CHECKS_AS_CALLS = ["--param=asan-instrumentation-with-call-threshold=0"]
ELEMENTS = {"float32": [], "float64": [("FASTCONV_DOUBLE", "1")]}

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "freethreading_compatible": True,
    "binding": False,  # a third of a small module otherwise
}


def extensions():
    levels = LEVELS if platform.machine().lower() in ("x86_64", "amd64") else {"baseline": []}
    once = [Extension(f"fastconv._kernels.{name}", [str(KERNELS / f"{name}.pyx")]) for name in ONCE]
    translated = cythonize(
        once + [Extension(f"fastconv._kernels.{name}", [str(KERNELS / f"{name}.pyx")]) for name in VARIED],
        compiler_directives=DIRECTIVES,
    )
    varied = [
        Extension(f"fastconv._kernels.{level}_{element}.{name}", [variant_source(name, level, element)],
                  define_macros=macros, extra_compile_args=flags + TILED_FLAGS * (name in TILED))
        for level, flags in levels.items()
        for element, macros in ELEMENTS.items()
        for name in VARIED
        if name not in ONLY or f"{level}_{element}" in ONLY[name]
    ]  # fmt: skip
    for extension in translated[: len(ONCE)] + varied:
        extension.include_dirs.append(str(KERNELS))
        extension.depends += [str(KERNELS / header) for header in HEADERS]
    return translated[: len(ONCE)] + varied


def variant_source(name, level, element):
    """A copy of the C text in a folder of its own, where object files, named after their source, do not collide.

    It is renewed only when the text has changed, so that a second build in the same tree compiles nothing.
    """
    text = (KERNELS / f"{name}.c").read_bytes()
    copy = Path("build/kernels") / f"{level}_{element}" / f"{name}.c"
    if not copy.exists() or copy.read_bytes() != text:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(text)
    return str(copy)


class BuildExtensions(build_ext):
    def build_extensions(self):
        gnu_like = self.compiler.compiler_type != "msvc"
        for extension in self.extensions:
            extension.extra_compile_args = COMMON + extension.extra_compile_args if gnu_like else ["/O2"]
            if sys.platform == "linux" and not (DEBUG or SANITIZE):
                extension.extra_link_args += ["-Wl,--strip-all"]
            if DEBUG and gnu_like:
                extension.extra_compile_args += CHECKS
                extension.extra_link_args += CHECKS
            if SANITIZE and gnu_like:
                extension.extra_compile_args += ADDRESS_CHECKS
                if extension.name.rpartition(".")[2] in MOSTLY_TILES:
                    extension.extra_compile_args += CHECKS_AS_CALLS
                extension.extra_link_args += ["-fsanitize=address"]
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def copy_extensions_to_source(self):
        for extension in self.extensions:
            Path(self.get_ext_fullpath(extension.name)).parent.mkdir(exist_ok=True)
        super().copy_extensions_to_source()


# The shape files stand in benchmarks/, where people look for them, and are part of the package.
SHAPES = "fastconv.tools.bench.shapes"

setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtensions},
    packages=[*find_packages("src"), SHAPES],
    package_dir={"": "src", SHAPES: "benchmarks/shapes"},
    package_data={"fastconv": ["py.typed"], "fastconv.models": ["*.npz", "*.md"], SHAPES: ["*.txt"]},
    include_package_data=False,
)
