"""What steps fetch for later ones: which parts of which weights, and that no bit depends on it."""

import numpy as np
import pytest
from fastconv._kernels.engine import Program, record_bytes
from graphs import executable, graph, node

from fastconv import config, machine
from fastconv._kernels import family
from fastconv.graph.ahead import BYTES_PER_FETCH, plan_ahead
from fastconv.graph.passes import canonical_convolutions


def of_bytes(count: int) -> np.ndarray:
    return np.zeros(count, np.uint8)


def parts(ahead) -> list[list[tuple[int, int, int]]]:
    """With the sizes of the arrays in their places."""
    return [[(array.nbytes, first, size) for array, first, size in step] for step in ahead]


class TestPlan:
    def test_weights_are_fetched_by_the_last_step_before_their_reader(self):
        w = [of_bytes(3000 + i) for i in range(3)]
        ahead = plan_ahead([(1000, w[:1]), (1000, w[1:2]), (1000, w[2:])])
        assert parts(ahead) == [[(3001, 0, 3001)], [(3002, 0, 3002)], []]
        assert ahead[0][0][0] is w[1]

    def test_what_a_step_has_no_time_for_is_fetched_before(self):
        """The part that is read last comes last; steps that cannot fetch are passed over."""
        time = 10 * BYTES_PER_FETCH
        steps = [(10, []), (0, []), (10, []), (0, [of_bytes(5 * time)])]
        assert parts(plan_ahead(steps)) == [[(5 * time, 3 * time, time)], [], [(5 * time, 4 * time, time)], []]

    def test_the_nearest_reader_comes_first(self):
        near, far = of_bytes(4000), of_bytes(1 << 20)
        first, second, third, last = parts(plan_ahead([(50, []), (100, []), (0, [near]), (0, [far])]))
        assert second == [
            (4000, 0, 4000),
            (1 << 20, (1 << 20) - (100 * BYTES_PER_FETCH - 4000), 100 * BYTES_PER_FETCH - 4000),
        ]
        assert sum(size for _, _, size in first + second) == 150 * BYTES_PER_FETCH
        assert third == last == []

    def test_arrays_that_are_read_together_keep_their_order(self):
        one, other = of_bytes(2048), of_bytes(4096)
        assert parts(plan_ahead([(1000, []), (0, [one, other])])) == [[(2048, 0, 2048), (4096, 0, 4096)], []]

    def test_small_arrays_are_left_alone(self):
        assert plan_ahead([(1000, []), (0, [of_bytes(2047)])]) == [[], []]
        assert plan_ahead([]) == []

    def test_no_more_waits_than_a_part_of_the_cache(self, monkeypatch):
        monkeypatch.setattr(machine, "cache_bytes", lambda level: {3: 30_000}[level])
        first, *_ = parts(plan_ahead([(10_000, []), (0, [of_bytes(6000)]), (0, [of_bytes(90_000)])]))
        assert first == [(6000, 0, 6000), (90_000, 0, 4000)]


@pytest.fixture
def network(rng):
    """Convolutions that fetch what a fully connected layer reads, and the feeds."""
    arrays = {
        f"w{i}": rng.standard_normal(shape, np.float32) for i, shape in enumerate([(260, 300, 1, 1), (250, 260, 1, 1)])
    }
    arrays["w2"] = rng.standard_normal((33, 250 * 49), np.float32)
    nodes = [node("Conv", "x w0", "a"), node("Relu", "a", "b"), node("Conv", "b w1", "c"), node("Flatten", "c", "d"),
             node("Gemm", "d w2", "y", transB=1)]  # fmt: skip
    x = rng.standard_normal((1, 300, 7, 7), np.float32)
    return canonical_convolutions(graph({"x": x.shape}, "y", *nodes, **arrays)), {"x": x}


def test_no_bit_depends_on_what_is_fetched(network, isa):
    g, feeds = network
    results = []
    for threads in (1, 2, 3):
        with config.threads(threads):
            for fetches in (True, False):
                program = executable(g, feeds)
                assert any(program.ahead)
                if not fetches:
                    program.ahead = [[] for _ in program.ahead]
                results.append(program.run(feeds)[0])
    assert np.abs(results[0]).min() > 0
    for other in results[1:]:
        assert other.tobytes() == results[0].tobytes()


def test_the_records_tell_their_size(network):
    g, feeds = network
    program = executable(g, feeds)
    count = sum(map(len, program.ahead))
    assert program.record_bytes == record_bytes(len(program.calls), count) > record_bytes(len(program.calls), 0)
    assert executable(g, feeds, predicting=True).record_bytes == program.record_bytes


@pytest.mark.parametrize("pieces", [[(0, 0)], [(5, 1)], [(3, 9000), (9003, 1)] * 3, [(0, 40_000)], [(7, 3)] * 2000])
def test_parts_of_any_size(network, team, pieces):
    """And of any number."""
    g, feeds = network
    expected = executable(g, feeds).run(feeds)[0]
    program = executable(g, feeds)
    memory = np.zeros(40_000, np.uint8)
    program.ahead = [[(memory, first, size) for first, size in pieces] for _ in program.calls]
    assert program.run(feeds)[0].tobytes() == expected.tobytes()


def test_a_program_is_told_of_every_step_what_it_fetches():
    with pytest.raises(TypeError, match="expected what 0 steps fetch, got that of 1"):
        Program([], [[(of_bytes(1), 0, 1)]])


def test_a_step_can_fetch_with_every_tap_of_its_tiles(network, isa):
    g, feeds = network
    tile = family("conv", "float32").TILE
    first, _, second, last = (call.work.fetches for call in executable(g, feeds).calls)
    tiles = -(-49 // tile["pixels"])
    assert first == tiles * -(-260 // tile["filters"]) * 300
    assert last == 0
    assert second == tiles * -(-250 // tile["filters"]) * 260
