"""Composes and checks the configuration of a command from keyword arguments, as a command line would."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

# Before torch is imported; see recsys.commands.installation.importing.
os.environ.setdefault("GOMP_SPINCOUNT", "4000")

from recsys.commands.options import EvaluateConfig, ExportConfig, TrainConfig
from recsys.commands.prepare import PrepareConfig
from recsys.commands.process import quiet_libraries
from recsys.config.compose import Command
from recsys.config.overrides import forced
from recsys.config.review import review
from recsys.config.settle import settle
from recsys.data.options import DataOptions
from recsys.interface.frames import Table, path_of
from recsys.runs.folders import LOG_FORMAT, is_worth_a_line
from recsys.schema.errors import InputError

_COMMANDS: dict[str, Command[Any]] = {
    "prepare": Command("prepare", PrepareConfig),
    "train": Command("train", TrainConfig, continues="resume", repeats=True),
    "evaluate": Command("evaluate", EvaluateConfig, continues="run"),
    "export": Command("export", ExportConfig, continues="run"),
}


class Tables(TypedDict, total=False):
    """The raw tables and the columns in which they say who, what and when.

    Args:
        interactions: a row per event.
        users: a row per user, with their features.
        items: a row per item, with their features.
        user_id: column of the user in the interactions, `user_id` by default; None where there is none.
        item_id: column of the item, `item_id` by default.
        timestamp: column of the time, `timestamp` by default; None where there is none.
        label: column of what came of an event; without it every row is a positive.
    """

    interactions: Table
    users: Table
    items: Table
    user_id: str | None
    item_id: str | None
    timestamp: str | None
    label: str | None


def keys_of(tables: Tables, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The keys below `data.` that name these tables.

    Args:
        tables: as given.
        overrides: further keys; `data.cache_dir` among them says where DataFrames are written.

    Raises:
        InputError: a table cannot be read as one, or an argument is not known.
    """
    unknown = ", ".join(f"`{name}`" for name in tables if name not in Tables.__annotations__)
    if unknown:
        known = ", ".join(Tables.__annotations__)
        raise InputError(
            f"there is no argument {unknown}; there are {known}, and `overrides` takes every key"
        )
    if not tables:
        return {}
    cache = cache_of(overrides)
    keys: dict[str, Any] = {}
    for name in ("interactions", "users", "items"):
        if name in tables:
            keys[f"data.{name}.path"] = str(path_of(tables[name], name=name, cache=cache).absolute())
    if "interactions" in tables:
        keys = {"data": "table", **keys}
    for name in ("user_id", "item_id", "timestamp"):
        if name in tables:
            keys[f"data.interactions.columns.{name}"] = tables[name]  # type: ignore[literal-required]
    if "label" in tables:
        keys["data.label.column"] = tables["label"]
    return keys


def cache_of(overrides: Mapping[str, Any]) -> Path:
    """Folder of raw and prepared data, where DataFrames are written too."""
    return DataOptions(cache_dir=overrides.get("data.cache_dir")).cache_path


def configured(command: str, keys: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Typed options of a command and the plain configuration that they stand for.

    Args:
        command: `prepare`, `train`, `evaluate` or `export`.
        keys: dotted keys and groups with their values, as on the command line.

    Raises:
        InputError: naming everything that is wrong.
    """
    known = _COMMANDS[command]
    reviewed = review(known, [_override(key, value) for key, value in keys.items()])
    if reviewed.search or reviewed.is_daily:
        raise InputError("sweeps and the day-by-day loop run many trainings: give them to `recsys train`")
    config, plain = settle(known, reviewed.first)
    return config, plain


@contextlib.contextmanager
def logging_shown() -> Iterator[None]:
    """Shows the log of this package while inside, unless the program has set up logging of its own."""
    quiet_libraries()
    logger, root = logging.getLogger("recsys"), logging.getLogger()
    # NOTE: FBGEMM logs when it is imported, which gives the root logger a handler for warnings.
    if logger.handlers or logger.level or (root.handlers and root.level <= logging.INFO):
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LOG_FORMAT)
    handler.addFilter(is_worth_a_line)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _override(key: str, value: Any) -> str:
    """A key and its value as the command line has them; words are not quoted, so that groups are found."""
    if isinstance(value, Path):
        value = str(value)
    is_word = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w-]*", value)
    if is_word and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return f"{key}={value}"
    return forced({key: value})[0].lstrip("+")
