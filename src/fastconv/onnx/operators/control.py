"""Control flow.  A subgraph arrives as a function from its inputs to the tuple of its outputs."""

import numpy as np

from fastconv.graph.limits import claim
from fastconv.onnx.operators.registry import operator


@operator
def If(condition, *, then_branch, else_branch):
    return then_branch() if condition.item() else else_branch()


@operator
def Loop(trip_count=None, condition=None, *carried, body, outputs):
    """`body` maps (iteration, condition, *carried) to (condition, *carried, *scanned); what is scanned is stacked."""
    limit = None if trip_count is None else int(trip_count.item())
    keep_going = np.array(True) if condition is None else condition
    collected = [[] for _ in range(outputs - len(carried))]
    iteration = size = 0
    while keep_going.item() and (limit is None or iteration < limit):
        keep_going, *results = body(np.array(iteration, np.int64), keep_going, *carried)
        carried, scanned = results[: len(carried)], results[len(carried) :]
        size += _append(collected, scanned)
        claim(size, "what the loop's body collects")
        iteration += 1
    return *carried, *(np.stack(values) if values else np.zeros(0, np.float32) for values in collected)


@operator
def Scan(
    *inputs,
    body,
    num_scan_inputs,
    scan_input_axes=None,
    scan_input_directions=None,
    scan_output_axes=None,
    scan_output_directions=None,
    directions=None,
    opset,
    outputs,
):
    """`body` maps (*state, *slices) to (*state, *slices), once for every position of the scanned axes."""
    if opset < 9:
        return _batched_scan(inputs, body, num_scan_inputs, directions, outputs)
    if not 1 <= num_scan_inputs <= len(inputs):
        raise ValueError(
            f"num_scan_inputs: expected 1 to {len(inputs)}, the inputs that there are, got {num_scan_inputs}"
        )
    state, scanned = list(inputs[:-num_scan_inputs]), inputs[-num_scan_inputs:]
    axes = scan_input_axes or [0] * num_scan_inputs
    backwards = scan_input_directions or [0] * num_scan_inputs
    scanned = [
        np.moveaxis(x, axis, 0)[:: -1 if back else 1] for x, axis, back in zip(scanned, axes, backwards, strict=True)
    ]
    collected = [[] for _ in range(outputs - len(state))]
    size = 0
    for slices in zip(*scanned, strict=True):
        results = body(*state, *slices)
        state = list(results[: len(state)])
        size += _append(collected, results[len(state) :])
        claim(size, "what the scan's body collects")
    axes = scan_output_axes or [0] * len(collected)
    backwards = scan_output_directions or [0] * len(collected)
    stacked = (
        np.stack(values[:: -1 if back else 1], axis)
        for values, axis, back in zip(collected, axes, backwards, strict=True)
    )
    return *state, *stacked


def _append(collected, results):
    """Each result to its list; the bytes that joining the lists will take for them."""
    for values, value in zip(collected, results, strict=False):
        values.append(value)
    return sum(value.nbytes for value in results if isinstance(value, np.ndarray))


def _batched_scan(inputs, body, num_scan_inputs, directions, outputs):
    """Scan of opset 8: a first input with the lengths of the sequences, and a batch axis before everything."""
    lengths, *inputs = inputs
    if lengths is not None:
        raise ValueError("sequence_lens of Scan in opset 8 is not supported")
    per_item = [
        Scan(
            *(x[i] for x in inputs),
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
            opset=9,
            outputs=outputs,
        )
        for i in range(inputs[0].shape[0])
    ]
    return tuple(np.stack(values) for values in zip(*per_item, strict=True))
