"""What a model may take: sizes told before they are computed, limits of a session, turns of loops."""

import pickle
import re
import tracemalloc

import mutation_seeds
import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv import machine
from fastconv.errors import ArgumentError, MemoryLimitError, ModelError
from fastconv.graph import limits
from fastconv.onnx.evaluate import Evaluator
from fastconv.onnx.operators import OPERATORS, sizes

HUGE = 2**40


class Recorder(limits.Budget):
    """Refuses nothing, and remembers what was claimed for each node."""

    def __init__(self):
        super().__init__(2**62)
        self.claims = {}

    def claim(self, size, what, where=""):
        self.claims[where] = max(size, self.claims.get(where, 0))


@pytest.mark.parametrize("name", mutation_seeds.MODELS)
def test_results_are_no_larger_than_what_was_claimed(name, tmp_path):
    data, files = mutation_seeds.MODELS[name]()
    if files:
        for path, content in files.items():
            (tmp_path / path).write_bytes(content)
        (tmp_path / "model.onnx").write_bytes(data)
        data = tmp_path / "model.onnx"
    evaluator = Evaluator(data)
    feeds = {
        info.name: np.ones([n if isinstance(n, int) else 2 for n in info.shape], info.dtype)
        for info in evaluator.graph.inputs
    }
    budget, checked = Recorder(), set()

    def observe(node, inputs, results, seconds):
        if node.op_type in sizes._SIZES:
            checked.add(node.op_type)
            most = max((result.nbytes for result in results if isinstance(result, np.ndarray)), default=0)
            assert budget.claims[node.where] >= sizes.TEMPORARIES / 2 * most, node  # indices are wider than values

    with limits.limited(budget):
        evaluator.run_checked(feeds, observe)
    assert checked or name in ("functions", "loops")


def test_rows_are_of_operators_that_exist():
    assert set(sizes._SIZES) <= {name for _, name in OPERATORS}


def one(op_type, inputs, shapes=None, **attributes):
    """A model of one node on constants, and on the input x where `inputs` says so."""
    constants = {name: value for name, value in inputs.items() if value is not None}
    nodes = [write.node(op_type, " ".join(inputs), "y", name="big", **attributes)]
    given = [write.value("x", (1, 2, 3, 3))] if "x" in inputs else []
    return write.model(write.graph(nodes, given, ["y"], [write.tensor(np.asarray(v), n) for n, v in constants.items()]))


F = np.float32
BIG = {
    "ConstantOfShape": one("ConstantOfShape", {"s": np.array([HUGE])}),
    "Expand": one("Expand", {"x": None, "s": np.array([HUGE, 1, 1, 1, 1])}),
    "Tile": one("Tile", {"x": None, "s": np.array([1, 1, HUGE, 1])}),
    "Range": one("Range", {"a": np.array(0), "b": np.array(HUGE), "c": np.array(1)}),
    "OneHot": one("OneHot", {"i": np.array([1]), "d": np.array(HUGE), "v": F([0, 1])}),
    "Pad": one("Pad", {"x": None, "p": np.array([0, 0, 0, 0, 0, 0, HUGE, 0])}),
    "Resize": one("Resize", {"x": None, "-": None, "s": F([1, 1, HUGE, 1])}),
    "Upsample": one("Upsample", {"x": None, "s": F([1, 1, HUGE, 1])}),
    "Add": one("Add", {"a": np.zeros((2**17, 1), F), "b": np.zeros((1, 2**17), F)}),
    "MatMul": one("MatMul", {"a": np.zeros((2**17, 1), F), "b": np.zeros((1, 2**17), F)}),
    "Gemm": one("Gemm", {"a": np.zeros((1, 2**17), F), "b": np.zeros((1, 2**17), F)}, transA=1),
    "Einsum": one("Einsum", {"a": np.zeros(2**17, F), "b": np.zeros(2**17, F)}, equation="i,j->ij"),
    "Conv": one("Conv", {"x": None, "w": np.zeros((1, 2, 1, 1), F)}, pads=[0, 0, 2**20, 2**20]),
    "ConvTranspose": one("ConvTranspose", {"x": None, "w": np.zeros((2, 1, 1, 1), F)}, strides=[2**20, 2**20]),
    "MaxPool": one("MaxPool", {"x": None}, kernel_shape=[1, 1], pads=[0, 0, 2**20, 2**20]),
    "CenterCropPad": one("CenterCropPad", {"x": None, "s": np.array([HUGE])}, axes=[2]),
    "AffineGrid": one("AffineGrid", {"t": np.zeros((1, 2, 3), F), "s": np.array([1, 1, 2**20, 2**20])}),
    "RoiAlign": one(
        "RoiAlign", {"x": None, "r": F([[0, 0, 1, 1]]), "i": np.array([0])}, sampling_ratio=2**20, output_height=2
    ),
    "ReduceSum": one("ReduceSum", {"a": np.zeros((0, HUGE), F), "axes": np.array([0])}),
    "QuantizeLinear": one("QuantizeLinear", {"x": None, "s": np.ones((1, 2, 3, 1), F)}, block_size=HUGE, axis=3),
}


@pytest.mark.parametrize("op_type", BIG)
def test_a_result_that_no_limit_allows(op_type):
    def load_and_run():
        session = fc.InferenceSession(BIG[op_type])
        session.run(None, {"x": np.ones((1, 2, 3, 3), np.float32)} if session.get_inputs() else {})

    with pytest.raises(MemoryLimitError, match=r"would take \d+ bytes, and the limit is \d+") as failure:
        load_and_run()
    assert isinstance(failure.value, MemoryError)
    assert isinstance(failure.value, ModelError)
    place = rf"graph.node\[0\]: (fastconv::)?{op_type} 'big': .*values? of shape"
    assert re.match(place, str(failure.value))


class TestMemoryLimit:
    @pytest.fixture
    def model(self, rng):
        return models.residual(rng)

    @pytest.fixture
    def x(self, rng):
        return rng.standard_normal((2, 3, 64, 64)).astype(np.float32)

    def test_what_a_plan_takes_is_what_counts(self, model, x):
        plan = fc.InferenceSession(model).predict_memory({"x": x.shape})
        exact = plan.activations + plan.outputs
        assert fc.InferenceSession(model, memory_limit=exact).run(None, {"x": x})[0].shape == (2, 10)
        session = fc.InferenceSession(model, memory_limit=exact - 1)
        with pytest.raises(
            MemoryLimitError, match=f"the values of a run would take {exact} bytes, and the limit is {exact - 1}"
        ):
            session.run(None, {"x": x})
        assert session.run(None, {"x": x[:1]})[0].shape == (1, 10)

    @pytest.mark.parametrize("side", range(4))
    def test_padding_without_end_is_refused_before_anything_grows_with_it(self, side):
        pads = [1, 1, 1, 1]
        pads[side] = 2**28
        node = write.node("Conv", "x w", "y", pads=pads)
        weights = write.tensor(np.ones((8, 3, 3, 3), np.float32), "w")
        session = fc.InferenceSession(
            write.model(write.graph([node], [write.value("x", (1, 3, 8, 8))], ["y"], [weights]))
        )
        tracemalloc.start()
        try:
            with pytest.raises(MemoryLimitError, match="would take"):
                session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})
            assert tracemalloc.get_traced_memory()[1] < 2**23
        finally:
            tracemalloc.stop()

    def test_the_default_grows_with_weights_and_feeds(self):
        feed = np.empty(2**20, np.uint8)
        most = machine.memory_bytes()
        assert limits.default_bytes(0, []) == min(2**29, most)
        assert limits.default_bytes(2**28, []) == min(2**30, most)
        assert limits.default_bytes(0, [feed]) == min(2**30, most)
        assert limits.default_bytes(2**60, [feed]) == most

    @pytest.mark.parametrize("look", ["verify", "trace", "profile"])
    def test_who_looks_inside_keeps_to_it(self, model, x, look):
        kept = sum(value.nbytes for value in fc.InferenceSession(model).trace({"x": x}).values())
        plan = fc.InferenceSession(model).predict_memory({"x": x.shape})
        run = plan.activations + plan.outputs
        assert kept > run
        tight = fc.InferenceSession(model, memory_limit=run)
        if look == "profile":  # which has the memory of a run
            assert tight.profile({"x": x}, repeats=1).rows
        else:
            with pytest.raises(MemoryLimitError, match=rf"would take \d+ bytes, and the limit is {run}"):
                getattr(tight, look)({"x": x})
        assert getattr(fc.InferenceSession(model, memory_limit=4 * kept), look)({"x": x})
        with pytest.raises(MemoryLimitError, match="the values of a run would take"):
            getattr(fc.InferenceSession(model, memory_limit=run - 1), look)({"x": x})

    def test_it_goes_along_with_a_pickle(self, model):
        session = pickle.loads(pickle.dumps(fc.InferenceSession(model, memory_limit=12345678, max_turns=5)))
        assert (session._memory_limit, session._max_turns) == (12345678, 5)

    @pytest.mark.parametrize("wrong", [0, -1, 2**60])
    def test_wrong_limits(self, model, wrong):
        with pytest.raises(ArgumentError, match="memory_limit: expected at"):
            fc.InferenceSession(model, memory_limit=wrong)

    def test_values_that_are_held_count_together(self):
        """A chain that doubles and keeps everything, behind a node whose shape only a run can tell."""
        nodes = [write.node("NonZero", "x", "v0")]
        nodes += [write.node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=1) for i in range(12)]
        model = write.model(write.graph(nodes, [write.value("x", (1000,))], [f"v{i}" for i in range(13)]))
        x = np.ones(1000, np.float32)
        with pytest.raises(MemoryLimitError, match=r"Concat 'v\d+': .* beside \d+ bytes that are in use"):
            fc.InferenceSession(model, memory_limit=10**7).run(None, {"x": x})
        assert fc.InferenceSession(model, memory_limit=2**36).run(["v3"], {"x": x})[0].shape == (1, 8000)


class TestTurns:
    @staticmethod
    def looping(trips, scanned=1):
        body = write.graph(
            [write.node("Identity", "k", "k2"), write.node("Identity", "big", "s")],
            [write.value("i", (), 7), write.value("k", (), 9)],
            ["k2", "s"],
        )
        node = write.node("Loop", "trips -", "y", name="loop", body=("g", body))
        tensors = [write.tensor(np.array(trips), "trips"), write.tensor(np.zeros(scanned, np.float32), "big")]
        return write.model(write.graph([node], [], ["y"], tensors))

    def test_a_loop_may_not_go_on_for_ever(self):
        with pytest.raises(ModelError, match=r"have not ended after as many turns as one run may take \(max_turns"):
            fc.InferenceSession(self.looping(2**62)).run(None, {})
        assert fc.InferenceSession(self.looping(100), max_turns=100).run(None, {})[0].shape == (100, 1)
        with pytest.raises(ModelError, match="max_turns"):
            fc.InferenceSession(self.looping(101), max_turns=100).run(None, {})

    @pytest.mark.parametrize("look", ["verify", "trace", "profile"])
    def test_who_looks_inside_counts_turns_run_by_run(self, look):
        assert getattr(fc.InferenceSession(self.looping(100), max_turns=100), look)({})
        with pytest.raises(ModelError, match="max_turns"):
            getattr(fc.InferenceSession(self.looping(101), max_turns=100), look)({})

    def test_what_a_loop_collects_is_claimed(self):
        with pytest.raises(MemoryLimitError, match="what the loop's body collects would take"):
            fc.InferenceSession(self.looping(1000, 2**16), memory_limit=10**8).run(None, {})


def test_a_budget_belongs_to_a_thread_and_is_given_back():
    assert limits.current() is None
    with limits.limited(limits.Budget(100)):
        limits.claim(100, "all")
        with pytest.raises(MemoryLimitError, match="more would take 101 bytes, and the limit is 100"):
            limits.claim(101, "more")
        with limits.limited(None):
            limits.claim(101, "more")
    assert limits.current() is None
    limits.claim(HUGE, "anything")


def test_the_machine_or_its_cgroup_has_the_last_word(tmp_path):
    installed = machine.memory_bytes(tmp_path)
    assert installed > 2**28
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b")
    for folder, text in {"a": "max", "a/b": str(2**26)}.items():
        (tmp_path / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / folder / "memory.max").write_text(text)
    machine.memory_bytes.cache_clear()
    assert machine.memory_bytes(tmp_path) == 2**26
    machine.memory_bytes.cache_clear()
