"""Recurrent layers, which text recognition puts behind its convolutions.

`x` is (time, batch, features), or (batch, time, features) with `layout` 1; every weight has a first axis for the
direction.  The results are all hidden states (time, directions, batch, hidden) and the last states (directions, batch,
hidden), in `layout` 1 with the batch first.
"""

from functools import partial

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.registry import operator

_ACTIVATIONS = {"relu": reference.relu, "sigmoid": reference.sigmoid, "tanh": reference.tanh}


def _functions(names, defaults, directions):
    """Per direction, the functions that `names` lists one after the other."""
    names = [name.lower() for name in names or defaults * directions]
    unknown = [name for name in names if name not in _ACTIVATIONS]
    if unknown or len(names) != len(defaults) * directions:
        raise ValueError(f"activations: {len(defaults)} of {', '.join(_ACTIVATIONS)} per direction, not {names}")
    functions = [_ACTIVATIONS[name] for name in names]
    return [functions[i : i + len(defaults)] for i in range(0, len(functions), len(defaults))]


def _walk(x, lengths, state, step, backwards):
    """All hidden states and the final state; beyond the end of a short sequence its state stays, its output is 0."""
    hidden = np.zeros((len(x), *state[0].shape), x.dtype)
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        new = step(x[t], *state)
        lives = True if lengths is None else (t < lengths)[:, None]
        state = [np.where(lives, now, before) for now, before in zip(new, state, strict=True)]
        hidden[t] = np.where(lives, state[0], 0)
    return hidden, state


def _layer(x, lengths, states, steps, direction, layout):
    """(hidden, *last states) of the `steps` of one or both directions; `states` are (directions, batch, hidden)."""
    if layout:
        x, states = x.swapaxes(0, 1), [state.swapaxes(0, 1) for state in states]
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    runs = [
        _walk(x, lengths, [state[d] for state in states], step, back)
        for d, (step, back) in enumerate(zip(steps, backwards, strict=True))
    ]
    hidden = np.stack([run[0] for run in runs], 1)
    last = [np.stack(state) for state in zip(*(run[1] for run in runs), strict=True)]
    if layout:
        return hidden.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in last)
    return hidden, *last


def _start(state, x, r, layout):
    """`state`, or zeros for as many directions and hidden values as the recurrent weights `r` have."""
    batch = x.shape[0 if layout else 1]
    shape = (batch, len(r), r.shape[2]) if layout else (len(r), batch, r.shape[2])
    return np.zeros(shape, x.dtype) if state is None else state


def _biases(b, w):
    """The biases of inputs and of hidden states, zeros without `b`."""
    return np.split(np.zeros((len(w), 2 * w.shape[1]), w.dtype) if b is None else b, 2, axis=1)


def _clipped(values, clip):
    return values if clip is None else np.clip(values, -clip, clip)


@operator(ignored=("hidden_size",))
def RNN(x, w, r, b=None, lengths=None, initial_h=None, *, activations=None, clip=None, direction="forward", layout=0):
    wb, rb = _biases(b, w)

    def step(d, f, x, h):
        return (f(_clipped(x @ w[d].T + h @ r[d].T + wb[d] + rb[d], clip)),)

    steps = [partial(step, d, *fs) for d, fs in enumerate(_functions(activations, ["tanh"], len(w)))]
    return _layer(x, lengths, [_start(initial_h, x, r, layout)], steps, direction, layout)


@operator(ignored=("hidden_size",))
def GRU(
    x,
    w,
    r,
    b=None,
    lengths=None,
    initial_h=None,
    *,
    activations=None,
    clip=None,
    direction="forward",
    layout=0,
    linear_before_reset=0,
):
    """Gates in the order update, reset, hidden.  Source: Cho et al., arXiv:1406.1078."""
    wb, rb = _biases(b, w)

    def step(d, f, g, x, h):
        xz, xr, xh = np.split(x @ w[d].T + wb[d], 3, 1)
        rz, rr, rh = np.split(r[d], 3)
        bz, br, bh = np.split(rb[d], 3)
        update = f(_clipped(xz + h @ rz.T + bz, clip))
        reset = f(_clipped(xr + h @ rr.T + br, clip))
        recurrent = reset * (h @ rh.T + bh) if linear_before_reset else (reset * h) @ rh.T + bh
        return ((1 - update) * g(_clipped(xh + recurrent, clip)) + update * h,)

    steps = [partial(step, d, *fs) for d, fs in enumerate(_functions(activations, ["sigmoid", "tanh"], len(w)))]
    return _layer(x, lengths, [_start(initial_h, x, r, layout)], steps, direction, layout)


@operator(ignored=("hidden_size",))
def LSTM(
    x,
    w,
    r,
    b=None,
    lengths=None,
    initial_h=None,
    initial_c=None,
    peepholes=None,
    *,
    activations=None,
    clip=None,
    direction="forward",
    input_forget=0,
    layout=0,
):
    """Gates in the order input, output, forget, cell.

    Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997).
    """
    wb, rb = _biases(b, w)
    peepholes = np.zeros((len(w), 3 * r.shape[2]), x.dtype) if peepholes is None else peepholes

    def step(d, f, g, output_function, x, h, c):
        xi, xo, xf, xc = np.split(x @ w[d].T + h @ r[d].T + wb[d] + rb[d], 4, 1)
        pi, po, pf = np.split(peepholes[d], 3)
        enter = f(_clipped(xi + pi * c, clip))
        forget = 1 - enter if input_forget else f(_clipped(xf + pf * c, clip))
        c = forget * c + enter * g(_clipped(xc, clip))
        return f(_clipped(xo + po * c, clip)) * output_function(c), c

    functions = _functions(activations, ["sigmoid", "tanh", "tanh"], len(w))
    steps = [partial(step, d, *fs) for d, fs in enumerate(functions)]
    states = [_start(initial_h, x, r, layout), _start(initial_c, x, r, layout)]
    return _layer(x, lengths, states, steps, direction, layout)
