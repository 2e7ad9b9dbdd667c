"""An error inside a nested model names the layer, and the shapes through which its input came."""

from collections import OrderedDict

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError


def misfit():
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(5, 4, 3)),
            head=nn.Identity(),
        )
    )


def test_errors_name_the_layer_and_the_shapes_on_the_way():
    with pytest.raises(ArgumentError) as raised:
        misfit()(np.zeros((1, 3, 8, 8), np.float32))
    message = str(raised.value)
    assert message.startswith(
        "features.2 (Conv2d(5, 4, kernel_size=(3, 3), stride=(1, 1))): input: expected 5 channels"
    )
    assert message.endswith(
        "; the input came as (1, 3, 8, 8) → features.0 Conv2d (1, 4, 6, 6) → features.1 ReLU (1, 4, 6, 6)"
    )
    assert message.count("features.2") == 1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 4, 3), (2, 4, 6)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), (2, 4, 6, 6)),
        (nn.ConvTranspose2d(4, 4, 3), (2, 4, 6, 6)),
        (nn.Linear(6, 3), (2, 6)),
        (nn.PReLU(), (2, 6)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_weight_that_was_taken_away(layer, shape):
    x = np.ones(shape, np.float32)
    layer(x)
    layer.weight = None
    with pytest.raises(TypeError, match="weight: expected an array, got NoneType"):
        layer(x)


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("training", [True, False])
def test_one_of_two_statistics(name, training):
    for layer in (nn.BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True)):
        layer.train(training)
        setattr(layer, name, None)
        with pytest.raises(ValueError, match="running_mean, running_var: expected both or neither"):
            layer(np.ones((2, 3, 4, 4), np.float32))


def test_errors_keep_their_type():
    with pytest.raises(ArgumentTypeError, match=r"^features\.0 \(Conv2d\(.*expected one element type"):
        misfit()(np.zeros((1, 3, 8, 8)))


def test_errors_of_a_single_layer_name_the_layer():
    with pytest.raises(ArgumentError, match=r"^Conv2d\(5, 4, kernel_size=\(3, 3\), stride=\(1, 1\)\): input"):
        nn.Conv2d(5, 4, 3)(np.zeros((1, 3, 8, 8), np.float32))


def test_errors_find_modules_reached_past_their_parents():
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(5, 4, 3))])

        def forward(self, x):
            return self.blocks[0][0](x)

    with pytest.raises(ArgumentError, match=r"^net\.blocks\.0\.0 \(Conv2d"):
        nn.Sequential(OrderedDict(net=Skipping()))(np.zeros((1, 3, 8, 8), np.float32))


def test_errors_of_functions_in_a_forward_name_the_module():
    class Failing(nn.Module):
        def forward(self, x):
            raise ArgumentError("input: wrong")

    with pytest.raises(ArgumentError, match=r"^1 \(Failing\(\)\): input: wrong; the input came as \(2,\) → 0 "):
        nn.Sequential(nn.Identity(), Failing())(np.zeros(2))


def test_errors_of_other_kinds_are_left_alone():
    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError("key")

    with pytest.raises(KeyError) as raised:
        nn.Sequential(Failing())(np.zeros(2))
    assert raised.value.args == ("key",)
    assert getattr(raised.value, "__notes__", ["raised in 0 (Failing())"]) == ["raised in 0 (Failing())"]


def test_errors_of_inputs_without_a_shape_name_the_layer_alone():
    with pytest.raises(ArgumentTypeError, match=r"^0 \(Flatten\(.*input: expected an array, got list[^→]*$"):
        nn.Sequential(nn.Flatten())([1.0])


def test_errors_change_no_statistics():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(5, 4, 3))
    with pytest.raises(ArgumentError, match="the input came as"):
        model(np.ones((2, 3, 8, 8), np.float32))
    assert model[0].num_batches_tracked == 1
    np.testing.assert_allclose(model[0].running_mean, 0.1, rtol=1e-6)


def test_errors_leave_no_hooks():
    model = misfit()
    with pytest.raises(ArgumentError):
        model(np.zeros((1, 3, 8, 8), np.float32))
    assert not any(module._hooks for module in model.modules())


def test_errors_caught_inside_a_model_do_not_spoil_later_ones():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(5, 4, 3), nn.Conv2d(6, 4, 3)

        def forward(self, x):
            try:
                return self.first(x)
            except ArgumentError:
                return self.second(x)

    with pytest.raises(ArgumentError, match=r"^second \(Conv2d\(6.*expected 6 channels"):
        Careful()(np.zeros((1, 3, 8, 8), np.float32))
