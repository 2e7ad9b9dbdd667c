import numpy as np
import pytest

from fastconv import _kernels, config
from fastconv.ops.table import forget_plans


@pytest.fixture(scope="session")
def torch():
    module = pytest.importorskip("torch", reason="comparison with torch: torch is not installed")
    module.set_num_threads(1)  # these arrays are small, and a team that spins slows every other process down
    return module


@pytest.fixture
def rng():
    """The same numbers in every test and on every run."""
    return np.random.default_rng(20160120)


@pytest.fixture(params=_kernels.levels)
def isa(request, monkeypatch):
    """Every instruction set that this machine has, in turn."""
    monkeypatch.setattr(_kernels, "ISA", request.param)
    _forget()
    yield request.param
    monkeypatch.undo()
    _forget()


@pytest.fixture(params=(1, 2, 3), ids="{}threads".format)
def team(request):
    with config.threads(request.param):
        yield request.param


def _forget():
    _kernels.family.cache_clear()
    forget_plans()
