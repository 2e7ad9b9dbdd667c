"""What this process may use: cores (affinity and container quota), memory and caches.  Standard library only."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["Threads", "available_threads", "cache_bytes", "memory_bytes"]


class Threads(NamedTuple):
    """A number of threads and the sentence that says where it comes from."""

    count: int
    reason: str


def available_threads(environ=os.environ, root: Path = Path("/")) -> Threads:
    """As many threads as the environment asks for, else as many cores as affinity and cgroup quota leave.

    ``os.cpu_count()`` and even the affinity mask promise a container more cores than its CPU quota lets it use;
    threads beyond the quota are throttled.
    """
    for variable in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        value = environ.get(variable, "").split(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            return Threads(int(value), f"{variable}={value}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cores(root)
    if quota is not None and quota < cores:
        return Threads(max(1, round(quota)), f"the cgroup quota of {quota:g} cores")
    return Threads(cores, "the cores of this process's affinity mask")


@cache
def cache_bytes(level: int) -> int:
    """Size in bytes of the data cache of `level` (1, 2 or 3) that a core sees, or a small common size where unknown."""
    return _caches().get(level) or {1: 32 << 10, 2: 512 << 10, 3: 4 << 20}[level]


@cache
def _caches() -> dict[int, int]:
    """Bytes of the data caches that the system knows, by level."""
    known: dict[int, int] = {}
    folder = "/sys/devices/system/cpu/cpu0/cache"
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return known
    for name in names:
        facts = []
        for fact in ("level", "type", "size"):
            try:
                with open(f"{folder}/{name}/{fact}", encoding="ascii") as file:
                    facts.append(file.read().strip())
            except OSError:
                break
        if len(facts) == 3 and facts[1] != "Instruction" and facts[2].endswith("K"):
            known.setdefault(int(facts[0]), int(facts[2][:-1]) << 10)
    return known


@cache
def memory_bytes(root: Path = Path("/")) -> int:
    """Bytes of memory that this process could fill at most: the machine's, or what its cgroups leave of them."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        installed = sys.maxsize
    limits = [_memory_limit(folder) for folder in _groups(root, "memory")]
    return min([installed, *(limit for limit in limits if limit is not None)])


def _cgroup_cores(root: Path) -> float | None:
    """The smallest CPU quota, in cores, of this process's cgroup and the groups around it; None without one."""
    return min((quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None), default=None)


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup, and of the groups around it, that `controller` rules."""
    memberships = _memberships(root / "proc/self/cgroup", controller)
    return [folder for controllers, path in memberships for folder in _folders(root, controllers, path, controller)]


def _memberships(file: Path, controller: str) -> list[tuple[str, str]]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    rows = [line.split(":", 2) for line in lines]
    return [(row[1], row[2]) for row in rows if len(row) == 3 and (row[1] == "" or controller in row[1].split(","))]


def _folders(root: Path, controllers: str, path: str, controller: str) -> list[Path]:
    mounts = (
        ("sys/fs/cgroup",) if controllers == "" else (f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}")
    )
    parts = [part for part in path.split("/") if part]
    return [root / mount / "/".join(parts[:depth]) for mount in mounts for depth in range(len(parts) + 1)]


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
    return None


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):
        return None
