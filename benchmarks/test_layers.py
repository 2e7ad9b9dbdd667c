"""Every algorithm of fastconv on every line of the shape files, under pytest-benchmark.

``pytest benchmarks/`` times them; with ``--benchmark-disable`` each runs once on a small layer of the same kind, so that
none can rot.  An algorithm is compared with the reference before it is timed.
"""

from functools import lru_cache

import pytest

import fastconv
from fastconv.tools.bench.data import error_bound, exact_output, judge, make_arrays, mistrust
from fastconv.tools.bench.engines import ENGINES, own
from fastconv.tools.bench.suites import find_problems, suite_names


def pytest_generate_tests(metafunc):
    small = metafunc.config.getoption("benchmark_disable")
    metafunc.parametrize(("problem", "algorithm"), list(rows(small)))


def rows(small):
    """A row for every distinct line and every algorithm that accepts it, with the layer or a `small` one like it."""
    lines = {}
    for suite in suite_names():
        for problem in find_problems(suite)[1]:
            lines.setdefault(problem.line, (suite, problem))
    for line, (suite, problem) in lines.items():
        row = problem.shrunk() if small else problem
        for answer in own.candidates(row):
            if not answer["refusal"]:
                algorithm = answer["algorithm"]
                yield pytest.param(row, algorithm, id=f"{suite}-{line}-{algorithm}")


@lru_cache(maxsize=1)
def expected(problem):
    arrays = make_arrays(problem)
    return arrays, exact_output(problem, arrays)


def test_layer(problem, algorithm, benchmark):
    arrays, exact = expected(problem)
    assert not mistrust(exact)
    call = own.prepare_layer(problem, arrays, fastconv.get_num_threads(), algorithm)
    verdict = judge(call(), exact, error_bound(problem, ENGINES["fastconv"].growth_of(algorithm)))
    assert verdict.status == "ok", f"{problem}: {verdict.reason}"
    benchmark.group = problem.line
    benchmark.extra_info |= {"flops": problem.flops, "bytes": problem.bytes, "error": verdict.error}
    benchmark(call)
