"""`fastconv show`: the files, what they show, and what goes wrong."""

import sys

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv import cli, nn
from fastconv.tools import pictures, show
from fastconv.tools.activations import of_graph, of_module

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="session")
def matplotlib():
    return pytest.importorskip("matplotlib", reason="pictures: matplotlib is not installed")


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is missing: image files are not tested")


@pytest.fixture
def photo(tmp_path, rng, pillow):
    path = tmp_path / "photo.png"
    pillow.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(path)
    return str(path)


def size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == PNG
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_lenet_without_arguments(matplotlib, tmp_path, capsys):
    assert cli.main(["show", "--output", str(tmp_path / "a" / "b")]) == 0
    names = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert names == ["1-features.0.png", "2-features.3.png", "overview.png"]
    for path in (tmp_path / "a" / "b").iterdir():
        width, height = size(path)
        assert 800 < width < 4000
        assert 600 < height < 2000
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{tmp_path / 'a' / 'b' / 'overview.png'}: LeNet-5 looks at a 5 of MNIST"
    assert out[2].endswith("2-features.3.png: Conv2d(6, 16, kernel_size=(5, 5), stride=(1, 1)), 16 maps")


def test_an_image_and_weights_for_lenet(matplotlib, photo, tmp_path, capsys):
    pillow = sys.modules["PIL.Image"]
    digit = tmp_path / "three.png"
    pillow.fromarray(255 - fc.models.mnist_samples()[0][3]).resize((90, 90)).save(digit)
    weights = tmp_path / "own.npz"
    np.savez(weights, **fc.models.lenet5().state_dict())
    assert cli.main(["show", str(digit), "--weights", str(weights), "--output", str(tmp_path / "p")]) == 0
    assert "LeNet-5 looks at three.png" in capsys.readouterr().out
    assert len(list((tmp_path / "p").glob("*.png"))) == 3


def test_a_named_model(matplotlib, photo, tmp_path, capsys):
    weights = tmp_path / "net.safetensors"
    fc.save_state_dict(fc.models.squeezenet1_1().state_dict(), weights)
    arguments = ["--model", "squeezenet1_1", "--size", "64", "--output", str(tmp_path / "p")]
    assert cli.main(["show", photo, *arguments, "--weights", str(weights)]) == 0
    assert capsys.readouterr().err == ""
    files = sorted(path.name for path in (tmp_path / "p").glob("*.png"))
    assert len(files) == 27
    assert files[:2] == ["01-features.0.png", "02-features.3.squeeze.png"]


def test_an_onnx_file(matplotlib, photo, tmp_path, rng, capsys):
    model = tmp_path / "model.onnx"
    model.write_bytes(models.residual(rng))
    assert cli.main(["show", photo, "--model", str(model), "--size", "32", "--output", str(tmp_path / "p")]) == 0
    out = capsys.readouterr().out
    assert "model.onnx looks at photo.png" in out
    assert len(list((tmp_path / "p").glob("*.png"))) == out.count("Conv(") + 1 >= 3


def test_maps_after_normalisation_and_activation(rng):
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), relu, nn.ConvTranspose2d(4, 2, 2, bias=False), nn.MaxPool2d(2), relu
    ).eval()  # fmt: skip
    model[1].running_mean[:] = rng.standard_normal(4)
    x = rng.standard_normal((1, 1, 8, 9)).astype(np.float32)
    first, second = of_module(model, x)[0]
    inner = np.maximum(model[1](model[0](x)), 0)
    assert (first.path, first.after, first.description) == ("0", "BatchNorm2d, ReLU", repr(model[0]))
    assert np.array_equal(first.maps, inner[0])
    assert np.array_equal(first.weights, model[0].weight)
    assert (second.path, second.after) == ("3", "")  # the pooling stands between it and the ReLU
    assert np.array_equal(second.maps, model[3](inner)[0])
    assert np.array_equal(second.weights, model[3].weight.swapaxes(0, 1))
    assert not model[0]._hooks


def test_maps_of_a_graph(rng):
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    constants = {"w": w, "v": rng.standard_normal((2, 4, 1, 1)).astype(np.float32)}
    graph = _graph(constants)
    x = rng.standard_normal((1, 3, 6, 7)).astype(np.float32)
    values = {"c": x[:, :1], "r": np.maximum(x, 0), "d": x[:, :2], "e": x}
    first, second = of_graph(graph, values)
    assert (first.path, first.after) == ("first", "Relu")
    assert first.description == "Conv(4 filters of 3×3×3, stride 2×2)"
    assert np.array_equal(first.maps, values["r"][0])
    assert first.weights is w
    assert (second.path, second.after) == ("d", "")  # two nodes read it
    assert np.array_equal(second.maps, values["d"][0])


def _graph(constants):
    from fastconv.graph.ir import Graph, Node

    def node(op_type, inputs, output, name="", **attributes):
        return Node(op_type, "", name, inputs, [output], attributes, 22, "")

    nodes = [
        node("Conv", ["x", "w"], "c", "first", strides=[2, 2]),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "v"], "d"),
        node("Relu", ["d"], "e"),
        node("Add", ["d", "e"], "y"),
    ]
    return Graph("g", nodes=nodes, constants=constants)


class TestMosaic:
    def test_tiles_and_gaps(self):
        tiles = np.arange(3.0)[:, None, None] + np.zeros((3, 40, 32), np.float32)
        image = pictures._mosaic(tiles, 2)
        assert image.shape == (82, 66)
        assert (image[:40, :32] == 0).all()
        assert (image[:40, 34:] == 1).all()
        assert (image[42:, :32] == 2).all()
        assert np.isnan(image[40:42]).all()
        assert np.isnan(image[42:, 32:]).all()

    def test_small_tiles_are_enlarged(self):
        image = pictures._mosaic(np.arange(18.0).reshape(2, 3, 3), 2)
        assert image.shape == (33, 68)
        assert (image[:11, :11] == 0).all()
        assert (image[22:, 57:] == 17).all()

    def test_one_by_one_is_a_matrix(self):
        assert pictures._mosaic(np.arange(6.0).reshape(6, 1, 1), 3).tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_colours_have_white_gaps(self):
        image = pictures._mosaic(np.zeros((2, 32, 32, 3)), 2)
        assert image.shape == (32, 66, 3)
        assert (image[:, 32:34] == 1).all()

    def test_scales(self):
        assert pictures._scale(np.zeros((1, 2, 2))) == (0.0, 1e-6)
        assert pictures._scale(np.full((1, 2, 2), np.nan)) == (0.0, 1.0)
        low, high = pictures._scale(np.linspace(-1, 3, 1001))
        assert (low, high) == pytest.approx((-0.992, 2.992))


@pytest.mark.parametrize(
    "shape", [(70, 3, 7, 7), (5, 1, 3, 3), (40, 20, 3, 3), (6, 9, 1, 1), (1, 2, 1, 5)],
    ids=lambda shape: "×".join(map(str, shape)),
)  # fmt: skip
def test_every_kind_of_filter(matplotlib, rng, tmp_path, shape):
    weights = rng.standard_normal(shape).astype(np.float32)
    maps = rng.standard_normal((shape[0], 9, 13)).astype(np.float32)
    layer = pictures.SeenLayer("a.b/c", "Conv", weights, maps)
    told = []
    written = pictures.draw(tmp_path, "title", rng.random((5, 6, 3)), [layer], None, lambda *at: told.append(at))
    assert [path.name for path in written] == ["overview.png", "1-a.b_c.png"]
    assert told == [(1, "a.b/c")]
    assert all(size(path)[0] > 500 for path in written)


def test_what_is_told_of_parts(rng):
    weights = rng.standard_normal((70, 20, 3, 3)).astype(np.float32)
    image, title, scale, _ = pictures._filter_panel(weights, 8)
    assert title == "32 of 70 filters × 16 of 20 channels, 3×3"
    assert scale["vmin"] == -scale["vmax"]
    image, title, scale, _ = pictures._filter_panel(weights[:, :3], 8)
    assert title == "64 of 70 RGB filters, grey is zero, 3×3"
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (np.log([[1.0, 3.0]]), [0.25, 0.75]),
        (np.array([[0.25, 0.75]]), [0.25, 0.75]),
        (np.zeros((1, 2, 1, 1)), [0.5, 0.5]),
        (np.zeros((1, 2, 2)), None),
        (np.zeros((1, 1)), None),
        ({"out": np.zeros((1, 2))}, None),
    ],
)
def test_probabilities(scores, expected):
    got = show._probabilities(scores)
    assert got is None if expected is None else got.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet17", "PHOTO"], "--model: expected an .onnx file or one of alexnet, "),
        (["--model", "mnist_samples", "PHOTO"], "--model: expected"),
        (["--model", "resnet17"], "--model: expected an .onnx file or one of alexnet, "),
        (["--size", "64"], "--size: lenet5 reads digits, which are found and scaled by a rule of their own"),
        (["--mean", "0.5"], "--mean: lenet5 reads digits"),
        (["--model", "resnet18"], "IMAGE: resnet18 needs an image file; only lenet5 comes with a sample"),
        (["--model", "resnet18", "--size", "0", "PHOTO"], "--size: expected at least 1 pixel, got 0"),
        (["--model", "absent.onnx", "PHOTO"], "absent.onnx"),
        (["--model", "absent.onnx", "--weights", "w.npz", "PHOTO"], "--weights: an ONNX file has its weights inside"),
        (["absent.png"], "absent.png: no such file"),
        (["TEXT"], "not a readable image"),
        (["--weights", "absent.npz"], "absent.npz"),
        (["--model", "squeezenet1_1", "--mean", "1,2", "--size", "32", "PHOTO"], "--mean, --std: expected 1 or 3 numbers"),
        (["--output", "TEXT"], "text.txt"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(matplotlib, photo, tmp_path, capsys, arguments, message):
    text = tmp_path / "text.txt"
    text.write_text("hello")
    names = {"PHOTO": photo, "TEXT": str(text)}
    arguments = [names.get(argument, argument) for argument in arguments]
    where = [] if "--output" in arguments else ["--output", str(tmp_path / "p")]
    assert cli.main(["show", *arguments, *where]) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    last = streams.err.splitlines()[-1]
    assert last.startswith("fastconv show: ")
    assert message in last
    assert not (tmp_path / "p").exists()


def test_a_model_without_images(matplotlib, photo, tmp_path, capsys):
    path = tmp_path / "flat.onnx"
    graph = write.graph([write.node("Identity", "x", "y")], [write.value("x", (1, 3), 1)], ["y"])
    path.write_bytes(write.model(graph))
    assert cli.main(["show", photo, "--model", str(path), "--output", str(tmp_path / "p")]) == 1
    assert "no input that is a batch of images" in capsys.readouterr().err
    graph = write.graph([write.node("Identity", "x", "y")], [write.value("x", (1, 3, 8, 8), 1)], ["y"])
    path.write_bytes(write.model(graph))
    assert cli.main(["show", photo, "--model", str(path), "--output", str(tmp_path / "p")]) == 1
    assert "no two-dimensional convolution to show" in capsys.readouterr().err


def test_without_matplotlib_the_command_to_install_it_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["show", "--output", str(tmp_path / "p")]) == 1
    assert capsys.readouterr().err == (
        'fastconv show: drawing needs matplotlib, which is not installed; pip install "fastconv[plots]"\n'
    )
    assert not (tmp_path / "p").exists()


def test_an_image_of_one_pixel(matplotlib, pillow, tmp_path, capsys):
    pillow.new("RGB", (1, 1)).save(tmp_path / "one.png")
    path, out = tmp_path / "conv.onnx", tmp_path / "p"
    weights = write.tensor(np.ones((2, 3, 1, 1), np.float32), "w")
    graph = write.graph([write.node("Conv", "x w", "y")], [write.value("x", (1, 3, 1, 1), 1)], ["y"], [weights])
    path.write_bytes(write.model(graph))
    assert cli.main(["show", str(tmp_path / "one.png"), "--model", str(path), "--output", str(out)]) == 0
    assert (out / "overview.png").exists()


def test_random_weights_are_told(matplotlib, photo, tmp_path, monkeypatch, capsys):
    arguments = ["--model", "mobilenet_v3_small", "--size", "32", "--output", str(tmp_path / "p")]
    monkeypatch.setattr(show, "draw", lambda folder, title, picture, layers, *rest: [folder] * (len(layers) + 1))
    assert cli.main(["show", photo, *arguments]) == 0
    assert capsys.readouterr().err == (
        "fastconv show: mobilenet_v3_small has random weights; --weights takes trained ones\n"
    )
