"""Expressions of slices: what they select, and what is refused."""

import pyarrow as pa
import pytest

from recsys.evaluation.expressions import parse, select
from recsys.schema.errors import InputError

KEY = "evaluation.slices.mine"
TABLE = pa.table(
    {
        "history_length": [0, 20, 35, 7],
        "age": ["50+", "18", None, "50+"],
        "gender": ["M", "F", "M", "F"],
        "item.genres": [["Drama"], ["Comedy", "Drama"], None, []],
        "item.price": [1.5, 2.0, 3.0, None],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("history_length >= 20", [1, 2]),
        ("age == '50+' and gender == 'M'", [0]),
        ("age == '50+' or history_length > 30", [0, 2, 3]),
        ("not (gender == 'M')", [1, 3]),
        ("not age == '50+'", [1]),  # an unknown age is neither
        ("5 < history_length <= 20", [1, 3]),
        ("age in ['18', '25']", [1]),
        ("age not in ['18', '25']", [0, 3]),
        ("'Drama' in item.genres", [0, 1]),
        ("'Drama' not in item.genres", [2, 3]),
        ("item.price * 2 + 1 > history_length / 5", [0, 1]),
        ("history_length > -1", [0, 1, 2, 3]),
    ],
)
def test_expression_selects_the_rows_it_is_true_for(text, expected):
    assert select(text, TABLE, key=KEY).nonzero()[0].tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("history_length >=", r"`evaluation.slices.mine` must be an expression such as .*invalid syntax"),
        ("open('x')", r"`open\('x'\)` is not allowed in it"),
        ("history_length.__class__()", "is not allowed in it"),
        ("[x for x in age]", "is not allowed in it"),
        ("age is None", "is not allowed in it"),
        ("history_length ** 9", "is not allowed in it"),
        ("lambda: 1", "is not allowed in it"),
    ],
)
def test_what_is_no_plain_expression_is_refused_before_any_table_is_read(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text, key=KEY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ages == '50+'",
            r"got `ages` in `ages == '50\+'`; there are: history_length, age, gender, item.genres",
        ),
        ("history_length == 'many'", "must be an expression such as"),
        ("history_length + 1", "neither true nor false but of type int64"),
        ("1 < 2", "it names no column"),
        ("'D' in age", "needs a list, or a column of lists"),
    ],
)
def test_expression_that_does_not_fit_the_table_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        select(text, TABLE, key=KEY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a * 9223372036854775807 > 1", "overflow"),
        ("a + 9223372036854775807 > 1", "overflow"),
        ("-a - 9223372036854775807 < 1", "overflow"),
        ("not " * 5000 + "a > 1", "nested more than 100 deep"),
        ("(" * 3000 + "a" + ")" * 3000 + " > 1", ""),
        ("a > " + "9" * 40, ""),
    ],
)
def test_what_cannot_be_computed_is_refused(text, reason):
    table = pa.table({"a": [2, 3, -5]})
    with pytest.raises(InputError, match=rf"`slices.x` must be an expression.*{reason}"):
        select(text, table, key="slices.x")
