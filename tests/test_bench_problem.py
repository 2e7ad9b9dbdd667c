"""Problem lines and the shape files made of them."""

from collections import Counter

import pytest

from fastconv.errors import ArgumentError
from fastconv.tools.bench.data import exact_output, make_arrays
from fastconv.tools.bench.problem import Problem, parse_problem
from fastconv.tools.bench.suites import find_problems, parse_problems, suite_names

# GMAC as published (torchvision's model table; GoogLeNet's and LeNet-5's from their definitions)
GMACS = {
    "lenet5": 0.0004165,
    "alexnet": 0.714,
    "vgg16": 15.47,
    "googlenet": 1.498,
    "resnet18": 1.814,
    "resnet50": 4.089,
    "mobilenet_v2": 0.301,
}
EVERY_LINE = [problem for suite in suite_names() for problem in find_problems(suite)[1]]
OPTIONS = [
    "conv2d 1x64x56x56 -> 64 k3 p1 *4 # layer1.0.conv1",
    "conv2d 1x32x112x112 -> 64 k3x5 s2x1 p0:1x2 d1x2 g32 nobias f64 nhwc seed7",
    "conv_transpose3d 2x4x3x5x7 -> 6 k3 s2 p1 o1x0x1 g2",
    "max_pool2d 1x64x112x112 k3 s2 p1 ceil",
    "avg_pool1d 1x8x100 k4 s4 p0:1 exclude",
    "pad 1x3x8x9 p1:2x0:3",
    "pad 1x3x8 p0",
    "batch_norm2d 2x3x8x9 f64 nhwc *4 # layer1.0.bn1",
    "batch_norm1d 2x3x8",
    "linear 16x2048 -> 1000 nobias",
]


@pytest.mark.parametrize("line", OPTIONS + [str(problem) for problem in EVERY_LINE])
def test_a_line_prints_as_it_was_read(line):
    problem = parse_problem(line)
    assert str(problem) == line
    assert parse_problem(str(problem)) == problem
    assert parse_problem(problem.line) == problem.replace(count=1, name="")


def test_defaults_and_spaces_do_not_matter():
    assert parse_problem("  conv2d  1x4x8x8 ->  4 g1 k3x3 d1 s1 p0:0 *1 f32 nchw seed0") == parse_problem(
        "conv2d 1x4x8x8 -> 4 k3"
    )


def test_sizes_flops_and_bytes():
    p = parse_problem("conv2d 2x8x10x9 -> 6 k3 s2 p0:1 g2")
    assert (p.output, p.weight, p.terms) == ((2, 6, 5, 4), (6, 4, 3, 3), 36)
    assert p.macs == 2 * 6 * 5 * 4 * 36
    assert p.flops == 2 * p.macs
    assert p.bytes == 4 * (2 * 8 * 90 + 6 * 36 + 6 + 2 * 6 * 20)
    t = parse_problem("conv_transpose2d 1x4x5x6 -> 8 k4 s2 p1")
    assert (t.output, t.weight, t.terms, t.macs) == ((1, 8, 10, 12), (4, 8, 4, 4), 16, 4 * 30 * 8 * 16)
    pool = parse_problem("max_pool2d 1x4x6x6 k3 s3 f64")
    assert (pool.flops, pool.macs, pool.bytes) == (4 * 4 * 9, 0, 8 * (4 * 36 + 4 * 4))


def test_a_batch_norm_has_its_shape_and_four_parameters():
    norm = parse_problem("batch_norm2d 2x3x8x9")
    assert (norm.output, norm.weight, norm.macs) == ((2, 3, 8, 9), None, 0)
    assert norm.parameters == dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (3,))
    assert (norm.flops, norm.bytes) == (2 * 432, 4 * (2 * 432 + 4 * 3))
    with pytest.raises(ArgumentError, match="'k3': not an option of batch_norm"):
        parse_problem("batch_norm2d 2x3x8x9 k3")


@pytest.mark.parametrize("line", [*OPTIONS, "avg_pool2d 1x3x7x7 k3 s2 p1 ceil", "pad 1x2x3x4x5 p1"])
def test_the_output_has_the_size_that_the_line_says(line):
    problem = parse_problem(line)
    if problem.flops < 1e8:
        assert exact_output(problem, make_arrays(problem)).shape == problem.output


@pytest.mark.parametrize("suite", GMACS)
def test_networks_have_their_published_work(suite):
    _, problems = find_problems(suite)
    assert sum(p.macs * p.count for p in problems) / 1e9 == pytest.approx(GMACS[suite], rel=1e-3)


def test_edge_has_every_kind_of_layer():
    _, problems = find_problems("edge")
    assert {p.family for p in problems} == {"conv", "conv_transpose", "max_pool", "avg_pool", "pad", "linear"}
    assert {p.rank for p in problems} == {0, 1, 2, 3}
    assert any(p.is_depthwise and p.channels == 2 * p.input[1] for p in problems)
    assert max(p.input[0] for p in problems) == 16
    assert all(p.name for p in problems)


@pytest.mark.parametrize("suite", suite_names())
def test_no_line_stands_twice_in_a_file(suite):
    lines = [problem.line for problem in find_problems(suite)[1]]
    assert max(Counter(lines).values()) == 1


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "mobilenet_v2", "lenet5"])
def test_shape_files_agree_with_the_exported_networks(name):
    pytest.importorskip("onnx", reason="the exported networks are ONNX models: onnx is not installed")
    from fastconv.tools.bench.exported import exported_model

    found = Counter()
    for node, x, w in convolutions_and_linear_layers(exported_model(name)):
        found[line_of(node, x, w)] += 1
    _, problems = find_problems(name)
    expected = Counter({p.line: p.count for p in problems if p.family in ("conv", "linear")})
    assert found == expected


def convolutions_and_linear_layers(model):
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.value_info)}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            yield node, shapes[node.input[0]], weights[node.input[1]]


def line_of(node, x, w):
    if node.op_type == "Gemm":
        return Problem("linear", tuple(x), w[0], bias=True).line
    attributes = {a.name: list(a.ints) or a.i for a in node.attribute}
    shape, stride, pad = "x".join(map(str, x)), attributes["strides"][0], attributes["pads"][0]
    return parse_problem(f"conv2d {shape} -> {w[0]} k{w[2]} s{stride} p{pad} g{attributes['group']}").line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("convolve 1x2", "op: 'convolve' is none of conv1d, conv2d"),
        ("conv2d", "conv2d: the input shape is missing"),
        ("conv2d 1x64x56 -> 64 k3", "input: conv2d takes 4 sizes, got 3: 1x64x56"),
        ("pad 1x64 p1", "input: pad takes 3 to 5 sizes, got 2"),
        ("conv2d 1x64xhx56 -> 64 k3", "input: expected numbers joined by 'x', got '1x64xhx56'"),
        ("conv2d 1x0x56x56 -> 64 k3", "input: expected at least 1"),
        ("conv2d 1x64x56x56 k3", "'-> channels' is missing"),
        ("conv2d 1x64x56x56 -> few k3", "channels: expected numbers"),
        ("max_pool2d 1x3x8x8 -> 3 k2 s2", "'->': max_pool2d keeps its 3 channels"),
        ("max_pool2d 1x3x8x8 k2", "s: max_pool needs its stride"),
        ("conv2d 1x64x56x56 -> 64 p1", "k: conv needs its kernel"),
        ("pad 1x3x8x8", "p: pad needs its pads"),
        ("conv2d 1x64x56x56 -> 64 k3 z4", "'z4': not an option of conv, which takes k, s, p, d, g, nobias, f32"),
        ("conv2d 1x64x56x56 -> 64 k3 ceil", "'ceil': not an option of conv"),
        ("linear 1x2 -> 4 k3", "'k3': not an option of linear"),
        ("conv2d 1x64x56x56 -> 64 k3 k5", "'k5': kernel is given twice"),
        ("conv2d 1x64x56x56 -> 64 k3x3x3", "k: expected 1 or 2 values, got '3x3x3'"),
        ("conv2d 1x64x56x56 -> 64 k3 s0", "s: expected at least 1, got '0'"),
        ("conv2d 1x64x56x56 -> 64 k3 p1:2:3", "p: expected 1 or 2 values"),
        ("conv2d 1x64x56x56 -> 64 k3 g7", "g: 7 groups do not divide 64 -> 64 channels"),
        ("conv2d 1x3x4x4 -> 2 k9", "a kernel of 9×9 does not fit into the padded input of 4×4"),
        ("conv_transpose2d 1x3x1x1 -> 2 k1 p1", "would have an empty output"),
    ],
)
def test_a_malformed_line_names_its_place_and_its_fault(line, message):
    with pytest.raises(ArgumentError) as caught:
        parse_problems(f"# a comment\n\n{line}\n", "shapes/mine.txt")
    assert str(caught.value).startswith("shapes/mine.txt:3: ")
    assert message in str(caught.value)


def test_shapes_are_found_as_suite_file_and_line(tmp_path):
    assert find_problems("resnet18")[0] == "resnet18"
    file = tmp_path / "mine.txt"
    file.write_text("linear 1x2 -> 3\n")
    assert find_problems(str(file)) == ("mine", [parse_problem("linear 1x2 -> 3")])
    assert find_problems("linear 1x2 -> 3") == ("line", [parse_problem("linear 1x2 -> 3")])
    with pytest.raises(ArgumentError, match=r"'resnet5' is no suite \(lenet5, alexnet, .*tiny\)"):
        find_problems("resnet5")
    file.write_text("# nothing\n")
    with pytest.raises(ArgumentError, match="no problems in it"):
        find_problems(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ArgumentError, match=r"mine\.txt: .*decode"):
        find_problems(str(file))


@pytest.mark.parametrize("problem", EVERY_LINE, ids=str)
def test_a_shrunk_layer_is_of_the_same_kind_and_small(problem):
    small = problem.shrunk()
    assert parse_problem(str(small)) == small
    same = ("op", "kernel", "stride", "pads", "dilation", "bias", "ceil_mode", "rank", "family", "is_depthwise")
    assert [getattr(small, name) for name in same] == [getattr(problem, name) for name in same]
    assert small.channels % 16 == problem.channels % 16
    assert small.flops <= problem.flops
    assert small.flops < 2e8
    assert min(small.output) >= 1


def test_shrinking_keeps_groups_and_what_vectors_leave_over():
    assert parse_problem("conv2d 16x104x56x56 -> 208 k3 s2 p1").shrunk().line == "conv2d 2x40x12x12 -> 32 k3 s2 p1"
    assert parse_problem("conv2d 1x272x28x28 -> 68 k1 g4").shrunk().line == "conv2d 1x144x8x8 -> 68 k1 g4"
    assert parse_problem("conv2d 1x96x9x9 -> 192 k3 p1 g96").shrunk().line == "conv2d 1x32x9x9 -> 64 k3 p1 g32"
    assert parse_problem("linear 1x9216 -> 4090").shrunk().line == "linear 1x32 -> 42"
