"""Copies between arrays of any strides: the step that transposes, slices and concatenates."""

from __future__ import annotations

from math import ceil, prod

from fastconv._kernels import strided_copy as kernel
from fastconv._kernels.engine import Step

__all__ = ["copy_step"]

TASK_BYTES = 32 << 10
THREAD_BYTES = 100_000


def copy_step(shape, y_strides, x_strides, itemsize: int) -> Step | None:
    """``step(y, x)`` copies an array of `shape`; strides in bytes.

    None where the kernel has too few loops, or no element of that size.
    """
    axes = _merged(shape, y_strides, x_strides)
    if itemsize not in kernel.ITEM_SIZES or len(axes) > kernel.OUTER_AXES + 2:
        return None
    column = min(axes, key=lambda axis: (abs(axis[1]), abs(axis[2])), default=(1, itemsize, itemsize))
    outer = [axis for axis in axes if axis is not column]
    row = min(outer, key=lambda axis: abs(axis[2]), default=(1, 0, 0))
    outer = [axis for axis in outer if axis is not row]
    outer = [(1, 0, 0)] * (kernel.OUTER_AXES - len(outer)) + outer
    turned = row[2] == column[1] == itemsize != column[2]
    least = kernel.BLOCK_ROWS if turned else 1
    task_rows = max(1, min(row[0], max(TASK_BYTES // (column[0] * itemsize or 1), least)))
    tasks_down = ceil(row[0] / task_rows)
    sizes = {
        "itemsize": itemsize,
        "rows": row[0],
        "columns": column[0],
        "task_rows": task_rows,
        "tasks_down": tasks_down,
        **{f"size_{i}": axis[0] for i, axis in enumerate(outer)},
    }
    for name, place in (("y", 1), ("x", 2)):
        sizes |= {f"{name}_row": row[place], f"{name}_column": column[place]}
        sizes |= {f"{name}_{i}": axis[place] for i, axis in enumerate(outer)}
    return Step(
        kernel.KERNELS["copy"],
        sizes,
        tasks=0 if 0 in shape else prod(axis[0] for axis in outer) * tasks_down,
        threads=1 + prod(shape) * itemsize // THREAD_BYTES,
    )


def _merged(shape, y_strides, x_strides) -> list[tuple[int, int, int]]:
    """(size, step in y, step in x) of as few axes as possible."""
    axes: list[tuple[int, int, int]] = []
    for axis in zip(shape, y_strides, x_strides, strict=True):
        size, *steps = axis
        if size == 1:
            continue
        if axes and [step * size for step in steps] == list(axes[-1][1:]):
            axes[-1] = (axes[-1][0] * size, *steps)
        else:
            axes.append(axis)
    return axes
