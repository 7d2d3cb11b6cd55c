"""The Goodreads part of ONCE, from files like its own."""

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.data.sources.goodreads_once import GoodreadsOnce


def once(folder, histories=None, content=None):
    """A folder like `data/goodreads` of the repository."""
    (folder / "user").mkdir(parents=True)
    (folder / "book.csv").write_text('bid\ttitle\n11\tHeaven\n12\t"Penny, twice"\n13\tThird\n')
    (folder / "book-desc.csv").write_text('bid,desc\n11,"Of, heaven."\n12,Of a penny.\n')
    (folder / "user" / "tok.uid.dat").write_text("ua\nub\n")
    (folder / "user" / "tok.bid.dat").write_text("12\n11\n13\n")
    histories = histories or [[0, 1], [2]]
    lists = np.empty(len(histories), dtype=object)
    lists[:] = histories
    held = content or {"uid": np.array([0, 1], dtype=object), "history": lists}
    np.save(folder / "user" / "data.npy", np.array(held, dtype=object), allow_pickle=True)
    return folder


def read(folder, cache, **keys):
    tables = GoodreadsOnce(path=str(folder), **keys).tables(cache)
    return pq.read_table(tables.interactions).to_pylist(), pq.read_table(tables.items).to_pylist()


def test_readers_books_and_texts_are_joined(tmp_path):
    events, items = read(once(tmp_path / "once" / "data" / "goodreads").parents[1], tmp_path / "cache")
    assert [tuple(row.values()) for row in events] == [("ua", "12"), ("ua", "11"), ("ub", "13")]
    assert [(row["item_id"], row["title"], row["description"]) for row in items] == [
        ("11", "Heaven", "Of, heaven."),
        ("12", "Penny, twice", "Of a penny."),
        ("13", "Third", None),
    ]
    assert {row["authors"] is None for row in items} == {True}


def test_authors_come_from_goodbooks(tmp_path):
    goodbooks = tmp_path / "books.csv"
    goodbooks.write_text(
        "goodreads_book_id,best_book_id,authors,original_publication_year,language_code\n"
        '11,99,"A. One, B. Two",1999.0,eng\n98,13,C. Three,,\n'
    )
    _, items = read(once(tmp_path / "once"), tmp_path / "cache", goodbooks=str(goodbooks))
    found = {row["item_id"]: (row["authors"], row["year"], row["language"]) for row in items}
    assert found == {
        "11": (["A. One", "B. Two"], 1999, "eng"),
        "12": (None, None, None),
        "13": (["C. Three"], None, None),
    }


class Hostile:
    """Unpickled by what knows no better, it prints."""

    def __reduce__(self):
        return print, ("ran",)


def test_a_pickle_that_names_code_is_refused_and_runs_nothing(tmp_path, capsys):
    folder = once(tmp_path / "once", content={"uid": Hostile(), "history": []})
    with pytest.raises(ValueError, match=r"data.npy`: expected an object array .*it names `.*print`"):
        read(folder, tmp_path / "cache")
    assert "ran" not in capsys.readouterr().out
    (folder / "user" / "data.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="expected an object array of `uid` and `history`"):
        read(folder, tmp_path / "cache")


def test_missing_files_are_named(tmp_path):
    folder = once(tmp_path / "once")
    (folder / "book-desc.csv").unlink()
    with pytest.raises(ValueError, match=r"missing: .*book-desc.csv"):
        read(folder, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"`data.source.path` must name the folder"):
        GoodreadsOnce().tables(tmp_path)
