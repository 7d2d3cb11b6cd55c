"""Stations on disk: file names, versions, checksums, atomic writing, and refusal of what is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from recsys.schema.errors import InputError

StationKind = Literal[
    "prepared",
    "run",
    "evaluation",
    "comparison",
    "backtest",
    "bundle",
    "off_policy",
    "position_bias",
    "pilot",
    "interleaving",
]

MANIFEST = "manifest.json"
VERSIONS: dict[StationKind, int] = dict.fromkeys(get_args(StationKind), 1)
MADE_BY: dict[StationKind, str] = {
    "prepared": "recsys prepare data=...",
    "run": "python train.py experiment=...",
    "evaluation": "python evaluate.py run=DIR",
    "comparison": "python evaluate.py run=DIR against=OTHER",
    "backtest": "python evaluate.py run=DIR evaluation=backtest",
    "bundle": "python export.py run=DIR",
    "off_policy": "recsys off-policy log=FILE",
    "position_bias": "recsys position-bias log=FILE",
    "pilot": "recsys pilot plan log=FILE",
    "interleaving": "recsys interleave make a=RUN b=RUN",
}
# Bigger files are checked by size alone when a station is opened; `verify_all` reads them whole.
CHECKSUM_LIMIT_BYTES = 256 * 2**20


@contextmanager
def writing_station(
    path: Path, kind: StationKind, *, config: Mapping[str, Any], source: str | None = None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields a temporary folder and the manifest's free part; on success the folder becomes `path`.

    Whatever was at `path` is replaced only when the new station is complete; on an exception nothing changes.

    Args:
        path: where the station will be.
        kind: which station.
        config: the composed configuration that made it.
        source: fingerprint of the station it was made from.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    folder.chmod(0o755)  # mkdtemp makes it private
    extra: dict[str, Any] = {}
    try:
        yield folder, extra
        write_manifest(folder, kind, config=config, source=source, extra=extra)
        _replace_folder(folder, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_manifest(
    folder: Path,
    kind: StationKind,
    *,
    config: Mapping[str, Any],
    source: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes `manifest.json` over the files that are in `folder` now, and returns it."""
    files = {str(p.relative_to(folder)): _describe(p) for p in _files(folder)}
    identity = json.dumps([kind, VERSIONS[kind], files, source], sort_keys=True)
    manifest = {
        "format": f"recsys.{kind}",
        "version": VERSIONS[kind],
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest(),
        "source": source,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "config": dict(config),
        "files": files,
        **(extra or {}),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_station(path: Path, kind: StationKind, *, verify_all: bool = False) -> dict[str, Any]:
    """The manifest of the station at `path`, after checking that every file is there and whole.

    Raises:
        ValueError: the folder is missing, not such a station, of another version, incomplete or damaged;
            the message names the file and the command that makes the station anew.
    """
    path = Path(path)
    again = f"make it anew with `{MADE_BY[kind]}`"
    if not (path / MANIFEST).is_file():
        found = "no such folder" if not path.is_dir() else f"no {MANIFEST} in it"
        raise InputError(f"expected a {kind} station at `{path}`, found {found}; {again}")
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"`{path / MANIFEST}` is damaged ({error}); {again}") from error
    if manifest.get("format") != f"recsys.{kind}":
        raise InputError(f"expected a {kind} station at `{path}`, found `{manifest.get('format')}`; {again}")
    if manifest["version"] != VERSIONS[kind]:
        raise InputError(
            f"`{path}` has {kind} format version {manifest['version']}, "
            f"this release reads {VERSIONS[kind]}; {again}"
        )
    for name, expected in manifest["files"].items():
        _check_file(path / name, expected, again=again, verify_all=verify_all)
    return manifest


def write_json(path: Path, content: Any) -> None:
    """Writes JSON to a temporary name beside `path` and renames it, so that `path` is always whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n")
    os.replace(temporary, path)


def git_commit() -> str | None:
    """Commit of this package's checkout, with `+` when there are uncommitted changes; None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _files(folder: Path) -> list[Path]:
    """Files of the station in `folder`, but for stations within it, which have manifests of their own."""
    nested = [path.parent for path in folder.rglob(MANIFEST) if path.parent != folder]
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return sorted(path for path in files if not any(path.is_relative_to(other) for other in nested))


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path, expected: Mapping[str, Any], *, again: str, verify_all: bool) -> None:
    if not path.is_file():
        raise InputError(f"`{path}` is missing; {again}")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise InputError(f"`{path}` is damaged: expected {expected['bytes']} bytes, found {size}; {again}")
    if (verify_all or size <= CHECKSUM_LIMIT_BYTES) and file_sha256(path) != expected["sha256"]:
        raise InputError(f"`{path}` is damaged: its SHA-256 is not the one in {MANIFEST}; {again}")


def _replace_folder(new: Path, path: Path) -> None:
    if not path.exists():
        os.replace(new, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    os.replace(path, old / path.name)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)
