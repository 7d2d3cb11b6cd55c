"""Raw columns as typed ones: ids, numbers, truth values and lists, by the rules of `recsys.schema.values`.

All functions take a table's columns and give Ibis expressions; a value that cannot be read is null.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import ibis

from recsys.data.reading.functions import elements, finite, first_groups, floor, text_of
from recsys.data.reading.tables import RawTable
from recsys.schema import values
from recsys.schema.errors import InputError

ValueType = Literal["integer", "string"]
# A cast of the engine would round "16.5".
_WHOLE_DIGITS = r"^-?[0-9]{1,19}$"
# Bits of a float's fraction: beyond so many it no longer tells an integer from the next.
_BITS = {"float32": 24, "float64": 53}
_PLAIN = {"integers": values.INTEGER, "whole": values.WHOLE, "plain": values.NUMBER, "codes": values.CODE}
_OTHERS = {"lists": values.LIST, "objects": values.OBJECTS, "money": values.HAS_CURRENCY}


def text_kinds(raw: RawTable, columns: Iterable[str]) -> dict[str, values.TextKind]:
    """Finds what the columns of text hold; every value is looked at."""
    chosen = [name for name in dict.fromkeys(columns) if raw.column(name).type().is_string()]
    counts = _counts(raw, chosen, patterns=_PLAIN)
    kinds = {name: values.kind_of_text(of_column) for name, of_column in counts.items()}
    unclear = [name for name, kind in kinds.items() if kind.kind == "text" and not counts[name].codes]
    styles = {style: values.STYLES[style] for style in ("point", "comma")}
    more = _counts(raw, unclear, patterns=_OTHERS | styles)
    for name in unclear:
        added = {what: count for what, count in vars(more[name]).items() if count}
        kinds[name] = values.kind_of_text(dataclasses.replace(counts[name], **added))
    return kinds


def _counts(
    raw: RawTable, columns: list[str], *, patterns: Mapping[str, str]
) -> dict[str, values.TextCounts]:
    if not columns:
        return {}
    counts: dict[str, Any] = {}
    for number, name in enumerate(columns):
        value = known_text(raw.column(name))
        counts[f"{number}_values"] = value.count()
        counts[f"{number}_truths"] = value.isin((*values.TRUE_WORDS, *values.FALSE_WORDS)).sum()
        counts[f"{number}_answers"] = value.lower().isin((*values.YES_WORDS, *values.NO_WORDS)).sum()
        bare = first_groups(value.re_replace(values.PERCENT, ""), values.MONEY)
        for what, pattern in patterns.items():
            counts[f"{number}_{what}"] = (
                (bare if what in ("point", "comma") else value).re_search(pattern).sum()
            )
    row = raw.engine.row(raw.rows.aggregate(**counts))
    named = ("values", "truths", "answers", *patterns)
    return {
        name: values.TextCounts(**{what: int(row[f"{number}_{what}"] or 0) for what in named})
        for number, name in enumerate(columns)
    }


def text_kind(raw: RawTable, column: str) -> values.TextKind | None:
    """Finds what a column of text holds; None of another type."""
    return text_kinds(raw, [column]).get(column)


def is_vector(kind: Any) -> bool:
    """Whether a raw column of this type of Ibis holds lists of fractions."""
    return bool(kind.is_array() and kind.value_type.is_floating())


def known_text(column: ibis.Value) -> ibis.Value:
    """Text without blanks around it; null where it is empty or a word for null."""
    stripped = column.strip()
    return stripped.isin(("", *values.NULL_WORDS)).ifelse(ibis.null("string"), stripped)


def known_value(column: ibis.Value) -> ibis.Value:
    """The values of a column of any type that are not missing; the others are null."""
    if column.type().is_string():
        return known_text(column)
    return finite(column) if column.type().is_floating() else column


def id_type(raw: RawTable, name: str, *, key: str) -> ValueType:
    """Tells whether ids are integers: typed so, or whole floats (pandas, with nulls), or text of integers.

    Raises:
        InputError: they are floats so large that one no longer differs from the next, or digits that a
            spreadsheet has shortened.
    """
    column = raw.column(name)
    kind = column.type()
    if kind.is_array():
        raise InputError(f"`{key}={name}`: expected one value a row, found {kind}; name a column of ids")
    if kind.is_string():
        counts = _counts(raw, [name], patterns=_PLAIN | {"shortened": values.SHORTENED})[name]
        if counts.shortened:
            largest = known_text(column).max(where=column.re_search(values.SHORTENED))
            example = raw.engine.row(raw.rows.aggregate(example=largest))["example"]
            raise InputError(
                f"`{key}={name}`: expected ids, found {counts.shortened} of {counts.values} shortened by a "
                f"spreadsheet, as `{example}`, where different ids have become one; format the "
                "column as text there, and export it again"
            )
        return "integer" if 0 < counts.values == counts.integers + counts.whole else "string"
    if kind.is_floating():
        number = finite(column.cast("float64"))
        row = raw.engine.row(
            raw.rows.aggregate(parts=(number != floor(number)).any(), largest=number.abs().max())
        )
        bits = _BITS["float32" if kind.is_float32() else "float64"]
        if (row["largest"] or 0.0) >= 2.0**bits:
            raise InputError(
                f"`{key}={name}`: expected ids, found floats up to {row['largest']:.6g}, beyond 2^{bits}, "
                "where different ids have become one; write them as integers or as text"
            )
        return "string" if row["parts"] else "integer"
    if kind.is_decimal() or kind == ibis.dtype("uint64"):
        text = _short_text(column)
        fits = text.re_search(_WHOLE_DIGITS) & text.try_cast("int64").notnull()
        misfits = raw.rows.aggregate(any=(~fits).any(where=column.notnull()))
        return "string" if raw.engine.row(misfits)["any"] else "integer"
    return "integer" if kind.is_integer() else "string"


def read_id(column: ibis.Value, value_type: ValueType) -> ibis.Value:
    """Ids as int64 or as text; null where there is none. Blanks around text are none of it."""
    kind = column.type()
    if kind.is_string():
        known = known_text(column)
        return _as_integer(known) if value_type == "integer" else _with_truth_words(known)
    if kind.is_floating():
        column = finite(column)
        whole = column.try_cast("int64")
        if value_type == "integer":
            return whole
        # As text writes it: 5.0 is 5.
        return (column == whole).ifelse(whole.cast("string"), text_of(column))
    if kind.is_boolean():
        return column.ifelse("True", "False")
    if kind.is_decimal():
        text = _short_text(column)
        return text if value_type == "string" else text.try_cast("int64")
    if value_type == "string":
        return text_of(column)
    return column.try_cast("int64")


def read_typed(column: ibis.Value, kind: values.TextKind | None) -> ibis.Value:
    """A feature's raw column as requests can hold it: integers, floats, truth values, text or lists of them.

    Args:
        column: as the files have it.
        kind: what it holds, where it is text.
    """
    dtype = column.type()
    if kind is None:
        if dtype.is_decimal():
            return column.cast("float64")
        if dtype.is_floating():
            return finite(column)
        return text_of(column) if dtype.is_temporal() or dtype.is_uuid() else column
    known = known_text(column)
    if kind.kind == "integer":
        return _as_integer(known)
    if kind.kind == "number":
        return finite(_as_number(known, kind.style))
    if kind.kind == "truth":
        return known.lower() == "true"
    if kind.kind == "list":
        return _as_list(known)
    return known


def read_number(column: ibis.Value, kind_of_values: values.TextKind | None = None) -> ibis.Value:
    """Finite numbers as float64; true is 1, false is 0, and so are yes and no in a column of nothing else."""
    kind = column.type()
    if kind.is_string():
        known = known_text(column)
        word = known.lower()
        answers = kind_of_values is not None and kind_of_values.kind == "answer"
        yes, no = (values.YES_WORDS, values.NO_WORDS) if answers else ((), ())
        flag = ibis.cases((word.isin(("true", *yes)), 1.0), (word.isin(("false", *no)), 0.0))
        style = kind_of_values.style if kind_of_values else "plain"
        return finite(ibis.coalesce(_as_number(known, style), flag))
    if kind.is_boolean():
        return column.cast("int64").cast("float64")
    return finite(column.try_cast("float64"))


def _as_number(text: ibis.Value, style: values.NumberStyle) -> ibis.Value:
    """The numbers that text spells in a style, float64."""
    if style == "plain":
        digits = text.replace(values.MINUS, "-")
        return text.re_search(values.NUMBER).ifelse(digits, ibis.null("string")).try_cast("float64")
    bare = first_groups(text.re_replace(values.PERCENT, ""), values.MONEY)
    digits = bare.re_replace(values.SEPARATORS[style], "").replace(",", ".").replace(values.MINUS, "-")
    number = bare.re_search(values.STYLES[style]).ifelse(digits, ibis.null("string")).try_cast("float64")
    return text.endswith("%").ifelse(number / 100.0, number)


def _as_list(text: ibis.Value) -> ibis.Value:
    """The elements of lists written as text, array<string>; null where there is no list."""
    is_list = text.re_search(values.LIST)
    inside = is_list.ifelse(text, ibis.null("string"))
    bare = elements(inside.substr(1, inside.length() - 2), values.ELEMENT)
    return bare.filter(lambda element: ~element.isin(("", *values.NULL_WORDS)))


def _with_truth_words(text: ibis.Value) -> ibis.Value:
    """Text with `true` and `false`, however written, as `True` and `False`, which JSON's are too."""
    return text.isin(values.TRUE_WORDS).ifelse("True", text.isin(values.FALSE_WORDS).ifelse("False", text))


def _short_text(decimal: ibis.Value) -> ibis.Value:
    """Decimals and whole numbers as text, without zeros at the end of a fraction."""
    return first_groups(decimal.cast("string"), r"(\.[0-9]*[1-9])0+$").re_replace(r"\.0+$", "")


def _as_integer(text: ibis.Value) -> ibis.Value:
    digits = text.re_replace(r"\.0+$", "")
    return digits.re_search(r"^(0|-?[1-9][0-9]{0,18})$").ifelse(digits, ibis.null("string")).try_cast("int64")
