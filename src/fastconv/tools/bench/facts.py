"""What the figures were taken on, and what an engine costs besides time: sizes and memory, in bytes."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from fastconv.machine import available_threads, cache_bytes

__all__ = [
    "available_memory",
    "describe_machine",
    "distribution_version",
    "installed_bytes",
    "package_bytes",
    "peak_memory",
]


def describe_machine() -> dict:
    """Processor, cores, caches and memory in bytes, system and Python."""
    return {
        "processor": _processor(),
        "cores": available_threads(environ={}).count,
        "l1_bytes": cache_bytes(1),
        "l2_bytes": cache_bytes(2),
        "l3_bytes": cache_bytes(3),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "system": platform.platform(),
        "python": sys.version.split()[0],
    }


def _processor() -> str:
    """Name, and the model's numbers where a hypervisor shortens the name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = {}
    for key in ("model name", "cpu family", "model"):
        match = re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
        found[key] = match[1].strip() if match else ""
    wide = next((name for name in ("avx512f", "avx2") if re.search(rf"\b{name}\b", text)), "no wide vectors")
    name = found["model name"] or platform.machine()
    return f"{name} (family {found['cpu family']}, model {found['model']}, {wide})" if found["model"] else name


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory at the fork
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) << 10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not say."""
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) << 10 if found else None


def distribution_version(distribution: str) -> str:
    """Version of an installed distribution, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def installed_bytes(distribution: str, without: frozenset[str] = frozenset({"numpy"})) -> int | None:
    """Bytes on disk of a distribution and of everything it requires, `without` some; None if it is not installed."""
    seen: set[str] = set(without)
    total = _tree_bytes(distribution, seen)
    return total or None


def package_bytes(folder: Path) -> int:
    """Bytes of a package that runs from its source tree, without what is only made there."""
    made = {".c", ".pyc"}
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix not in made)


def _tree_bytes(distribution: str, seen: set[str]) -> int:
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    if name in seen:
        return 0
    seen.add(name)
    try:
        files, requirements = metadata.files(name), metadata.requires(name)
    except metadata.PackageNotFoundError:
        return 0
    total = 0
    for file in files or ():
        path = Path(file.locate())
        total += path.stat().st_size if path.is_file() else 0
    for requirement in requirements or ():
        if "extra ==" not in requirement:
            total += _tree_bytes(re.match(r"[\w.-]+", requirement)[0], seen)
    return total
