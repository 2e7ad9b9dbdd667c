"""Outputs equal those of torch with the same weights: networks written here in torch, and torchvision's where it is."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.models.inception import Inception

TOLERANCE = 1e-4  # of the largest output
MODELS = ("alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "googlenet")
MODELS += ("inception_v3", "squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
MODELS += ("shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b0", "efficientnet_b2", "regnet_y_400mf", "convnext_tiny")
SEGMENTING = ("fcn_resnet50", "deeplabv3_resnet50")


def randomised(model, rng):
    """`model` in evaluation mode with weights that keep the size of its activations, and statistics unlike 0 and 1."""
    for key, array in model.state_dict().items():
        if key.endswith("running_var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif array.ndim == 1 and key.endswith(("bias", "running_mean")):
            array[...] = rng.normal(0, 0.1, array.shape)
        elif array.ndim == 1 or key.endswith("layer_scale"):
            array[...] = rng.uniform(0.5, 1.2, array.shape)
        elif array.ndim:
            array[...] = rng.normal(0, np.sqrt(2 / array[0].size), array.shape)
    return model.eval()


def built(name, rng, **options):
    with nn.init.skip():
        return randomised(getattr(fc.models, name)(**options), rng)


def assert_agree(actual, expected):
    """`actual` differs from `expected` by little, also in comparison to how the samples differ from one another."""
    expected = expected.numpy()
    assert actual.shape == expected.shape
    difference = np.abs(actual - expected).max()
    assert difference <= TOLERANCE * np.abs(expected).max()
    assert difference <= 0.05 * np.ptp(expected, axis=0).max()


class Twin:
    """Layers in torch with the entries of a state dict."""

    def __init__(self, torch, state):
        self.torch = torch
        self.F = torch.nn.functional
        self.state = {key: torch.from_numpy(np.array(array)) for key, array in state.items()}

    def conv(self, name, x, **geometry):
        return self.F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **geometry)

    def norm(self, name, x, eps=1e-5):
        values = (self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return self.F.batch_norm(x, *values, eps=eps)

    def linear(self, name, x):
        return self.F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


def resnet18(twin, x):
    F = twin.F
    x = F.max_pool2d(F.relu(twin.norm("bn1", twin.conv("conv1", x, stride=2, padding=3))), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(twin.norm(f"{name}.bn1", twin.conv(f"{name}.conv1", x, stride=stride, padding=1)))
            y = twin.norm(f"{name}.bn2", twin.conv(f"{name}.conv2", y, padding=1))
            if stride == 2:
                x = twin.norm(f"{name}.downsample.1", twin.conv(f"{name}.downsample.0", x, stride=2))
            x = F.relu(x + y)
    return twin.linear("fc", x.mean((2, 3)))


def mobilenet_v2(twin, x):
    F = twin.F

    def unit(name, x, **geometry):
        return F.relu6(twin.norm(f"{name}.1", twin.conv(f"{name}.0", x, **geometry)))

    x = unit("features.0", x, stride=2, padding=1)
    number = 1
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, channels, blocks, stride in stages:
        for block in range(blocks):
            name, y, step = f"features.{number}.conv", x, 0
            if expansion > 1:
                y, step = unit(f"{name}.0", y), 1
            y = unit(f"{name}.{step}", y, stride=1 if block else stride, padding=1, groups=y.shape[1])
            y = twin.norm(f"{name}.{step + 2}", twin.conv(f"{name}.{step + 1}", y))
            assert y.shape[1] == channels
            x = x + y if block else y
            number += 1
    return twin.linear("classifier.1", unit(f"features.{number}", x).mean((2, 3)))


def densenet121(twin, x):
    F, torch = twin.F, twin.torch
    x = F.relu(twin.norm("features.norm0", twin.conv("features.conv0", x, stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for block, layers in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            y = twin.conv(f"{name}.conv1", F.relu(twin.norm(f"{name}.norm1", x)))
            y = twin.conv(f"{name}.conv2", F.relu(twin.norm(f"{name}.norm2", y)), padding=1)
            x = torch.cat((x, y), 1)
        if block < 4:
            name = f"features.transition{block}"
            x = F.avg_pool2d(twin.conv(f"{name}.conv", F.relu(twin.norm(f"{name}.norm", x))), 2)
    return twin.linear("classifier", F.relu(twin.norm("features.norm5", x)).mean((2, 3)))


@pytest.mark.parametrize("forward", [resnet18, mobilenet_v2, densenet121], ids=lambda forward: forward.__name__)
def test_networks_written_in_torch(forward, torch, rng):
    model = built(forward.__name__, rng)
    x = rng.normal(size=(2, 3, 64, 79)).astype(np.float32)
    assert_agree(model(x), forward(Twin(torch, model.state_dict()), torch.from_numpy(x)))


def test_an_inception_block(torch, rng):
    block = randomised(Inception(20, 8, 6, 12, 4, 10, 5), rng)
    twin, F = Twin(torch, block.state_dict()), torch.nn.functional
    x = rng.normal(size=(2, 20, 9, 11)).astype(np.float32)

    def unit(name, x, **geometry):
        return F.relu(twin.norm(f"{name}.bn", twin.conv(f"{name}.conv", x, **geometry), eps=1e-3))

    inputs = torch.from_numpy(x)
    branches = [
        unit("branch1", inputs),
        unit("branch2.1", unit("branch2.0", inputs), padding=1),
        unit("branch3.1", unit("branch3.0", inputs), padding=1),
        unit("branch4.1", F.max_pool2d(inputs, 3, 1, 1)),
    ]
    assert_agree(block(x), torch.cat(branches, 1))


def test_unet(torch, rng):
    model = built("unet", rng, width=8)
    twin, F = Twin(torch, model.state_dict()), torch.nn.functional
    x = rng.normal(size=(2, 3, 37, 50)).astype(np.float32)

    def double(name, y):
        for i in (0, 3):
            y = F.relu(twin.norm(f"{name}.{i + 1}", twin.conv(f"{name}.{i}", y, padding=1)))
        return y

    levels = [double("encoder.0", torch.from_numpy(x))]
    for level in range(1, 5):
        levels.append(double(f"encoder.{level}", F.max_pool2d(levels[-1], 2)))
    y = levels.pop()
    for level in range(4):
        beside = levels.pop()
        weight, bias = twin.state[f"up.{level}.weight"], twin.state[f"up.{level}.bias"]
        extra = [size - 2 * half for size, half in zip(beside.shape[2:], y.shape[2:], strict=True)]
        y = F.conv_transpose2d(y, weight, bias, stride=2, output_padding=extra)
        y = double(f"decoder.{level}", torch.cat((beside, y), 1))
    assert_agree(model(x), twin.conv("head", y))


def torchvision_twin(torch, model, constructor, **options):
    twin = constructor(**options)
    state = twin.state_dict()
    state.update((key, torch.from_numpy(np.array(array))) for key, array in model.state_dict().items())
    twin.load_state_dict(state)
    return twin.eval()


@pytest.fixture(scope="module")
def torchvision():
    return pytest.importorskip("torchvision", reason="comparison with torchvision: torchvision is not installed")


@pytest.mark.parametrize("name", MODELS)
def test_models_of_torchvision(name, torch, torchvision, rng):
    inception = {"transform_input": True} if name in ("googlenet", "inception_v3") else {}
    model = built(name, rng, **inception)
    untouched = {"init_weights": False} if inception else {}
    twin = torchvision_twin(torch, model, getattr(torchvision.models, name), **inception, **untouched)
    x = rng.normal(size=(2, 3, 96, 107)).astype(np.float32)
    with torch.no_grad():
        assert_agree(model(x), twin(torch.from_numpy(x)))


@pytest.mark.parametrize("name", SEGMENTING)
def test_segmentation_of_torchvision(name, torch, torchvision, rng):
    model = built(name, rng, aux_loss=True)
    constructor = getattr(torchvision.models.segmentation, name)
    twin = torchvision_twin(torch, model, constructor, aux_loss=True, weights_backbone=None)
    x = rng.normal(size=(2, 3, 64, 71)).astype(np.float32)
    outputs = model(x)
    with torch.no_grad():
        expected = twin(torch.from_numpy(x))
    assert list(outputs) == list(expected)
    for key, logits in outputs.items():
        assert_agree(logits, expected[key])


def test_detection_of_torchvision(torch, torchvision, rng):
    name = "ssdlite320_mobilenet_v3_large"
    model = built(name, rng)
    for head in (model.head.classification_head, model.head.regression_head):
        for block in head.module_list:
            block[1].weight[...] *= 0.05
    twin = torchvision_twin(torch, model, getattr(torchvision.models.detection, name), weights_backbone=None)
    images = [rng.random((3, 200, 301), np.float32), rng.random((3, 320, 320), np.float32)]
    with torch.no_grad():
        expected = twin([torch.from_numpy(image) for image in images])
    for found, other in zip(model(images), expected, strict=True):
        np.testing.assert_allclose(found["scores"], other["scores"], rtol=0.01)
        rows = [
            np.column_stack((result["labels"], np.round(result["scores"], 4), np.round(result["boxes"])))
            for result in (found, {key: value.numpy() for key, value in other.items()})
        ]
        common = set(map(tuple, rows[0])) & set(map(tuple, rows[1]))
        assert len(common) > 0.9 * len(rows[0])
