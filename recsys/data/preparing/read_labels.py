"""The label of each interaction: a number, or the weight of the word that says what happened."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from recsys.data.options import DataOptions, Label
from recsys.data.reading.columns import known_text, read_number, text_kind
from recsys.data.reading.engine import Engine
from recsys.data.reading.functions import text_of
from recsys.data.reading.tables import RawTable
from recsys.schema.errors import InputError, nearest
from recsys.schema.tables import LABEL, LABEL_PREFIX

_VALUES_SHOWN = 10


def read_label(raw: RawTable, label: Label) -> ibis.Value:
    """The label as float64, null where it cannot be read; 1 where there is none.

    Of words it is their weight; without weights 1 for the positives and 0 for the others.

    Raises:
        InputError: the column holds words and nothing says which are positives, or what is said of words does
            not fit those that are there.
    """
    if label.column is None:
        return ibis.literal(1.0)
    column = raw.column(label.column)
    if label.positives is None and label.weights is None:
        kind = text_kind(raw, label.column)
        is_text = kind is not None and kind.kind in ("text", "list", "objects")
        number = read_number(column, kind)
        if isinstance(label.positive_at_least, str) or (is_text and _are_words(raw, column, number)):
            raise InputError(_words_need_positives(raw, label))
        return number
    words = known_text(text_of(column))
    _check_words(raw.engine, words, label)
    if label.weights is not None:
        return ibis.cases(*((words == word, float(weight)) for word, weight in label.weights.items()))
    return words.isin(list(label.positives or ())).ifelse(1.0, 0.0)


def is_positive(raw: RawTable, label: Label) -> ibis.Value:
    """Whether an interaction is a positive, of the typed table that has LABEL; `raw` is of the same rows."""
    if label.column is not None and label.positives is not None:
        return known_text(text_of(raw.column(label.column))).isin(list(label.positives))
    if label.positive_at_least is not None:
        return _[LABEL] >= float(label.positive_at_least)
    return _[LABEL] > 0 if label.weights is not None else ibis.literal(True)


def read_auxiliary_labels(raw: RawTable, options: DataOptions) -> dict[str, ibis.Value]:
    """By the names of their columns in prepared data, float64; null where they cannot be read."""
    columns: dict[str, ibis.Value] = {}
    for name, label in options.auxiliary_labels.items():
        kind = text_kind(raw, label.column)
        value = read_number(raw.column(label.column), kind)
        if label.positive_at_least is not None:
            value = (value >= label.positive_at_least).cast("float64")
        elif label.transform == "log":
            # Not `greatest`, which passes a null over.
            value = (1.0 + (value < 0).ifelse(0.0, value)).ln()
        columns[LABEL_PREFIX + name] = value
    return columns


def _are_words(raw: RawTable, column: ibis.Value, number: ibis.Value) -> bool:
    """Whether most values are text that is no number and no truth value."""
    row = raw.engine.row(raw.rows.aggregate(values=known_text(column).count(), read=number.count()))
    return bool(row["read"] * 2 < row["values"])


def _counted_words(engine: Engine, words: ibis.Value) -> dict[str, int]:
    counts = words.name("word").as_table().group_by("word").aggregate(rows=_.count())
    rows = engine.collect(counts.order_by([ibis.desc("rows"), "word"]).limit(1000)).to_pylist()
    return {row["word"]: row["rows"] for row in rows if row["word"] is not None}


def _shown(counts: dict[str, int]) -> str:
    named = [f"`{word}` ({count} rows)" for word, count in list(counts.items())[:_VALUES_SHOWN]]
    return ", ".join(named) + (" ..." if len(counts) > _VALUES_SHOWN else "")


def _words_need_positives(raw: RawTable, label: Label) -> str:
    counts = _counted_words(raw.engine, known_text(text_of(raw.column(str(label.column)))))
    example = list(counts)[-1] if counts else "purchase"
    asked: Any = label.positive_at_least
    wanted = (
        f"`data.label.positive_at_least={asked}` needs numbers in"
        if asked is not None
        else "expected numbers in"
    )
    return (
        f"{wanted} `data.label.column={label.column}`, found the values {_shown(counts)}; say which of them "
        f"are positives, as in `data.label.positives=[{example}]`, or what each is worth, as in "
        f"`data.label.weights={{{example}: 1}}`"
    )


def _check_words(engine: Engine, words: ibis.Value, label: Label) -> None:
    counts = _counted_words(engine, words)
    for key, named in (("positives", label.positives), ("weights", label.weights)):
        unknown = [word for word in named or () if word not in counts]
        if unknown:
            raise InputError(
                f"`data.label.{key}`: no row of `{label.column}` says `{unknown[0]}`"
                f"{nearest(str(unknown[0]), list(counts))}; its values: {_shown(counts)}"
            )
    lacking = {word: count for word, count in counts.items() if word not in (label.weights or counts)}
    if lacking:
        raise InputError(
            f"`data.label.weights` must give a weight to every value of `{label.column}`, lacking: "
            f"{_shown(lacking)}; 0 is what says nothing"
        )
