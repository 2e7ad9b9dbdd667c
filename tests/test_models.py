"""The architectures: keys, shapes and counts of torchvision's, weights from files, options, and every one runs."""

import hashlib
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.weights import save_state_dict

# Constructor, option, parameters, entries of the state dict, start of the SHA-256 of the lines "key shape": those of
# torchvision 0.29.
TORCHVISION = [
    ("alexnet", "", 61_100_840, 16, "9c198ebdae1863e4"),
    ("convnext_tiny", "", 28_589_128, 182, "2bc10f3450aaa086"),
    ("deeplabv3_resnet50", "", 39_638_869, 362, "c1e485a49718d37e"),
    ("deeplabv3_resnet50", "aux_loss=True", 42_004_074, 370, "92bcc20e8ff09729"),
    ("densenet121", "", 7_978_856, 727, "aa0fd9923b0003b8"),
    ("densenet161", "", 28_681_000, 967, "82d337d48f910d3a"),
    ("densenet169", "", 14_149_480, 1015, "e2d0f02d9c0ce650"),
    ("densenet201", "", 20_013_928, 1207, "0d234ad7e9a31b95"),
    ("efficientnet_b0", "", 5_288_548, 360, "a04d0792ee390a49"),
    ("efficientnet_b1", "", 7_794_184, 508, "9aaba0741e04badf"),
    ("efficientnet_b2", "", 9_109_994, 508, "a6d3677e95ef315b"),
    ("fcn_resnet50", "", 32_957_013, 326, "0c41f22cc800b8ce"),
    ("fcn_resnet50", "aux_loss=True", 35_322_218, 334, "1092973e1eb9477c"),
    ("googlenet", "", 13_004_888, 364, "7f541ca29410efb1"),
    ("googlenet", "aux_logits=False", 6_624_904, 344, "f66489fa14bd9d5a"),
    ("inception_v3", "", 27_161_264, 580, "aab0ac2cbaf84aa2"),
    ("inception_v3", "aux_logits=False", 23_834_568, 566, "f3a329f258a780ee"),
    ("mnasnet0_5", "", 2_218_512, 314, "1ed44e7f7de28388"),
    ("mnasnet0_75", "", 3_170_208, 314, "93d711f59686004d"),
    ("mnasnet1_0", "", 4_383_312, 314, "c26097f381d52b59"),
    ("mnasnet1_3", "", 6_282_256, 314, "9ce90280583fa871"),
    ("mobilenet_v2", "", 3_504_872, 314, "37bbbce8932fd0c4"),
    ("mobilenet_v3_large", "", 5_483_032, 312, "efe98e40831bae95"),
    ("mobilenet_v3_small", "", 2_542_856, 244, "5f0efaf3ff4ac979"),
    ("regnet_y_400mf", "", 4_344_144, 384, "f09a9d430ba9389b"),
    ("resnet101", "", 44_549_160, 626, "02c0f34f4842751f"),
    ("resnet152", "", 60_192_808, 932, "685c66205bc823aa"),
    ("resnet18", "", 11_689_512, 122, "84fb10d9c6905a1c"),
    ("resnet34", "", 21_797_672, 218, "28f9096d51307499"),
    ("resnet50", "", 25_557_032, 320, "d7e4f8bb0a536344"),
    ("resnext101_32x8d", "", 88_791_336, 626, "da7dd7525807e2ee"),
    ("resnext50_32x4d", "", 25_028_904, 320, "e3bad165c034e60f"),
    ("shufflenet_v2_x0_5", "", 1_366_792, 338, "f0a5936e646f1bd4"),
    ("shufflenet_v2_x1_0", "", 2_278_604, 338, "81b349bc1cbbbc7a"),
    ("shufflenet_v2_x1_5", "", 3_503_624, 338, "506b4de341bf52b3"),
    ("shufflenet_v2_x2_0", "", 7_393_996, 338, "0c033bd0cd72af37"),
    ("squeezenet1_0", "", 1_248_424, 52, "4654d26ad581241f"),
    ("squeezenet1_1", "", 1_235_496, 52, "1d365589393f9c1e"),
    ("ssdlite320_mobilenet_v3_large", "", 3_440_060, 476, "0b6fa103f2d74de1"),
    ("vgg11", "", 132_863_336, 22, "cb3dc23f2a13e182"),
    ("vgg11_bn", "", 132_868_840, 62, "8b6717e727c0ecf9"),
    ("vgg13", "", 133_047_848, 26, "67c1dc8b57fde74b"),
    ("vgg13_bn", "", 133_053_736, 76, "f6b0597d18a7e4d2"),
    ("vgg16", "", 138_357_544, 32, "35c4623e0cd4a39d"),
    ("vgg16_bn", "", 138_365_992, 97, "347371586a8ea365"),
    ("vgg19", "", 143_667_240, 38, "4723255af8f6c485"),
    ("vgg19_bn", "", 143_678_248, 118, "fc3ff6fab2b5cc09"),
    ("wide_resnet101_2", "", 126_886_696, 626, "4f088c0a152b8f5c"),
    ("wide_resnet50_2", "", 68_883_240, 320, "41203d1d536c02ed"),
]
SMALLEST = {"inception_v3": 75, "alexnet": 63, "ssdlite320_mobilenet_v3_large": 320}
CONSTRUCTORS = [name for name in fc.models.__all__ if name not in ("from_pattern", "lenet5", "mnist_samples")]


def built(name, *arguments, **options):
    """A model without initial values, which costs neither time nor memory."""
    with nn.init.skip():
        return getattr(fc.models, name)(*arguments, **options)


@pytest.mark.parametrize(("name", "option", "parameters", "entries", "digest"), TORCHVISION)
def test_state_dicts_are_those_of_torchvision(name, option, parameters, entries, digest):
    model = built(name, **({option.split("=")[0]: option.endswith("True")} if option else {}))
    state = model.state_dict()
    assert sum(array.size for array in model.parameters()) == parameters
    assert len(state) == entries
    lines = "\n".join(f"{key} {array.shape}" for key, array in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest().startswith(digest), lines


def test_the_table_has_every_constructor():
    assert {row[0] for row in TORCHVISION} == set(CONSTRUCTORS) - {"unet"}


@pytest.mark.parametrize(
    ("name", "first", "some", "last"),
    [
        ("alexnet", "features.0.weight", "features.10.bias", "classifier.6.bias"),
        ("vgg16_bn", "features.0.weight", "features.41.running_var", "classifier.6.bias"),
        ("resnet18", "conv1.weight", "layer2.0.downsample.1.num_batches_tracked", "fc.bias"),
        ("densenet121", "features.conv0.weight", "features.denseblock4.denselayer16.conv2.weight", "classifier.bias"),
        ("googlenet", "conv1.conv.weight", "inception4a.branch3.1.bn.weight", "fc.bias"),
        ("inception_v3", "Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch3x3dbl_3b.bn.bias", "fc.bias"),
        ("squeezenet1_1", "features.0.weight", "features.12.expand3x3.bias", "classifier.1.bias"),
        ("mobilenet_v2", "features.0.0.weight", "features.17.conv.3.weight", "classifier.1.bias"),
        ("mobilenet_v3_large", "features.0.0.weight", "features.4.block.2.fc1.bias", "classifier.3.bias"),
        ("shufflenet_v2_x1_0", "conv1.0.weight", "stage3.0.branch1.2.weight", "fc.bias"),
        ("mnasnet1_0", "layers.0.weight", "layers.8.2.layers.7.bias", "classifier.1.bias"),
        ("efficientnet_b0", "features.0.0.weight", "features.7.0.block.3.1.running_mean", "classifier.1.bias"),
        ("regnet_y_400mf", "stem.0.weight", "trunk_output.block4.block4-5.f.se.fc2.bias", "fc.bias"),
        ("convnext_tiny", "features.0.0.weight", "features.7.2.layer_scale", "classifier.2.bias"),
        ("unet", "encoder.0.0.weight", "up.3.weight", "head.bias"),
        ("fcn_resnet50", "backbone.conv1.weight", "backbone.layer4.2.bn3.bias", "classifier.4.bias"),
        ("deeplabv3_resnet50", "backbone.conv1.weight", "classifier.0.convs.4.1.weight", "classifier.4.bias"),
        (
            "ssdlite320_mobilenet_v3_large",
            "backbone.features.0.0.0.weight",
            "backbone.extra.3.2.1.running_var",
            "head.regression_head.module_list.5.1.bias",
        ),
    ],
)
def test_names_of_entries(name, first, some, last):
    keys = list(built(name).state_dict())
    assert (keys[0], keys[-1]) == (first, last)
    assert some in keys


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_every_model_runs_and_has_a_summary(name):
    model, size = built(name), SMALLEST.get(name, 32)
    summary = nn.summary(model, (1, 3, size, size))
    counts = {parameters for row, option, parameters, *_ in TORCHVISION if row == name and "True" not in option}
    assert summary.parameters in counts | ({31_037_698} if name == "unet" else set())
    assert f"{summary.parameters:,} parameters" in " ".join((getattr(fc.models, name).__doc__ or "").split())
    assert summary.macs > 1_000_000
    assert model.training


@pytest.mark.parametrize(
    "name", ["vgg11", "resnet18", "squeezenet1_1", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"]
)
def test_the_number_of_classes(name):
    model = built(name, num_classes=7).eval()
    assert model(np.zeros((2, 3, 64, 80), np.float32)).shape == (2, 7)
    assert model(np.zeros((0, 3, 64, 80), np.float32)).shape == (0, 7)


@pytest.mark.parametrize("name", ["alex_net", "resnet", "vgg", "u_net"])
def test_a_family_is_imported_when_used(name):
    used = {"alex_net": "alexnet", "resnet": "resnet50", "vgg": "vgg16", "u_net": "unet"}[name]
    seen = f"print('fastconv.models.{name}' in sys.modules)"
    code = f"import sys, fastconv.models as models; {seen}; models.{used}; {seen}; print(callable(models.{used}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "True"]


# Weights


def test_weights_from_a_file(tmp_path):
    trained = fc.models.squeezenet1_1(num_classes=3)
    for suffix in (".pth", ".safetensors", ".npz"):
        path = tmp_path / f"squeezenet{suffix}"
        save_state_dict(trained.state_dict(), path)
        for given in (path, str(path)):
            state = fc.models.squeezenet1_1(weights=given, progress=False, num_classes=3).state_dict()
            assert all(np.array_equal(array, trained.state_dict()[key]) for key, array in state.items())


def test_older_names_in_files_of_densenet(tmp_path):
    state = built("densenet121", num_classes=2).state_dict()
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): array + 1 for key, array in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    save_state_dict(older, tmp_path / "densenet.pth")
    loaded = fc.models.densenet121(weights=tmp_path / "densenet.pth", num_classes=2).state_dict()
    assert all((loaded[key] == array + 1).all() for key, array in state.items())


def test_weights_that_do_not_fit_are_listed(tmp_path):
    save_state_dict(built("squeezenet1_1", num_classes=3).state_dict(), tmp_path / "weights.npz")
    with pytest.raises(
        fc.ArgumentError, match=r"classifier\.1\.weight: expected shape \(1000, 512, 1, 1\), got \(3, 512"
    ):
        fc.models.squeezenet1_1(weights=tmp_path / "weights.npz")


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "DEFAULT", "", "resnet18-f37072fd"])
def test_names_of_weights_that_torchvision_would_download(weights):
    message = (
        f"weights: expected None or the path of a file .*got {weights!r}; trained weights do not come with fastconv"
    )
    with pytest.raises(fc.ArgumentError, match=message):
        fc.models.resnet18(weights=weights)
    with pytest.raises(FileNotFoundError):
        fc.models.resnet18(weights="nowhere.pth")


def test_initial_values_are_random_unless_skipped():
    first, second = (fc.models.squeezenet1_1(num_classes=3).features[0].weight for _ in range(2))
    assert not np.array_equal(first, second)
    with nn.init.skip():
        with nn.init.skip():
            pass
        layers = nn.Conv2d(3, 4, 5), nn.Linear(3, 4), nn.ConvTranspose2d(3, 4, 2)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(nn.Linear(3, 4)))
        thread.start()
        thread.join()
        assert nn.BatchNorm2d(3).weight.all()
    assert not any(array.any() for layer in layers for array in layer.parameters())
    assert elsewhere[0].weight.all()
    assert nn.Linear(3, 4).weight.all()


# Options and outputs


def test_networks_with_auxiliary_classifiers_return_them_in_training():
    googlenet = built("googlenet", num_classes=5)
    outputs = googlenet(np.ones((2, 3, 64, 64), np.float32))
    assert outputs._fields == ("logits", "aux_logits2", "aux_logits1")
    assert [logits.shape for logits in outputs] == [(2, 5)] * 3
    assert built("googlenet", num_classes=5, aux_logits=False)(np.ones((2, 3, 64, 64), np.float32)).shape == (2, 5)
    assert googlenet.eval()(np.ones((2, 3, 64, 64), np.float32)).shape == (2, 5)
    outputs = built("inception_v3", num_classes=5)(np.ones((2, 3, 299, 299), np.float32))
    assert outputs._fields == ("logits", "aux_logits")
    assert [logits.shape for logits in outputs] == [(2, 5)] * 2


def test_segmentation_returns_a_dictionary():
    x = np.ones((1, 3, 33, 45), np.float32)
    outputs = built("fcn_resnet50", num_classes=4, aux_loss=True).eval()(x)
    assert {name: logits.shape for name, logits in outputs.items()} == {"out": (1, 4, 33, 45), "aux": (1, 4, 33, 45)}
    assert list(built("deeplabv3_resnet50").eval()(x)) == ["out"]


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (50, 33)])
def test_unet_takes_any_size(size):
    model = built("unet", in_channels=1, num_classes=3, width=4, depth=4).eval()
    assert model(np.ones((2, 1, *size), np.float32)).shape == (2, 3, *size)


def test_dilated_resnets():
    model = built("resnet50", replace_stride_with_dilation=[False, True, True])
    assert model.layer4[2].conv2.dilation == (4, 4)
    assert nn.summary(model, (1, 3, 64, 64)).rows[-3].output_shape == (1, 2048, 8, 8)
    with pytest.raises(fc.ArgumentError, match=r"expected None or 3 values, got \[True\]"):
        built("resnet50", replace_stride_with_dilation=[True])
    with pytest.raises(fc.ArgumentError, match=r"basic blocks have \(1, 64, 1\), got \(2, 64, 1\)"):
        built("resnet18", groups=2)


def test_stochastic_depth_drops_whole_samples():
    fc.manual_seed(7)
    block = built("efficientnet_b0", stochastic_depth_prob=0.9).features[-2][0]
    depth = type(block.stochastic_depth)(0.25)
    x = np.ones((400, 2, 3, 3), np.float32)
    y = depth(x)
    kept = y[:, 0, 0, 0] != 0
    assert 260 < kept.sum() < 340
    np.testing.assert_array_equal(y, np.where(kept[:, None, None, None], np.float32(4 / 3), 0) * x)
    assert depth.eval()(x) is x
    assert not type(depth)(1.0)(x).any()


# Detection


@pytest.fixture(scope="module")
def detector():
    model = built("ssdlite320_mobilenet_v3_large", num_classes=4, score_thresh=0.2).eval()
    rng = np.random.default_rng(3)
    for array in model.parameters():
        if array.ndim > 1:
            array[...] = rng.normal(0, np.sqrt(2 / array[0].size), array.shape)
    return model


def test_detections(detector, rng):
    images = [rng.random((3, 200, 301), np.float32), rng.random((3, 320, 320), np.float32)]
    results = detector(images)
    for image, found in zip(images, results, strict=True):
        height, width = image.shape[1:]
        boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
        assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
        assert 0 < len(boxes) == len(scores) == len(labels) <= 300
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
        assert (np.diff(scores) <= 0).all()
        assert scores.min() > 0.2
        assert set(labels) <= {1, 2, 3}
    (alone,) = detector(images[1][None])
    np.testing.assert_allclose(alone["scores"], results[1]["scores"], rtol=1e-5)
    assert detector([]) == []


def test_boxes_of_one_class_do_not_overlap_more_than_allowed(detector, rng):
    (found,) = detector(rng.random((1, 3, 320, 320), np.float32))
    for label in set(found["labels"]):
        boxes = found["boxes"][found["labels"] == label].astype(np.float64)
        low, high = boxes[:, None, :2], boxes[:, None, 2:]
        inside = np.maximum(np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2]), 0).prod(-1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        union = areas[:, None] + areas - inside
        overlap = inside / np.where(union > 0, union, 1)
        assert (overlap[~np.eye(len(boxes), dtype=bool)] < 0.5501).all()


def test_images_that_no_detector_takes(detector):
    with pytest.raises(
        fc.ArgumentError, match=r"images\[1\]: expected floats \(3, height, width\), got \(3, 5\) float32"
    ):
        detector([np.ones((3, 8, 8), np.float32), np.ones((3, 5), np.float32)])
    with pytest.raises(fc.ArgumentError, match=r"images\[0\]: expected floats .*got \(3, 8, 8\) uint8"):
        detector([np.ones((3, 8, 8), np.uint8)])
    with pytest.raises(fc.ArgumentError, match=r"call eval\(\) before detecting"):
        built("ssdlite320_mobilenet_v3_large")(np.ones((1, 3, 8, 8), np.float32))
