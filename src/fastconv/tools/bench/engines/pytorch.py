"""torch on the CPU in inference mode: NCHW, channels-last, compiled by inductor with frozen weights, or float64.

The channels-last variant has its weights and intermediate values in that order.  It takes and returns NCHW memory like
every other engine, so the two conversions are timed; a problem in NHWC needs none.
"""

from __future__ import annotations

from fastconv.tools.bench.engines import Refusal


def available() -> str:
    try:
        import torch
    except ImportError:
        return ""
    return torch.__version__


def start():
    """The whole process in inference mode, as around a server's loop, so that no call pays for entering it."""
    import torch

    torch.inference_mode().__enter__()


def prepare_layer(problem, arrays, threads, variant):
    import torch

    if variant == "channels-last" and (problem.family == "linear" or problem.rank == 1):
        raise Refusal(f"channels-last memory needs two or three spatial axes, {problem.op} has {problem.rank}")
    module = _layer(problem, arrays)
    return _callable(torch, module, [torch.from_numpy(arrays["x"])], threads, variant)


def convert_network(path, folder):
    import torch

    from fastconv.tools.bench.engines.torch_network import torch_network

    converted = folder / "module.pt"
    torch.save(torch_network(path), converted)
    return converted


def prepare_network(path, feeds, threads, variant):
    import torch

    dtype = torch.float64 if variant == "float64" else torch.float32
    module, names = torch.load(path, weights_only=False)  # written by convert_network
    module = module.to(dtype)
    return _callable(torch, module, [torch.from_numpy(feeds[name]).to(dtype) for name in names], threads, variant)


def _callable(torch, module, inputs, threads, variant):
    torch.set_num_threads(threads)
    module.eval()
    if variant == "channels-last":
        return _channels_last(torch, module, inputs)
    if variant == "compiled":
        import torch._inductor.config

        torch._inductor.config.freezing = True
        module = torch.compile(module)

    def call():
        return module(*inputs)

    return call


def _channels_last(torch, module, inputs):
    memory_format = torch.channels_last_3d if inputs[0].ndim == 5 else torch.channels_last
    module = module.to(memory_format=memory_format)

    def call():
        return module(*[x.contiguous(memory_format=memory_format) for x in inputs])

    def call_from_nchw():
        return call().contiguous()

    return call_from_nchw if all(x.is_contiguous() for x in inputs) else call


def _layer(problem, arrays):
    from torch import nn

    symmetric = problem.padding != problem.pads
    torch_pads = [zeros for pair in reversed(problem.pads) for zeros in pair]
    if problem.family == "pad":
        return _constant_pad(problem.rank, torch_pads)
    if problem.family == "linear":
        return _with_parameters(nn.Linear(problem.input[1], problem.channels, problem.bias), problem, arrays)
    if problem.family == "batch_norm":
        return _with_parameters(getattr(nn, f"BatchNorm{problem.rank}d")(problem.channels), problem, arrays)
    window = {"stride": problem.stride, "padding": problem.padding if symmetric else 0}
    if problem.family in ("max_pool", "avg_pool"):
        if not symmetric:
            raise Refusal("torch pools with symmetric padding only")
        window |= {"ceil_mode": problem.ceil_mode}
        if problem.family == "avg_pool":
            kind = getattr(nn, f"AvgPool{problem.rank}d")
            return kind(problem.kernel, **window, count_include_pad=problem.count_include_pad)
        return getattr(nn, f"MaxPool{problem.rank}d")(problem.kernel, **window, dilation=problem.dilation)
    window |= {"dilation": problem.dilation, "groups": problem.groups, "bias": problem.bias}
    if problem.family == "conv_transpose":
        if not symmetric:
            raise Refusal("torch crops transposed convolutions symmetrically only")
        window |= {"output_padding": problem.output_padding}
        kind = getattr(nn, f"ConvTranspose{problem.rank}d")
    else:
        kind = getattr(nn, f"Conv{problem.rank}d")
    layer = _with_parameters(kind(problem.input[1], problem.channels, problem.kernel, **window), problem, arrays)
    return layer if symmetric else nn.Sequential(_constant_pad(problem.rank, torch_pads), layer)


def _constant_pad(rank, pads):
    from torch import nn

    return getattr(nn, f"ConstantPad{rank}d")(pads, 0.0)


def _with_parameters(layer, problem, arrays):
    import torch

    layer = layer.to(getattr(torch, problem.dtype))
    layer.load_state_dict({name: torch.from_numpy(arrays[name]) for name in problem.parameters})
    return layer.requires_grad_(False)
