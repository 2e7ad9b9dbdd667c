"""Every algorithm of fastconv on every line of the shape files, under pytest-benchmark.

``pytest benchmarks/`` times them; with ``--benchmark-disable`` each runs once, large layers left out, so that none can
rot.  An algorithm is compared with the reference before it is timed.
"""

from functools import lru_cache

import pytest

import fastconv
from fastconv.tools.bench.data import error_bound, exact_output, judge, make_arrays, mistrust
from fastconv.tools.bench.engines import ENGINES, own
from fastconv.tools.bench.suites import find_problems, suite_names

MOST_FLOPS_WHEN_DISABLED = 20e6


def rows():
    seen = set()
    for suite in suite_names():
        for problem in find_problems(suite)[1]:
            if problem.line not in seen:
                seen.add(problem.line)
                for answer in own.candidates(problem):
                    if not answer["refusal"]:
                        yield pytest.param(
                            problem, answer["algorithm"], id=f"{suite}-{problem.line}-{answer['algorithm']}"
                        )


@lru_cache(maxsize=1)
def expected(problem):
    arrays = make_arrays(problem)
    return arrays, exact_output(problem, arrays)


@pytest.mark.parametrize(("problem", "algorithm"), list(rows()))
def test_layer(problem, algorithm, benchmark, request):
    if request.config.getoption("benchmark_disable") and problem.flops > MOST_FLOPS_WHEN_DISABLED:
        pytest.skip("large layers: benchmarks are disabled")
    arrays, exact = expected(problem)
    assert not mistrust(exact)
    call = own.prepare_layer(problem, arrays, fastconv.get_num_threads(), algorithm)
    verdict = judge(call(), exact, error_bound(problem, ENGINES["fastconv"].growth))
    assert verdict.status == "ok", f"{problem}: {verdict.reason}"
    benchmark.group = problem.line
    benchmark.extra_info |= {"flops": problem.flops, "bytes": problem.bytes, "error": verdict.error}
    benchmark(call)
