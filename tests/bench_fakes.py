"""An engine for the tests of the benchmark suite: what it does is its variant."""

import os
import signal
import time

import numpy as np

from fastconv.tools.bench.data import exact_output
from fastconv.tools.bench.engines import Refusal


def available():
    return "1.0"


def candidates(problem):
    def answer(algorithm, seconds, refusal=""):
        return {
            "algorithm": algorithm,
            "refusal": refusal,
            "seconds": seconds,
            "scratch_bytes": 1024,
            "automatic": True,
        }

    return [answer("right", 1e-3), answer("slow", 1e-6), answer("wrong", 1e-2), answer("no", None, "it has a cold")]


def prepare_layer(problem, arrays, threads, variant):
    y = exact_output(problem, arrays).astype(problem.dtype)
    return _callable(y, variant)


def prepare_network(path, feeds, threads, variant):
    assert path.read_bytes()
    return _callable(np.linspace(-1, 1, 10, dtype=np.float32), variant)


def _callable(y, variant):
    print("libraries print to standard output")
    if variant == "refuses":
        raise Refusal("it is only a fake")
    if variant == "fails":
        raise ValueError("no such\nluck")
    if variant == "wrong":
        y = y + np.float32(1)
    if variant == "inexact":
        y = y + np.float32(1e-3) * np.abs(y).max()
    if variant == "reshapes":
        y = y.ravel()[1:]

    def call():
        if variant == "crashes":
            os.kill(os.getpid(), signal.SIGKILL)
        if variant == "hangs":
            time.sleep(60)
        if variant == "slow":
            time.sleep(2e-3)
        return y

    return call
