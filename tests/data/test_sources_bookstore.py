"""The generated bookstore keeps to the laws that its module states."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.data.sources.bookstore import _TOPICS, Bookstore


@pytest.fixture(scope="module")
def small():
    return Bookstore(num_readers=120, num_books=90, num_events=2_400, taste_strength=1.0)


@pytest.fixture(scope="module")
def tables(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    found = small.tables(folder)
    paths = {"events": found.interactions, "readers": found.users, "books": found.items}
    return {name: pq.read_table(path).to_pandas() for name, path in paths.items()} | {
        "truth": small.truth(folder)
    }


def test_the_same_arguments_give_the_same_rows(small, tables, tmp_path):
    again = pq.read_table(small.tables(tmp_path).interactions).to_pandas()
    assert again.equals(tables["events"])


def test_nothing_is_read_before_it_is_out_or_by_who_has_not_joined(tables):
    events, truth = tables["events"], tables["truth"]
    books = events.book.str[1:].astype(int).to_numpy()
    readers = events.reader.str[1:].astype(int).to_numpy()
    assert (truth["published"][books] <= events["at"]).all()
    assert (truth["joined"][readers] <= events["at"]).all()
    begin, end = events["at"].iloc[[0, -1]]
    assert (truth["published"] > begin).mean() == pytest.approx(0.2, abs=0.1)
    assert (truth["published"] > end).any()


def test_readers_read_what_they_like_and_buy_a_book_once(tables):
    events, truth = tables["events"], tables["truth"]
    affinity = truth["tastes"] @ truth["topics"].T
    of_events = affinity[events.reader.str[1:].astype(int), events.book.str[1:].astype(int)]
    assert of_events.mean() > 3 * affinity.mean()
    liked = events.event != "view"
    assert of_events[liked].mean() > 1.5 * of_events[~liked].mean()
    bought = events[events.event == "purchase"]
    assert not bought.duplicated(["reader", "book"]).any()


def test_descriptions_are_of_their_topics_words(tables):
    words = [set(text.split()) for text in _TOPICS.values()]
    topics = tables["truth"]["topics"]
    shares = np.array(
        [[len(own & set(text.split())) for own in words] for text in tables["books"].description]
    )
    assert (shares.argmax(axis=1) == topics.argmax(axis=1)).mean() > 0.9
    names = list(_TOPICS)
    assert [names[topic] for topic in tables["truth"]["main"]] == tables["books"].category.tolist()


def test_an_argument_out_of_its_range_is_named():
    with pytest.raises(ValueError, match=r"`data.source.new_book_share` must be between 0 and 0.9, got 2"):
        Bookstore(new_book_share=2)
    with pytest.raises(ValueError, match="must be at most a quarter of the 20 x 30 pairs"):
        Bookstore(num_readers=20, num_books=30, num_events=200)
