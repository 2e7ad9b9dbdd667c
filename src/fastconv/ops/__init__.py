"""The op table: for every operation its algorithms, in order of preference, the NumPy reference last."""
