"""Facts about the machine and the installed packages; imports nothing but the standard library."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
_FBGEMM = ("fbgemm-gpu-cpu", "fbgemm-gpu")


def cpu_name() -> str:
    """The processor's name."""
    lines = _lines(Path("/proc/cpuinfo"))
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_flags() -> set[str] | None:
    """Returns the processor's abilities in the kernel's words; None where the system does not tell."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return None


def available_cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Memory of this machine or of the container's limit, in GiB; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = "".join(_lines(Path("/sys/fs/cgroup/memory.max"))).strip()
    return (min(total, int(limit)) if limit.isdigit() else total) / 2**30


def installed_versions() -> dict[str, str]:
    """Version of every installed package that this project declares, the triple included."""
    names = [_name_of(text) for text in declared()["dependencies"]]
    versions = {name: version_of(name) for name in (*names, "torchrec", *_FBGEMM)}
    return {name: version for name, version in sorted(versions.items()) if version}


def declared() -> dict[str, Any]:
    """The part `[project]` of pyproject.toml; of an installed wheel, what its metadata says of the same."""
    if (PROJECT / "pyproject.toml").is_file():
        import tomllib  # not in the Pythons that check_python refuses

        project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
        return project
    metadata = importlib.metadata.metadata("recsys")
    dependencies: list[str] = []
    extras: dict[str, list[str]] = {}
    for text in metadata.get_all("Requires-Dist") or []:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        (extras.setdefault(extra[1], []) if extra else dependencies).append(requirement.strip())
    return {
        "version": metadata["Version"],
        "requires-python": metadata["Requires-Python"],
        "dependencies": dependencies,
        "optional-dependencies": extras,
    }


def version_of(name: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _name_of(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
