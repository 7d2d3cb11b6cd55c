"""Counts the users and items of the interactions that are also in the tables of users and items."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ibis
from ibis import _

from recsys.data.preparing.catalogue import Side
from recsys.data.reading.engine import DuckDBEngine
from recsys.schema.errors import InputError

LOGGER = logging.getLogger(__name__)

# Shares of the interactions' users or items that their table must know, and should.
LEAST_SHARE = 0.1
USUAL_SHARE = 0.9
_NAMES = {"user_id": "users", "item_id": "items"}


def check_joins(
    engine: DuckDBEngine, events: ibis.Table, sides: Mapping[str, Side]
) -> dict[str, dict[str, Any]]:
    """Counts the ids that the interactions and each side table have in common.

    Args:
        engine: runs the expressions.
        events: the interactions that can be used.
        sides: the users' and items' tables, by `user_id` and `item_id`.

    Returns:
        By `users` and `items`: `ids` of the interactions, how many are `in_table`, how many `rows` the table
        has, and an id of each side that the other does not have.

    Raises:
        InputError: a table knows fewer than LEAST_SHARE of the ids.
    """
    found = {}
    for name, side in sides.items():
        table = _NAMES[name]
        found[table] = join = _joined(engine, events.select(name).distinct(), side.rows, name)
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
    return found


def _joined(engine: DuckDBEngine, ids: ibis.Table, rows: ibis.Table, name: str) -> dict[str, Any]:
    own = engine.keep(ids)
    known = engine.keep(rows.select(name))
    missing = own.anti_join(known, name)
    unused = known.anti_join(own, name)
    counts = {
        "ids": own.aggregate(n=_.count()),
        "rows": known.aggregate(n=_.count()),
        "missing": missing.aggregate(n=_.count()),
    }
    numbers = {what: int(engine.collect(count)["n"][0].as_py()) for what, count in counts.items()}
    examples = {
        what: next(iter(engine.collect(table.order_by(name).limit(1))[name].to_pylist()), None)
        for what, table in (("only_in_interactions", missing), ("only_in_table", unused))
    }
    return {
        "ids": numbers["ids"],
        "in_table": numbers["ids"] - numbers["missing"],
        "rows": numbers["rows"],
        **examples,
    }


def _hint(engine: DuckDBEngine, events: ibis.Table, side: Side, name: str) -> str:
    """Names a difference in writing (capitals, leading zeros ...) without which more ids would match."""
    missing = events.select(name).distinct().anti_join(side.rows, name)
    for what, plain in (
        ("capitals", lambda text: text.lower()),
        ("leading zeros", lambda text: text.re_replace(r"^0+([^0]|0$)", r"\1")),
        ("how accents are encoded", _nfc),
        ("a trailing .0", lambda text: text.re_replace(r"\.0+$", "")),
    ):
        own = missing.select(plain=plain(missing[name].cast("string"))).distinct()
        known = side.rows.select(plain=plain(side.rows[name].cast("string")))
        count = int(engine.collect(own.semi_join(known, "plain").aggregate(n=_.count()))["n"][0].as_py())
        if count:
            return f" ({count} more would match but for {what})"
    return ""


@ibis.udf.scalar.builtin(name="nfc_normalize", signature=(("string",), "string"))
def _nfc(text):  # type: ignore[no-untyped-def]
    ...
