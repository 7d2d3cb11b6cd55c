"""Every encoder against the one that prepares the data, on the same raw values."""
# ruff: noqa: UP006, UP035 (scripted)

import dataclasses
import io
from typing import Any, List

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.preparing.encode import encode
from recsys.data.preparing.kinds.hashing import hash_rows
from recsys.exporting.program.encoders import Numeric, _IntegerLookup, bag_encoder
from recsys.exporting.program.ids import StringIndex, ValueIndex
from recsys.exporting.program.interfaces import IdIndex
from recsys.exporting.program.values import as_text
from recsys.schema.feature_kinds import IdFeature, MultiIdFeature, NumericFeature, TextFeature, TimeFeature

TEXT = st.text(max_size=12)
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
WORDS = st.sampled_from(["a", "B", "é", "中文", "", " ", "x y", "Toy", "toy", "0", "-", "😀", "\x85", "\x00"])


def scripted(module):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def bags(encoder, values):
    rows, lengths = encoder(values)
    return [bag.tolist() for bag in torch.split(rows, lengths.tolist())]


def prepared(feature, column, vocabulary=()):
    table = pa.table({"value": pa.array(vocabulary)}) if vocabulary else None
    found = encode(feature, column, table).to_pylist()
    return found if feature.is_multivalued or not feature.is_sparse else [[row] for row in found]


def plain(column):
    """A raw column as requests hold it: torch passes no empty list inside a record."""
    return [value if value != [] else None for value in column.to_pylist()]


def both(feature, column, vocabulary=()):
    """What the bundle and what preparing make of a column."""
    if not feature.is_sparse:
        return scripted(Numeric(feature))(plain(column)).tolist(), prepared(feature, column)
    encoder = scripted(bag_encoder(feature, vocabulary=vocabulary, per_second=1))
    return bags(encoder, plain(column)), prepared(feature, column, vocabulary)


def test_hash_is_fnv1a_over_utf8_bytes(readers):
    # Published vectors of FNV-1a 32: "" 811c9dc5, "a" e40c292c, "foobar" bf9cf968.
    buckets = 2**32
    assert readers.hashed("a", buckets) == 1 + 0xE40C292C
    assert readers.hashed("foobar", buckets) == 1 + 0xBF9CF968
    assert readers.hashed("é", 1000) == readers.hashed("é", 1000) == hash_rows(pa.array(["é"]), 1000)[0]


@given(st.lists(st.one_of(TEXT, INT64.map(str)), min_size=1), st.integers(1, 2**31 - 2))
@settings(deadline=None)
def test_hashes_agree_with_preparing(scripted_readers, values, num_buckets):
    assert [scripted_readers.hashed(v, num_buckets) for v in values] == hash_rows(
        pa.array(values), num_buckets
    ).tolist()


@pytest.mark.parametrize(
    ("feature", "column", "vocabulary"),
    [
        (IdFeature("x", "user", value_type="integer"), pa.array([7, None, -2, 9, 2**62]), [9, -2, 2**62]),
        (IdFeature("x", "user", value_type="integer"), pa.array([7.0, None, 9.0]), [9, 7]),
        (IdFeature("x", "user", value_type="integer"), pa.array([True, False, None]), [1, 0]),
        (IdFeature("x", "user"), pa.array(["a", "é", None, "", " a", "中"]), ["é", "中", "a", " a"]),
        (IdFeature("x", "user"), pa.array([1.5, 2.0, None, -0.25]), ["2", "-0.25"]),
        (IdFeature("x", "user", prefix=2), pa.array(["12345", "é中x", "1", None, ""]), ["é中", "12"]),
        (IdFeature("x", "user", prefix=2), pa.array([12345, -9, 1, None]), ["12", "-9", "1"]),
        (IdFeature("x", "user", encoder="hash", num_buckets=50), pa.array(["a", None, "", "中"]), ()),
        (
            IdFeature("x", "user", encoder="hash", num_buckets=50, value_type="integer"),
            pa.array([17.0, None, -3.0]),
            (),
        ),
        (
            IdFeature("x", "user", encoder="hash", num_buckets=50, prefix=1),
            pa.array(["étage", "éé", "a"]),
            (),
        ),
    ],
)
def test_ids_are_encoded_as_prepared(feature, column, vocabulary):
    found, expected = both(feature, column, vocabulary)
    assert found == expected
    assert len({row for bag in found for row in bag}) > 1  # a column of nothing would prove nothing


@pytest.mark.parametrize(
    ("feature", "column", "vocabulary"),
    [
        (
            MultiIdFeature("x", "item", max_length=2),
            pa.array(["a|b|c", " b |zz||a", "", None, "|", "a"]),
            ["c", "b", "a"],
        ),
        (
            MultiIdFeature("x", "item", delimiter="::"),
            pa.array(["a::b", "é::中 ::a:b"]),
            ["a:b", "a", "中", "é"],
        ),
        (MultiIdFeature("x", "item"), pa.array([["a", None, " b "], [], None, ["b|a"]]), ["b", "a"]),
        (
            MultiIdFeature("x", "item", value_type="integer"),
            pa.array([[3, 1, 3], [], None, [9]]),
            [1, 3],
        ),
        (MultiIdFeature("x", "item", prefix=1), pa.array(["éa|éb|x"]), ["é", "x"]),
        (
            MultiIdFeature("x", "item", encoder="hash", num_buckets=9, max_length=2),
            pa.array(["a|b|c", None, " "]),
            (),
        ),
    ],
)
def test_multi_valued_ids_are_encoded_as_prepared(feature, column, vocabulary):
    found, expected = both(feature, column, vocabulary)
    assert found == expected
    assert any(found)


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_texts_are_encoded_as_prepared(ngrams):
    feature = TextFeature("x", "item", num_buckets=1000, ngrams=ngrams, max_length=5)
    column = pa.array(["Toy Story, The (1995)", "Amélie—中文 x", "", None, "--", "a b c d e f g h", "ÀÉ"])
    found, expected = both(feature, column)
    assert found == expected
    assert len(found[0]) == min(5, 4 + 3 * (ngrams > 1) + 2 * (ngrams > 2))


@pytest.mark.parametrize(
    "feature",
    [
        NumericFeature("x", "user", mean=3.5, std=0.7),
        NumericFeature("x", "user", transform="log", mean=1.1, std=2.5),
        NumericFeature("x", "user", transform="bucketise", num_buckets=3, boundaries=(-1.5, 0.1, 7.0)),
    ],
)
@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.5, None, -3.25, 0.1, 7.0, 1e8, float("nan"), float("inf"), 0.1 + 1e-9]),
        pa.array([16_777_217, -4, 0, None]),
        pa.array(["1.5", " 2e1 ", "abc", "", None, "+3", "inf"]),
        pa.array([True, False, None]),
    ],
)
def test_numbers_are_encoded_as_prepared(feature, column):
    found, expected = both(feature, column)
    assert found == pytest.approx(expected, rel=1e-6) if not feature.is_sparse else found == expected


def test_absurd_numbers_stop_before_arithmetic_overflows():
    encoder = scripted(Numeric(NumericFeature("x", "user", mean=1.0, std=1e-6)))
    assert encoder([1e30, -1e30, 3e38, "1e37"]).tolist() == [1e9, -1e9, 1e9, 1e9]
    assert encoder([1e39, "1e299"]).tolist() == [0.0, 0.0]  # more than float32 holds is no number


@pytest.mark.parametrize("part", ["hour", "weekday"])
def test_times_are_encoded_as_prepared(part):
    feature = TimeFeature("x", "context", part=part)
    seconds = [0, -1, 881250949, 1_709_251_199, 86_400 * 3 + 3599, None]
    expected = encode(feature, pa.array([None if s is None else s * 10**6 for s in seconds])).to_pylist()
    for per_second in (1, 1000):
        encoder = scripted(bag_encoder(feature, vocabulary=(), per_second=per_second))
        given_units = [None if s is None else s * per_second for s in seconds]
        assert bags(encoder, given_units) == [[row] for row in expected]


# Scripting takes longer than an example: one module each, made once.
NGRAMS = TextFeature("x", "item", num_buckets=1000, ngrams=2, max_length=7)
TAGS = MultiIdFeature("x", "item", max_length=3)
ZIP = IdFeature("x", "user", encoder="hash", num_buckets=97, prefix=2)
VOCABULARY = ["a", "é", "x y", "中文", "0"]


@pytest.fixture(scope="module")
def encoders():
    return {
        feature: scripted(bag_encoder(feature, vocabulary=VOCABULARY, per_second=1))
        for feature in (NGRAMS, TAGS, ZIP)
    }


@given(st.lists(st.lists(WORDS).map(" ".join), min_size=1))
@settings(deadline=None)
def test_any_text_is_encoded_as_prepared(encoders, texts):
    assert bags(encoders[NGRAMS], texts) == prepared(NGRAMS, pa.array(texts))


@given(st.lists(st.one_of(st.none(), st.lists(WORDS).map("|".join)), min_size=1))
@settings(deadline=None)
def test_any_delimited_string_is_encoded_as_prepared(encoders, values):
    column = pa.array(values, pa.string())
    assert bags(encoders[TAGS], values) == prepared(TAGS, column, VOCABULARY)


@given(st.lists(st.one_of(st.none(), TEXT), min_size=1))
@settings(deadline=None)
def test_any_prefix_is_hashed_as_prepared(encoders, values):
    assert bags(encoders[ZIP], values) == prepared(ZIP, pa.array(values, pa.string()))


def test_an_integer_is_found_however_it_is_written():
    feature = IdFeature("x", "user", value_type="integer")
    hashed = dataclasses.replace(feature, encoder="hash", num_buckets=1000)
    written = [17, 17.0, "17", " 17 ", "17.0", "17 \r\n ", "\t  017", "+17", True]
    found = bags(scripted(bag_encoder(feature, vocabulary=[5, 17, 1], per_second=1)), written)
    assert found == [[2]] * 8 + [[3]]
    expected = hash_rows(pa.array([17] * 8 + [1]), 1000).tolist()
    assert bags(scripted(bag_encoder(hashed, vocabulary=(), per_second=1)), written) == [
        [row] for row in expected
    ]


def test_text_with_blanks_around_it_is_found_without_them():
    encoder = bag_encoder(IdFeature("x", "user"), vocabulary=["a", " b"], per_second=1)
    assert bags(encoder, [" a ", " b", "b"]) == [[1], [2], [0]]


def test_decimals_become_the_text_that_arrow_makes_of_them():
    numbers = [0.1, 1.5, -2.25, 100.0, 123456.789, 0.001]
    assert [as_text(n, "x") for n in numbers] == pa.array(numbers).cast(pa.string()).to_pylist()


def test_an_id_is_found_as_it_stands_or_else_without_blanks_around_it():
    index = StringIndex(["x", "y "], field="item_id")
    assert index.rows_of(["x", " x\t", "y ", " y", None]).tolist() == [1, 1, 2, 0, 0]


@pytest.mark.parametrize("value", [True, "True", "true", "TRUE"])
def test_truth_values_are_found_however_a_request_writes_them(value):
    words = ValueIndex(["True", "False"], field="mobile")
    numbers = _IntegerLookup([1, 0], field="mobile")
    assert words.rows_of([value, False]).tolist() == [1, 2]
    assert numbers.rows_of([value, False]).tolist() == [1, 2]


class Growing(torch.nn.Module):
    ids: IdIndex

    def __init__(self, ids):
        super().__init__()
        self.ids = ids

    def forward(self, given: List[Any]) -> torch.Tensor:
        self.ids.add(given, 2)
        return self.ids.rows_of(given)


def test_ids_can_be_added_to_in_a_process_that_has_scripted_values_of_features(monkeypatch):
    recursive = torch.jit._recursive
    monkeypatch.setattr(recursive, "concrete_type_store", recursive.ConcreteTypeStore())
    value = scripted(bag_encoder(IdFeature("shelf", "item"), vocabulary=["a"], per_second=1))
    assert bags(value, ["a", "b"]) == [[1], [0]]
    assert scripted(Growing(StringIndex(["u"], field="user_id")))(["v"]).tolist() == [2]
