"""nn.summary: shapes, parameters, work, receptive fields and dropped positions, by hand-worked numbers."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError


def rows(module, *shape):
    return nn.summary(module, shape).rows


def fields(module, *shape):
    return [row.receptive_field for row in rows(module, *shape)]


def last_field(module, *shape):
    return fields(module, *shape)[-1]


def test_ten_five_by_five_filters_have_760_parameters():
    (row,) = rows(nn.Conv2d(3, 10, 5, padding=2), 1, 3, 32, 32)
    assert (row.path, row.type, row.output_shape) == ("", "Conv2d", (1, 10, 32, 32))
    assert row.parameters == 760
    assert row.macs == 32 * 32 * 10 * 75
    assert row.receptive_field == (5, 5)
    assert row.dropped == (0, 0)


def test_stride_three_over_seven_drops_one_position():
    summary = nn.summary(nn.Conv2d(1, 1, 3, stride=3), (1, 1, 7, 7))
    assert summary.rows[0].output_shape == (1, 1, 2, 2)
    assert summary.rows[0].dropped == (1, 1)
    assert "1 × 1" in str(summary)
    assert str(summary).endswith("dropped: input positions at the end of each axis that no window reaches")
    assert "no window reaches" not in str(nn.summary(nn.Conv2d(1, 1, 3, stride=2), (1, 1, 7, 7)))


def test_an_input_without_batch_axis_has_no_receptive_field():
    (row,) = rows(nn.Conv2d(1, 2, 3, stride=3), 1, 7, 7)
    assert (row.output_shape, row.receptive_field, row.dropped) == ((2, 2, 2), None, (1, 1))


def test_padding_and_ceil_mode_count_for_what_is_dropped():
    assert rows(nn.Conv2d(1, 1, 7, 2, 3), 1, 1, 224, 224)[0].dropped == (0, 0)
    assert rows(nn.MaxPool2d(3, 2), 1, 1, 112, 111)[0].dropped == (1, 0)
    assert rows(nn.MaxPool2d(3, 2, ceil_mode=True), 1, 1, 112, 112)[0].dropped == (0, 0)
    assert rows(nn.AvgPool1d(4), 1, 1, 11)[0].dropped == (3,)


def test_a_stack_of_three_by_three_layers_sees_3_5_7():
    stack = nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(3)])
    assert fields(stack, 1, 1, 9, 9) == [(3, 3), (5, 5), (7, 7)]


def vgg16_features():
    layers, channels = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
        channels = width or channels
    return nn.Sequential(*layers)


def test_vgg_16():
    narrow = vgg16_features()
    for layer in narrow:  # the geometry of VGG-16 with one channel, so that the run is short
        if isinstance(layer, nn.Conv2d):
            layer.in_channels = layer.out_channels = 1
            layer.weight, layer.bias = np.zeros((1, 1, 3, 3), np.float32), np.zeros(1, np.float32)
    result = rows(narrow, 1, 1, 224, 224)
    assert [row.receptive_field[0] for row in result if row.type == "Conv2d"] == [
        *(3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196)
    ]
    assert result[-1].receptive_field == (212, 212)
    assert sum(array.size for array in vgg16_features().parameters()) == 14_714_688


def test_lenet_5():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    summary = nn.summary(model, (1, 1, 32, 32))
    assert [row.path for row in summary.rows[:7]] == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "1"]
    assert summary.parameters == 61_706
    assert summary.macs == 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert [row.receptive_field[0] for row in summary.rows[:6]] == [5, 5, 6, 14, 14, 16]
    assert {row.receptive_field for row in summary.rows[6:]} == {(32, 32)}
    lines = str(summary).split("\n")
    assert lines[0].split() == [
        "layer",
        "type",
        "output",
        "shape",
        "parameters",
        "MACs",
        "receptive",
        "field",
        "dropped",
    ]
    assert lines[2].split() == ["0.0", "Conv2d", "(1,", "6,", "28,", "28)", "156", "117,600", "5", "×", "5"]
    assert lines[-1] == "Sequential on input (1, 1, 32, 32): 61,706 parameters, 416,520 MACs"


def test_work_of_groups_transposed_and_linear_layers():
    assert rows(nn.Conv2d(4, 8, 3, groups=2), 2, 4, 6, 6)[0].macs == 2 * 8 * 16 * 9 * 2
    assert rows(nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2), 1, 4, 5, 5)[0].macs == 4 * 25 * 9 * 4
    assert rows(nn.Linear(6, 3), 2, 5, 6)[0].macs == 2 * 5 * 3 * 6
    assert nn.summary(nn.Bilinear(2, 3, 4), [(5, 2), (5, 3)]).macs == 5 * 4 * 2 * 3
    assert rows(nn.BatchNorm2d(3), 1, 3, 4, 4)[0].macs == 0


@pytest.mark.parametrize(
    ("layer", "shape", "field"),
    [
        (nn.Conv2d(1, 1, (3, 5), dilation=(2, 1)), (1, 1, 9, 9), (5, 5)),
        (nn.Conv1d(1, 1, 3, stride=2), (1, 1, 9), (3,)),
        (nn.Conv3d(1, 1, (1, 2, 3)), (1, 1, 4, 4, 4), (1, 2, 3)),
        (nn.AvgPool2d(3, 2), (1, 1, 9, 9), (3, 3)),
        (nn.LPPool2d(2, 3), (1, 1, 9, 9), (3, 3)),
        (nn.AdaptiveAvgPool2d((1, 3)), (1, 1, 6, 6), (6, 2)),
        (nn.AdaptiveMaxPool2d(3), (1, 1, 5, 7), (3, 3)),
        (nn.Upsample(scale_factor=2), (1, 1, 4, 4), (1, 1)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 4, 4), (2, 2)),
        (nn.PixelUnshuffle(2), (1, 1, 4, 4), (2, 2)),
        (nn.PixelShuffle(2), (1, 4, 4, 4), (1, 1)),
        (nn.ConvTranspose2d(1, 1, 2, stride=2), (1, 1, 4, 4), (1, 1)),
        (nn.ConvTranspose2d(1, 1, 4, stride=2), (1, 1, 4, 4), (2, 2)),
        (nn.BatchNorm2d(1), (1, 1, 4, 4), (1, 1)),
        (nn.Flatten(), (1, 2, 3, 4), (3, 4)),
        (nn.Linear(3, 3), (2, 3), ()),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.ConvTranspose2d(1, 1, 2, 2), nn.Conv2d(1, 1, 3)),
            (1, 1, 9, 9),
            (5, 5),
        ),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (1, 1, 6, 6), (6, 6)),
    ],
    ids=lambda value: value if isinstance(value, tuple) else type(value).__name__,
)
def test_receptive_fields(layer, shape, field):
    assert last_field(layer, *shape) == field


class Residual(nn.Module):
    def __init__(self, stride=1):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 1, 3, stride, 1), nn.Conv2d(1, 1, 3, 1, 1)
        self.shortcut = nn.Conv2d(1, 1, 1, stride) if stride > 1 else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x):
        return self.activation(self.second(np.maximum(self.first(x), 0)) + self.shortcut(x))


def test_branches_take_the_largest_field():
    model = nn.Sequential(Residual(), Residual(2), Residual())
    activations = [row for row in rows(model, 1, 1, 16, 16) if row.type == "ReLU"]
    assert [row.receptive_field for row in activations] == [(5, 5), (11, 11), (19, 19)]


def test_concatenated_branches_take_the_largest_field():
    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList([nn.Conv2d(2, 1, k, padding=k // 2) for k in (1, 5)])

        def forward(self, x):
            return np.concatenate([branch(x) for branch in self.branches], axis=1)

    assert fields(nn.Sequential(Inception(), Inception()), 1, 2, 8, 8) == [(1, 1), (5, 5), (5, 5), (9, 9)]


def test_flattening_between_layers_sees_the_whole_plane():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)
            self.wide = nn.Linear(72, 3)

        def forward(self, x):
            y = self.conv(x)
            return self.fc(y.mean((2, 3))) + self.wide(y.reshape(len(y), -1))

    assert fields(Net(), 2, 1, 8, 8) == [(3, 3), (8, 8), (8, 8)]


def test_what_cannot_be_followed_is_unknown():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return self.second(self.first(x)[:, :, ::2, ::2].copy())

    summary = nn.summary(Net(), (1, 1, 12, 12))
    assert [row.receptive_field for row in summary.rows] == [(3, 3), None]
    assert str(summary).split("\n")[3].endswith("?")


def test_shared_layers_have_a_row_per_call_and_count_once():
    layer = nn.Conv2d(1, 1, 3)
    summary = nn.summary(nn.Sequential(layer, layer), (1, 1, 8, 8))
    assert [row.parameters for row in summary.rows] == [10, 10]
    assert summary.parameters == 10


def test_the_module_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
    model[1].eval()
    nn.summary(model, (2, 1, 4, 4))
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert model[0].num_batches_tracked == 0
    assert not any(module._hooks for module in model.modules())


def test_dtype_follows_the_parameters():
    assert nn.summary(nn.Conv2d(1, 1, 3, dtype="float64"), (1, 1, 4, 4)).macs == 36
    assert nn.summary(nn.ReLU(), (1, 1, 4, 4), dtype="float64").macs == 0


def test_wrong_arguments():
    with pytest.raises(ArgumentTypeError, match="module: expected a Module, got type"):
        nn.summary(nn.ReLU, (1,))
    with pytest.raises(ArgumentTypeError, match="input_shape: expected a tuple of sizes, batch included, got 3"):
        nn.summary(nn.ReLU(), 3)
    with pytest.raises(ArgumentError, match="input_shape: expected at least 1, got -1"):
        nn.summary(nn.ReLU(), (1, -1))
    with pytest.raises(ArgumentError, match="more than any memory holds"):
        nn.summary(nn.ReLU(), (2**30, 2**30))
    with pytest.raises(ArgumentError, match=r"^0 \(Conv2d\(3, .*expected 3 channels"):
        nn.summary(nn.Sequential(nn.Conv2d(3, 1, 3)), (1, 1, 8, 8))


def test_attention_is_one_layer_that_sees_everything():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    rows = {row.path: row for row in nn.summary(layer, (3, 5, 8)).rows}
    attention = rows["self_attn"]
    assert (attention.output_shape, attention.parameters) == ((3, 5, 8), 4 * 8 * 8 + 4 * 8)
    assert attention.macs == 3 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)  # projections, then scores and sums
    assert attention.receptive_field is None
    assert "self_attn.out_proj" not in rows


def test_a_deformable_convolution_sees_what_its_offsets_say():
    row = nn.summary(nn.DeformConv2d(4, 6, 3, padding=1), [(1, 4, 5, 5), (1, 18, 5, 5)]).rows[0]
    assert (row.output_shape, row.parameters, row.macs) == ((1, 6, 5, 5), 6 * 4 * 9 + 6, 150 * 36)
    assert row.receptive_field is None
