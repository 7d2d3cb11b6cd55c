"""local_path: a table on object storage or in a database, as files of the cache.

A table elsewhere is fetched once and read from there on as any file. Files of a store are fetched anew when
their names, sizes or times change; rows of a database each time, and what was prepared of them stays valid
where they are the same. Credentials come from the environment, as each store and database has it
(AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, PGPASSWORD, ...), and are written nowhere.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from recsys.schema.disk import locked, replacing_folder
from recsys.schema.errors import InputError
from recsys.schema.places import STORES, at_home, refuse_password

LOGGER = logging.getLogger(__name__)

_DATABASES = ("postgresql", "postgres")


def local_path(path: str, *, cache: Path, key: str) -> Path:
    """The file or folder of a table on this machine.

    Args:
        path: of this machine; or `s3://bucket/folder`, `gs://`, `abfs://`, `hdfs://`; or
            `postgresql://user@host:port/database?table=schema.name`.
        cache: folder of raw and prepared data, for what is fetched.
        key: that named it, for messages.

    Raises:
        InputError: the address cannot be read, or holds a password.
    """
    address = urlsplit(path) if "://" in path else None
    if address is None:
        return at_home(path)
    refuse_password(path, key)
    if address.scheme in STORES:
        return _from_store(path, cache=cache, key=key)
    if address.scheme in _DATABASES:
        return _from_database(path, address, cache=cache, key=key)
    raise InputError(
        f"`{key}={path}`: expected a path, or an address that begins with {', '.join(STORES)} or "
        f"postgresql, received `{address.scheme}`; fetch the table and name the file"
    )


def _from_store(path: str, *, cache: Path, key: str) -> Path:
    try:
        store, place = pafs.FileSystem.from_uri(path)
        root = store.get_file_info(place)
        below = pafs.FileSelector(place, recursive=True, allow_not_found=True)
        files = [root] if root.is_file else [info for info in store.get_file_info(below) if info.is_file]
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"`{key}={path}` cannot be read: {error}") from error
    if not files:
        raise InputError(f"`{key}={path}`: there is no such file or folder, or it is empty")
    stamp = sorted([info.path, info.size, info.mtime_ns] for info in files)
    folder = _place(cache, path, stamp)
    with locked(folder):
        if not folder.is_dir():
            size = sum(info.size for info in files) / 1e6
            LOGGER.info("fetching %d files, %.1f MB, from %s", len(files), size, path)
            above = root.path.rpartition("/")[0] if root.is_file else root.path.rstrip("/")
            with replacing_folder(folder) as partial:
                for info in files:
                    _fetch(store, info.path, partial / info.path.removeprefix(f"{above}/"), within=partial)
    return folder / root.base_name if root.is_file else folder


def _fetch(store: pafs.FileSystem, source: str, target: Path, *, within: Path) -> None:
    if within.resolve() not in target.resolve().parents:
        raise InputError(
            f"a file of the store has the name `{source}`, which leads out of its folder; rename it"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with store.open_input_stream(source, compression=None) as opened, target.open("wb") as sink:
        shutil.copyfileobj(opened, sink)


def _from_database(path: str, address: SplitResult, *, cache: Path, key: str) -> Path:
    query = parse_qs(address.query)
    table = query.pop("table", [""])[0]
    if not table:
        raise InputError(f"`{key}={path}`: name the table: `...?table=events` or `...?table=schema.events`")
    name = ".".join('"' + part.replace('"', '""') + '"' for part in table.split("."))
    uri = address._replace(query=urlencode(query, doseq=True)).geturl()
    place = _place(cache, path, [])
    with (
        locked(place),
        tempfile.TemporaryDirectory(dir=place.parent) as scratch,
        _rows(uri, name, key=f"{key}={path}") as reader,
    ):
        digest = _write(reader, Path(scratch) / "rows.parquet")
        kept = place.with_name(f"{place.name}-{digest}.parquet")
        if not kept.is_file():  # the same rows keep their file, and its time
            (Path(scratch) / "rows.parquet").replace(kept)
    return kept


@contextmanager
def _rows(uri: str, table: str, *, key: str) -> Iterator[Any]:
    """The rows of a table, read in one transaction that cannot write."""
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise InputError(
            f"`{key}` needs a driver that is not installed: pip install 'recsys[postgresql]'"
        ) from error
    try:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            # The same rows in the same order, where nobody writes.
            cursor.execute("SET synchronize_seqscans = off")
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(f"SELECT * FROM {table}")
            yield cursor.fetch_record_batch()
    except dbapi.Error as error:
        raise InputError(f"`{key}` cannot be read: {' '.join(str(error).split())}") from error


def _write(reader: Any, file: Path) -> str:
    """Writes batches as Parquet and returns a digest of them."""
    digest = hashlib.sha256(str(reader.schema).encode())
    with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        for batch in reader:
            for column in batch.columns:
                for buffer in column.buffers():
                    digest.update(b"" if buffer is None else buffer)
            writer.write_batch(batch)
    return digest.hexdigest()[:16]


def _place(cache: Path, path: str, stamp: list[Any]) -> Path:
    digest = hashlib.sha256(repr([path, stamp]).encode()).hexdigest()[:16]
    place = cache / "raw" / f"{urlsplit(path).scheme}-{digest}"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
