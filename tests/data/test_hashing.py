"""FNV-1a against its published vectors and against a byte by byte loop."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.preparing.kinds.hashing import fnv1a, hash_rows


def slow_fnv1a(text: str) -> int:
    found = 2166136261
    for byte in text.encode():
        found = ((found ^ byte) * 16777619) % 2**32
    return found


def test_published_vectors():
    # From the test suite of the reference implementation (isthe.com/chongo/tech/comp/fnv).
    assert fnv1a(pa.array(["", "a", "b", "foobar"])).tolist() == [
        0x811C9DC5,
        0xE40C292C,
        0xE70C2DE5,
        0xBF9CF968,
    ]


@given(st.lists(st.text(max_size=12), max_size=20))
def test_all_strings_hash_as_byte_by_byte(texts):
    found = fnv1a(pa.array(texts, pa.string()))
    assert found.dtype == np.uint32
    assert found.tolist() == [slow_fnv1a(text) for text in texts]


def test_rows_begin_at_one_and_null_is_row_zero():
    # 0xE40C292C is 3826002220, whose last three digits are its remainder by 1000.
    assert hash_rows(pa.array(["a", None]), 1000).tolist() == [221, 0]
    assert hash_rows(pa.array(["a", "b", "c"]), 1).tolist() == [1, 1, 1]


def test_integers_hash_as_their_decimal_text():
    assert hash_rows(pa.array([-12, 0, None]), 1000).tolist() == [
        1 + slow_fnv1a("-12") % 1000,
        1 + slow_fnv1a("0") % 1000,
        0,
    ]


def test_a_slice_and_chunks_hash_as_the_whole():
    values = pa.array(["x", "yy", None, "zzz", "é"])
    whole = hash_rows(values, 100).tolist()
    assert hash_rows(values[2:], 100).tolist() == whole[2:]
    assert hash_rows(pa.chunked_array([values[:2], values[2:]]), 100).tolist() == whole


def test_nothing_hashes_to_nothing():
    assert hash_rows(pa.array([], pa.string()), 5).tolist() == []
