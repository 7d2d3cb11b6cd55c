"""Folders with a manifest on object storage, put in place without rename, and files beside them.

    s3://bucket/place/CURRENT                       the name of the version that holds, written last
    s3://bucket/place/<version>/manifest.json       written behind the files that it lists
    s3://bucket/place/<version>/...

An object is whole or not there, so that whoever reads `CURRENT` finds one version, whole. Replacing writes a
new version beside the old one, then `CURRENT`, then removes what `CURRENT` named before. What a killed upload
left is named by nothing. A version is a plain folder, as any tool copies it.

Reading fetches a version into the cache and checks every byte against its manifest. Credentials come from the
environment, as each store has it (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from recsys.schema.disk import locked, replacing_folder, write_file
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import MANIFEST, MANIFEST_LIMIT_BYTES, is_confined
from recsys.schema.places import refuse_password

CURRENT = "CURRENT"
_ADDRESS, _NAME_BYTES, _TRIES = "address", 200, 5

logger = logging.getLogger(__name__)


def open_store(address: str, *, key: str) -> tuple[pafs.FileSystem, str]:
    """The file system of an address, and the place in it.

    Raises:
        InputError: the address cannot be read, or holds a password.
    """
    refuse_password(address, key)
    with _named(address, key):
        store, place = pafs.FileSystem.from_uri(address)
        return store, place.rstrip("/")


def fetch_station(address: str, *, cache: Path, key: str) -> Path:
    """The folder of a station on this machine, fetched anew where it has been replaced.

    Args:
        address: where `publish_station` has put it, or a tool has copied the folder of one.
        cache: folder of what is fetched.
        key: that named it, for messages.

    Raises:
        InputError: there is no station, it is incomplete or damaged, or the store refuses.
    """
    store, place = open_store(address, key=key)
    home = _home(address, cache)
    for _ in range(_TRIES):
        version = _current(store, place, address, key)
        folder = home / (version or "plain") / place.rpartition("/")[2]
        root = f"{place}/{version}" if version else place
        try:
            with locked(folder), _named(address, key):
                _fetch_once(store, root, folder)
            write_file(home / _ADDRESS, address)
            return folder
        except InputError:
            if _current(store, place, address, key) == version:
                raise  # and else it was replaced while it was fetched
    raise InputError(f"`{key}={address}` is replaced again and again; try later")


def publish_station(folder: Path, address: str, *, key: str) -> None:
    """Puts the files that a manifest lists at an address, in place of the station there, if any.

    Args:
        folder: of the station, which nobody writes to meanwhile.
        address: where.
        key: that named it, for messages.

    Raises:
        InputError: the store refuses; what was there is whole.
    """
    store, place = open_store(address, key=key)
    manifest = read_json(folder / MANIFEST)
    former = _current(store, place, address, key)
    version = f"{manifest['fingerprint'][:12]}-{secrets.token_hex(4)}"
    with _named(address, key):
        for name in (*manifest["files"], MANIFEST):
            _upload(store, folder / name, f"{place}/{version}/{name}")
        _send(store, io.BytesIO(version.encode()), f"{place}/{CURRENT}")
    logger.info("put %s at %s", folder.name, address)
    if former:
        with contextlib.suppress(OSError):  # it is named by nothing any more
            store.delete_dir(f"{place}/{former}")


def refuse_station(address: str, *, key: str) -> None:
    """Raises InputError where a station is at an address already, and must not be written over."""
    store, place = open_store(address, key=key)
    with _named(address, key):
        there = _current(store, place, address, key) or store.get_file_info(f"{place}/{MANIFEST}").is_file
    if there:
        raise InputError(f"expected a new or an empty place for `{key}`, but `{address}` holds something")


def publish_files(path: Path, address: str, *, key: str) -> None:
    """Puts a file, or the files of a folder, at an address; each is whole or as it was."""
    store, place = open_store(address, key=key)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    with _named(address, key):
        for file in files:
            _upload(store, file, place if file == path else f"{place}/{file.relative_to(path).as_posix()}")


def origin_of(path: Path) -> str:
    """The address that a folder was fetched from, for whoever opens it elsewhere; else its absolute path."""
    note = path.absolute().parent.parent / _ADDRESS
    is_copy = note.is_file() and note.parent.parent.name == "stations"
    return note.read_text() if is_copy else str(path.absolute())


def _fetch_once(store: pafs.FileSystem, root: str, folder: Path) -> None:
    """Fetches the files that a manifest lists, unless the same are there."""
    with store.open_input_stream(f"{root}/{MANIFEST}", compression=None) as source:
        raw = source.read(MANIFEST_LIMIT_BYTES)
    if folder.is_dir() and (folder / MANIFEST).read_bytes() == raw:
        return
    listed = _listed(raw, root)
    with replacing_folder(folder) as partial:
        for name, sha256 in listed.items():
            _download(store, f"{root}/{name}", partial / name, sha256)
        (partial / MANIFEST).write_bytes(raw)


def _listed(raw: bytes, root: str) -> dict[str, str]:
    """SHA-256 by name of the files in a manifest that nobody has checked yet."""
    try:
        listed = {str(name): str(entry["sha256"]) for name, entry in json.loads(raw)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"`{root}/{MANIFEST}` is damaged ({error!r})") from error
    for name in listed:
        if not is_confined(name):
            raise InputError(f"`{root}/{MANIFEST}` lists `{name[:200]}`, which is no name below the folder")
    return listed


def _download(store: pafs.FileSystem, source: str, target: Path, sha256: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with store.open_input_stream(source, compression=None) as opened, target.open("wb") as sink:
        while part := opened.read(2**22):
            digest.update(part)
            sink.write(part)
    if digest.hexdigest() != sha256:
        raise InputError(f"`{source}` is damaged: its SHA-256 is not the one in {MANIFEST}")


def _upload(store: pafs.FileSystem, source: Path, target: str) -> None:
    with source.open("rb") as opened:
        _send(store, opened, target)


def _send(store: pafs.FileSystem, source: BinaryIO, target: str) -> None:
    with store.open_output_stream(target) as sink:
        shutil.copyfileobj(source, sink, 2**22)


def _current(store: pafs.FileSystem, place: str, address: str, key: str) -> str | None:
    """The version that holds at a place; None where there is none, or a plain folder."""
    with _named(address, key):
        if not store.get_file_info(f"{place}/{CURRENT}").is_file:
            return None
        with store.open_input_stream(f"{place}/{CURRENT}", compression=None) as source:
            version = str(source.read(_NAME_BYTES), errors="replace")
    if not is_confined(version) or "/" in version:
        raise InputError(f"`{key}={address}`: `{CURRENT}` names `{version}`, which is no version")
    return version


def _home(address: str, cache: Path) -> Path:
    return cache / "stations" / hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]


@contextlib.contextmanager
def _named(address: str, key: str) -> Iterator[None]:
    """Says which address a store refuses."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"`{key}={address}` cannot be read or written: {said[:500]}; check the address, and the "
            "credentials in the environment"
        ) from error
