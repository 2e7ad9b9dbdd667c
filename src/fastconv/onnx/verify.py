"""How far off every step is: its result beside that of the operator's NumPy function in float64, on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastconv.graph.ir import Node
from fastconv.graph.lower import Call
from fastconv.onnx.compiled import Compiled, Compiler, side_by_side
from fastconv.onnx.explain import describe
from fastconv.onnx.functions import Functions
from fastconv.onnx.report import Column, Report, shapes_text
from fastconv.onnx.steps import stepwise
from fastconv.ops.cost import sum_error

__all__ = ["StepError", "Verification", "verify"]

STEEPEST = 1.5  # slope of an activation behind a convolution: hardswish's at 3
DEFAULT_ROUNDINGS = 16  # of an operator that no row of the op table computes
ROUNDS_TO_INTEGERS = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd"}
# operators that choose among their inputs' values, or move them
EXACT = {
    "Abs", "Ceil", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND",
    "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg", "NonMaxSuppression", "Pad", "Relu", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


@dataclass(frozen=True)
class StepError:
    """One step held against float64.

    `error` is the largest absolute difference of an output element, `bound` the largest that the step's sums can have at
    the element that comes nearest to it, and `ratio` the quotient there: beyond 1 the step is wrong.  `source` says
    where the bound comes from, `remark` what cannot be told by numbers, such as a different shape.
    """

    index: int
    op: str
    nodes: list[str]
    output: tuple[int, ...]
    algorithm: str
    error: float
    bound: float
    ratio: float
    source: str
    remark: str = ""

    @property
    def ok(self) -> bool:
        return self.ratio <= 1 and not self.remark


class Verification(Report):
    """Every step's error and bound, a :class:`StepError` each.  ``ok`` says whether all keep to their bounds."""

    title = "Every step against float64"
    columns = (
        Column("step", lambda row: str(row.index)),
        Column("op", lambda row: row.op, False),
        Column("nodes", lambda row: ", ".join(row.nodes), False),
        Column("output", lambda row: shapes_text([row.output]), False),
        Column("algorithm", lambda row: row.algorithm, False),
        Column("error", lambda row: f"{row.error:.2e}"),
        Column("bound", lambda row: f"{row.bound:.2e}"),
        Column("error / bound", lambda row: f"{row.ratio:.3f}"),
        Column("bound from", lambda row: row.source, False),
        Column("", lambda row: row.remark or ("" if row.ok else "BEYOND ITS BOUND"), False),
    )

    def __init__(self, rows: list[StepError], summary: dict[str, str], same_bits: bool):
        self.first_beyond = next((row for row in rows if not row.ok), None)
        self.ok = self.first_beyond is None and same_bits
        if self.first_beyond is not None:
            verdict = (
                f"step {self.first_beyond.index} is the first beyond its bound: {', '.join(self.first_beyond.nodes)}"
            )
        elif not same_bits:
            verdict = "every step keeps to its bound, but the run as a whole gives other bits than step by step"
        else:
            verdict = f"all {len(rows)} steps keep to their bounds, and the run as a whole gives the bits of its steps"
        super().__init__(rows, summary | {"verdict": verdict})

    def bar(self, row):
        return min(row.ratio, 2.0)

    def note(self, row):
        return row.remark or f"{row.ratio:.1%} of the bound, which comes from {row.source}"

    def is_marked(self, row):
        return not row.ok


def verify(compiler: Compiler, compiled: Compiled, feeds: dict, origins: dict, summary: dict) -> Verification:
    """Run step by step, and every step again in float64 on copies of its actual inputs.

    The bound of a step is that of the algorithm's row in the op table times the magnitude it refers to.  Other operators
    have a default: 16 roundings, and one more for each input element of an output element, of the largest magnitude among
    inputs, result, and the result for absolute inputs.  Integers have to be equal; quantising may round the other way.
    """
    check = _Checker(origins)
    values: dict[str, object] = {}
    for step in stepwise(compiler, compiled, feeds):
        wide = [_wide(value) for value in step.inputs]
        outputs = step.run()
        values.update(zip(step.node.outputs, outputs, strict=True))
        check(step.node, wide, outputs, step.calls)

    def observe(node, inputs, results, seconds):
        if not any(True for _ in node.graphs()):
            check(node, [_wide(value) for value in inputs], list(results), [])

    handed_on = dict(zip(compiled.handed_on, compiled.executable.run(side_by_side(feeds)), strict=True))
    compiled.run_rest(feeds, handed_on, observe)
    both = [(array, values[name]) for name, array in handed_on.items() if name in values]
    same = all(np.array_equal(one, other, equal_nan=_is_float(one)) for one, other in both)
    return Verification(check.rows, summary, same)


class _Checker:
    def __init__(self, origins: dict[Node, list[Node]]):
        self.exact = Functions()
        self.origins = origins
        self.rows: list[StepError] = []

    def __call__(self, node: Node, wide: list, outputs: list, calls: list[Call]) -> None:
        label, names = describe(node, self.origins)
        if node.op_type == "Call":  # a layer with weights of its own, in their precision
            self.rows.append(StepError(len(self.rows), label, names, (), "numpy", 0.0, 0.0, 0.0, "not checked"))
            return
        floats = [value for value in outputs if _is_float(value)]
        shape = next((value.shape for value in outputs if isinstance(value, np.ndarray)), ())
        algorithm = calls[-1].algorithm if calls else "view"
        expected = self.exact(node, wide)
        magnitude, source = self._bound(node, wide, expected, floats, calls)
        worst, remark = (0.0, 0.0, 0.0), ""
        for actual, exact in zip(outputs, expected, strict=False):
            if not isinstance(actual, np.ndarray) or not isinstance(exact, np.ndarray) or actual.dtype.hasobject:
                continue
            if actual.shape != exact.shape:
                remark = f"shape {actual.shape} where float64 gives {exact.shape}"
                break
            bound = magnitude if _is_float(actual) else np.float64(node.op_type in ROUNDS_TO_INTEGERS)
            worst = max(worst, _furthest(actual, exact, bound), key=lambda entry: entry[2])
        self.rows.append(StepError(len(self.rows), label, names, shape, algorithm, *worst, source, remark))

    def _bound(self, node: Node, wide: list, expected: tuple, outputs: list, calls: list[Call]):
        """Absolute bounds, to be broadcast with the outputs, and where they come from."""
        if not outputs or node.op_type in EXACT:
            return np.float64(0), "equality"
        dtype = outputs[0].dtype.name
        exact = next(value for value in expected if _is_float(value))
        doubled = 2 if dtype == "float64" else 1  # the float64 of the other side rounds, too
        unit = float(np.finfo(dtype).eps) / 2
        rows = _rows(calls)
        if rows:
            magnitude = _MAGNITUDES.get(node.op_type, _largest)(self.exact, node, wide, exact)
            bound = unit * ("scale" in node.attributes) * magnitude
            bound = bound + sum(_error(row, spec, node, wide, magnitude) for row, spec in rows.values())
            steepest = STEEPEST if "activation" in node.attributes else 1.0
            return steepest * doubled * bound + 4 * unit * np.abs(exact), "; ".join(rows)
        read = sum(value.size for value in wide if _is_float(value))
        roundings = DEFAULT_ROUNDINGS + -(-read // max(exact.size, 1))
        return doubled * sum_error(roundings, dtype) * _largest(self.exact, node, wide, exact), f"{roundings} roundings"


def _rows(calls: list[Call]) -> dict[str, tuple]:
    """The algorithms and specs that a node's calls are of, one after the other; calls of one op share its result."""
    rows: dict[str, tuple] = {}
    for call in calls:
        op, spec = call.detail or (None, None)
        row = next((row for row in op.rows if row.name == call.algorithm), None) if op else None
        if row is not None and not row.refusal(spec):
            source = f"{op.name}, {call.algorithm}"
            if source not in rows or row.error_bound(spec) > row.error_bound(rows[source][1]):
                rows[source] = (row, spec)
    return rows


def _error(row, spec, node: Node, wide: list, magnitude: np.ndarray):
    """Largest error of an algorithm's result: for these arrays if it can tell, else for any of their magnitude."""
    if node.op_type == "Conv":
        x, w, b, *_ = (*wide, None)
        scale = np.reshape(node.attributes.get("scale", 1.0), (-1, *(1,) * (w.ndim - 1)))
        known = row.errors(spec, x, w * scale, b)
        if known is not None:
            return known
    return row.error_bound(spec) * magnitude


def _products(exact, node: Node, wide: list, y: np.ndarray) -> np.ndarray:
    """max|x| · Σ|w| + |b| of each filter, and the magnitude of what is added."""
    x, w, b, *rest = (*wide, None, None)
    if node.op_type == "Conv":
        sums = np.abs(w).reshape(w.shape[0], -1).sum(1) * np.abs(node.attributes.get("scale", 1.0))
        shape = (-1, *(1,) * (w.ndim - 2))
    else:
        alpha = abs(node.attributes.get("alpha", 1.0))
        sums = alpha * np.abs(w).sum(axis=1 if node.attributes.get("transB", 0) else -2)
        shape = (*sums.shape[:-1], 1, sums.shape[-1]) if sums.ndim > 1 else (-1,)
    magnitude = _largest_finite(x) * sums.reshape(shape)
    if b is not None:
        magnitude = magnitude + np.abs(b if node.op_type != "Conv" else b.reshape(shape))
    return magnitude if not rest or rest[0] is None else magnitude + np.abs(rest[0])


def _of_absolute_inputs(exact, node: Node, wide: list, y: np.ndarray) -> np.ndarray:
    """The result for absolute inputs: of sums and means, the sum of the magnitudes."""
    free = {"low": -np.inf, "high": np.inf} if "low" in node.attributes else {}
    (result, *_) = exact(
        replace(node, attributes=node.attributes | free),
        [np.abs(value) if _is_float(value) else value for value in wide],
    )
    return np.abs(result)


def _of_elements(exact, node: Node, wide: list, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(wide[0]), np.abs(y))


def _exponentials(exact, node: Node, wide: list, y: np.ndarray) -> np.ndarray:
    """The exponents x - max x are rounded, too, relative to themselves."""
    spread = _largest_finite(wide[0])
    return (1 + 2 * spread) * np.abs(y) if node.op_type == "Softmax" else spread + np.abs(y)


def _largest(exact, node: Node, wide: list, y: np.ndarray) -> np.ndarray:
    """The largest finite magnitude among the inputs, the result, and the result for absolute inputs."""
    try:
        absolute = [_of_absolute_inputs(exact, node, wide, y)]
    except (ArithmeticError, LookupError, TypeError, ValueError):
        absolute = []
    return np.float64(max(_largest_finite(value) for value in (*wide, y, *absolute) if _is_float(value)))


def _largest_finite(array: np.ndarray) -> float:
    magnitudes = np.abs(array)
    return float(magnitudes.max(initial=0, where=np.isfinite(magnitudes)))


_MAGNITUDES = {
    "Conv": _products,
    "Gemm": _products,
    "MatMul": _products,
    "Affine": _of_absolute_inputs,
    "AveragePool": _of_absolute_inputs,
    "GlobalAveragePool": _of_absolute_inputs,
    "LogSoftmax": _exponentials,
    "Softmax": _exponentials,
    **dict.fromkeys(("Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "HardSwish", "Mish"), _of_elements),
}


def _furthest(actual: np.ndarray, exact: np.ndarray, bound) -> tuple[float, float, float]:
    """(largest error, bound, their ratio) at the element that comes nearest to, or furthest beyond, its bound."""
    with np.errstate(all="ignore"):
        a, e = actual.astype(np.float64), exact.astype(np.float64)
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        error = np.where(same, 0.0, np.abs(a - e))
        error[np.isnan(error)] = np.inf
        bounds = np.broadcast_to(bound, error.shape)
        ratio = np.where(error > 0, np.where(bounds > 0, error / bounds, np.inf), 0.0)
    ratio[np.isnan(ratio)] = np.inf
    if not ratio.size:
        return 0.0, 0.0, 0.0
    at = np.unravel_index(int(ratio.argmax()), ratio.shape)
    return float(error.max()), float(bounds[at]), float(ratio[at])


def _wide(value):
    """A copy in float64 of an array of smaller floats; what else may change under way is copied, too."""
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(np.float64) if _is_float(value) else value.copy()


def _is_float(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
