"""The manifest of a folder that a command wrote: what is in it, from where; and refusal of the rest.

A manifest is read here and nowhere else. It covers itself by a checksum, lists every file with size and
SHA-256, and its fingerprint follows from those. A checksum tells damage, not a forger: see SECURITY.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from recsys.schema.disk import fail, replacing_folder, restore, write_file
from recsys.schema.errors import InputError
from recsys.schema.json_files import Kinds, Section, check_kinds, read_json

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
VERSIONS: dict[StationKind, int] = dict.fromkeys(get_args(StationKind), 2)
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
# Types of the keys that a reader relies on, by kind; a dot goes one level down.
_KEYS: dict[StationKind, dict[str, type]] = {
    "prepared": {
        "name": str,
        "split": dict,
        "split.kind": str,
        "split.leaks": bool,
        "timestamp": dict,
        "label": dict,
        "label.only_positives": bool,
        "counts": dict,
        "counts.rows": dict,
        "counts.positives": dict,
        "id_types": dict,
    },
    "run": {"prepared": str, "task": str, "config.data": dict, "config.model": dict},
    "bundle": {"task": str, "file": str, "signature": dict},
    "evaluation": {"protocol_hash": str},
}
# Files without which there is no such station; of a bundle also the one that the key `file` names.
_FILES: dict[StationKind, tuple[str, ...]] = {
    "prepared": ("features.yaml",),
    "run": ("config.yaml", "metrics.json", "checkpoints/best"),
    "bundle": ("requests.json", "responses.json"),
    "evaluation": ("metrics.json",),
}
# Bigger files are checked by size alone when a station is opened; `verify_all` reads them whole.
CHECKSUM_LIMIT_BYTES = 256 * 2**20
MANIFEST_LIMIT_BYTES = 64 * 2**20
# Endings of what a reader may open: such a file that no manifest lists has been put there by somebody else.
_READABLE = {"", ".json", ".yaml", ".parquet", ".npy", ".pt", ".pt2", ".faiss", ".bin", ".arrow"}
_UNSIGNED = "0" * 64
_LONGEST_NAME = 255
_HEX = re.compile("[0-9a-f]{64}")


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

    Raises:
        InputError: the disk refuses to be written to.
    """
    with replacing_folder(Path(path)) as folder:
        extra: dict[str, Any] = {}
        yield folder, extra
        write_manifest(folder, kind, config=config, source=source, extra=extra)


def write_manifest(
    folder: Path,
    kind: StationKind,
    *,
    config: Mapping[str, Any],
    source: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes `manifest.json` over the files that are in `folder` now, and returns it."""
    files = {path.relative_to(folder).as_posix(): _describe(path) for path in _own_files(folder)}
    own = {
        "checksum": _UNSIGNED,
        "format": f"recsys.{kind}",
        "version": VERSIONS[kind],
        "fingerprint": _fingerprint(kind, files, source),
        "source": source,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "config": dict(config),
        "files": files,
    }
    manifest = {**own, **{key: value for key, value in (extra or {}).items() if key not in own}}
    text = json_text(manifest)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    write_file(folder / MANIFEST, text.replace(_UNSIGNED, checksum, 1))
    return {**manifest, "checksum": checksum}


def read_station(path: Path, kind: StationKind, *, verify_all: bool = False) -> Section:
    """Returns the manifest of the station at `path`, after checking that every file is there and whole.

    Raises:
        InputError: the folder is missing, not such a station, of another version, incomplete or damaged, or
            holds what its manifest does not list; the message names the file and the command that makes the
            station anew.
    """
    path = Path(path)
    restore(path)
    while True:
        before = _identity(path)
        try:
            return _read_station(path, kind, verify_all=verify_all)
        except InputError:
            if _identity(path) == before:
                raise  # and else another process has put a new station there while we read the old one


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that `path` is always whole."""
    write_file(path, json_text(content))


def git_commit() -> str | None:
    """Commit of this package's checkout, with `+` when there are uncommitted changes; None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "+" * bool(changes)


def _git(root: Path, *arguments: str) -> str:
    # Without optional locks, or a kill in the middle of it would leave the checkout locked. NOTE: not
    # `describe --dirty`, which takes that lock whatever it is told (git 2.39).
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(content: Any) -> str:
    """Content as the JSON of a station."""
    return json.dumps(content, indent=2, allow_nan=False, default=str) + "\n"


def _fingerprint(kind: StationKind, files: Mapping[str, Any], source: str | None) -> str:
    identity = json.dumps([kind, VERSIONS[kind], files, source], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _identity(path: Path) -> object:
    """Tells one folder at `path` from another, and one manifest in it from another."""
    try:
        folder, manifest = os.stat(path), os.stat(path / MANIFEST)
    except OSError:
        return None
    return folder.st_ino, manifest.st_ino, manifest.st_mtime_ns


def _read_station(path: Path, kind: StationKind, *, verify_all: bool) -> Section:
    again = f"make it anew with `{MADE_BY[kind]}`"
    try:
        manifest = _read_manifest(path, kind)
        _check_types(manifest, kind, path / MANIFEST)
        _check_names(manifest, kind, path)
        for name, expected in manifest["files"].items():
            _check_file(path / name, expected, verify_all=verify_all)
    except InputError as error:
        raise InputError(f"{error}; {again}") from error
    return manifest


def _read_manifest(path: Path, kind: StationKind) -> Section:
    file = path / MANIFEST
    if not file.is_file():
        there = "no such folder" if not path.is_dir() else f"no {MANIFEST} in it"
        raise InputError(f"expected a {kind} station at `{path}`, found {there}")
    content = read_json(file, limit_bytes=MANIFEST_LIMIT_BYTES)
    raw = file.read_bytes()
    if content.get("format") != f"recsys.{kind}":
        raise InputError(f"expected a {kind} station at `{path}`, found `{str(content.get('format'))[:80]}`")
    if content.get("version") != VERSIONS[kind]:
        raise InputError(
            f"`{path}` has {kind} format version {str(content.get('version'))[:20]}, "
            f"this release reads {VERSIONS[kind]}"
        )
    checksum = content.get("checksum")
    unsigned = raw.replace(str(checksum).encode(), _UNSIGNED.encode(), 1)
    if not _is_hex(checksum) or hashlib.sha256(unsigned).hexdigest() != checksum:
        raise InputError(f"`{file}` is damaged: its own checksum is not that of its content")
    return content


def _check_types(manifest: Section, kind: StationKind, file: Path) -> None:
    expected: Kinds = {
        "fingerprint": str,
        "source": (str, type(None)),
        "created": str,
        "config": dict,
        "files": dict,
        **_KEYS.get(kind, {}),
    }
    check_kinds(manifest, expected, file)
    for name, entry in manifest["files"].items():
        good = (
            isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and _is_hex(entry.get("sha256"))
        )
        if not good:
            raise InputError(f"`{file}` is damaged: expected bytes and sha256 of `{name[:200]}`")
    if manifest["fingerprint"] != _fingerprint(kind, manifest["files"], manifest["source"]):
        raise InputError(f"`{file}` is damaged: `fingerprint` is not that of the files it lists")


def _check_names(manifest: Section, kind: StationKind, path: Path) -> None:
    """Confines the station to plain files below `path`, all of those that its manifest lists, no others."""
    listed = manifest["files"]
    for name in listed:
        if not is_confined(name):
            raise InputError(f"`{path / MANIFEST}` lists `{name[:200]}`, which is no name below the folder")
        _refuse_links(path, name)
    needed = [*_FILES.get(kind, ()), *([manifest["file"]] if kind == "bundle" else [])]
    for name in needed:
        if name not in listed:
            raise InputError(f"`{path / MANIFEST}` must list `{name[:200]}`")
    for file in _own_files(path, listed):
        name = file.relative_to(path).as_posix()
        # Beside a run other commands write theirs, as a sweep's notes and the folds of a backtest.
        is_own = kind != "run" or name.startswith("checkpoints/")
        if name not in listed and file.suffix in _READABLE and is_own:
            raise InputError(f"`{file}` is not listed in {MANIFEST}; take it out of the folder")


def is_confined(name: str) -> bool:
    """True for a plain relative name of a file below a station's folder."""
    pure = PurePosixPath(name)
    plain = bool(pure.parts) and "\\" not in name and "\0" not in name and str(pure) == name
    plain = plain and max(map(len, pure.parts)) <= _LONGEST_NAME
    return plain and not pure.is_absolute() and ".." not in pure.parts and name != MANIFEST


def _refuse_links(path: Path, name: str) -> None:
    place = path
    for part in PurePosixPath(name).parts:
        place = place / part
        if place.is_symlink():
            raise InputError(f"`{place}` is a symbolic link, which no station holds")


def _own_files(folder: Path, listed: Mapping[str, Any] | None = None) -> list[Path]:
    """Files of the station in `folder`, but for stations within it, which have manifests of their own.

    Hidden names are not its own: what a killed writer left, what a file system or an editor keeps.

    Args:
        folder: the station.
        listed: names in its manifest; a folder that holds one of them is no station within.
    """
    own_folders = {str(parent) for name in listed or () for parent in PurePosixPath(name).parents}
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        here = Path(place)
        nested = here != folder and MANIFEST in names
        if nested and here.relative_to(folder).as_posix() not in own_folders:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (name for name in names if not name.startswith("."))
        files += [here / name for name in visible if here != folder or name != MANIFEST]
    return sorted(files)


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _check_file(path: Path, expected: Mapping[str, Any], *, verify_all: bool) -> None:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise InputError(f"`{path}` is missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"`{path}` is not a plain file")
    if status.st_size != expected["bytes"]:
        raise InputError(f"`{path}` is damaged: expected {expected['bytes']} bytes, found {status.st_size}")
    if (verify_all or status.st_size <= CHECKSUM_LIMIT_BYTES) and file_sha256(path) != expected["sha256"]:
        raise InputError(f"`{path}` is damaged: its SHA-256 is not the one in {MANIFEST}")


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None
