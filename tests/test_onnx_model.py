"""Graphs: names, order, subgraphs, local functions, and what the file says of itself."""

import pickle

import numpy as np
import onnx_bytes as write
import pytest

from fastconv.errors import ArgumentTypeError, ModelError
from fastconv.onnx import model
from fastconv.onnx.evaluate import Evaluator


def load(nodes, inputs=("x",), outputs=("y",), initializers=(), **values):
    return model.load(write.model(write.graph(nodes, inputs, outputs, initializers), **values))


def function(name, inputs, outputs, nodes, attributes=(), domain="local", **values):
    return write.message(
        "FunctionProto",
        name=name,
        domain=domain,
        input=inputs.split(),
        output=outputs.split(),
        node=list(nodes),
        attribute=list(attributes),
        opset_import=[write.message("OperatorSetIdProto", domain="", version=21)],
        **values,
    )


class TestFacts:
    def test_inputs_and_outputs(self):
        inputs = [
            write.value("image", ["batch", 3, None, 224]),
            write.value("flag", [], 9),
            write.value("w", [2], 1),
            write.value("any", None),
        ]
        loaded = load([], inputs, [write.value("image", [1], 16)], [write.tensor(np.ones(2, np.float32), "w")])
        image, flag, anything = loaded.graph.inputs
        assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 3, None, 224])
        assert (flag.type, flag.shape, flag.has_rank, flag.dtype) == ("tensor(bool)", [], True, np.dtype(bool))
        assert (anything.type, anything.has_rank, anything.dtype) == ("", False, None)
        assert [info.name for info in loaded.graph.defaults] == ["w"]
        assert loaded.graph.outputs[0].type == "tensor(bfloat16)"

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            ({"sequence_type": write.message("TypeProto.Sequence", elem_type="tensor")}, "seq(tensor(int64))"),
            ({"optional_type": write.message("TypeProto.Optional", elem_type="tensor")}, "optional(tensor(int64))"),
            (
                {"map_type": write.message("TypeProto.Map", key_type=8, value_type="tensor")},
                "map(string,tensor(int64))",
            ),
        ],
    )
    def test_other_types(self, kind, name):
        tensor = write.message("TypeProto", tensor_type=write.message("TypeProto.Tensor", elem_type=7))
        ((key, placeholder),) = kind.items()
        content = placeholder.replace(write.field(1, "tensor"), write.field(1, tensor))
        content = content.replace(write.field(2, "tensor"), write.field(2, tensor))
        info = write.message("ValueInfoProto", name="x", type=write.message("TypeProto", **{key: content}))
        assert load([], [info], ["x"]).graph.inputs[0].type == name

    def test_header(self):
        loaded = load(
            [],
            outputs=["x"],
            opset=17,
            domains=["com.microsoft"],
            producer_name="me",
            producer_version="1.2",
            model_version=-3,
            domain="org.here",
            doc_string="text",
            metadata_props=[write.message("StringStringEntryProto", key="labels", value="a,b")],
        )
        assert loaded.opsets == {"": 17, "com.microsoft": 1}
        assert (loaded.ir_version, loaded.producer_name, loaded.producer_version) == (8, "me", "1.2")
        assert (loaded.version, loaded.domain, loaded.description) == (-3, "org.here", "text")
        assert loaded.metadata == {"labels": "a,b"}

    def test_without_opset_it_is_the_first(self):
        data = write.message(
            "ModelProto", ir_version=2, graph=write.graph([write.node("Relu", "x", "y")], ["x"], ["y"])
        )
        assert model.load(data).graph.nodes[0].opset == 1

    def test_attributes(self):
        nodes = [
            write.node("Op", "x", "y", f=0.5, i=-3, s="é", raw=b"\xff", t=np.ones(2, "f4"), ints=[1, -2], fs=[0.5, 2.0])
        ]
        attributes = load(nodes).graph.nodes[0].attributes
        assert attributes.pop("t").tolist() == [1, 1]
        assert attributes == {"f": 0.5, "i": -3, "s": "é", "raw": b"\xff", "ints": [1, -2], "fs": [0.5, 2.0]}

    def test_attribute_without_its_type_as_old_files_have_it(self):
        old = write.message("AttributeProto", name="axis", i=2)
        nodes = [write.message("NodeProto", op_type="Op", input=["x"], output=["y"], attribute=[old])]
        assert load(nodes).graph.nodes[0].attributes == {"axis": 2}

    @pytest.mark.parametrize("source", [bytes, bytearray, memoryview, "path", "pathlike", "proto"])
    def test_sources(self, source, tmp_path):
        data = write.model(write.graph([], ["x"], ["x"]))
        (tmp_path / "model.onnx").write_bytes(data)
        if source == "path":
            source = str(tmp_path / "model.onnx")
        elif source == "pathlike":
            source = tmp_path / "model.onnx"
        elif source == "proto":
            source = type("Proto", (), {"SerializeToString": lambda self: data})()
        else:
            source = source(data)
        assert model.load(source).graph.inputs[0].name == "x"

    def test_other_sources_are_refused(self):
        with pytest.raises(ArgumentTypeError, match=r"expected a path, bytes or an object with SerializeToString.*int"):
            model.load(3)
        with pytest.raises(FileNotFoundError):
            model.load("/nowhere/model.onnx")

    def test_onnxruntime_says_the_same(self):
        onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no facts to compare")
        inputs = [write.value("x", ["batch", 3, None, 224]), write.value("c", [], 9), write.value("w", [3])]
        nodes = [write.node("Abs", "x", "y"), write.node("SequenceConstruct", "x x", "s"), write.node("Not", "c", "d")]
        tensor = write.message("TypeProto", tensor_type=write.message("TypeProto.Tensor", elem_type=1))
        sequence = write.message("TypeProto", sequence_type=write.message("TypeProto.Sequence", elem_type=tensor))
        outputs = [
            write.value("y", ["batch", 3, None, 224]),
            write.message("ValueInfoProto", name="s", type=sequence),
            write.value("d", [], 9),
        ]
        initializers = [write.tensor(np.ones(3, np.float32), "w")]
        props = [write.message("StringStringEntryProto", key="names", value="{0: 'cat'}")]
        header = {"producer_name": "me", "domain": "org.here", "model_version": 4, "doc_string": "text"}
        data = write.model(write.graph(nodes, inputs, outputs, initializers), metadata_props=props, **header)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        ours = model.load(data)
        for mine, theirs in [(ours.graph.inputs, session.get_inputs()), (ours.graph.outputs, session.get_outputs())]:
            assert [(i.name, i.type, i.shape) for i in mine] == [(i.name, i.type, i.shape) for i in theirs]
        meta = session.get_modelmeta()
        assert ours.metadata == meta.custom_metadata_map
        assert (ours.producer_name, ours.domain, ours.version) == (meta.producer_name, meta.domain, meta.version)
        assert (ours.description, ours.graph.name) == (meta.description, meta.graph_name)

    def test_errors_pickle(self):
        error = pickle.loads(pickle.dumps(ModelError("broken", "graph")))
        assert str(error) == "graph: broken"


class TestGraphs:
    def test_nodes_are_put_in_order(self):
        chain = [write.node("Neg", f"v{i}", f"v{i + 1}") for i in reversed(range(5))]
        assert [n.outputs for n in load(chain, ["v0"], ["v5"]).graph.nodes] == [[f"v{i}"] for i in range(1, 6)]

    def test_order_counts_what_subgraphs_take_from_outside(self):
        branch = ("g", write.graph([write.node("Neg", "late", "t")], [], ["t"]))
        nodes = [write.node("If", "c", "y", then_branch=branch, else_branch=branch), write.node("Abs", "x", "late")]
        loaded = load(nodes, ["x", "c"])
        assert [n.op_type for n in loaded.graph.nodes] == ["Abs", "If"]
        assert loaded.graph.nodes[1].reads() == ["c", "late", "late"]

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ([write.node("Neg", "z", "y")], r"graph.node\[0\].input\[0\]: value 'z' comes from no node"),
            ([write.node("Neg", "x", "z")], r"graph.output\[0\]: value 'y' comes from no node"),
            ([write.node("Neg", "x", "y")] * 2, r"graph.node\[1\]: value 'y' is there twice"),
            ([write.node("Neg", "x", "x y")], r"graph.node\[0\]: value 'x' is there twice"),
            ([write.node("Neg", "y", "y")], r"a circle: Neg 'y' → Neg 'y'"),
            ([write.node("Neg", "a", "y"), write.node("Abs", "y", "a", name="n")], r"a circle: .*Abs 'n'"),
            ([write.node("Op", "x", "y", sparse=("sparse_tensor", b""))], "kind sparse_tensor are not supported"),
        ],
    )
    def test_impossible_graphs(self, nodes, message):
        with pytest.raises(ModelError, match=message):
            load(nodes)

    def test_impossible_attributes(self):
        for attribute, message in [
            (write.message("AttributeProto", name="a"), "attribute 'a' has no value"),
            (write.message("AttributeProto", name="a", type=4), r"attribute 'a' has no value \(t\)"),
            (write.message("AttributeProto", name="a", type=77), r"attribute 'a' has no value \(type 77\)"),
        ]:
            nodes = [write.message("NodeProto", op_type="Op", input=["x"], output=["y"], attribute=[attribute])]
            with pytest.raises(ModelError, match=r"graph.node\[0\].attribute\[0\]: " + message):
                load(nodes)
        twice = [write.attribute("a", 1)] * 2
        with pytest.raises(ModelError, match="attribute 'a' is there twice"):
            load([write.message("NodeProto", op_type="Op", input=["x"], output=["y"], attribute=twice)])

    def test_other_impossible_files(self):
        tensor = write.tensor(np.ones(1, np.float32), "w")
        with pytest.raises(ModelError, match="the file holds no graph; is it an ONNX model"):
            model.load(b"")
        with pytest.raises(ModelError, match=r"graph.initializer\[1\]: value 'w' is there twice"):
            load([], ["x"], ["x"], [tensor, tensor])
        with pytest.raises(ModelError, match=r"graph.input\[1\]: value 'x' is there twice"):
            load([], ["x", "x"], ["x"])
        with pytest.raises(ModelError, match=r"graph.input\[0\]: a value without a name"):
            load([], [""], [])
        with pytest.raises(ModelError, match=r"graph.sparse_initializer\[0\]: sparse tensors are not supported"):
            model.load(write.model(write.graph([], [], [], sparse_initializer=[b""])))

    def test_fault_in_a_subgraph_says_where(self):
        branch = ("g", write.graph([write.node("Neg", "x", "t"), write.node("Neg", "u", "v")], [], ["t"]))
        with pytest.raises(ModelError, match=r"graph.node\[0\].attribute\[1\].g.node\[1\].input\[0\]: value 'u'"):
            load([write.node("If", "x", "y", a=1, then_branch=branch)])

    def test_many_subgraphs_in_a_large_scope_stay_fast(self):
        chain = [write.node("Neg", f"v{i}", f"v{i + 1}") for i in range(3000)]
        branch = ("g", write.graph([], [], ["v0"]))
        branches = [write.node("If", "c", f"w{i}", then_branch=branch, else_branch=branch) for i in range(3000)]
        assert len(load(chain + branches, ["v0", "c"], ["v3000"]).graph.nodes) == 6000


class TestFunctions:
    def run(self, functions, nodes, feeds, outputs=("y",), domains=("local",)):
        graph = write.graph(nodes, list(feeds), list(outputs))
        evaluator = Evaluator(write.model(graph, domains=domains, functions=list(functions)))
        return evaluator, evaluator.run({name: np.float32(v) for name, v in feeds.items()})

    def test_names_inside_do_not_meet_names_outside(self):
        twice_plus = function("F", "a b", "r", [write.node("Add", "a a", "t"), write.node("Add", "t b", "r")])
        nodes = [
            write.node("F", "x t", "r", domain="local"),
            write.node("F", "r r", "y", domain="local"),
        ]
        evaluator, (y,) = self.run([twice_plus], nodes, {"x": [1, 2], "t": [10, 20]})
        assert y.tolist() == [3 * 12, 3 * 24]
        names = [name for node in evaluator.model.graph.nodes for name in node.outputs]
        assert len(set(names)) == len(names) == 4
        assert {node.op_type for node in evaluator.model.graph.nodes} == {"Add"}

    def test_attributes_of_the_call_and_defaults(self):
        body = [
            write.node("LeakyRelu", "a", "t", alpha=("ref_attr_name", "slope")),
            write.node("Elu", "t", "r", alpha=("ref_attr_name", "absent")),
        ]
        defaults = [write.attribute("slope", 0.5)]
        leaky = function("F", "a", "r", [body[0], write.node("Identity", "t", "r")], attribute_proto=defaults)
        assert self.run([leaky], [write.node("F", "x", "y", domain="local")], {"x": [-2]})[1][0] == -1
        assert self.run([leaky], [write.node("F", "x", "y", domain="local", slope=0.25)], {"x": [-2]})[1][0] == -0.5
        elu = function("F", "a", "r", body, ["slope", "absent"])
        assert self.run([elu], [write.node("F", "x", "y", domain="local", slope=1.0)], {"x": [-50]})[1][0] == -1

    def test_omitted_inputs_outputs_and_passing_through(self):
        clip = function("F", "a low high", "r a", [write.node("Clip", "a low high", "r")])
        nodes = [write.node("F", "x - h", "y z", domain="local"), write.node("F", "x", "- u", domain="local")]
        _, (y, z, u) = self.run([clip], nodes, {"x": [-5, 5], "h": 1}, ("y", "z", "u"))
        assert (y.tolist(), z.tolist(), u.tolist()) == ([-5, 1], [-5, 5], [-5, 5])

    def test_subgraphs_inside(self):
        branch = ("g", write.graph([write.node("Neg", "x", "t")], [], ["t"]))
        positive = ("g", write.graph([write.node("Identity", "x", "t")], [], ["t"]))
        body = [
            write.node("Constant", "", "zero", value=np.zeros((), np.float32)),
            write.node("Less", "x zero", "c"),
            write.node("If", "c", "r", then_branch=branch, else_branch=positive),
        ]
        absolute = function("F", "x", "r", body)
        _, (y,) = self.run([absolute], [write.node("F", "t", "y", domain="local")], {"t": -3})
        assert y == 3

    def test_in_the_default_domain_they_go_before_operators(self):
        negation = function("Relu", "a", "r", [write.node("Neg", "a", "r")], domain="")
        assert self.run([negation], [write.node("Relu", "x", "y")], {"x": [5]}, domains=())[1][0] == -5

    @pytest.mark.parametrize(
        ("functions", "message"),
        [
            ([function("F", "a", "r", [write.node("F", "a", "r", domain="local")])], "local function 'F' calls itself"),
            (
                [
                    function("F", "a", "r", [write.node("G", "a", "r", domain="local")]),
                    function("G", "a", "r", [write.node("F", "a", "r", domain="local")]),
                ],
                r"graph.node\[0\] → functions\[0\].node\[0\] → functions\[1\].node\[0\]: .* 'F' calls itself",
            ),
            ([function("F", "", "r", [])], "has 1 inputs and 1 outputs; its local function has 0 and 1"),
            ([function("F", "a", "r", [])], "output 'r' of the function is computed by none of its nodes"),
            ([function("F", "a", "r", [write.node("Neg", "x", "r")])], "value 'x' comes from no node"),
            ([function("F", "a", "r", [write.node("Neg", "a", "r")] * 2)], "value 'r' is there twice"),
            (
                [function("F", "a", "r", [write.node("Neg", "a", "a"), write.node("Neg", "a", "r")])],
                "'a' is there twice",
            ),
        ],
    )
    def test_impossible_functions(self, functions, message):
        with pytest.raises(ModelError, match=message):
            self.run(functions, [write.node("F", "x", "y", domain="local")], {"x": 1})

    def test_calls_that_nest_or_multiply_without_end(self):
        def doubling(depth):
            calls = [
                function(f"F{i}", "a", "r", [write.node(f"F{i + 1}", s, t, domain="local") for s, t in ("at", "tr")])
                for i in range(depth)
            ]
            return [*calls, function(f"F{depth}", "a", "r", [write.node("Neg", "a", "r")])]

        for depth, message in [
            (60, "take more memory than is sensible"),
            (200, "nest more than 100 deep|take more memory"),
        ]:
            with pytest.raises(ModelError, match=message):
                self.run(doubling(depth), [write.node("F0", "x", "y", domain="local")], {"x": 1})
