"""Folders of raw tables in the cache: made once, complete or not there at all."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys.schema.disk import locked, replacing_folder
from recsys.schema.json_files import read_json_of_ours
from recsys.schema.manifest import write_json

FACTS_FILE = "source.json"


def made_once(folder: Path, facts: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]) -> Path:
    """`folder`, after `make` has filled it, unless it is there already with the same facts.

    Args:
        folder: where the raw tables will be.
        facts: what decides the contents; a folder made from other facts is made anew. Plain JSON values.
        make: writes the tables into the temporary folder that it is given, which becomes `folder` when it
            returns; what it returns is kept beside the tables as notes (where the files came from).
    """
    if _facts_of(folder) == dict(facts):
        return folder
    with locked(folder):
        if _facts_of(folder) != dict(facts):
            with replacing_folder(folder) as partial:
                notes = make(partial)
                write_json(partial / FACTS_FILE, {"facts": dict(facts), "notes": dict(notes)})
    return folder


def converted(
    name: str,
    files: Sequence[Path],
    make: Callable[[Path], Mapping[str, Any]],
    *,
    conversion: int,
    cache_dir: Path,
) -> Path:
    """The folder of the tables that `make` converts local files to, made anew when a file has changed.

    Args:
        name: of the dataset.
        files: all that is read.
        make: see `made_once`.
        conversion: raised when the same files give other tables.
        cache_dir: raw and prepared data.
    """
    facts = {
        "dataset": name,
        "conversion": conversion,
        "files": {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files},
    }
    digest = hashlib.sha256(repr(sorted(map(str, files))).encode()).hexdigest()[:8]
    return made_once(Path(cache_dir) / "raw" / f"{name}_{digest}", facts, make)


def _facts_of(folder: Path) -> Any:
    kept = read_json_of_ours(folder / FACTS_FILE)
    return kept and kept.get("facts")
