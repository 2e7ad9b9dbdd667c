"""Every layer of nn: its signature, its text, and what its constructor refuses."""

import inspect
import pydoc
from typing import get_type_hints

import pytest

from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import functional as F

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
    "ConvTranspose1d ConvTranspose2d ConvTranspose3d": (
        f"in_channels, out_channels, kernel_size, {TRANSPOSED}, *, algorithm='auto'"
    ),
    "DeformConv2d": "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True",
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
    "Linear": f"in_features, out_features, bias=True, {PLACE}, *, algorithm='auto'",
    "Bilinear": f"in1_features, in2_features, out_features, bias=True, {PLACE}",
    "MultiheadAttention": (
        "embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, vdim=None, "
        f"batch_first=False, {PLACE}"
    ),
    "TransformerEncoderLayer": (
        "d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5, batch_first=False, "
        f"norm_first=False, bias=True, {PLACE}"
    ),
    "TransformerEncoder": "encoder_layer, num_layers, norm=None, enable_nested_tensor=True, mask_check=True",
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
    "MSELoss L1Loss": "size_average=None, reduce=None, reduction='mean'",
    "SmoothL1Loss": "size_average=None, reduce=None, reduction='mean', beta=1.0",
    "HuberLoss": "reduction='mean', delta=1.0",
    "KLDivLoss": "size_average=None, reduce=None, reduction='mean', log_target=False",
    "BCELoss": "weight=None, size_average=None, reduce=None, reduction='mean'",
    "BCEWithLogitsLoss": "weight=None, size_average=None, reduce=None, reduction='mean', pos_weight=None",
    "NLLLoss": "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean'",
    "CrossEntropyLoss": (
        "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean', label_smoothing=0.0"
    ),
    "FractionalMaxPool2d FractionalMaxPool3d": (
        "kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None"
    ),
    "CosineSimilarity": "dim=1, eps=1e-8",
    "PairwiseDistance": "p=2.0, eps=1e-6, keepdim=False",
    "Embedding": (
        "num_embeddings, embedding_dim, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, "
        "sparse=False, _weight=None, _freeze=False, device=None, dtype=None"
    ),
    "LazyConv1d LazyConv2d LazyConv3d": f"out_channels, kernel_size, {CONV}, *, algorithm='auto'",
    "LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d": (
        f"out_channels, kernel_size, {TRANSPOSED}, *, algorithm='auto'"
    ),
    "LazyLinear": f"out_features, bias=True, {PLACE}, *, algorithm='auto'",
    "LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d": f"eps=1e-5, momentum=0.1, affine=True, {NORM.format(True)}",
    "LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d": (
        f"eps=1e-5, momentum=0.1, affine=True, {NORM.format(True)}"
    ),
    "Sequential": "*args",
    "ModuleList ModuleDict": "modules=None",
    "ParameterList": "values=None",
    "ParameterDict": "parameters=None",
}
LAYERS = {name: signature for names, signature in SIGNATURES.items() for name in names.split()}
MARKS = {"Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"}
DIFFERENT_IN_TORCH = {
    "DeformConv2d",  # which is torchvision's
    "Hardtanh",  # torch 2.13 still has deprecated synonyms of the limits
    "TransformerEncoderLayer",  # whose default activation is torch's own function
}


def parameters(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("name", LAYERS)
def test_signature(name):
    expected = inspect.signature(eval(f"lambda {LAYERS[name]}: None"))
    assert parameters(inspect.signature(getattr(nn, name))) == parameters(expected)


def test_every_layer_has_its_signature_stated():
    classes = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    assert classes - set(LAYERS) == MARKS | {"Module", "Summary", "SummaryRow"}
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
    (lambda: nn.MSELoss(reduction="average"), "reduction: expected one of none, mean, sum, got 'average'"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), "label_smoothing: expected a number from 0 to 1, got 2"),
    (lambda: nn.Upsample(), "size, scale_factor: expected one of the two, got None and None"),
    (lambda: nn.Upsample(2, mode="cubic"), "mode: expected one of nearest"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_constructors_refuse(build, message):
    with pytest.raises((ArgumentError, ArgumentTypeError)) as raised:
        build()
    assert message in str(raised.value)


CONSTRUCTORS = [name for name in nn.__all__ if inspect.isclass(getattr(nn, name)) and name not in ("Module", "Summary")]


@pytest.mark.parametrize("name", [f"F.{name}" for name in F.__all__] + [f"nn.{name}" for name in CONSTRUCTORS])
def test_every_parameter_has_a_type_that_can_be_looked_up(name):
    where, _, name = name.partition(".")
    function = getattr(F, name) if where == "F" else getattr(nn, name).__init__
    hints = get_type_hints(function)
    named = [
        p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    assert [p.name for p in named if p.name != "self" and p.name not in hints] == []
    assert hints["return"] is (type(None) if where == "nn" else hints["return"])


def test_help_shows_names_and_types():
    text = pydoc.plain(pydoc.render_doc(F.conv2d))
    assert "conv2d(input: 'ArrayLike', weight: 'ArrayLike', bias: 'ArrayLike | None' = None" in text
    assert "padding: 'Padding' = 0" in text
    assert text.index("-> 'np.ndarray'") < text.index("Cross-correlation of (N, C, H, W)")
    assert "in_channels: 'int'" in pydoc.plain(pydoc.render_doc(nn.Conv2d))
