"""Networks written as torch's exporter writes them: batch norm folded, biases everywhere, opset 17.  Needs onnx."""

from __future__ import annotations

from fastconv.tools.bench.networks import RESIDUAL_SCALE, random_weight

__all__ = ["exported_model"]

OPSET, IR_VERSION = 17, 8
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0 is a pooling
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # expansion, channels, blocks, stride  # fmt: skip


def exported_model(name: str):
    """The ModelProto of ``lenet5``, ``mobilenet_v2``, ``resnet18`` or ``vgg16``."""
    return {"lenet5": _lenet5, "mobilenet_v2": _mobilenet_v2, "resnet18": _resnet18, "vgg16": _vgg16}[name]()


class _Graph:
    """Nodes in order; `x` is the value that the next node reads, `channels` its channels (or features)."""

    def __init__(self, *shape: int):
        self.shape = shape
        self.nodes: list = []
        self.weights: list = []
        self.x, self.channels = "input", shape[0]

    def node(self, op: str, *inputs: str, **attributes) -> str:
        from onnx import helper

        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs or [self.x], [output], name=output, **attributes))
        self.x = output
        return output

    def conv(self, name, channels, kernel, stride=1, padding=0, groups=1, scale=1.0):
        weight = (channels, self.channels // groups, kernel, kernel)
        parameters = self._parameters(name, weight, scale)
        self.node(
            "Conv", self.x, *parameters, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4,
            dilations=[1, 1], group=groups,
        )  # fmt: skip
        self.channels = channels

    def linear(self, name, inputs, outputs):
        self.node("Gemm", self.x, *self._parameters(name, (outputs, inputs), 1.0), transB=1, alpha=1.0, beta=1.0)
        self.channels = outputs

    def pool(self, op, kernel, stride, padding=0):
        self.node(op, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)

    def relu6(self):
        from onnx import TensorProto, helper

        for bound, value in (("zero", 0.0), ("six", 6.0)):
            if not any(tensor.name == bound for tensor in self.weights):
                self.weights.append(helper.make_tensor(bound, TensorProto.FLOAT, [], [value]))
        self.node("Clip", self.x, "zero", "six")

    def model(self):
        from onnx import TensorProto, helper

        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape])
            for name, shape in (("input", self.shape), (self.x, (self.channels,)))
        ]
        graph = helper.make_graph(self.nodes, "main_graph", ends[:1], ends[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _parameters(self, name, weight, scale) -> list[str]:
        from onnx import numpy_helper

        for suffix, shape in (("weight", weight), ("bias", weight[:1])):
            array = random_weight(f"{name}.{suffix}", shape, suffix, scale)
            self.weights.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
        return [f"{name}.weight", f"{name}.bias"]


def _lenet5():
    g = _Graph(1, 32, 32)
    for name, channels in (("conv1", 6), ("conv2", 16)):
        g.conv(name, channels, 5)
        g.node("Tanh")
        g.pool("AveragePool", 2, 2)
    g.node("Flatten", axis=1)
    for name, inputs, outputs in (("fc1", 400, 120), ("fc2", 120, 84)):
        g.linear(name, inputs, outputs)
        g.node("Tanh")
    g.linear("fc3", 84, 10)
    return g.model()


def _vgg16():
    g = _Graph(3, 224, 224)
    layer = 0
    for channels in VGG16:
        if channels:
            g.conv(f"features.{layer}", channels, 3, padding=1)
            g.node("Relu")
        else:
            g.pool("MaxPool", 2, 2)
        layer += 2 if channels else 1
    g.node("Flatten", axis=1)
    for layer, inputs in ((0, 25088), (3, 4096)):
        g.linear(f"classifier.{layer}", inputs, 4096)
        g.node("Relu")
    g.linear("classifier.6", 4096, 1000)
    return g.model()


def _resnet18():
    g = _Graph(3, 224, 224)
    g.conv("conv1", 64, 7, 2, 3)
    g.node("Relu")
    g.pool("MaxPool", 3, 2, 1)
    for layer, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            shortcut, inputs = g.x, g.channels
            stride = 2 if layer > 1 and block == 0 else 1
            g.conv(f"{name}.conv1", channels, 3, stride, 1)
            g.node("Relu")
            g.conv(f"{name}.conv2", channels, 3, 1, 1, scale=RESIDUAL_SCALE)
            branch = g.x
            if inputs != channels:
                g.x, g.channels = shortcut, inputs
                g.conv(f"{name}.downsample.0", channels, 1, stride)
                shortcut = g.x
            g.node("Add", branch, shortcut)
            g.node("Relu")
    g.node("GlobalAveragePool")
    g.node("Flatten", axis=1)
    g.linear("fc", 512, 1000)
    return g.model()


def _mobilenet_v2():
    g = _Graph(3, 224, 224)
    g.conv("features.0.0", 32, 3, 2, 1)
    g.relu6()
    block = 1
    for expansion, channels, blocks, first_stride in MOBILENET_V2:
        for stride in (first_stride, *[1] * (blocks - 1)):
            name = f"features.{block}.conv"
            shortcut, inputs = g.x, g.channels
            hidden = inputs * expansion
            if expansion != 1:
                g.conv(f"{name}.expand", hidden, 1)
                g.relu6()
            g.conv(f"{name}.depthwise", hidden, 3, stride, 1, groups=hidden)
            g.relu6()
            residual = stride == 1 and inputs == channels
            g.conv(f"{name}.project", channels, 1, scale=RESIDUAL_SCALE if residual else 1.0)
            if residual:
                g.node("Add", shortcut, g.x)
            block += 1
    g.conv("features.18.0", 1280, 1)
    g.relu6()
    g.node("GlobalAveragePool")
    g.node("Flatten", axis=1)
    g.linear("classifier.1", 1280, 1000)
    return g.model()
