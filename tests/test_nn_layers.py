"""Every layer: its signature, its text, what its constructor refuses, and its agreement with torch."""

import inspect

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.module import Module
from fastconv.nn.random import manual_seed

PLACE = "device=None, dtype=None"
CONV = f"stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode='zeros', {PLACE}"
TRANSPOSED = (
    "stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1, padding_mode='zeros', "
    "device=None, dtype=None"
)
AVERAGE = "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
NORM = f"track_running_stats={{}}, {PLACE}, *, bias=True"

SIGNATURES = {
    "Conv1d Conv2d Conv3d": f"in_channels, out_channels, kernel_size, {CONV}, *, algorithm='auto'",
    "ConvTranspose1d ConvTranspose2d ConvTranspose3d": f"in_channels, out_channels, kernel_size, {TRANSPOSED}",
    "Unfold": "kernel_size, dilation=1, padding=0, stride=1",
    "Fold": "output_size, kernel_size, dilation=1, padding=0, stride=1",
    "MaxPool1d MaxPool2d MaxPool3d": (
        "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False"
    ),
    "AvgPool1d": AVERAGE,
    "AvgPool2d AvgPool3d": f"{AVERAGE}, divisor_override=None",
    "MaxUnpool1d MaxUnpool2d MaxUnpool3d": "kernel_size, stride=None, padding=0",
    "LPPool1d LPPool2d LPPool3d": "norm_type, kernel_size, stride=None, ceil_mode=False",
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d": "output_size",
    "AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d": "output_size, return_indices=False",
    "ZeroPad1d ZeroPad2d ZeroPad3d": "padding",
    "ReflectionPad1d ReflectionPad2d ReflectionPad3d": "padding",
    "ReplicationPad1d ReplicationPad2d ReplicationPad3d": "padding",
    "CircularPad1d CircularPad2d CircularPad3d": "padding",
    "ConstantPad1d ConstantPad2d ConstantPad3d": "padding, value",
    "BatchNorm1d BatchNorm2d BatchNorm3d": f"num_features, eps=1e-5, momentum=0.1, affine=True, {NORM.format(True)}",
    "InstanceNorm1d InstanceNorm2d InstanceNorm3d": (
        f"num_features, eps=1e-5, momentum=0.1, affine=False, {NORM.format(False)}"
    ),
    "GroupNorm": f"num_groups, num_channels, eps=1e-5, affine=True, {PLACE}, *, bias=True",
    "LayerNorm": f"normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, {PLACE}",
    "RMSNorm": f"normalized_shape, eps=None, elementwise_affine=True, {PLACE}",
    "LocalResponseNorm": "size, alpha=1e-4, beta=0.75, k=1.0",
    "Linear": f"in_features, out_features, bias=True, {PLACE}",
    "Bilinear": f"in1_features, in2_features, out_features, bias=True, {PLACE}",
    "Flatten": "start_dim=1, end_dim=-1",
    "Unflatten": "dim, unflattened_size",
    "Identity": "*args, **kwargs",
    "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout": "p=0.5, inplace=False",
    "PixelShuffle": "upscale_factor",
    "PixelUnshuffle": "downscale_factor",
    "ChannelShuffle": "groups",
    "Upsample": "size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None",
    "UpsamplingNearest2d UpsamplingBilinear2d": "size=None, scale_factor=None",
    "ReLU ReLU6 SELU SiLU Mish Hardswish Hardsigmoid": "inplace=False",
    "LeakyReLU": "negative_slope=0.01, inplace=False",
    "ELU CELU": "alpha=1.0, inplace=False",
    "GELU": "approximate='none'",
    "PReLU": f"num_parameters=1, init=0.25, {PLACE}",
    "RReLU": "lower=1 / 8, upper=1 / 3, inplace=False",
    "Hardtanh": "min_val=-1, max_val=1, inplace=False",
    "Threshold": "threshold, value, inplace=False",
    "Softplus": "beta=1, threshold=20",
    "Hardshrink Softshrink": "lambd=0.5",
    "GLU": "dim=-1",
    "Softmax LogSoftmax Softmin": "dim=None",
    "Softmax2d Sigmoid Tanh Tanhshrink Softsign LogSigmoid": "",
    "Sequential": "*args",
    "ModuleList ModuleDict": "modules=None",
    "ParameterList": "values=None",
    "ParameterDict": "parameters=None",
}
LAYERS = {name: signature for names, signature in SIGNATURES.items() for name in names.split()}
DIFFERENT_IN_TORCH = {"Hardtanh"}  # torch 2.13 still has deprecated synonyms of the limits


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("name", LAYERS)
def test_signature(name):
    expected = inspect.signature(eval(f"lambda {LAYERS[name]}: None"))
    assert parameters(inspect.signature(getattr(nn, name))) == parameters(expected)


def test_every_layer_has_its_signature_stated():
    classes = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    assert classes - set(LAYERS) == {"Module", "Parameter", "Summary", "SummaryRow"}
    assert all(inspect.getdoc(getattr(nn, name)) for name in classes)


@pytest.mark.parametrize("name", sorted(set(LAYERS) - DIFFERENT_IN_TORCH))
def test_signature_equals_torch(torch, name):
    theirs = inspect.signature(getattr(torch.nn, name))
    ours = inspect.signature(getattr(nn, name))
    if [p.kind for p in theirs.parameters.values()] == [
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    ]:
        return  # torch's classes without a constructor of their own show Module's
    assert parameters(theirs) == [entry for entry in parameters(ours) if entry[0] != "algorithm"]


REPRS = [
    (
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)",
    ),
    (nn.Conv1d(4, 8, 3, 2, groups=2), "Conv1d(4, 8, kernel_size=(3,), stride=(2,), groups=2)"),
    (
        nn.Conv2d(3, 8, (2, 4), padding="same", dilation=2, padding_mode="reflect"),
        "Conv2d(3, 8, kernel_size=(2, 4), stride=(1, 1), padding=same, dilation=(2, 2), padding_mode=reflect)",
    ),
    (
        nn.Conv2d(3, 8, 3, padding=((1, 0), (2, 2)), algorithm="direct"),
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=((1, 0), (2, 2)), algorithm=direct)",
    ),
    (
        nn.ConvTranspose2d(4, 8, 3, 2, 1, 1, 2),
        "ConvTranspose2d(4, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1), groups=2)",
    ),
    (nn.Linear(2, 3), "Linear(in_features=2, out_features=3, bias=True)"),
    (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (nn.AvgPool1d(3), "AvgPool1d(kernel_size=(3,), stride=(3,), padding=(0,))"),
    (nn.AvgPool2d(3, 2), "AvgPool2d(kernel_size=3, stride=2, padding=0)"),
    (nn.LPPool2d(2, 3), "LPPool2d(norm_type=2, kernel_size=3, stride=None, ceil_mode=False)"),
    (nn.MaxUnpool2d(3), "MaxUnpool2d(kernel_size=(3, 3), stride=(3, 3), padding=(0, 0))"),
    (nn.AdaptiveAvgPool2d((None, 3)), "AdaptiveAvgPool2d(output_size=(None, 3))"),
    (nn.ZeroPad2d(1), "ZeroPad2d((1, 1, 1, 1))"),
    (nn.ConstantPad1d((1, -2), 3.5), "ConstantPad1d(padding=(1, -2), value=3.5)"),
    (nn.BatchNorm2d(8), "BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"),
    (nn.GroupNorm(2, 8), "GroupNorm(2, 8, eps=1e-05, affine=True, bias=True)"),
    (nn.LayerNorm(8), "LayerNorm((8,), eps=1e-05, elementwise_affine=True, bias=True)"),
    (nn.RMSNorm(8), "RMSNorm((8,), eps=None, elementwise_affine=True)"),
    (nn.LocalResponseNorm(5), "LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)"),
    (nn.Dropout(), "Dropout(p=0.5, inplace=False)"),
    (nn.ReLU(True), "ReLU(inplace=True)"),
    (nn.Hardswish(True), "Hardswish()"),
    (nn.LeakyReLU(0.2, True), "LeakyReLU(negative_slope=0.2, inplace=True)"),
    (nn.Hardtanh(), "Hardtanh(min_val=-1.0, max_val=1.0)"),
    (nn.Threshold(1, 2), "Threshold(threshold=1, value=2)"),
    (nn.GELU(), "GELU(approximate='none')"),
    (nn.PReLU(), "PReLU(num_parameters=1)"),
    (nn.Softplus(), "Softplus(beta=1.0, threshold=20.0)"),
    (nn.Softmax(1), "Softmax(dim=1)"),
    (nn.Sigmoid(), "Sigmoid()"),
    (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
    (nn.Unflatten(1, (2, 3)), "Unflatten(dim=1, unflattened_size=(2, 3))"),
    (nn.Fold((4, 5), 3), "Fold(output_size=(4, 5), kernel_size=3, dilation=1, padding=0, stride=1)"),
    (nn.Upsample(scale_factor=2), "Upsample(scale_factor=2.0, mode='nearest')"),
    (nn.Upsample((3, 3), mode="bilinear"), "Upsample(size=(3, 3), mode='bilinear')"),
    (nn.PixelShuffle(2), "PixelShuffle(upscale_factor=2)"),
    (nn.Identity(54, unused=1), "Identity()"),
]


@pytest.mark.parametrize(("layer", "text"), REPRS, ids=[text for _, text in REPRS])
def test_repr(layer, text):
    assert repr(layer) == text


REFUSED = [
    (lambda: nn.Conv2d(3, 8, 3, groups=2), "in_channels: expected a multiple of groups (2), got 3"),
    (lambda: nn.Conv2d(4, 7, 3, groups=2), "out_channels: expected a multiple of groups (2), got 7"),
    (lambda: nn.Conv2d(3, 8, 0), "kernel_size: expected at least 1, got 0"),
    (lambda: nn.Conv2d(3, 8, (3, 3, 3)), "kernel_size: expected 1 or 2 values, got 3"),
    (lambda: nn.Conv2d(3, 8, 3, stride=0), "stride: expected at least 1, got 0"),
    (lambda: nn.Conv2d(3, 8, 3, stride=1.5), "stride: expected an integer, got 1.5 (float)"),
    (lambda: nn.Conv2d(3, 8, 3, dilation=-1), "dilation: expected at least 1, got -1"),
    (lambda: nn.Conv2d(3, 8, 3, padding=-1), "padding: expected at least 0, got -1"),
    (lambda: nn.Conv2d(3, 8, 3, padding="full"), "got 'full'"),
    (lambda: nn.Conv2d(3, 8, 3, padding=(1, 1, 1, 1)), "padding: expected 1 or 2 values, got 4"),
    (lambda: nn.Conv2d(3, 8, 3, padding_mode="mirror"), "padding_mode: expected one of zeros, reflect"),
    (lambda: nn.Conv2d(3, 0, 3), "out_channels: expected at least 1, got 0"),
    (lambda: nn.Conv2d(3, 8, 3, device="cuda"), "device: expected 'cpu', got 'cuda'"),
    (lambda: nn.Conv2d(3, 8, 3, dtype="float31"), "dtype: expected a NumPy dtype or its name, got 'float31'"),
    (lambda: nn.Conv2d(3, 8, 3, dtype=int), "dtype: parameters are floating point or complex, got int64"),
    (lambda: nn.ConvTranspose2d(3, 8, 3, 2, output_padding=2), "output_padding: expected less than"),
    (lambda: nn.ConvTranspose2d(3, 8, 3, padding="same"), "padding: expected an integer, got 'same'"),
    (
        lambda: nn.ConvTranspose2d(3, 8, 3, padding_mode="reflect"),
        "padding_mode: a transposed convolution takes 'zeros'",
    ),
    (lambda: nn.Linear(2.0, 3), "in_features: expected an integer, got 2.0 (float)"),
    (lambda: nn.MaxPool2d(2, 0), "stride: expected at least 1, got 0"),
    (lambda: nn.MaxPool2d(3, padding=2), "padding: expected at most half the window of 3, got 2"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), "divisor_override: expected a number other than 0"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "output_size: expected 1 or 2 values, got (1, 2, 3)"),
    (lambda: nn.AdaptiveAvgPool2d(-1), "output_size: expected at least 0, got -1"),
    (lambda: nn.ZeroPad2d((1, 2)), "padding: expected 1 or 4 values, got 2"),
    (lambda: nn.BatchNorm2d(0), "num_features: expected at least 1, got 0"),
    (lambda: nn.GroupNorm(3, 8), "num_channels: expected a multiple of num_groups (3), got 8"),
    (lambda: nn.LayerNorm(()), "normalized_shape: expected at least one size"),
    (lambda: nn.Dropout(1.5), "p: expected a probability from 0 to 1, got 1.5"),
    (lambda: nn.GELU("erf"), "approximate: expected 'none' or 'tanh', got 'erf'"),
    (lambda: nn.Hardtanh(2, 1), "max_val: expected at least min_val (2), got 1"),
    (lambda: nn.CELU(0), "alpha: expected a number other than 0"),
    (lambda: nn.Unflatten(1, 6), "unflattened_size: expected a tuple of integers, got 6"),
    (lambda: nn.PixelShuffle(0), "upscale_factor: expected at least 1, got 0"),
    (lambda: nn.Upsample(), "size, scale_factor: expected one of the two, got None and None"),
    (lambda: nn.Upsample(2, mode="cubic"), "mode: expected one of nearest"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_constructors_refuse(build, message):
    with pytest.raises((ArgumentError, ArgumentTypeError)) as raised:
        build()
    assert message in str(raised.value)


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
    ("LPPool2d", (3, 2), {"stride": 1}, (2, 3, 8, 7)),
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
