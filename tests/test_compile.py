"""fastconv.compile: modules as programs of the inference engine."""

import pickle
from collections import namedtuple

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.nn.functional import max_pool2d

Pair = namedtuple("Pair", "left right")


class Of(nn.Module):
    """A module whose forward is a function of itself and its inputs; keywords are its children."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *inputs):
        return self.function(self, *inputs)


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 8, 12, 10)).astype(np.float32)


def check(module, *inputs, calls=0, tolerance=2e-5):
    """Compiles, compares for the example and for other batches, and counts what no operator expresses."""
    compiled = fc.compile(module, inputs)
    module.eval()
    for batch in (inputs, [-2 * value for value in inputs], [np.concatenate((v, v + 1)) for v in inputs]):
        expected, actual = module(*batch), compiled(*batch)
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    nodes = compiled.session._model.graph.nodes
    assert sum(node.op_type == "Call" for node in nodes) == calls, [str(node) for node in nodes]
    return compiled


LAYERS = [
    nn.Conv2d(8, 6, 3, padding=1),
    nn.Conv2d(8, 6, (3, 2), stride=(2, 1), padding="valid", bias=False),
    nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=4),
    nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
    nn.BatchNorm2d(8),
    nn.BatchNorm2d(8, affine=False),
    nn.LocalResponseNorm(3),
    nn.LayerNorm(10),
    nn.LayerNorm((12, 10), bias=False),
    nn.PReLU(8),
    nn.PReLU(),
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(-0.5, 0.5),
    nn.LeakyReLU(0.2),
    nn.ELU(0.7),
    nn.CELU(0.7),
    nn.SELU(),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Softsign(),
    nn.Softmax(1),
    nn.LogSoftmax(-1),
    nn.Dropout(0.5),
    nn.Identity(),
    nn.Flatten(),
    nn.Flatten(2, 3),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1),
    nn.AvgPool2d(2, count_include_pad=False, ceil_mode=True),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((4, 5)),
    nn.AdaptiveMaxPool2d((1, 1)),
    nn.AdaptiveMaxPool2d((3, 2)),
    nn.ZeroPad2d((1, 2, 0, 3)),
    nn.ReflectionPad2d(2),
    nn.ReplicationPad2d((0, 1, 2, 0)),
    nn.ConstantPad2d(1, 3.5),
    nn.Upsample(scale_factor=2),
    nn.Upsample(scale_factor=2, mode="bilinear"),
    nn.Upsample(size=(17, 9), mode="bilinear", align_corners=True),
    nn.Upsample(size=(17, 9), mode="bicubic"),
    nn.ChannelShuffle(4),
    nn.PixelShuffle(2),
    nn.Linear(10, 7),
    nn.Linear(10, 7, bias=False),
]
# layers that no operator expresses with these arguments; they run as they are
CALLS = [
    nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"),
    nn.BatchNorm2d(8, track_running_stats=False),
    nn.GroupNorm(2, 8),
    nn.AdaptiveAvgPool2d((5, 3)),
    nn.Softplus(),
    nn.LPPool2d(2, 2),
    nn.Hardshrink(),
]


def named(layers):
    return [pytest.param(layer, id=repr(layer)) for layer in layers]


@pytest.mark.parametrize("layer", named(LAYERS))
def test_layers_become_operators(layer, x):
    for name, buffer in layer.named_buffers():
        if name.startswith("running"):
            buffer += np.abs(np.sin(np.arange(buffer.size, dtype=np.float32)))
    check(layer, x)


@pytest.mark.parametrize("layer", named(CALLS))
def test_other_layers_are_called(layer, x):
    check(layer, x, calls=1)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank, rng):
    x = rng.standard_normal((2, 4, *(9, 8, 7)[:rank])).astype(np.float32)
    kind = f"{rank}d"
    layers = [
        getattr(nn, f"Conv{kind}")(4, 6, 3, padding=1),
        getattr(nn, f"BatchNorm{kind}")(6),
        nn.ReLU(),
        getattr(nn, f"MaxPool{kind}")(2),
        getattr(nn, f"AdaptiveAvgPool{kind}")(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ]
    check(nn.Sequential(*layers), x)


FUNCTIONS = {
    "operators": lambda m, x: (x + 1) * x - x / 2.0 + -x,
    "numpy": lambda m, x: np.maximum(np.tanh(x), 0.1) + np.exp(-np.abs(x)),
    "concatenate": lambda m, x: np.concatenate((x, x * 2), axis=1),
    "mean": lambda m, x: x.mean(axis=(2, 3)) + np.max(x, axis=(2, 3)),
    "keepdims": lambda m, x: x - x.mean(axis=1, keepdims=True),
    "reshape": lambda m, x: x.reshape(x.shape[0], -1),
    "reshape by NumPy": lambda m, x: np.reshape(x, (len(x), 4, -1)),
    "transpose": lambda m, x: x.transpose(0, 2, 3, 1) + np.transpose(x, (0, 2, 3, 1)),
    "swapaxes": lambda m, x: x.swapaxes(1, 2),
    "slices": lambda m, x: x[:, 2:6, ::2] + x[:, :4, 1::2],
    "ellipsis": lambda m, x: x[..., 1:-1],
    "split": lambda m, x: np.subtract(*np.split(x, 2, axis=1)),
    "a constant": lambda m, x: x * np.arange(10, dtype=np.float32),
    "matmul": lambda m, x: x @ np.ones((10, 3), np.float32),
    "functions": lambda m, x: F.softmax(F.relu(x), dim=1) * F.sigmoid(x),
    "in place": lambda m, x: _in_place(x),
}


def _in_place(x):
    y = x * 2
    y += x
    y *= y
    z = F.relu(y - 1, inplace=True)
    return z + y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forwards(name, x):
    check(Of(FUNCTIONS[name]), x)


FOLLOWED_AS_CALLS = {
    "another array library": lambda m, x: np.asarray(x).copy() * 2,
    "roll": lambda m, x: np.roll(x, 1, axis=3) + x,
    "standard deviation": lambda m, x: x / x.std(axis=(2, 3), keepdims=True),
    "an index": lambda m, x: x[:, 0],
    "a new axis": lambda m, x: x[:, None],
    "a power": lambda m, x: np.power(np.abs(x), 1.5),
    "a comparison": lambda m, x: np.where(x > 0, x, np.float32(0)),
}


@pytest.mark.parametrize("name", FOLLOWED_AS_CALLS)
def test_what_no_operator_does_is_called(name, x):
    compiled = fc.compile(Of(FOLLOWED_AS_CALLS[name]), x)
    module = Of(FOLLOWED_AS_CALLS[name])
    for values in (x, -x):
        np.testing.assert_allclose(compiled(values), module(values), rtol=1e-5)


class TestModules:
    def test_containers_are_fused(self, x):
        block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        residual = Of(lambda m, x: F.relu(m.block(x) + x, inplace=True), block=block)
        compiled = check(residual, x)
        rows = compiled.session.explain().rows
        assert [row.op for row in rows] == ["Conv+BatchNormalization+Relu", "Add+Relu"]
        assert rows[0].nodes[0].startswith("block.0/Conv")
        assert compiled.session.verify({"input0": x}).ok

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("lenet5", (2, 1, 32, 32)),
            ("resnet18", (1, 3, 64, 64)),
            ("mobilenet_v3_small", (2, 3, 64, 64)),
            ("shufflenet_v2_x0_5", (1, 3, 64, 64)),
            ("squeezenet1_1", (1, 3, 64, 64)),
            ("unet", (1, 3, 32, 32)),
        ],
    )
    def test_architectures(self, name, shape, rng):
        model = getattr(fc.models, name)()
        compiled = check(model, rng.standard_normal(shape).astype(np.float32), tolerance=1e-4)
        planned = {call.algorithm for c in compiled.session._programs.values() for call in c.executable.calls}
        assert "numpy" not in planned

    def test_functions_may_be_held_by_another_name(self, x):
        class Held(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.activation = nn.Conv2d(8, 4, 3), F.hardswish

            def forward(self, x):
                return max_pool2d(self.activation(self.conv(x)), 2)

        module = Held()
        check(module, x)
        assert module.activation is F.hardswish
        assert max_pool2d is F.max_pool2d

    def test_attention(self, rng):
        x = rng.standard_normal((2, 5, 8)).astype(np.float32)
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        both = fc.compile(attention, (x, x, x))(x, x, x)
        for one, other in zip(both, attention.eval()(x, x, x), strict=True):
            np.testing.assert_array_equal(one, other)
        check(Of(lambda self, x: self.attention(x, x, x, need_weights=False)[0], attention=attention), x, calls=1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        check(nn.TransformerEncoder(layer, 2), x, calls=2)

    def test_a_deformable_convolution(self, x, rng):
        moves = rng.standard_normal((2, 18, 12, 10)).astype(np.float32)
        check(nn.DeformConv2d(8, 4, 3, padding=1), x, moves, calls=1)

    def test_structured_results(self, x):
        module = Of(lambda m, x: {"a": x + 1, "b": [x * 2, Pair(x - 1, (F.relu(x),))]})
        result = fc.compile(module, x)(x)
        assert list(result) == ["a", "b"]
        assert np.array_equal(result["a"], x + 1)
        assert isinstance(result["b"][1], Pair)
        assert np.array_equal(result["b"][1].right[0], np.maximum(x, 0))

    def test_several_inputs(self, x):
        class Sum(nn.Module):
            def forward(self, image, weights):
                return F.relu(image * weights)

        compiled = fc.compile(Sum(), (x, x[::-1].copy()))
        assert [info.name for info in compiled.session.get_inputs()] == ["image", "weights"]
        assert np.array_equal(compiled(x, -x), np.maximum(-x * x, 0))
        with pytest.raises(ArgumentTypeError, match="inputs: expected 2, got 1"):
            compiled(x)

    def test_an_image_without_a_batch(self, x):
        module = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU())
        compiled = fc.compile(module, x[0])
        np.testing.assert_allclose(compiled(x[1]), module(x[1]), rtol=1e-5, atol=1e-5)

    def test_double_precision(self, x):
        module = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Hardtanh(), nn.AdaptiveAvgPool2d(1)).double()
        check(module, x.astype(np.float64), tolerance=1e-12)

    def test_the_module_stays_as_it_is(self, x):
        module = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm2d(4)).eval())
        relu, modes = F.relu, [child.training for child in module.modules()]
        before = {name: array.copy() for name, array in module.state_dict().items()}
        compiled = fc.compile(module, x)
        assert [child.training for child in module.modules()] == modes
        assert all(not child._hooks for child in module.modules())
        assert F.relu is relu
        assert all(np.array_equal(array, before[name]) for name, array in module.state_dict().items())
        expected = compiled(x)
        module[0].weight += 1
        assert np.array_equal(compiled(x), expected)

    def test_weights_of_called_layers_are_kept_too(self, x):
        module = nn.GroupNorm(2, 8)
        compiled = fc.compile(module, x)
        expected = compiled(x)
        module.weight += 1
        assert np.array_equal(compiled(x), expected)

    def test_called_layers_are_not_verified(self, x):
        compiled = fc.compile(nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8)), x)
        verification = compiled.session.verify({"input": x})
        assert verification.ok
        assert [row.source.split(",")[0] for row in verification.rows] == ["convolution", "not checked"]
        assert compiled.session.profile({"input": x}, repeats=1).rows[1].op == "Call"

    def test_options_and_copies(self, x):
        module = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8))
        compiled = fc.compile(module, x, threads=1, precision="strict")
        assert "winograd" not in {row.algorithm for row in compiled.session.explain().rows}
        assert repr(compiled) == "CompiledModule(input: ['batch', 8, 12, 10])"
        assert np.array_equal(pickle.loads(pickle.dumps(compiled))(x), compiled(x))


class TestRefusals:
    @pytest.mark.parametrize(
        ("forward", "message"),
        [
            (lambda m, x: x + 1 if x.sum() > 0 else x, "decides by a computed value"),
            (lambda m, x: x * float(x.max()), "turns a computed value into a number"),
            (lambda m, x: x[:, x[0, :, 0, 0] > 0], "indexes with a computed array"),
            (lambda m, x: np.add.reduce(x), "uses numpy.add.reduce"),
            (lambda m, x: x.view().imag + x, "a view that cannot be followed"),
            (lambda m, x: _assigned(x), "assigns to elements of an array"),
            (lambda m, x: {"y": np.array(x) * 2}, "cannot be followed back to the input"),
            (lambda m, x: x + np.array(x) * 2, "gives another result for a second input"),
            (lambda m, x: 3, "got int"),
        ],
        ids=["if", "number", "mask", "reduce", "view", "assignment", "lost", "half lost", "no array"],
    )
    def test_they_name_the_reason(self, x, forward, message):
        with pytest.raises(ArgumentError, match=message):
            fc.compile(Of(forward), x)

    def test_other_shapes_and_types(self, x):
        compiled = fc.compile(nn.Conv2d(8, 4, 3), x)
        with pytest.raises(
            ArgumentError, match=r"input 'input': expected shape \(batch, 8, 12, 10\), got \(2, 8, 5, 5\)"
        ):
            compiled(x[:, :, :5, :5])
        with pytest.raises(ArgumentTypeError, match=r"module: expected a fastconv\.nn\.Module, got function"):
            fc.compile(lambda x: x, x)

    def test_a_detector_names_the_reason_and_its_layers_compile(self, rng):
        model = fc.models.ssdlite320_mobilenet_v3_large(num_classes=3).eval()
        images = rng.random((1, 3, 320, 320), np.float32)
        with pytest.raises(ArgumentError, match="SSDLite: module: its forward indexes with a computed array"):
            fc.compile(model, images)
        layers = nn.Sequential(model.backbone, model.head)
        for mine, theirs in zip(fc.compile(layers, images)(images), layers(images), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)

    def test_functions_are_restored_after_an_error(self, x):
        relu = F.relu
        with pytest.raises(ArgumentError):
            fc.compile(Of(lambda m, x: F.relu(x) if x.max() else x), x)
        assert F.relu is relu


def _assigned(x):
    y = x * 2
    y[:, 0] = 1
    return y
