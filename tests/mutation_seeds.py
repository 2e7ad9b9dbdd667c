"""The models whose files tests/mutations.py damages: small ones that together use every family of operators."""

from __future__ import annotations

import numpy as np
import onnx_bytes as write
import session_models

IMAGE = (1, 4, 9, 9)


def _rng():
    return np.random.default_rng(7)


def _numbers(*shape):
    return (_rng().standard_normal(shape) / 3).astype(np.float32)


def _model(nodes, outputs, inputs=None, opset=21, domains=(), **constants) -> tuple[bytes, dict]:
    inputs = [write.value("x", IMAGE)] if inputs is None else inputs
    tensors = [write.tensor(array, name) for name, array in constants.items()]
    return write.model(write.graph(nodes, inputs, outputs.split(), tensors), opset, domains), {}


def residual():
    return session_models.residual(_rng(), image=("n", 3, 8, 8), channels=4), {}


def detector():
    return session_models.detector(_rng()), {}


def windows():
    nodes = [
        write.node("Conv", "x w", "c", pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 1], group=2),
        write.node("LRN", "c", "n", size=3, alpha=0.1, beta=0.75, bias=1.0),
        write.node("AveragePool", "n", "a", kernel_shape=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1, count_include_pad=1),
        write.node("ConvTranspose", "a t", "u", strides=[2, 2], output_padding=[1, 1], pads=[0, 0, 1, 1]),
        write.node("MaxPool", "u", "m i", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        write.node("LpPool", "m", "l", kernel_shape=[2, 2], p=2),
        write.node("GlobalAveragePool", "l", "g"),
    ]
    return _model(nodes, "g i", w=_numbers(8, 2, 3, 3), t=_numbers(8, 4, 2, 2))


def shapes():
    nodes = [
        write.node("Pad", "x pads fill", "p", mode="constant"),
        write.node("Resize", "p - scales", "r", mode="linear"),
        write.node("Resize", "p - - sizes", "z", mode="nearest"),
        write.node("Tile", "r repeats", "t"),
        write.node("Slice", "t starts ends axes steps", "s"),
        write.node("Concat", "s s", "c", axis=1),
        write.node("Split", "c parts", "a b", axis=1),
        write.node("Reshape", "a rows", "f"),
        write.node("Transpose", "f", "v", perm=[1, 0]),
        write.node("DepthToSpace", "b", "d", blocksize=2),
    ]
    return _model(
        nodes, "v d z", pads=np.array([0, 0, 1, 2, 0, 0, 2, 1]), fill=np.float32(0.5),
        scales=np.array([1, 1, 1.5, 2], np.float32), sizes=np.array([1, 4, 5, 20]), repeats=np.array([1, 1, 2, 1]),
        starts=np.array([0, 1]), ends=np.array([4, 2**62]), axes=np.array([1, 2]), steps=np.array([1, 2]),
        parts=np.array([4, 4]), rows=np.array([4, -1]),
    )  # fmt: skip


def made_of_numbers():
    """Values that come from shapes and numbers alone: what is folded at load, and what is not."""
    nodes = [
        write.node("ConstantOfShape", "shape", "z", value=np.array([2], np.float32)),
        write.node("Range", "start limit delta", "r"),
        write.node("OneHot", "r depth values", "o", axis=-1),
        write.node("Expand", "o wide", "e"),
        write.node("EyeLike", "z", "eye"),
        write.node("MatMul", "z eye", "q"),
        write.node("Shape", "x", "s"),
        write.node("ConstantOfShape", "s", "zx", value=np.array([1], np.float32)),
        write.node("Add", "x zx", "y"),
        write.node("NonZero", "y", "nz"),
        write.node("CumSum", "e axis", "cs"),
        write.node("Einsum", "z eye", "es", equation="ij,jk->ik"),
    ]
    return _model(
        nodes, "cs q y nz es", shape=np.array([6, 6]), start=np.array(0), limit=np.array(5), delta=np.array(1),
        depth=np.array(7), values=np.array([0, 1], np.float32), wide=np.array([3, 1, 1]), axis=np.array(1),
    )  # fmt: skip


def loops():
    body = write.graph(
        [write.node("Add", "v one", "w"), write.node("Identity", "k", "k2")],
        [write.value("i", (), 7), write.value("k", (), 9), "v"],
        ["k2", "w", "w"],
        [write.tensor(np.float32(1), "one")],
    )
    step = write.graph([write.node("Add", "state part", "next")], ["state", "part"], ["next", "next"])
    branch = write.graph([write.node("Relu", "l", "relu")], [], ["relu"])
    other = write.graph([write.node("Neg", "l", "minus")], [], ["minus"])
    nodes = [
        write.node("Loop", "trips go x", "l scanned", body=("g", body)),
        write.node("If", "go", "f", then_branch=("g", branch), else_branch=("g", other)),
        write.node("Scan", "first f", "last all", body=("g", step), num_scan_inputs=1),
    ]
    return _model(
        nodes, "scanned last all", trips=np.array(4), go=np.array(True), first=np.zeros((4, 9, 9), np.float32)
    )


def selection():
    nodes = [
        write.node("Flatten", "x", "f"),
        write.node("TopK", "f k", "t i", axis=1),
        write.node("Gather", "f j", "g", axis=1),
        write.node("GatherND", "f nd", "gn"),
        write.node("ScatterElements", "f where what", "s", axis=1),
        write.node("ReduceMean", "x axes", "m", keepdims=0),
        write.node("ReduceMax", "x", "mx", keepdims=1),
        write.node("ArgMax", "x", "am", axis=1),
        write.node("Unique", "f", "u ui", sorted=1),
        write.node("Trilu", "x", "tr", upper=0),
        write.node("ReverseSequence", "f lens", "rs", batch_axis=0, time_axis=1),
        write.node("SplitToSequence", "f", "parts", axis=1),
        write.node("ConcatFromSequence", "parts", "joined", axis=1),
        write.node("Where", "yes f f", "w"),
    ]
    return _model(
        nodes, "t i g gn s m mx am u tr rs joined w", k=np.array([5]), j=np.array([[0, -1], [3, 4]]), nd=np.array([[0, 1]]),
        where=np.array([[1, 2]]), what=np.array([[1, 2]], np.float32), axes=np.array([2, 3]), lens=np.array([3]),
        yes=np.array(True),
    )  # fmt: skip


def sampling():
    nodes = [
        write.node("AffineGrid", "theta size", "grid"),
        write.node("GridSample", "x grid", "g", mode="linear"),
        write.node(
            "RoiAlign", "x rois batch", "r", output_height=2, output_width=2, sampling_ratio=2, spatial_scale=1.0
        ),
        write.node("MaxPool", "x", "p i", kernel_shape=[3, 3], strides=[3, 3]),
        write.node("MaxUnpool", "p i", "u", kernel_shape=[3, 3], strides=[3, 3]),
        write.node("DeformConv", "x w offset", "d"),
        write.node("CenterCropPad", "x crop", "c", axes=[2, 3]),
        write.node("Upsample", "x scales", "up", mode="nearest"),
    ]
    return _model(
        nodes, "g r u d c up", opset=20, theta=np.float32([[[1, 0, 0], [0, 1, 0]]]), size=np.array([1, 4, 5, 5]),
        rois=np.float32([[0, 0, 5, 6], [1, 2, 8, 8]]), batch=np.array([0, 0]), w=_numbers(3, 4, 2, 2),
        offset=_numbers(1, 8, 8, 8), crop=np.array([5, 12]), scales=np.float32([1, 1, 2, 2]),
    )  # fmt: skip


def recurrent():
    nodes = [
        write.node("Reshape", "x rows", "f"),
        write.node("LSTM", "f w r b", "h hn cn", hidden_size=3),
        write.node("GRU", "f wg rg", "hg hgn", hidden_size=3, direction="forward"),
        write.node("LayerNormalization", "f scale", "n", axis=-1),
        write.node("Softmax", "f", "s", axis=-1),
        write.node("Gemm", "a g c", "y", alpha=0.5, transB=1),
    ]
    return _model(
        nodes, "h hg n s y", rows=np.array([4, 9, 9]), w=_numbers(1, 12, 9), r=_numbers(1, 12, 3), b=_numbers(1, 24),
        wg=_numbers(1, 9, 9), rg=_numbers(1, 9, 3), scale=_numbers(9), a=_numbers(3, 5), g=_numbers(2, 5), c=_numbers(2),
    )  # fmt: skip


def quantised():
    nodes = [
        write.node("QuantizeLinear", "x s z", "q"),
        write.node("QLinearConv", "q s z wq ws wz ys yz", "c", pads=[1, 1, 1, 1]),
        write.node("DequantizeLinear", "c ys yz", "d"),
        write.node("DynamicQuantizeLinear", "d", "dq ds dz"),
        write.node("ConvInteger", "dq wq dz", "ci"),
        write.node("Cast", "ci", "f", to=1),
        write.node("MatMulInteger", "m m2", "mm"),
    ]
    return _model(
        nodes, "d f mm", s=np.float32(0.1), z=np.uint8(3), wq=np.arange(144, dtype=np.uint8).reshape(4, 4, 3, 3),
        ws=np.float32(0.1), wz=np.uint8(100), ys=np.float32(0.5), yz=np.uint8(8), m=np.ones((2, 3), np.uint8),
        m2=np.ones((3, 2), np.uint8),
    )  # fmt: skip


def functions():
    inner = write.message(
        "FunctionProto", name="Twice", domain="own", input=["a"], output=["b"],
        node=[write.node("Add", "a a", "b")], opset_import=[write.message("OperatorSetIdProto", domain="", version=21)],
    )  # fmt: skip
    outer = write.message(
        "FunctionProto", name="Four", domain="own", input=["a"], output=["c"],
        node=[write.node("Twice", "a", "b", domain="own"), write.node("Twice", "b", "c", domain="own")],
        opset_import=[
            write.message("OperatorSetIdProto", domain="", version=21),
            write.message("OperatorSetIdProto", domain="own", version=1),
        ],
    )  # fmt: skip
    nodes = [write.node("Four", "x", "y", domain="own"), write.node("Clip", "y low high", "z")]
    tensors = [write.tensor(np.float32(-1), "low"), write.tensor(np.float32(1), "high")]
    graph = write.graph(nodes, [write.value("x", IMAGE)], ["z"], tensors)
    return write.model(graph, domains=["own"], functions=[inner, outer]), {}


def external():
    w = _numbers(4, 4, 3, 3)
    entries = {"location": "weights.bin", "offset": "16", "length": str(w.nbytes)}
    tensor = write.message(
        "TensorProto", dims=list(w.shape), data_type=1, name="w", data_location=1,
        external_data=[write.message("StringStringEntryProto", key=k, value=v) for k, v in entries.items()],
    )  # fmt: skip
    nodes = [write.node("Conv", "x w", "y", pads=[1, 1, 1, 1])]
    data = write.model(write.graph(nodes, [write.value("x", IMAGE)], ["y"], [tensor]))
    return data, {"weights.bin": bytes(16) + w.tobytes()}


MODELS = {
    function.__name__: function
    for function in (
        residual, detector, windows, shapes, made_of_numbers, loops, selection, sampling, recurrent, quantised, functions,
        external,
    )
}  # fmt: skip
