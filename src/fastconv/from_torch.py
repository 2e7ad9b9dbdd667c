"""What torch's tensors and functions on them are called in NumPy, for the errors that code meets which uses them.

Keys are the names that code for torch looks up, values what to write instead.  ``docs/from_torch.md`` has the same as a
table whose two columns the tests hold against each other.
"""

from __future__ import annotations

__all__ = ["FUNCTIONS", "METHODS", "hint"]

METHODS = {
    "abs": "abs(x)",
    "bmm": "x @ y",
    "chunk": "numpy.array_split(x, n, axis)",
    "clamp": "x.clip(low, high)",
    "contiguous": "x itself, or numpy.ascontiguousarray(x)",
    "cpu": "x itself",
    "cuda": "x itself: everything is computed on the CPU",
    "detach": "x itself: there are no gradients",
    "double": "x.astype('float64')",
    "expand": "numpy.broadcast_to(x, shape), with sizes in the place of -1",
    "float": "x.astype('float32')",
    "half": "x.astype('float16')",
    "dim": "x.ndim",
    "long": "x.astype('int64')",
    "matmul": "x @ y",
    "mm": "x @ y",
    "numel": "x.size",
    "numpy": "x itself",
    "permute": "x.transpose(axes)",
    "requires_grad": "nothing: there are no gradients",
    "sigmoid": "fastconv.nn.functional.sigmoid(x)",
    "softmax": "fastconv.nn.functional.softmax(x, dim)",
    "to": "x.astype(dtype)",
    "unsqueeze": "numpy.expand_dims(x, axis)",
}
FUNCTIONS = {
    "cat": "numpy.concatenate(arrays, axis)",
    "chunk": "numpy.array_split(x, n, axis)",
    "clamp": "numpy.clip(x, low, high)",
    "concat": "numpy.concatenate(arrays, axis)",
    "flatten": "fastconv.nn.Flatten()(x), or x.reshape(len(x), -1)",
    "from_numpy": "the array itself",
    "inference_mode": "nothing: there are no gradients",
    "load": "fastconv.load_state_dict(path)",
    "no_grad": "nothing: there are no gradients",
    "permute": "numpy.transpose(x, axes)",
    "randn": "numpy.random.default_rng().standard_normal(shape, 'float32')",
    "relu": "fastconv.nn.functional.relu(x)",
    "save": "fastconv.save_state_dict(state, path)",
    "sigmoid": "fastconv.nn.functional.sigmoid(x)",
    "softmax": "fastconv.nn.functional.softmax(x, dim)",
    "tanh": "fastconv.nn.functional.tanh(x)",
    "tensor": "numpy.array(values, 'float32')",
    "unsqueeze": "numpy.expand_dims(x, axis)",
} | {
    name: f"numpy.{name}" for name in ("arange", "matmul", "maximum", "mean", "ones", "stack", "sum", "where", "zeros")
}  # fmt: skip
# What NumPy says of a tensor's method that its arrays have under the same name, and with other arguments.
CONFUSED = {
    "'int' object is not callable": "x.size() is x.shape, and x.size(1) is x.shape[1]",
    "as a data type": "x.view(sizes) is x.reshape(sizes)",
    "sub-type of ndarray": "x.view(sizes) is x.reshape(sizes)",
    "keyword argument 'dim'": "dim= is axis=",
    "'list' object cannot be interpreted as an integer": "several axes are a tuple, as in x.mean((2, 3))",
    "order must be str": "x.flatten(1) is x.reshape(len(x), -1)",
    "axes don't match array": "x.transpose(1, 2) is x.swapaxes(1, 2)",
    "repeated axis in transpose": "x.transpose(1, 2) is x.swapaxes(1, 2)",
}


def hint(error: Exception) -> str:
    """What to write in NumPy, if `error` looks like that of an array which was taken for a tensor; else an empty string."""
    if isinstance(error, AttributeError):
        instead = METHODS.get(error.name) if type(error.obj).__name__ in ("ndarray", "Traced") else None
        return f"arrays are NumPy's: a tensor's {error.name} is {instead}" if instead else ""
    if isinstance(error, (TypeError, ValueError)):
        found = next((instead for text, instead in CONFUSED.items() if text in str(error)), None)
        return f"arrays are NumPy's: of a tensor, {found}" if found else ""
    return ""
