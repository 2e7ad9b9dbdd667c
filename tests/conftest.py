import numpy as np
import pytest


@pytest.fixture(scope="session")
def torch():
    module = pytest.importorskip("torch", reason="comparison with torch: torch is not installed")
    module.set_num_threads(1)  # these arrays are small, and a team that spins slows every other process down
    return module


@pytest.fixture
def rng():
    """The same numbers in every test and on every run."""
    return np.random.default_rng(20160120)
