"""Counts ids that people can't tell apart, or would not: `u83` and `U83`, é as one character and as two."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import ibis
from ibis import _
from ibis.expr.types import Value

from recsys.data.reading.columns import ValueType
from recsys.data.reading.engine import Engine
from recsys.data.reading.functions import nfc
from recsys.schema.terminal import in_one_line

LOGGER = logging.getLogger(__name__)

# Among ids that mean their capitals, such as those of videos, a few are alike by chance.
_FEW = 0.01
# Characters that are not seen: controls, and what joins or separates letters without a width.
_UNSEEN = r"[\p{Cc}\p{Cf}]"


def count_look_alikes(
    engine: Engine, events: ibis.Table, id_types: Mapping[str, ValueType]
) -> dict[str, dict[str, Any]]:
    """Counts the ids of interactions that differ from another in their writing alone, and warns of many.

    Args:
        engine: runs the expressions.
        events: the interactions that can be used.
        id_types: of `user_id` and `item_id`.

    Returns:
        By `user_id` and `item_id`, where ids are text: how many `ids` there are, how many are `alike` to
        another one but for capitals, how accents are encoded and characters that are not seen, and two such.
    """
    counted = {}
    for name, kind in id_types.items():
        if kind == "string" and name in events.columns:
            ids = events.select(id=_[name]).distinct()
            counted[name] = counts = _count(engine, ids)
            if counts["alike"] > _FEW * counts["ids"]:
                LOGGER.warning(
                    "%d of %d values of `%s` differ from another one only in capitals, in how accents are "
                    "encoded or in characters that are not seen, such as `%s` and `%s`; they count as "
                    "different: if they are the same, write them alike",
                    *(counts["alike"], counts["ids"], name, *map(in_one_line, counts["example"])),
                )
    return counted


def _count(engine: Engine, ids: ibis.Table) -> dict[str, Any]:
    groups = ids.group_by(plain=_plain(ids["id"])).aggregate(
        ids=_.count(), first=_["id"].min(), last=_["id"].max()
    )
    alike = ibis.ifelse(_.ids > 1, _.ids, 0)
    found = engine.row(groups.aggregate(ids=_.ids.sum(), alike=alike.sum()))
    counts = {name: int(found[name] or 0) for name in ("ids", "alike")}
    if not counts["alike"]:
        return {**counts, "example": None}
    pair = engine.row(groups.filter(_.ids > 1).order_by("first").limit(1).select("last", "first"))
    return {**counts, "example": [pair["last"], pair["first"]]}


def _plain(text: Value) -> Value:
    return nfc(text).re_replace(_UNSEEN, "").lower()
