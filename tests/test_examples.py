"""A torch script with only its imports changed: ResNet-18, from a state dict that torch has written."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc

SCRIPT = Path(__file__).parents[1] / "examples" / "resnet18_torchvision_style.py"
IMPORT = "import fastconv.nn as nn"


def definitions(text, path):
    """What the script defines, after its source `text` has been run."""
    path.write_text(text, encoding="utf-8")
    return runpy.run_path(str(path))


@pytest.mark.filterwarnings("ignore:.*TypedStorage:UserWarning")
def test_resnet18_with_the_import_changed(torch, rng, tmp_path):
    source = SCRIPT.read_text(encoding="utf-8")
    assert source.count(IMPORT) == 1
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = definitions(source.replace(IMPORT, "import torch.nn as nn"), tmp_path / "theirs.py")["resnet18"]()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for array in (module.running_mean, module.bias):
                    array.copy_(torch.from_numpy(0.2 * rng.standard_normal(array.shape)))
                for array in (module.running_var, module.weight):
                    array.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, array.shape)))
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    x = rng.standard_normal((2, 3, 96, 80)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(x)).numpy()

    ours = definitions(source, tmp_path / "ours.py")["resnet18"]()
    ours.load_state_dict(fc.load_state_dict(tmp_path / "resnet18.pth"))
    ours.eval()
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    allowed = 1e-4 * np.abs(expected).max()
    assert expected.std() > allowed * 100
    np.testing.assert_allclose(ours(x), expected, rtol=0, atol=allowed)
    np.testing.assert_allclose(fc.compile(ours, x)(x), expected, rtol=0, atol=allowed)
    twin = fc.models.resnet18(weights=tmp_path / "resnet18.pth").eval()
    np.testing.assert_array_equal(twin(x), ours(x))
