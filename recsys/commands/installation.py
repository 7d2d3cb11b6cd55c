"""Checks the installation: what is wrong with it, and which command mends that.

Imports nothing but the standard library, because it has to speak when the rest cannot be imported. What
should be installed is read from pyproject.toml, so that no version is written twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from recsys.runs.environment import (
    PROJECT,
    available_cores,
    cpu_flags,
    cpu_name,
    declared,
    memory_gib,
    version_of,
)

PIP = f"{sys.executable} -m pip"
_LOWEST = ">=3.11,<3.14"  # where pyproject.toml cannot be read: tomllib came with 3.11
# torch, and torchrec and fbgemm that go with it; the first is the one with which all tests are run.
SETS = (("2.13.0", "1.8.0"), ("2.14.0", "1.9.0"))
FBGEMM_CPU = "fbgemm-gpu-cpu"
FBGEMM_CUDA = "fbgemm-gpu"

# Prints a line of JSON for each of the three that imports: the first one missing is the one that is wrong.
_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}), flush=True)
import fbgemm_gpu
torch.ops.fbgemm.asynchronous_complete_cumsum(torch.ones(1, dtype=torch.int64))
print(json.dumps({"fbgemm": True}), flush=True)
import torchrec
print(json.dumps({"torchrec": torchrec.__version__}), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Reports one check.

    Args:
        what: the thing checked.
        found: how it is.
        advice: what is wrong and the command that mends it; empty when nothing is.
        severe: nothing will work until it is mended.
    """

    what: str
    found: str
    advice: str = ""
    severe: bool = True

    @property
    def is_problem(self) -> bool:
        """True when nothing will work until it is mended."""
        return bool(self.advice) and self.severe


def examine() -> list[Finding]:
    """Everything there is to say about this installation and machine."""
    python = check_python()
    if python.is_problem:
        return [python, *check_machine()]
    probed = _probe()
    return [python, *check_triple(probed), *check_packages(), *check_machine(), _gpu(probed)]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Turns a failed import in an entry point into advice and exit status 2; other failures pass.

    Example:
        >>> with importing():
        ...     import json
    """
    # Before torch is imported, or too late. Threads that wait for one another by spinning slow small steps
    # some twenty times down where other processes want the same cores; threads that go to sleep at once make
    # FBGEMM's backward pass, with its many short parallel parts, three times slower. So: spin, but briefly:
    # at 4000 a run alone is within 3 % of the fastest, and two that share its cores lose a quarter each; at
    # 1000 a run alone takes 1.4 times as long, at 20000 two of them three times as long as they need.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    try:
        yield
    except Exception:
        problems = installation_problems()
        if not problems:
            raise
        for advice in problems:
            print(f"error: {advice}", file=sys.stderr)
        sys.exit(2)


def installation_problems() -> list[str]:
    """Lists the problems without whose mending nothing works, with the commands that mend them."""
    return [finding.advice for finding in examine() if finding.is_problem]


def check_python() -> Finding:
    """The interpreter."""
    wanted = str(declared()["requires-python"]) if sys.version_info >= (3, 11) else _LOWEST
    low, high = sorted(int(part) for part in re.findall(r"3\.(\d+)", wanted))
    found = f"{platform.python_version()} ({sys.executable})"
    if low <= sys.version_info.minor < high:
        return Finding("python", found)
    venv = PROJECT / ".venv" / "bin" / "python"
    mend = f"run the command with `{venv}`, or remove .venv" if venv.is_file() else "make the environment"
    advice = f"expected Python 3.{low} to 3.{high - 1}, found {found}; {mend} and run"
    return Finding("python", found, f"{advice} `make install PYTHON=python3.{high - 1}`")


def check_triple(probed: dict[str, Any]) -> list[Finding]:
    """The torch, torchrec, fbgemm triple, which must match to the version.

    Args:
        probed: what importing them gave, see `_probe`.
    """
    found = {name: version_of(name) for name in ("torch", "torchrec", FBGEMM_CPU, FBGEMM_CUDA)}
    wanted = _wanted(found)
    findings = [
        _exact("torch", found["torch"], wanted["torch"], f"{PIP} install torch=={wanted['torch']}"),
        _exact(
            "torchrec",
            found["torchrec"],
            wanted["torchrec"],
            # Its dependencies would bring the CUDA build of fbgemm.
            f"{PIP} install --no-deps torchrec=={wanted['torchrec']}",
        ),
        _check_fbgemm(found[FBGEMM_CPU], found[FBGEMM_CUDA], wanted=wanted, probed=probed),
    ]
    if not any(finding.is_problem for finding in findings) and probed.get("failed"):
        name = probed["failed"]
        package = (FBGEMM_CPU if found[FBGEMM_CPU] else FBGEMM_CUDA) if name == "fbgemm" else name
        mend = f"{PIP} install --no-deps --force-reinstall {package}=={wanted[package]}"
        advice = f"{package} is installed but cannot be imported ({probed['error']}); run `{mend}`"
        findings.append(Finding(name, "cannot be imported", advice))
    return findings


def check_packages() -> list[Finding]:
    """The other dependencies: there, and of a version that is supported."""
    requirements = declared()["dependencies"]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [Finding("dependencies", "packaging is missing", _install_all("packaging is not installed"))]
    wrong = []
    for requirement in map(Requirement, requirements):
        found = version_of(requirement.name)
        if found is None:
            wrong.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(found, prereleases=True) and requirement.name != "torch":
            wrong.append(f"{requirement.name} is {found}, expected {requirement.specifier}")
    if wrong:
        return [Finding("dependencies", f"{len(wrong)} wrong", _install_all("; ".join(wrong)))]
    return [Finding("dependencies", f"{len(requirements)} of {len(requirements)} as declared")]


def check_machine() -> list[Finding]:
    """Reports the abilities of the processor and the size of the memory."""
    flags = cpu_flags()
    abilities = {"AVX2": "avx2", "AVX-512": "avx512f", "bf16": "avx512_bf16", "AMX": "amx_bf16"}
    able = (
        [name for name, flag in abilities.items() if flag in flags]
        if flags is not None
        else ["abilities unknown"]
    )
    cpu = Finding(
        "cpu", f"{cpu_name()}, {available_cores()} cores, {', '.join(able) or 'none of AVX2, AVX-512, bf16'}"
    )
    if flags is not None and "avx2" not in flags and platform.machine() in ("x86_64", "AMD64"):
        cpu = dataclasses.replace(
            cpu, advice="fbgemm's kernels for x86 want AVX2, which this CPU lacks", severe=False
        )
    gib = memory_gib()
    memory = Finding("memory", f"{gib:.1f} GiB" if gib else "unknown")
    if gib and gib < 2:
        memory = dataclasses.replace(
            memory, advice=f"{gib:.1f} GiB of memory is little: MovieLens-100K needs about 2", severe=False
        )
    return [cpu, memory]


def _check_fbgemm(
    cpu: str | None, cuda: str | None, *, wanted: dict[str, str], probed: dict[str, Any]
) -> Finding:
    has_gpu = bool(probed.get("gpus"))
    right, wrong = (FBGEMM_CUDA, FBGEMM_CPU) if has_gpu else (FBGEMM_CPU, FBGEMM_CUDA)
    # Reinstalled by force: the two packages write the same files, so that removing one breaks the other.
    mend = f"{PIP} uninstall -y {wrong} && {PIP} install --no-deps --force-reinstall {right}=={wanted[right]}"
    machine = "this machine has a GPU that torch can use" if has_gpu else "torch has no GPU to use here"
    if cpu and cuda:
        both = f"{FBGEMM_CPU} and {FBGEMM_CUDA} are both installed and overwrite each other"
        return Finding("fbgemm", "both builds", f"{both}; {machine}: run `{mend}`")
    name, found = (FBGEMM_CPU, cpu) if cpu else (FBGEMM_CUDA, cuda)
    if found is None:
        install = f"{PIP} install {right}=={wanted[right]}"
        return Finding("fbgemm", "not installed", f"fbgemm is not installed; {machine}: run `{install}`")
    if name == FBGEMM_CPU and has_gpu:
        advice = f"{machine}, but {name} trains on the CPU; for the GPU run `{mend}`"
        return Finding("fbgemm", f"{name} {found}", advice, severe=False)
    # The CUDA build works without a GPU, but only beside a CUDA build of torch.
    if name == FBGEMM_CUDA and not has_gpu and not probed.get("cuda"):
        return Finding("fbgemm", f"{name} {found}", f"{name} is the wrong build, {machine}: run `{mend}`")
    return _exact(name, found, wanted[name], f"{PIP} install --no-deps {name}=={wanted[name]}")


def _exact(name: str, found: str | None, wanted: str, mend: str) -> Finding:
    if found is None:
        return Finding(name, "not installed", f"{name} is not installed; run `{mend}`")
    if _minor(found) != _minor(wanted):
        known = "; ".join(f"torch {torch} with torchrec and fbgemm {others}" for torch, others in SETS)
        advice = f"{name} is {found}, but {wanted} matches the other two (known to work: {known})"
        return Finding(name, found, f"{advice}; run `{mend}`")
    return Finding(name, found)


def _gpu(probed: dict[str, Any]) -> Finding:
    if probed.get("gpus"):
        return Finding("gpu", f"{', '.join(probed['gpus'])} (CUDA {probed['cuda']})")
    return Finding("gpu", "none that torch can use: trains on the CPU")


def _probe() -> dict[str, Any]:
    """Imports the triple in a process of its own, which may crash; `failed` names the first that does not."""
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    probed: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            probed |= json.loads(line)
    missing = [name for name in ("torch", "fbgemm", "torchrec") if name not in probed]
    if missing:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        probed["failed"] = missing[0]
        probed["error"] = said[-1].strip() if said else f"it ended with status {done.returncode}"
    return probed


def _wanted(found: dict[str, str | None]) -> dict[str, str]:
    """The set of versions that most of what is installed belongs to."""
    sets = [dict(zip(found, (torch, *[others] * 3), strict=True)) for torch, others in SETS]
    return max(sets, key=lambda one: sum(_minor(found[name]) == _minor(one[name]) for name in found))


def _minor(version: str | None) -> list[str]:
    return (version or "").split(".")[:2]


def _install_all(wrong: str) -> str:
    if not (PROJECT / "pyproject.toml").is_file():  # installed from a wheel
        return f"{wrong}; install them with `{PIP} install`"
    return f"{wrong}; run `{PIP} install --editable '{PROJECT}[cpu]'` or `make install`"
