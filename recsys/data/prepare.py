"""prepare: raw tables -> prepared dataset, made once for the same options and files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recsys.data.options import PREPARE_FIELDS, DataOptions, RawTables
from recsys.data.preparing.build import build
from recsys.data.preparing.check_options import check_options
from recsys.data.preparing.declare import with_features_file
from recsys.data.preparing.extend import with_earlier_features
from recsys.data.reading.engine import DuckDBEngine
from recsys.data.reading.files import table_files
from recsys.data.reading.remote import local_path
from recsys.data.reading.spark import SparkEngine
from recsys.schema.disk import locked
from recsys.schema.errors import InputError
from recsys.schema.manifest import VERSIONS, read_station, writing_station
from recsys.schema.places import at_home, is_address
from recsys.schema.progress import at_work
from recsys.schema.stores import fetch_station

LOGGER = logging.getLogger(__name__)

_SAMPLES, _SAMPLE_BYTES = 16, 65_536


def prepare(options: DataOptions) -> Path:
    """Makes the prepared dataset, or finds the one made before from the same raw files with the same options.

    Args:
        options: of `data.`; only the first part of them is read.

    Returns:
        The station's folder, `prepared/<name>-<12 hex digits>` in the cache, or `options.prepared`.

    Raises:
        ValueError: the options, the raw tables or the given station cannot be used; the message says what to
        do.
    """
    if options.prepared:
        path = prepared_folder(options.prepared, cache=options.cache_path)
        read_station(path, "prepared")
        return path
    options = with_features_file(options)
    check_options(options)
    tables = raw_tables(options)
    options = with_earlier_features(options, tables)
    source = read_station(at_home(options.extends), "prepared")["fingerprint"] if options.extends else None
    config = {field: _plain(getattr(options, field)) for field in ("name", *PREPARE_FIELDS)}
    for field in ("statistics", "neighbours"):
        if not getattr(options, field):
            del config[field]  # so that what was prepared before there were any is found again
    path = options.cache_path / "prepared" / f"{options.name}-{_key({**config, 'extends': source}, tables)}"
    # Of several commands on one dataset, one makes it and the others find it.
    with at_work(f"looking for {path.name}") as doing, locked(path):
        if not _is_there(path):
            _make(path, options, tables, config=config, source=source, doing=doing)
    return path


def prepared_folder(place: str, *, cache: Path) -> Path:
    """The folder of a prepared dataset on this machine, fetched where `place` is an address on a store."""
    if is_address(place):
        return fetch_station(place, cache=cache, key="data.prepared")
    return at_home(place)


def _is_there(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        read_station(path, "prepared")
    except InputError as error:
        LOGGER.warning("making %s anew: %s", path, error)
        return False
    LOGGER.info("%s is there already", path)
    return True


def _make(
    path: Path,
    options: DataOptions,
    tables: RawTables,
    *,
    config: Mapping[str, Any],
    source: str | None,
    doing: Callable[[str], None],
) -> None:
    started = time.monotonic()
    with writing_station(path, "prepared", config=config, source=source) as (folder, extra):
        scratch = folder / ".scratch"  # in the folder, so that whoever clears up after us finds it
        scratch.mkdir()
        with _engine(options, scratch) as engine:
            extra.update(build(engine, options, tables, folder=folder, doing=doing))
            doing("putting the files in place")
        shutil.rmtree(scratch)
    LOGGER.info("prepared %s in %.1f s", path, time.monotonic() - started)


def _engine(options: DataOptions, scratch: Path) -> DuckDBEngine | SparkEngine:
    if options.engine == "spark":
        return SparkEngine(scratch, options.engine_options)
    if options.engine_options:
        raise InputError("`data.engine_options` is for `data.engine=spark`; leave it out")
    return DuckDBEngine(scratch)


def raw_tables(options: DataOptions) -> RawTables:
    """The files of the raw tables, of a source or as `data.` names them.

    Raises:
        InputError: `data.interactions.path` is null.
    """
    if options.source is not None:
        return options.source.tables(options.cache_path)
    if options.interactions.path is None:
        raise InputError(
            "`data.interactions.path` must name a CSV or Parquet file, or a folder of them; it is null"
        )

    def local(table: str, path: str) -> Path:
        return local_path(path, cache=options.cache_path, key=f"data.{table}.path")

    return RawTables(
        interactions=local("interactions", options.interactions.path),
        users=local("users", options.users.path) if options.users.path else None,
        items=local("items", options.items.path) if options.items.path else None,
    )


def _key(config: Mapping[str, Any], tables: RawTables) -> str:
    """Digest of everything that decides what is prepared."""
    files = []
    for table in ("interactions", "users", "items"):
        path = getattr(tables, table)
        for file in table_files(path, key=f"data.{table}.path").files if path else []:
            status = file.stat()
            stamp = [status.st_size, status.st_mtime_ns, _sample(file, status.st_size)]
            files.append([table, str(file.resolve()), *stamp])
    identity = [config, files, tables.licence, VERSIONS["prepared"], _version()]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _sample(file: Path, size: int) -> str:
    """Digest of parts of a file, so that a change is seen that leaves size and time as they were.

    Files of up to _SAMPLES * _SAMPLE_BYTES are read whole.
    """
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for number in range(_SAMPLES):
            opened.seek(max(number * _SAMPLE_BYTES, number * (size - _SAMPLE_BYTES) // (_SAMPLES - 1)))
            digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _version() -> str:
    try:
        return version("recsys")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return ""


def _plain(value: Any) -> Any:
    """Options as plain data for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
