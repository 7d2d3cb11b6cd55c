"""Reads what a training has left in its folder, which may be damaged or somebody else's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.schema.errors import InputError

# How a training ended, in its folder beside what it made.
TRIAL = "trial.json"
METRICS = "metrics.json"
_Kinds = Mapping[str, type | tuple[type, ...]]
_NUMBER = (int, float)
_OF_TRIAL: _Kinds = {"number": int, "overrides": list, "status": str, "seconds": _NUMBER}
_OF_METRICS: _Kinds = {"validation": dict, "seed": int, "monitor": (str, type(None))}


def read_ending(folder: Path) -> dict[str, Any]:
    """Reads from a training's folder what became of it; empty while it has no ending.

    Raises:
        InputError: the file is damaged.
    """
    if not (folder / TRIAL).is_file():
        return {}
    ending = _read(folder / TRIAL, _OF_TRIAL)
    if not all(isinstance(text, str) for text in ending["overrides"]):
        raise _damaged(folder / TRIAL, "`overrides` is no list of texts")
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
        if value is not None and not isinstance(value, _NUMBER):
            raise _damaged(folder / METRICS, f"`{name}` is no number")
    return metrics


def _read(path: Path, expected: _Kinds) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no keys")
    for key, kinds in expected.items():
        if not isinstance(content.get(key), kinds):
            raise _damaged(path, f"`{key}` is {str(content.get(key))[:80]!r}")
    return content


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"`{path}` is damaged: {reason}; take its folder away to have it trained again, or put a copy of "
        "the file back"
    )
