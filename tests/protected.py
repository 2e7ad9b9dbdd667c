"""Inputs that lie right behind or right before a page that nobody may touch: a read outside one ends the process."""

import subprocess
import sys

import pytest

PREPARE = """
import ctypes, itertools, mmap
import numpy as np

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page, size = mmap.PAGESIZE, 1 << 20
base = libc.mmap(None, size + 2 * page, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANON, -1, 0)
for guard in (base, base + page + size):
    assert libc.mprotect(guard, page, 0) == 0
memory = np.frombuffer((ctypes.c_char * size).from_address(base + page), np.uint8)

def protected(shape, dtype, at_end):
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return (memory[size - count:] if at_end else memory[:count]).view(dtype).reshape(shape)
"""


def run_protected(code, isa):
    """Run `code`, which takes its inputs from ``protected(shape, dtype, at_end)``, in a process of its own."""
    if sys.platform != "linux":
        pytest.skip("pages are protected with Linux's mprotect")
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + code + "\nprint('done')"],
        env={"FASTCONV_ISA": isa, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr
