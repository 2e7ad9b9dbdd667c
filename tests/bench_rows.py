"""Rows, limits and commands for the tests of what the benchmark suite reports."""

import argparse

from fastconv.tools import bench
from fastconv.tools.bench.results import Row

CONV, POOL = "conv2d 1x64x56x56 -> 64 k3 p1", "max_pool2d 1x64x56x56 k2 s2"
ROOF = {
    "threads": 1,
    "fma_gflops": {"avx512 float32": 170.0, "avx2 float32": 90.0},
    "read_gbps": {"L2": 100.0, "L3": 60.0, "memory": 20.0},
    "copy_gbps": {"L2": 90.0, "L3": 50.0, "memory": 18.0},
}


def timed(kind, problem, engine, microseconds, **more):
    fields = {
        "threads": 1,
        "median": microseconds * 1e-6,
        "minimum": microseconds * 0.9e-6,
        "spread": 0.02,
        "samples": 20,
    }
    fields |= {"error": 1e-6, "load": 0.01, "first_run": 0.002, "peak_bytes": 50_000_000}
    return Row(kind, problem, engine, **(fields | more))


def command(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.run(parser.parse_args(words))
