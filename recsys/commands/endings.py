"""Reads what a training has left in its folder, which may be damaged or somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.schema.errors import InputError
from recsys.schema.json_files import NUMBER, Kinds, read_json

# How a training ended, in its folder beside what it made.
TRIAL = "trial.json"
METRICS = "metrics.json"
_ADVICE = "take its folder away to have it trained again, or put a copy of the file back"
_OF_TRIAL: Kinds = {"number": int, "overrides": list, "status": str, "seconds": NUMBER}
_OF_METRICS: Kinds = {"validation": dict, "seed": int, "monitor": (str, type(None))}


def read_ending(folder: Path) -> dict[str, Any]:
    """Reads from a training's folder what became of it; empty while it has no ending.

    Raises:
        InputError: the file is damaged.
    """
    if not (folder / TRIAL).is_file():
        return {}
    ending = _read(folder / TRIAL, _OF_TRIAL)
    if not all(isinstance(text, str) for text in ending["overrides"]):
        raise InputError(f"`{folder / TRIAL}` is damaged: `overrides` is no list of texts; {_ADVICE}")
    return ending


def read_metrics(folder: Path) -> dict[str, Any]:
    """Metrics of the run in `folder`; none where it has not ended.

    Raises:
        InputError: the file is damaged.
    """
    if not (folder / METRICS).is_file():
        return {}
    metrics = _read(folder / METRICS, _OF_METRICS)
    for name, value in metrics["validation"].items():
        if value is not None and not isinstance(value, NUMBER):
            raise InputError(f"`{folder / METRICS}` is damaged: `{name}` is no number; {_ADVICE}")
    return metrics


def _read(path: Path, kinds: Kinds) -> dict[str, Any]:
    try:
        return read_json(path, kinds)
    except InputError as error:
        raise InputError(f"{error}; {_ADVICE}") from error
