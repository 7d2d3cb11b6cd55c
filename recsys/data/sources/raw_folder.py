"""Folders of raw tables in the cache: made once, complete or not there at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    temporary.chmod(0o755)  # mkdtemp makes it private
    try:
        notes = make(temporary)
        write_json(temporary / FACTS_FILE, {"facts": dict(facts), "notes": dict(notes)})
        _put_in_place(temporary, folder, facts)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _facts_of(folder: Path) -> Any:
    try:
        return json.loads((folder / FACTS_FILE).read_text()).get("facts")
    except (OSError, json.JSONDecodeError):
        return None


def _put_in_place(temporary: Path, folder: Path, facts: Mapping[str, Any]) -> None:
    try:
        os.replace(temporary, folder)
    except OSError:  # there is a folder already
        if _facts_of(folder) == dict(facts):
            return  # another process made the same in the meantime
        shutil.rmtree(folder)
        os.replace(temporary, folder)
