"""Raw values to rows and floats, kind by kind; the exported graph must do the same."""

import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.preparing.encode import encode
from recsys.data.preparing.kinds.hashing import hash_rows
from recsys.schema.feature_kinds import feature_of


def words(*values):
    """A vocabulary of these values."""
    return pa.table({"row": pa.array(range(1, len(values) + 1), pa.int32()), "value": pa.array(values)})


def encoded(settings, values, vocabulary=None):
    feature = feature_of({"name": "x", "role": "item", **settings})
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return encode(feature, column, vocabulary).to_pylist()


def test_an_id_is_its_row_and_what_is_unknown_is_row_zero():
    assert encoded({"kind": "id"}, ["b", "a", "z", None, ""], words("a", "b")) == [2, 1, 0, 0, 0]
    assert encoded({"kind": "id"}, [7, 5, 6, None], words(5, 7)) == [2, 1, 0, 0]


def test_whole_floats_and_booleans_are_integers():
    assert encoded({"kind": "id"}, [7.0, None, 5.0], words(5, 7)) == [2, 0, 1]
    assert encoded({"kind": "id"}, [True, False], words(0, 1)) == [2, 1]


def test_a_value_of_another_type_than_the_vocabulary_is_compared_as_the_vocabulary_is():
    assert encoded({"kind": "id"}, [7.0, 5.5], words(5, 7)) == [2, 0]
    assert encoded({"kind": "id"}, [7, 5], words("5", "7")) == [2, 1]
    assert encoded({"kind": "id"}, pa.array([None, None], pa.null()), words("5")) == [0, 0]


def test_a_prefix_keeps_the_first_characters():
    assert encoded({"kind": "id", "prefix": 3}, ["94110", "éàç1", "94"], words("941", "éàç", "94")) == [
        1,
        2,
        3,
    ]
    assert encoded({"kind": "id", "prefix": 2}, [1995, 20], words("19", "20")) == [1, 2]


def test_a_hashed_id_needs_no_vocabulary():
    settings = {"kind": "id", "encoder": "hash", "num_buckets": 9}
    assert encoded(settings, ["a", None, 5 * "x"]) == [
        *hash_rows(pa.array(["a"]), 9),
        0,
        *hash_rows(pa.array(["xxxxx"]), 9),
    ]


def test_a_delimited_string_is_stripped_and_what_is_empty_or_unknown_falls_away():
    values = ["a|b", " b | z|a ", "||", "", None, "a|a"]
    assert encoded({"kind": "multi_id"}, values, words("a", "b")) == [[1, 2], [2, 1], [], [], [], [1, 1]]
    assert encoded({"kind": "multi_id", "delimiter": ", "}, ["a, b"], words("a", "b")) == [[1, 2]]


def test_lists_of_strings_and_of_integers_are_read():
    assert encoded({"kind": "multi_id"}, [["b", None, "z"], [], None], words("a", "b")) == [[2], [], []]
    assert encoded({"kind": "multi_id"}, [[7, 5], [6]], words(5, 7)) == [[2, 1], []]


def test_of_many_values_the_first_known_are_kept():
    settings = {"kind": "multi_id", "max_length": 2}
    assert encoded(settings, ["z|a|z|b|a", "b"], words("a", "b")) == [[1, 2], [2]]


def test_hashed_pieces_are_all_kept():
    settings = {"kind": "multi_id", "encoder": "hash", "num_buckets": 100}
    assert encoded(settings, ["a|zz"]) == [hash_rows(pa.array(["a", "zz"]), 100).tolist()]


def slow_ngrams(text, longest):
    """Words are runs of a-z, 0-9 and bytes from 128, in lower case; n-grams in order of n, then of place."""
    lowered = text.encode().lower()
    found = [word.decode() for word in re.findall(rb"[a-z0-9\x80-\xff]+", lowered)]
    return [" ".join(found[i : i + n]) for n in range(1, longest + 1) for i in range(len(found) - n + 1)]


@given(st.lists(st.text(alphabet="aB0 .-é\x00ß日", max_size=12), max_size=8), st.integers(1, 3))
def test_text_is_hashed_ngrams(texts, longest):
    settings = {"kind": "text", "num_buckets": 50, "ngrams": longest, "max_length": 6}
    assert encoded(settings, pa.array(texts, pa.string())) == [
        hash_rows(pa.array(slow_ngrams(text, longest)[:6], pa.string()), 50).tolist() for text in texts
    ]


def test_text_spelled_out():
    grams = pa.array(["toy", "story", "2", "toy story", "story 2"])
    settings = {"kind": "text", "num_buckets": 1000, "ngrams": 2}
    assert encoded(settings, ["Toy Story-2!", None, "..."]) == [hash_rows(grams, 1000).tolist(), [], []]


def test_numbers_are_standardised_and_what_is_missing_is_the_mean():
    settings = {"kind": "numeric", "mean": 10.0, "std": 4.0}
    assert encoded(settings, [10.0, 18.0, None, math.nan, math.inf]) == [0.0, 2.0, 0.0, 0.0, 0.0]
    assert encoded(settings, ["14", "1.8e1", "+6", "much", None]) == [1.0, 2.0, -1.0, 0.0, 0.0]
    assert encoded(settings, [True]) == [-2.25]


def test_log_is_of_one_plus_what_is_positive():
    settings = {"kind": "numeric", "transform": "log", "mean": 0.0, "std": 1.0}
    assert encoded(settings, [0.0, -5.0, math.e - 1]) == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


def test_buckets_are_closed_below_and_nothing_is_row_zero():
    settings = {"kind": "numeric", "transform": "bucketise", "num_buckets": 3, "boundaries": (1.0, 2.5)}
    assert encoded(settings, [0.9, 1.0, 2.4, 2.5, 99.0, None]) == [1, 2, 2, 3, 3, 0]


def test_an_edge_between_floats_is_compared_as_float32():
    edge = float(np.float32(0.1))
    settings = {"kind": "numeric", "transform": "bucketise", "num_buckets": 2, "boundaries": (edge,)}
    # As a double 0.1 is less than the edge; as a float32, which is what a model is given, it is the edge.
    assert encoded(settings, [0.1]) == [2]


@pytest.mark.parametrize(
    ("iso", "hour", "weekday"),
    [
        ("1970-01-01T00:00:00", 1, 4),  # a Thursday
        ("1969-12-31T23:59:59", 24, 3),  # before the epoch
        ("2024-02-29T12:00:00", 13, 4),  # a leap day, a Thursday
        ("2026-11-23T05:00:00", 6, 1),  # a Monday
    ],
)
def test_hour_and_weekday(iso, hour, weekday):
    instant = pa.array([np.datetime64(iso, "us").astype(np.int64).item(), None], pa.int64())
    assert encoded({"kind": "time", "part": "hour"}, instant) == [hour, 0]
    assert encoded({"kind": "time", "part": "weekday"}, instant) == [weekday, 0]
