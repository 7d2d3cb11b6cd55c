import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exporting.readers import Readers

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (17, 17),
        (-3, -3),
        (17.0, 17),
        (17.5, None),
        ("17", 17),
        (" -17\t", -17),
        ("17.0", 17),
        ("007", 7),
        ("+5", 5),
        ("1e3", 1000),
        ("", None),
        ("abc", None),
        ("-", None),
        ("1 2", None),
        ("٣", None),  # a digit, but not one of ours
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("10000000000000000000000", None),
        (True, 1),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        (1e30, None),
    ],
)
def test_whole_numbers_are_read_however_they_are_written(readers, value, expected):
    assert readers.integer(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2.0),
        (-2.5, -2.5),
        ("2.5", 2.5),
        (" .5 ", 0.5),
        ("5.", 5.0),
        ("-1.5e-3", -0.0015),
        ("1E2", 100.0),
        ("1e-999", 0.0),
        ("1e999", None),
        ("inf", None),
        ("nan", None),
        ("0x10", None),
        ("1_000", None),
        ("1,5", None),
        ("e5", None),
        (".", None),
        ("1.2.3", None),
        ("9" * 400, None),
        (False, 0.0),
        (None, None),
        (math.nan, None),
        (-math.inf, None),
    ],
)
def test_numbers_are_read_however_they_are_written(readers, value, expected):
    assert readers.number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b", "a b"),
        (" é ", " é "),
        ("", None),
        (12, "12"),
        (12.0, "12"),
        (-0.5, "-0.5"),
        (0.1, "0.1"),
        (1234.0625, "1234.0625"),
        (1e300, None),
        (math.nan, None),
        (True, "True"),  # as a CSV file has it
        (None, None),
    ],
)
def test_values_become_text(readers, value, expected):
    assert readers.text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a|b", ["a", "b"]),
        (" a | |b|", ["a", "b"]),
        ("中|é", ["中", "é"]),
        ("", []),
        (None, []),
        (7, ["7"]),
        (["a", " b ", ""], ["a", "b"]),
        (["a|b"], ["a|b"]),
        ([1, -2], ["1", "-2"]),
        ([1.0, 2.5], ["1", "2.5"]),
        (["a", None], ["a"]),
        ([None, 3], ["3"]),
        ([None, 0.5], ["0.5"]),
        ([None], []),
    ],
)
def test_lists_and_delimited_strings_fall_into_pieces(readers, value, expected):
    assert readers.pieces(value) == expected


@pytest.mark.parametrize("method", ["text", "integer", "number"])
@pytest.mark.parametrize("value", [["a"], [1, 2], {"a": 1}])
def test_a_collection_where_one_value_belongs_is_an_error_that_names_the_field(readers, method, value):
    with pytest.raises(Exception, match="`field` must be one value: text, a number or None"):
        getattr(readers, method)(value)


def test_a_dictionary_is_no_list_of_pieces(readers):
    with pytest.raises(Exception, match="`field` must be"):
        readers.pieces({"a": 1})


@given(st.one_of(INT64, st.floats(), st.text(), st.booleans(), st.none()))
def test_python_and_torchscript_read_alike(scripted_readers, value):
    for method in ("text", "integer", "number", "pieces"):
        assert getattr(scripted_readers, method)(value) == getattr(Readers(), method)(value)


@given(INT64)
def test_every_integer_survives_being_text(scripted_readers, value):
    assert scripted_readers.integer(str(value)) == value
    assert scripted_readers.text(value) == str(value)


@given(st.decimals(-(10**6), 10**6, places=4))
def test_every_short_decimal_survives_being_text(scripted_readers, value):
    number = float(value)
    text = scripted_readers.text(number)
    assert float(text) == number
    assert "e" not in text
    assert scripted_readers.number(str(value)) == number
