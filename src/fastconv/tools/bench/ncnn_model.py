"""Writer of ncnn's model format: a text of layers with numbered parameters, and the weights behind one another.

A value that several layers read needs a ``Split`` layer in that format; it is put in when the text is written.
Source: ncnn, docs/developer-guide/operators.md and param-and-model-file-structure.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastconv.tools.bench.engines import Refusal

__all__ = ["NcnnModel", "convolution", "linear", "pooling"]

MAGIC = 7767517
RELU, CLIP = 1, 3  # activation types
ACTIVATED = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
FLOAT32_TAG = np.zeros(1, np.uint32)


@dataclass
class Layer:
    """One line of the text: type, values read and written, parameters by number, weights in file order."""

    kind: str
    inputs: list[str]
    output: str
    parameters: dict[int, object] = field(default_factory=dict)
    weights: list[np.ndarray] = field(default_factory=list)


class NcnnModel:
    """Layers in order of execution."""

    def __init__(self, inputs: list[str]):
        self.layers = [Layer("Input", [], name) for name in inputs]

    def add(self, layer: Layer) -> None:
        self.layers.append(layer)

    def activate(self, value: str, output: str, kind: int, *arguments: float) -> bool:
        """Let the last layer apply an activation, if it wrote `value`, can, and nothing else reads that value."""
        last = self.layers[-1]
        if last.output != value or 9 in last.parameters or last.kind not in ACTIVATED:
            return False
        last.parameters[9] = kind
        if arguments:
            last.parameters[-23310] = list(arguments)
        last.output = output
        return True

    def save(self, folder: Path) -> None:
        """Write ``model.param`` and ``model.bin`` into `folder`."""
        lines, values = self._lines()
        text = "\n".join([str(MAGIC), f"{len(lines)} {values}", *lines]) + "\n"
        (folder / "model.param").write_text(text)
        with open(folder / "model.bin", "wb") as file:
            for layer in self.layers:
                for array in layer.weights:
                    file.write(np.ascontiguousarray(array).tobytes())

    def _lines(self) -> tuple[list[str], int]:
        readers: dict[str, int] = {}
        for layer in self.layers:
            for name in layer.inputs:
                readers[name] = readers.get(name, 0) + 1
        lines, values, taken = [], 0, dict.fromkeys(readers, 0)
        for number, layer in enumerate(self.layers):
            inputs = []
            for name in layer.inputs:
                inputs.append(name if readers[name] == 1 else f"{name}_split{taken[name]}")
                taken[name] += 1
            lines.append(_line(layer.kind, f"layer{number}", inputs, [layer.output], layer.parameters))
            values += 1
            copies = readers.get(layer.output, 0)
            if copies > 1:
                outputs = [f"{layer.output}_split{i}" for i in range(copies)]
                lines.append(_line("Split", f"split{number}", [layer.output], outputs, {}))
                values += copies
        return lines, values


def _line(kind: str, name: str, inputs: list[str], outputs: list[str], parameters: dict[int, object]) -> str:
    texts = [f"{key}={_number(value)}" for key, value in parameters.items()]
    return " ".join([f"{kind:<20}", f"{name:<12}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, *texts])


def _number(value) -> str:
    if isinstance(value, list):
        return ",".join([str(len(value)), *map(_number, value)])
    return f"{value:e}" if isinstance(value, float) else str(int(value))


def convolution(
    inputs, output, weight, bias, *, stride, pads, dilation, groups, transposed=False, output_padding=()
) -> Layer:
    """A convolution over 1 to 3 axes; `weight` as torch has it, `pads` pairs, everything height before width."""
    rank = weight.ndim - 2
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    if transposed:  # ncnn wants (groups, out, in, …)
        weight = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    parameters = {0: channels, 5: bias is not None, 6: weight.size}
    parameters |= _per_axis((1, 11, 21), weight.shape[-rank:]) | _per_axis((2, 12, 22), dilation)
    parameters |= _per_axis((3, 13, 23), stride)
    parameters |= _per_axis((4, 14, 24), [before for before, _ in pads])
    parameters |= _per_axis((15, 16, 17), [after for _, after in pads])
    if any(output_padding):
        parameters |= _per_axis((18, 19, 20), output_padding)
    kind = "Deconvolution" if transposed else "Convolution"
    if groups > 1:
        parameters[7] = groups
        kind += "DepthWise"
    kind += {1: "1D", 2: "", 3: "3D"}[rank]
    return Layer(kind, inputs, output, parameters, _weights(weight, bias))


def linear(inputs, output, weight, bias) -> Layer:
    """A linear layer, `weight` (out, in)."""
    parameters = {0: len(weight), 1: bias is not None, 2: weight.size}
    return Layer("InnerProduct", inputs, output, parameters, _weights(weight, bias))


def pooling(inputs, output, kind, kernel, stride, pads, *, ceil_mode=False, count_include_pad=False) -> Layer:
    """Max or average pooling over 1 to 3 axes; `kind` is ``max`` or ``avg``."""
    if kind == "avg" and ceil_mode:
        raise Refusal("ncnn's average pooling counts partial windows otherwise")
    parameters = {0: int(kind == "avg"), 5: 0 if ceil_mode else 1, 6: count_include_pad}
    parameters |= _per_axis((1, 11, 21), kernel) | _per_axis((2, 12, 22), stride)
    parameters |= _per_axis((3, 13, 23), [before for before, _ in pads])
    parameters |= _per_axis((14, 15, 16), [after for _, after in pads])
    return Layer({1: "Pooling1D", 2: "Pooling", 3: "Pooling3D"}[len(kernel)], inputs, output, parameters)


def _per_axis(keys: tuple[int, int, int], values) -> dict[int, int]:
    """ncnn numbers the parameters of width, height and depth."""
    return dict(zip(keys, list(values)[::-1], strict=False))


def _weights(weight, bias) -> list[np.ndarray]:
    arrays = [FLOAT32_TAG, weight.astype(np.float32)]
    return arrays if bias is None else [*arrays, bias.astype(np.float32)]
