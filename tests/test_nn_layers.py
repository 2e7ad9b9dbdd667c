"""Every layer of nn computes what torch's does, and checks its input."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError
from fastconv.nn.module import Module
from fastconv.nn.random import manual_seed


def test_parameters_have_the_asked_dtype():
    assert nn.Conv2d(1, 1, 1).weight.dtype == np.float32
    for dtype in (np.float64, "float64", np.dtype("float64"), float):
        assert nn.Conv2d(1, 1, 1, device="cpu", dtype=dtype).bias.dtype == np.float64
    assert nn.BatchNorm1d(2, dtype="float16").running_var.dtype == np.float16


def test_convolution_state():
    layer = nn.Conv2d(4, 6, (3, 5), groups=2)
    assert layer.weight.shape == (6, 2, 3, 5)
    assert layer.bias.shape == (6,)
    assert nn.ConvTranspose2d(4, 6, (3, 5), groups=2).weight.shape == (4, 3, 3, 5)
    assert list(nn.Conv2d(4, 6, 3, bias=False).state_dict()) == ["weight"]
    assert list(nn.BatchNorm2d(2).state_dict()) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]


def test_pooling_stride_defaults_to_the_kernel():
    assert nn.MaxPool2d(3).stride == 3
    assert nn.MaxPool2d((2, 3), []).stride == (2, 3)


def test_identity_and_dropout_in_evaluation_return_their_input():
    x = np.zeros(3)
    assert nn.Identity()(x) is x
    for layer in (nn.Dropout(), nn.Dropout1d(), nn.Dropout2d(), nn.Dropout3d(), nn.AlphaDropout()):
        assert layer.eval()(x) is x


def test_flatten_is_a_view():
    x = np.arange(24).reshape(2, 3, 4)
    y = nn.Flatten()(x)
    assert y.shape == (2, 12)
    assert np.shares_memory(x, y)
    assert nn.Flatten(0)(x).shape == (24,)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Flatten()(np.zeros((0, 3, 4))).shape == (0, 12)
    assert nn.Flatten(0)(np.array(1.0)).shape == (1,)
    with pytest.raises(ArgumentError, match="start_dim: expected an axis before end_dim, got 2 and 1"):
        nn.Flatten(2, 1)(x)
    with pytest.raises(ArgumentError, match="start_dim: expected an axis from -1 to 0, got 1"):
        nn.Flatten()(np.zeros(3))


def test_unflatten():
    x = np.arange(24).reshape(2, 12)
    assert nn.Unflatten(1, (3, -1))(x).shape == (2, 3, 4)
    assert nn.Unflatten(-2, (2, 1))(x).shape == (2, 1, 12)
    with pytest.raises(ArgumentError, match=r"\(5, 2\) does not multiply to the 12 of axis 1 of input \(2, 12\)"):
        nn.Unflatten(1, (5, 2))(x)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.BatchNorm2d(3), (3, 4, 4), "input: expected (N, C, H, W), got shape (3, 4, 4)"),
        (nn.BatchNorm1d(3), (2, 3, 4, 4), "input: expected (N, C) or (N, C, L), got shape (2, 3, 4, 4)"),
        (nn.InstanceNorm2d(3, affine=True), (2, 4, 5, 5), "input: expected 3 channels, got 4 in shape (2, 4, 5, 5)"),
        (
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
            (4, 4),
            "input: expected 3 or 4 axes, got shape (4, 4)",
        ),
        (nn.Softmax2d(), (4, 4), "input: expected (N, C, H, W) or (C, H, W), got (4, 4)"),
    ],
)
def test_layers_check_their_input(layer, shape, message):
    with pytest.raises(ArgumentError) as raised:
        layer(np.zeros(shape, np.float32))
    assert message in str(raised.value)


def test_output_size_chooses_output_padding():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = np.zeros((1, 2, 4, 4), np.float32)
    assert layer(x).shape == (1, 3, 7, 7)
    assert layer(x, output_size=(8, 7)).shape == (1, 3, 8, 7)
    assert layer(x, output_size=(1, 3, 7, 8)).shape == (1, 3, 7, 8)
    with pytest.raises(ArgumentError, match=r"output_size: expected sizes from \(7, 7\) to \(8, 8\).*got \(9, 7\)"):
        layer(x, output_size=(9, 7))
    with pytest.raises(ArgumentError, match="output_size: expected 2 or 4 values, got"):
        layer(x, output_size=(9, 7, 7))


def test_batch_norm_counts_batches_and_averages():
    x = np.array([[1.0], [3.0]], np.float32)
    layer = nn.BatchNorm1d(1, momentum=None)
    layer(x)
    assert (layer.running_mean[0], layer.running_var[0], layer.num_batches_tracked) == (2, 2, 1)
    layer(x + 2)
    assert (layer.running_mean[0], layer.num_batches_tracked) == (3, 2)
    layer.eval()(x)
    assert layer.num_batches_tracked == 2
    layer.reset_running_stats()
    assert (layer.running_mean[0], layer.running_var[0], layer.num_batches_tracked) == (0, 1, 0)
    stateless = nn.BatchNorm1d(1, track_running_stats=False).eval()
    np.testing.assert_allclose(stateless(x), [[-1], [1]], rtol=1e-4)


ELEMENTWISE = (
    "ReLU ReLU6 SELU SiLU Mish Hardswish Hardsigmoid LeakyReLU ELU CELU GELU PReLU Hardtanh Softplus "
    "Sigmoid Tanh Tanhshrink Softsign LogSigmoid Hardshrink Softshrink Softmax2d Identity Flatten"
)

# constructor, arguments, keywords, shape of the input
CASES = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 9)),
    ("Conv2d", (3, 5, (3, 2)), {"padding": (1, 0), "dilation": 2}, (2, 3, 8, 7)),
    ("Conv2d", (3, 5, 4), {"padding": "same"}, (2, 3, 8, 7)),
    ("Conv2d", (3, 5, 3), {"padding": "valid", "bias": False}, (3, 8, 7)),
    ("Conv2d", (3, 5, (3, 4)), {"padding": "same", "padding_mode": "reflect"}, (2, 3, 8, 7)),
    ("Conv2d", (3, 5, 3), {"padding": (1, 2), "padding_mode": "circular", "stride": 2}, (2, 3, 8, 7)),
    ("Conv2d", (3, 5, 3), {"padding": 2, "padding_mode": "replicate"}, (2, 3, 8, 7)),
    ("Conv3d", (2, 3, (1, 2, 3)), {"padding": 1}, (1, 2, 4, 5, 6)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1, "groups": 2}, (2, 4, 5)),
    ("ConvTranspose2d", (3, 5, 3), {"stride": (2, 1), "padding": 1, "dilation": 2}, (2, 3, 5, 4)),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2}, (1, 2, 3, 2, 2)),
    ("Linear", (4, 3), {}, (2, 5, 4)),
    ("MaxPool1d", (3, 2, 1), {}, (2, 3, 9)),
    ("MaxPool2d", ((3, 2),), {"padding": 1, "ceil_mode": True}, (2, 3, 8, 7)),
    ("MaxPool2d", (2,), {"return_indices": True, "dilation": 2}, (2, 3, 8, 7)),
    ("MaxPool3d", (2,), {}, (2, 3, 4, 5, 4)),
    ("AvgPool1d", (3,), {"padding": 1, "count_include_pad": False}, (2, 3, 9)),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 8, 7)),
    ("AvgPool3d", (2,), {"divisor_override": 3}, (2, 3, 4, 5, 4)),
    ("LPPool1d", (2, 3), {}, (2, 3, 9)),
    ("LPPool2d", (2, 2), {"stride": 1}, (2, 3, 8, 7)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveAvgPool2d", ((None, 3),), {}, (2, 3, 8, 7)),
    ("AdaptiveAvgPool3d", (2,), {}, (2, 3, 4, 5, 4)),
    ("AdaptiveMaxPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveMaxPool2d", ((5, 3),), {"return_indices": True}, (2, 3, 8, 7)),
    ("AdaptiveMaxPool3d", (2,), {}, (2, 3, 4, 5, 4)),
    ("ZeroPad1d", (2,), {}, (2, 3, 9)),
    ("ZeroPad2d", ((1, -1, 0, 2),), {}, (2, 3, 8, 7)),
    ("ZeroPad3d", (1,), {}, (1, 2, 3, 4, 5)),
    ("ConstantPad2d", ((1, 2, 3, 4), 1.5), {}, (2, 3, 8, 7)),
    ("ReflectionPad1d", ((1, 2),), {}, (2, 3, 9)),
    ("ReflectionPad2d", (2,), {}, (2, 3, 8, 7)),
    ("ReplicationPad2d", ((1, 2, 0, 3),), {}, (2, 3, 8, 7)),
    ("ReplicationPad3d", (1,), {}, (1, 2, 3, 4, 5)),
    ("CircularPad2d", ((1, 2, 0, 3),), {}, (2, 3, 8, 7)),
    ("BatchNorm1d", (3,), {}, (4, 3)),
    ("BatchNorm1d", (3,), {"momentum": None}, (4, 3, 5)),
    ("BatchNorm2d", (3,), {"affine": False}, (2, 3, 8, 7)),
    ("BatchNorm2d", (3,), {"bias": False}, (2, 3, 8, 7)),
    ("BatchNorm3d", (2,), {"track_running_stats": False}, (2, 2, 3, 4, 5)),
    ("GroupNorm", (2, 4), {}, (2, 4, 5, 6)),
    ("LayerNorm", ((5, 6),), {}, (2, 4, 5, 6)),
    ("RMSNorm", (6,), {}, (2, 4, 5, 6)),
    ("InstanceNorm1d", (3,), {}, (2, 3, 9)),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 8, 7)),
    ("InstanceNorm2d", (3,), {}, (3, 8, 7)),
    ("LocalResponseNorm", (4,), {"alpha": 0.1}, (2, 7, 5, 5)),
    *[(name, (), {}, (3, 4, 5, 5)) for name in ELEMENTWISE.split()],
    ("GELU", ("tanh",), {}, (3, 4)),
    ("PReLU", (4,), {"init": 0.5}, (3, 4, 5)),
    ("Threshold", (0.1, 2.0), {}, (3, 4)),
    ("GLU", (1,), {}, (3, 4)),
    ("Softmax", (1,), {}, (3, 4)),
    ("LogSoftmax", (-1,), {}, (3, 4)),
    ("Softmin", (0,), {}, (3, 4)),
    ("Unflatten", (1, (2, -1)), {}, (3, 4)),
    ("PixelShuffle", (2,), {}, (2, 8, 3, 4)),
    ("PixelUnshuffle", (2,), {}, (2, 3, 4, 6)),
    ("ChannelShuffle", (2,), {}, (2, 6, 3, 4)),
    ("Unfold", ((2, 3),), {"padding": 1, "stride": 2}, (2, 3, 8, 7)),
    ("Fold", ((4, 5), 2), {"padding": 1}, (2, 12, 30)),
    ("Upsample", (), {"scale_factor": 2}, (2, 3, 4, 5)),
    ("Upsample", ((7, 3),), {"mode": "bilinear", "align_corners": True}, (2, 3, 4, 5)),
    ("UpsamplingBilinear2d", (), {"scale_factor": (2, 3)}, (2, 3, 4, 5)),
]


def identifier(case):
    name, args, kwargs, shape = case
    return f"{name}{args}{kwargs or ''}{shape}".replace(" ", "")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", CASES, ids=identifier)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_agrees_with_torch(torch, rng, case, training):
    name, args, kwargs, shape = case
    theirs = getattr(torch.nn, name)(*args, **kwargs).train(training)
    ours = getattr(nn, name)(*args, **kwargs).train(training)
    assert isinstance(ours, Module)
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for array in theirs.parameters():
            array.copy_(torch.from_numpy(rng.standard_normal(array.shape)))
    ours.load_state_dict(theirs.state_dict())
    x = rng.standard_normal(shape).astype(np.float32)
    before = x.copy()
    outputs, expected = ours(x), theirs(torch.from_numpy(x))
    np.testing.assert_array_equal(x, before)
    for got, want in zip(as_tuple(outputs), as_tuple(expected), strict=True):
        assert got.dtype == want.detach().numpy().dtype
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=2e-5, atol=2e-5)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for key, array in ours.state_dict().items():
        assert str(array.dtype) == str(state[key].dtype).removeprefix("torch.")
        np.testing.assert_allclose(array, state[key].numpy(), rtol=1e-5, atol=1e-6)


def as_tuple(output):
    return output if isinstance(output, tuple) else (output,)


def test_bilinear_agrees_with_torch(torch, rng):
    theirs, ours = torch.nn.Bilinear(3, 4, 5), nn.Bilinear(3, 4, 5)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    first, second = (rng.standard_normal((2, size)).astype(np.float32) for size in (3, 4))
    expected = theirs(torch.from_numpy(first), torch.from_numpy(second)).detach().numpy()
    np.testing.assert_allclose(ours(first, second), expected, rtol=1e-5, atol=1e-6)


LOSSES = [
    ("MSELoss", {}),
    ("MSELoss", {"size_average": False}),
    ("L1Loss", {"reduction": "none"}),
    ("SmoothL1Loss", {"beta": 0.5}),
    ("HuberLoss", {"delta": 0.5, "reduction": "sum"}),
    ("KLDivLoss", {"reduction": "batchmean"}),
    ("KLDivLoss", {"log_target": True, "reduce": False}),
    ("BCELoss", {"weight": [0.5, 1, 2]}),
    ("BCEWithLogitsLoss", {"weight": [0.5, 1, 2], "pos_weight": [3, 1, 2]}),
    ("NLLLoss", {"weight": [0.5, 1, 2], "ignore_index": 1}),
    ("CrossEntropyLoss", {"weight": [0.5, 1, 2], "label_smoothing": 0.1}),
]


@pytest.mark.filterwarnings("ignore:.*size_average and reduce args:UserWarning", "ignore:.*reduction.*:UserWarning")
@pytest.mark.parametrize(("name", "kwargs"), LOSSES, ids=[f"{name}{kwargs}" for name, kwargs in LOSSES])
def test_losses_agree_with_torch(torch, rng, name, kwargs):
    arrays = {key: np.array(value, np.float32) for key, value in kwargs.items() if isinstance(value, list)}
    ours = getattr(nn, name)(**kwargs | arrays)
    theirs = getattr(torch.nn, name)(**kwargs | {key: torch.from_numpy(array) for key, array in arrays.items()})
    assert repr(ours) == repr(theirs)
    assert ours.reduction == theirs.reduction
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, target = rng.random((2, 5, 3)).astype(np.float32)
    if name in ("NLLLoss", "CrossEntropyLoss"):
        target = rng.integers(0, 3, 5)
    want = theirs(torch.from_numpy(x), torch.from_numpy(target)).numpy()
    np.testing.assert_allclose(ours(x, target), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_agrees_with_torch(torch, rng, rank):
    x = rng.standard_normal((2, 3, *(7, 5, 6)[:rank])).astype(np.float32)
    pools = [getattr(module, f"MaxPool{rank}d")(2, return_indices=True) for module in (nn, torch.nn)]
    unpools = [getattr(module, f"MaxUnpool{rank}d")(2) for module in (nn, torch.nn)]
    expected = unpools[1](*pools[1](torch.from_numpy(x)), output_size=x.shape).numpy()
    np.testing.assert_array_equal(unpools[0](*pools[0](x), output_size=x.shape), expected)


@pytest.mark.parametrize(
    "name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
)
def test_dropout_repeats_after_seeding(name):
    layer = getattr(nn, name)(0.4)
    x = np.ones((50, 4, 5) + (5,) * {"Dropout2d": 1, "Dropout3d": 2}.get(name, 0), np.float32)
    manual_seed(3)
    first = layer(x)
    assert not np.array_equal(first, layer(x))
    manual_seed(3)
    np.testing.assert_array_equal(first, layer(x))
    if name.startswith("Dropout"):
        np.testing.assert_allclose(np.unique(first), [0, 1 / 0.6], rtol=1e-6)
        assert 0.25 < (first == 0).mean() < 0.55
