"""Counts the users and items of the interactions that are also in the tables of users and items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import ibis

from recsys.data.preparing.catalogue import Side
from recsys.data.reading.engine import Engine
from recsys.data.reading.functions import first_groups, nfc, text_of
from recsys.schema.errors import InputError
from recsys.schema.tables import ID_COLUMNS

LOGGER = logging.getLogger(__name__)

# Shares of the interactions' users or items that their table must know, and should.
LEAST_SHARE = 0.1
USUAL_SHARE = 0.9


def check_joins(engine: Engine, events: ibis.Table, sides: Mapping[str, Side]) -> dict[str, dict[str, Any]]:
    """Counts the ids that the interactions and each side table have in common.

    Args:
        engine: runs the expressions.
        events: the interactions that can be used.
        sides: the users' and items' tables, by `users` and `items`.

    Returns:
        By `users` and `items`: `ids` of the interactions, how many are `in_table`, how many `rows` the table
        has, and an id of each side that the other does not have.

    Raises:
        InputError: a table knows fewer than LEAST_SHARE of the ids.
    """
    joins = {}
    for table, side in sides.items():
        name = ID_COLUMNS[table]
        joins[table] = join = _joined(engine, events.select(name).distinct(), side.rows, name)
        share = join["in_table"] / max(join["ids"], 1)
        if share >= USUAL_SHARE or not join["rows"]:
            continue
        unused = join["only_in_table"]
        message = (
            f"{join['in_table']} of {join['ids']} {table} of the interactions are in the {table} table; "
            f"such as `{join['only_in_interactions']}` is not"
            f"{'' if unused is None else f', and of the table `{unused}` has no interaction'}"
            f"{_hint(engine, events, side, name)}"
        )
        if share < LEAST_SHARE:
            raise InputError(
                f"`data.{table}.path`: {message}; name the right file and `data.{table}.id_column`, write "
                "the ids alike, or leave the table out"
            )
        LOGGER.warning("%s", message)
    return joins


def _joined(engine: Engine, ids: ibis.Table, rows: ibis.Table, name: str) -> dict[str, Any]:
    own = engine.keep(ids)
    known = engine.keep(rows.select(name))
    missing = own.anti_join(known, name)
    unused = known.anti_join(own, name)
    num_ids = engine.count(own)
    examples = {
        what: next(iter(engine.collect(table.order_by(name).limit(1))[name].to_pylist()), None)
        for what, table in (("only_in_interactions", missing), ("only_in_table", unused))
    }
    return {
        "ids": num_ids,
        "in_table": num_ids - engine.count(missing),
        "rows": engine.count(known),
        **examples,
    }


def _hint(engine: Engine, events: ibis.Table, side: Side, name: str) -> str:
    """Names a difference in writing (capitals, leading zeros ...) without which more ids would match."""
    missing = events.select(name).distinct().anti_join(side.rows, name)
    writings: dict[str, Callable[[Any], Any]] = {
        "capitals": lambda text: text.lower(),
        "leading zeros": lambda text: first_groups(text, r"^0+([^0]|0$)"),
        "how accents are encoded": nfc,
        "a trailing .0": lambda text: text.re_replace(r"\.0+$", ""),
    }
    for what, plain in writings.items():
        own = missing.select(plain=plain(text_of(missing[name]))).distinct()
        known = side.rows.select(plain=plain(text_of(side.rows[name])))
        count = engine.count(own.semi_join(known, "plain"))
        if count:
            return f" ({count} more would match but for {what})"
    return ""
