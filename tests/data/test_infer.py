"""What columns become when nobody says: each rule by an example of its own and one that just misses it."""

import datetime
import logging

import pyarrow as pa
import pytest

from recsys.data.preparing.declare import declaration
from recsys.data.preparing.infer import infer, title_column
from tests.data.preparing import by_id, prepared, rows_of

GENRES = ["Action", "Comedy", "Drama", "Horror"]


def named_columns(table):
    return dict(zip(table.column_names, table.columns, strict=True))


def inferred(values, name="x"):
    """Settings of the feature, or the reason to leave it out."""
    column = values if isinstance(values, pa.Array) else pa.array(values)
    found = infer(name, column, role="item", raw_name=name)
    if isinstance(found, str):
        return found
    return {key: value for key, value in declaration(found).items() if key != "column"}


def test_few_integers_are_ids():
    assert inferred([1990 + n % 40 for n in range(200)], "year") == {"kind": "id"}
    # Ages: more than 50 values, each seen often enough.
    assert inferred([10 + n % 60 for n in range(900)], "age") == {"kind": "id"}


def test_many_integers_are_numbers():
    prices = [100 + 37 * n for n in range(100)]
    assert inferred(prices, "price") == {"kind": "numeric", "transform": "bucketise", "num_buckets": 20}
    # Fifty rows, fifty values: too few to tell.
    assert inferred(prices[:50], "price") == {"kind": "id"}


def test_counts_are_numbers_on_a_logarithm():
    # Few clicks are common and each number of them occurs; some rows have hundreds.
    clicks = [n * n // 100 for n in range(200)] * 5 + [900, 1700, 4000]
    assert inferred(clicks, "clicks") == {"kind": "numeric", "transform": "log"}
    # None at all stands aside: most have it.
    assert inferred([0] * 2000 + clicks, "clicks") == {"kind": "numeric", "transform": "log"}
    # Without the tail these are values like ages, with gaps they are codes, and a code for none is one more.
    assert inferred([n % 70 for n in range(900)]) == {"kind": "id"}
    codes = [37 * (n % 60) for n in range(900)] + [90_000] * 9
    assert inferred(codes) == {"kind": "id"}
    assert inferred([-1] * 900 + [100_000 + n % 60 for n in range(900)]) == {"kind": "id"}


def test_codes_stay_ids_however_many():
    codes = [1000 + 37 * (n // 3) for n in range(300)]
    assert inferred(codes, "brand_id") == {"kind": "id"}
    assert inferred(codes, "postcode") == {"kind": "id"}
    assert inferred([37 * n for n in range(300)], "imdb_id") == "every value differs"


def test_row_numbers_and_constants_are_left_out():
    assert inferred(list(range(30)), "Unnamed: 0") == "it numbers the rows"
    assert inferred([1] * 30) == "it is the same in every row"
    assert inferred([None] * 3) == "it is empty"
    # In a small table that says nothing.
    assert inferred([1, 1, 1]) == {"kind": "id"}
    # Where others are null, a value tells something.
    assert inferred(["yes"] * 20 + [None] * 10) == {"kind": "id"}


def test_floats_are_numbers():
    assert inferred([0.5 * n - 3 for n in range(30)]) == {"kind": "numeric"}
    assert inferred([1.0, 2.0, 3.0, None]) == {"kind": "numeric"}


def test_floats_with_a_long_tail_are_taken_the_logarithm_of():
    assert inferred([1.0] * 30 + [5000.0]) == {"kind": "numeric", "transform": "log"}
    assert inferred([1.0] * 30 + [-1.0, 5000.0]) == {"kind": "numeric"}


def test_booleans_are_ids():
    assert inferred([True, False, None]) == {"kind": "id"}


def test_lists_are_multi_ids():
    assert inferred([["a", "b"], ["a"]]) == {"kind": "multi_id"}
    assert inferred([[1, 2], []]) == {"kind": "multi_id"}
    assert inferred([[0.1, 0.2], [0.3]]) == "lists of double are no feature"


def test_lists_of_fractions_of_one_length_are_vectors_of_users_and_items():
    column = pa.array([[0.1, 0.2], None, [0.3, 0.4]])
    assert infer("cover", column, role="item", raw_name="cover").kind == "vector"
    left_out = infer("query", column, role="context", raw_name="query")
    assert left_out == "vectors are features of users and items alone"


@pytest.mark.parametrize("delimiter", ["|", ";", ","])
def test_repeating_pieces_are_multi_ids(delimiter):
    values = [delimiter.join([GENRES[n % 4], GENRES[(n + 1 + n // 4) % 4]]) for n in range(40)]
    expected = {"kind": "multi_id"} if delimiter == "|" else {"kind": "multi_id", "delimiter": delimiter}
    assert inferred(values) == expected


def test_few_bars_are_enough_as_in_movielens():
    assert inferred(["Drama"] * 8 + ["Comedy", "Drama|Comedy"]) == {"kind": "multi_id"}


def test_the_end_of_an_html_entity_is_no_delimiter():
    assert inferred([f"Tom &amp; {GENRES[n % 4]}" for n in range(40)]) == {"kind": "id"}


def test_commas_in_sentences_are_no_delimiter():
    sentences = [f"A man, a plan number {n}, and then a canal of some length" for n in range(30)]
    assert inferred(sentences) == {"kind": "text", "num_buckets": 5000}
    titles = [f"Story {n}, The" for n in range(30)]
    assert inferred(titles, "title") == {"kind": "text", "num_buckets": 5000}


def test_titles_are_text():
    assert inferred([f"The Movie number {n}" for n in range(30)]) == {"kind": "text", "num_buckets": 5000}
    # In a small table only a name can tell a title from a city.
    assert inferred(["Toy Story", "Get Shorty", "Heat"], "title") == {"kind": "text", "num_buckets": 5000}
    assert inferred(["New York", "San Diego", "Rome"], "city") == {"kind": "id"}


def test_categories_of_several_words_are_ids():
    assert inferred([["home and garden", "toys and games"][n % 2] for n in range(40)]) == {"kind": "id"}


def test_addresses_are_left_out():
    assert inferred([f"http://x.org/{n}" for n in range(40)], "url") == "every value differs"
    assert inferred([f"http://x.org/{n}" for n in range(10)], "url") == {"kind": "id"}


def test_codes_that_repeat_a_little_are_ids():
    assert inferred([f"{94000 + n % 35}" for n in range(40)], "zip_code") == {"kind": "id"}


def test_dates_are_years():
    assert inferred([f"{1990 + n}-05-01" for n in range(5)]) == {"kind": "id", "prefix": 4}
    assert inferred(["1995-01-01 10:00:00", "1996-01-01 10:00:00"]) == {"kind": "id", "prefix": 4}


def test_other_types_are_left_out():
    assert inferred([b"a", b"b"]) == "values of type binary are no feature"
    assert inferred([{"a": 1}]) == "values of type struct<a: int64> are no feature"


def test_the_title_is_found_by_name():
    table = pa.table({"name_of_shop": ["a"], "movie_title": ["b"], "n": [1]})
    assert title_column(named_columns(table)) == "movie_title"
    assert title_column(named_columns(table.select(["name_of_shop", "n"]))) is None
    named = pa.table({"subtitle": ["a"], "Name": ["b"]})
    assert title_column(named_columns(named)) == "Name"


EVENTS = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "dwell": [3, 4], "stars": [5, 1]}
ALL = {"split": "random", "split_fractions": (1.0, 0.0, 0.0)}


def test_of_interactions_nothing_is_inferred_but_time(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        station = prepared(tmp_path, EVENTS, **ALL)
    assert {"hour", "weekday"} <= set(rows_of(station, "train")[0])
    assert "dwell" not in rows_of(station, "train")[0]
    assert "columns not used: `dwell`, `stars`" in caplog.text
    assert "data.interactions.features.dwell.kind=id" in caplog.text


def test_what_is_inferred_and_left_out_is_logged(tmp_path, caplog):
    items = {"item_id": list(range(30)), "url": [f"u{n}" for n in range(30)], "colour": ["red", "blue"] * 15}
    with caplog.at_level(logging.INFO):
        prepared(tmp_path, EVENTS, items=items, **ALL)
    assert "items: column `colour` is inferred to be id" in caplog.text
    assert "items: column `url` is left out, every value differs" in caplog.text


def test_names_are_made_usable_and_unique(tmp_path):
    users = {"user_id": [1, 2], "country": ["x", "y"], "label": ["p", "q"]}
    items = {"item_id": [1, 2], "country": ["z", "z"], "2nd Colour": ["red", "blue"]}
    station = prepared(tmp_path, EVENTS, users=users, items=items, **ALL)
    assert by_id(station, "users", "country") == {None: 0, 1: 1, 2: 2}
    assert by_id(station, "users", "user_label") == {None: 0, 1: 1, 2: 2}
    assert by_id(station, "items", "item_country") == {None: 0, 1: 1, 2: 1}
    assert by_id(station, "items", "f_2nd_Colour") == {None: 0, 1: 2, 2: 1}


def test_dates_of_a_parquet_file_become_text(tmp_path):
    items = {"item_id": [1, 2], "released": [datetime.date(1995, 5, 1), datetime.date(1995, 7, 2)]}
    station = prepared(tmp_path, EVENTS, items=items, **ALL)
    assert by_id(station, "items", "released") == {None: 0, 1: 1, 2: 1}
    assert by_id(station, "items", "raw.released") == {None: None, 1: "1995-05-01", 2: "1995-07-02"}
