"""Folders and files of a command that lie elsewhere: on object storage, or as tables of a database.

What a command reads is fetched before it begins, and its key then names the copy. What it writes goes to a
folder of this machine first, always the same for one address, so that work that was stopped goes on there; it
is put at its address once it is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from recsys.config.overrides import quoted
from recsys.schema.errors import InputError
from recsys.schema.places import STORES, cache_folder, is_address, refuse_password

# Keys that name what a command reads: folders with a manifest, and tables; and what it writes.
_STATIONS = ("run", "ranker", "init_from", "bundle", "what")
_TABLES = ("queries", "recommendations", "items")
_WRITTEN = ("run_dir", "out", "to")
_DATABASES = ("postgresql", "postgres")


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """The overrides of a command with places of this machine, and where they really are.

    Args:
        overrides: of the command.
        addresses: by the place on this machine.
        key: by the place on this machine.
    """

    overrides: list[str]
    addresses: dict[Path, str] = dataclasses.field(default_factory=dict)
    keys: dict[Path, str] = dataclasses.field(default_factory=dict)

    def refuse_written(self, who: str) -> None:
        """Raises InputError where something would be written elsewhere."""
        for place, key in self.keys.items():
            if key in _WRITTEN:
                raise InputError(
                    f"`{key}={self.addresses[place]}`: {who} into a folder of this machine; name one"
                )

    def put(self, written: Path) -> str:
        """Puts what a command has written where it belongs, and returns its path or address."""
        for place, address in self.addresses.items():
            if not written.absolute().is_relative_to(place):
                continue
            key, below = self.keys[place], written.absolute().relative_to(place).as_posix()
            if key in _STATIONS and below == ".":
                return str(written)  # nothing new
            target = address if below == "." else f"{address.rstrip('/')}/{below}"
            _put(written, target, key)
            if key in _WRITTEN:  # what is left of it is at its address
                shutil.rmtree(place.parent)
            return target
        return str(written)


def with_places(overrides: Sequence[str]) -> Elsewhere:
    """Fetches what a command reads from elsewhere, and makes room for what it writes there.

    Raises:
        InputError: an address cannot be read, or the key takes no such address.
    """
    found = Elsewhere([])
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("data.cache_dir=")]
    cache = cache_folder(chosen[-1].strip("'\"") if chosen else None).absolute()
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        address = value.strip("'\"")
        if "://" not in address or key not in (*_STATIONS, *_TABLES, *_WRITTEN):
            found.overrides.append(text)
            continue
        place = _place(key, address, cache)
        found.overrides.append(f"{key}={quoted(place)}")
        found.addresses[place], found.keys[place] = address, key
    return found


def _place(key: str, address: str, cache: Path) -> Path:
    """The place on this machine for an address: of a copy, or of what will be written."""
    refuse_password(address, key)
    if key in _STATIONS and is_address(address):
        from recsys.schema.stores import fetch_station  # pyarrow, which most commands begin without

        return fetch_station(address, cache=cache, key=key).absolute()
    if key in _TABLES:
        from recsys.data.reading.remote import local_path

        return local_path(address, cache=cache, key=key).absolute()
    scheme = address.partition("://")[0]
    if key == "out" and scheme in _DATABASES:
        _table_of(address)
    elif key not in _WRITTEN or not is_address(address):
        kinds = [*STORES, *(_DATABASES if key == "out" else ())]
        raise InputError(f"`{key}={address}`: expected a folder, or an address of {', '.join(kinds)}")
    if key == "run_dir":
        from recsys.schema.stores import refuse_station

        refuse_station(address, key=key)
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    name = address.partition("?")[0].rstrip("/").rpartition("/")[2]
    (cache / "writing" / digest).mkdir(parents=True, exist_ok=True)
    return cache / "writing" / digest / name


def _put(written: Path, address: str, key: str) -> None:
    from recsys.schema.manifest import MANIFEST
    from recsys.schema.stores import publish_files, publish_station

    if address.partition("://")[0] in _DATABASES:
        _to_database(written, address)
    elif (written / MANIFEST).is_file():
        publish_station(written, address, key=key)
    else:
        publish_files(written, address, key=key)


def _table_of(address: str) -> tuple[str, str | None, str]:
    """The address of a database without its table, the schema, and the table."""
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    schema, _, table = query.pop("table", [""])[0].rpartition(".")
    if not table:
        raise InputError(f"`out={address}`: name the table: `...?table=lists` or `...?table=schema.lists`")
    return parts._replace(query=urlencode(query, doseq=True)).geturl(), schema or None, table


def _to_database(written: Path, address: str) -> None:
    """Puts a Parquet file in place of a table; of a folder, each file in place of `<table>_<file>`.

    All in one transaction: whoever reads sees the old rows or the new ones.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise InputError(
            "`out=postgresql://...` needs a driver that is not installed: pip install 'recsys[postgresql]'"
        ) from error
    uri, schema, table = _table_of(address)
    files = (
        {table: written}
        if written.is_file()
        else {f"{table}_{file.stem}": file for file in sorted(written.glob("*.parquet"))}
    )
    try:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            for name, file in files.items():
                rows = pq.ParquetFile(file)
                reader = pa.RecordBatchReader.from_batches(rows.schema_arrow, rows.iter_batches())
                cursor.adbc_ingest(name, reader, mode="replace", db_schema_name=schema)
            connection.commit()
    except dbapi.Error as error:
        raise InputError(f"`out={address}` cannot be written: {' '.join(str(error).split())}") from error
