"""MIND, from files like its own."""

import pyarrow.parquet as pq
import pytest

from recsys.data.sources.mind import Mind

BEHAVIORS = [
    "2\tUa\t11/10/2019 6:42:51 PM\tN1 N2 N3\tN5-1 N6-0",
    "1\tUa\t11/9/2019 12:00:01 AM\tN1 N2\tN4-0 N5-0 N6-1",
    "3\tUb\t11/9/2019 1:00:00 PM\t\tN4-1 N5-0",
]
NEWS = [f'N{n}\tsports\tgolf\tTitle "{n}\tAbout {n}.\thttps://x\t[]\t[]' for n in range(1, 7)]
FIRST_DAY = 1_573_257_600  # 2019-11-09, at midnight


def written(folder, behaviors=BEHAVIORS, news=NEWS):
    folder.mkdir(parents=True)
    (folder / "behaviors.tsv").write_text("".join(f"{line}\n" for line in behaviors))
    (folder / "news.tsv").write_text("".join(f"{line}\n" for line in news))
    return folder


def rows_of(folder, cache, **keys):
    tables = Mind(path=str(folder), **keys).tables(cache)
    rows = [tuple(row.values()) for row in pq.read_table(tables.interactions).to_pylist()]
    return sorted(rows, key=lambda row: (row[0], row[2], row[1])), tables


def test_an_impression_is_rows_of_one_user_and_one_instant(tmp_path):
    rows, _ = rows_of(written(tmp_path / "mind"), tmp_path / "cache")
    assert [row for row in rows if row[2] >= FIRST_DAY] == [
        ("Ua", "N4", FIRST_DAY + 1, 0),
        ("Ua", "N5", FIRST_DAY + 1, 0),
        ("Ua", "N6", FIRST_DAY + 1, 1),
        ("Ua", "N5", FIRST_DAY + 86_400 + 18 * 3600 + 42 * 60 + 51, 1),
        ("Ua", "N6", FIRST_DAY + 86_400 + 18 * 3600 + 42 * 60 + 51, 0),
        ("Ub", "N4", FIRST_DAY + 13 * 3600, 1),
        ("Ub", "N5", FIRST_DAY + 13 * 3600, 0),
    ]


def test_the_history_of_the_earliest_impression_lies_in_the_four_weeks_before(tmp_path):
    rows, _ = rows_of(written(tmp_path / "mind"), tmp_path / "cache")
    history = [row for row in rows if row[2] < FIRST_DAY]
    assert [(user, item, clicked) for user, item, _, clicked in history] == [("Ua", "N1", 1), ("Ua", "N2", 1)]
    third = 28 * 86_400 // 3
    assert [FIRST_DAY - seconds for *_, seconds, _ in history] == [2 * third, third]


def test_articles_keep_their_words_as_they_are_written(tmp_path):
    _, tables = rows_of(written(tmp_path / "mind"), tmp_path / "cache")
    [first, *_] = items = pq.read_table(tables.items).to_pylist()
    assert first == {
        "item_id": "N1",
        "category": "sports",
        "subcategory": "golf",
        "title": 'Title "1',
        "abstract": "About 1.",
    }
    assert [item["item_id"] for item in items] == [f"N{n}" for n in range(1, 7)]


def test_folders_are_read_together_and_an_article_once(tmp_path):
    whole = tmp_path / "mind"
    written(whole / "MINDsmall_train", BEHAVIORS[:1])
    written(whole / "MINDsmall_dev", BEHAVIORS[1:], [*NEWS[3:], NEWS[0].replace("N1", "N7")])
    rows, tables = rows_of(whole, tmp_path / "cache")
    assert rows == rows_of(written(tmp_path / "one"), tmp_path / "other")[0]
    assert pq.read_table(tables.items).num_rows == 7


def test_a_part_without_its_articles_is_read_without_them(tmp_path):
    folder = written(tmp_path / "mind")
    (folder / "news.tsv").unlink()
    with pytest.raises(ValueError, match=r"missing: .*news.tsv"):
        rows_of(folder, tmp_path / "cache")
    rows, tables = rows_of(folder, tmp_path / "cache", articles=False)
    assert len(rows) == 9
    assert tables.items is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tUa\t11/9/2019 1:00:00 PM\tN1", r"behaviors.tsv`: expected 5 fields between tabs in each line"),
        ("1\tUa\t2019-11-09 13:00\tN1\tN2-1", r"expected times such as .*found `2019-11-09 13:00`"),
        ("1\tUa\t11/9/2019 1:00:00 PM\tN1\tN2 N3", r"found `N2`. A test set without clicks"),
    ],
)
def test_what_is_not_mind_is_refused(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        rows_of(written(tmp_path / "mind", [line]), tmp_path / "cache")


def test_a_path_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"`data.source.path` must name a folder of your copy of MIND"):
        Mind().tables(tmp_path)
    with pytest.raises(ValueError, match=r"missing: behaviors.tsv in"):
        Mind(path=str(tmp_path)).tables(tmp_path / "cache")
