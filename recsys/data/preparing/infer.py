"""infer: what the columns of a users' or items' table are, where nobody has said so.

The rules, first match wins. They look at values, and at names only where values cannot tell.

| column | becomes |
|---|---|
| empty, or (20 rows and more) the same everywhere, or row numbers | left out |
| lists of integers or strings | multi_id |
| lists of fractions, all of one length, also written as text | vector |
| booleans | id |
| integers that count (more than 50 distinct values, the lower ones without gaps, the largest ten times their middle) | numeric, log |
| other integers | id; but numeric in 20 quantile buckets where there are more than 50 distinct values and fewer than 5 rows a value (prices in cents, view counts), unless the name says that they are codes |
| floats | numeric, standardised; log where none is negative and the largest is 100 times the median |
| dates, and text that begins with an ISO date | id, of the year |
| dates in other forms | left out |
| text with `|`, `;` or `,` between pieces that repeat | multi_id |
| text whose values mostly differ and mostly hold several words (titles, descriptions) | text, 5,000 buckets |
| other text or codes (20 rows and more) whose values all differ (URLs, e-mail addresses) | left out |
| other text (also with few rows) | id |

An age or a year stays an id, as the contract has it: its few values are each seen often enough to be learnt.
"""  # noqa: E501 (a table)

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.kinds.lookup import pieces
from recsys.data.preparing.kinds.number import numbers
from recsys.schema.feature_kinds import DEFAULT_TEXT_BUCKETS, Feature, MultiIdFeature, Role, feature_of
from recsys.schema.values import NUMBER, OBJECTS

# Below it a table is too small for the differences between its values to mean something.
MIN_ROWS = 20
MAX_CATEGORIES = 50
MIN_ROWS_A_CATEGORY = 5
_LOG_RATIO = 100
_COUNT_RATIO = 10
_COUNT_DENSITY = 0.5
_ALL_DIFFER = 0.98
# Share of the values that hold the delimiter, and how often a piece occurs on average.
_DELIMITERS = {"|": (0.1, 1.2), ">": (0.5, 1.5), ";": (0.25, 1.5), ",": (0.4, 2.0), "/": (0.8, 2.0)}
_MAX_WORDS_A_PIECE = 3.0
_LEAST_ADDRESSES = 0.1
_ENTITY = r"&(#[0-9]+|[A-Za-z]+);"
_CODE_NAME = re.compile(r"(?i)(^|_|[a-z])(id|code|zip|zipcode|postcode|key|sku|no)$")
_TEXT_NAME = re.compile(r"(?i)(title|name|description|summary|text|headline|overview|plot)")
_ISO_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_OTHER_DATE = r"^[0-9]{1,2}([/.-])[0-9]{1,2}[/.-]([0-9]{4}|[0-9]{2})( |$)"
_FRACTION = r"^[-+]?[0-9]*(\.[0-9]+|[0-9](\.[0-9]*)?[eE][-+]?[0-9]+)"
_NUMBERS_WITH_BLANKS = r"^[-+]?[0-9.]+([eE][-+]?[0-9]+)?(\s+[-+]?[0-9.]+([eE][-+]?[0-9]+)?)+$"


def infer(name: str, column: pa.Array, *, role: Role, raw_name: str) -> Feature | str:
    """Infers the feature that one column becomes, or the reason why it is left out.

    Args:
        name: of the feature it may become.
        column: its values, one a user or item.
        role: user or item.
        raw_name: name of the column.
    """
    known = column.drop_null()
    settings = _useless(column, known) or _settings(raw_name, known)
    if isinstance(settings, str):
        return settings
    if settings["kind"] == "vector" and role not in ("user", "item"):
        return "vectors are features of users and items alone"
    return feature_of({"name": name, "role": role, "column": raw_name, **settings})


def title_column(columns: Mapping[str, pa.Array]) -> str | None:
    """The column of text that is most likely what people call an item; None when no name says so."""
    text = [name for name, values in columns.items() if pa.types.is_string(values.type)]
    for pattern in (r"(?i)^(title|name)$", r"(?i)title", r"(?i)(item|product|movie|track|book)_?name"):
        for name in text:
            if re.search(pattern, name):
                return name
    return None


def _useless(column: pa.Array, known: pa.Array) -> str | None:
    if not len(known):
        return "it is empty"
    if len(column) < MIN_ROWS or pa.types.is_nested(column.type):
        return None
    if len(known) == len(column) and pc.count_distinct(known).as_py() == 1:
        return "it is the same in every row"
    if pa.types.is_integer(column.type) and len(known) == len(column):
        lowest, highest = (pc.min_max(known)[end].as_py() for end in ("min", "max"))
        if lowest in (0, 1) and highest - lowest + 1 == len(known) == pc.count_distinct(known).as_py():
            return "it numbers the rows"
    return None


def _settings(name: str, known: pa.Array) -> dict[str, Any] | str:
    """Settings of the feature, or why there is none."""
    kind = known.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        element = kind.value_type
        if pa.types.is_floating(element) and pc.count_distinct(pc.list_value_length(known)).as_py() == 1:
            return {"kind": "vector"}
        if pa.types.is_string(element) and (numbers_in_text := _lists_of_numbers(known)):
            return numbers_in_text
        fits = (
            pa.types.is_integer(element) or pa.types.is_string(element) or pa.types.is_large_string(element)
        )
        return {"kind": "multi_id"} if fits else f"lists of {element} are no feature"
    if pa.types.is_boolean(kind):
        return {"kind": "id"}
    if pa.types.is_integer(kind):
        return _integers(name, known)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _floats(known)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text(name, known.cast(pa.string()))
    return f"values of type {kind} are no feature"


def _integers(name: str, known: pa.Array) -> dict[str, Any] | str:
    num_distinct = pc.count_distinct(known).as_py()
    if _CODE_NAME.search(name):
        if len(known) >= MIN_ROWS and num_distinct >= _ALL_DIFFER * len(known):
            return "every value differs"
        return {"kind": "id"}
    if num_distinct > MAX_CATEGORIES and _are_counts(known):
        return {"kind": "numeric", "transform": "log"}
    if num_distinct > MAX_CATEGORIES and num_distinct * MIN_ROWS_A_CATEGORY > len(known):
        return {"kind": "numeric", "transform": "bucketise", "num_buckets": 20}
    return {"kind": "id"}


def _are_counts(known: pa.Array) -> bool:
    """Whether integers count something (clicks, votes) and are no codes: dense below, a long tail above.

    The least value is left aside, for it often stands for none.
    """
    lowest = pc.min(known).as_py()
    above = known.filter(pc.greater(known, lowest))
    middle = _middle(above)
    lower = pc.count_distinct(above.filter(pc.less_equal(above, middle))).as_py()
    has_tail = pc.max(above).as_py() > _COUNT_RATIO * max(middle, 1.0)
    return bool(has_tail and lower >= _COUNT_DENSITY * (middle - lowest))


def _floats(known: pa.Array) -> dict[str, Any]:
    values = numbers(known)
    values = values[values == values]
    if len(values) and values.min() >= 0 and values.max() > _LOG_RATIO * max(float(_middle(values)), 1e-9):
        return {"kind": "numeric", "transform": "log"}
    return {"kind": "numeric"}


def _middle(values: Any) -> float:
    return float(pc.quantile(pa.array(values), q=0.5)[0].as_py())


def _text(name: str, known: pa.Array) -> dict[str, Any] | str:
    if _share(pc.match_substring_regex(known, _ISO_DATE)) > 0.9:
        return {"kind": "id", "prefix": 4}
    if _share(pc.match_substring_regex(known, _OTHER_DATE)) > 0.9:
        return "they are no dates in ISO form; write them as 2024-05-31"
    if _share(pc.match_substring_regex(known, OBJECTS)) > 0.9:
        return "objects written as text are no feature; write what is meant as a list"
    delimiter = _delimiter(known)
    if delimiter:
        return {"kind": "multi_id", "delimiter": delimiter}
    num_distinct = pc.count_distinct(known).as_py()
    differ = num_distinct / len(known)
    several_words = _share(pc.match_substring_regex(pc.utf8_trim_whitespace(known), r"\S\s+\S"))
    if several_words > 0.5 and differ > 0.5 and (len(known) >= MIN_ROWS or _TEXT_NAME.search(name)):
        return {"kind": "text", "num_buckets": DEFAULT_TEXT_BUCKETS}
    if len(known) >= MIN_ROWS and differ >= _ALL_DIFFER:
        # Titles of one word each still tell something in their words; an address does not.
        is_title = bool(_TEXT_NAME.search(name))
        return {"kind": "text", "num_buckets": DEFAULT_TEXT_BUCKETS} if is_title else "every value differs"
    return {"kind": "id"}


def _lists_of_numbers(known: pa.Array) -> dict[str, Any] | str | None:
    """Whether lists of text are vectors that were printed; None where they are sets of names."""
    elements = pc.list_flatten(known).drop_null()
    if _share(pc.match_substring_regex(elements, _NUMBERS_WITH_BLANKS)) > 0.5:
        return "lists of numbers without commas between them are no feature; write [1.5, 2]"
    has_fractions = _share(pc.match_substring_regex(elements, _FRACTION)) > 0.1
    if not has_fractions or _share(pc.match_substring_regex(elements, NUMBER)) < 1.0:
        return None
    of_one_length = pc.count_distinct(pc.list_value_length(known)).as_py() == 1
    return {"kind": "vector"} if of_one_length else "lists of fractions are no feature"


def _delimiter(known: pa.Array) -> str | None:
    """Finds the delimiter of most values, when the pieces repeat and are short; never in addresses."""
    if _share(pc.match_substring(known, "://")) > _LEAST_ADDRESSES:
        return None
    known = pc.replace_substring_regex(known, _ENTITY, "&")  # &amp; ends with no delimiter
    for delimiter, (share, repeats) in _DELIMITERS.items():
        if _share(pc.match_substring(known, delimiter)) < share:
            continue
        as_pieces, _ = pieces(MultiIdFeature("pieces", "item", delimiter=delimiter), known)
        if delimiter == "/" and _share(pc.match_substring_regex(as_pieces.cast(pa.string()), NUMBER)) > 0.5:
            continue  # 4/5 and the like
        if len(as_pieces) < repeats * pc.count_distinct(as_pieces).as_py():
            continue
        words = pc.add(pc.count_substring_regex(as_pieces.cast(pa.string()), r"\s+"), 1)
        if pc.mean(words).as_py() <= _MAX_WORDS_A_PIECE:
            return delimiter
    return None


def _share(flags: pa.Array) -> float:
    return float(pc.mean(flags.cast(pa.int8())).as_py() or 0.0)
