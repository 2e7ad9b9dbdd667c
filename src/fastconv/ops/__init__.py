"""The op table: for every operation its algorithms, in order of preference, the NumPy reference last."""

from fastconv import config  # noqa: F401  (sets the number of threads before the first step runs)
