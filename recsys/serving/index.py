"""The index of a bundle's catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from recsys.retrieval.ann import Index, IndexKind, load
from recsys.schema.errors import InputError
from recsys.schema.manifest import MADE_BY


def open_index(folder: Path, entry: dict[str, Any]) -> Index | None:
    """The index of a bundle, by what its manifest says of it; None where it has none.

    Raises:
        ValueError: FAISS is not installed, or the index is of a kind of another release.
    """
    if "file" not in entry:
        return None
    if entry["kind"] not in get_args(IndexKind):
        raise InputError(
            f"`{folder}` must hold an index of a kind among {', '.join(get_args(IndexKind))}, its manifest "
            f"says `{entry['kind']}`, as another release made it; make it again: `{MADE_BY['bundle']}`"
        )
    share = entry["ms_a_query"] / entry["exact_ms_a_query"]
    return load(
        folder / entry["file"], entry["kind"], k=entry["k"], settings=entry["settings"], time_share=share
    )
