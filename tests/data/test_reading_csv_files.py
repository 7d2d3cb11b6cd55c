"""CSV as people have it: delimiters, quotes, blanks, encodings, bad lines."""

import gzip
import sys

import pyarrow.parquet as pq
import pytest

from recsys.data.reading.csv_files import DELIMITERS, open_csv


def staged(tmp_path, content, *, required=("user", "item"), delimiter=None, columns=None):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    file = open_csv(path, required=required, delimiter=delimiter)
    target = tmp_path / "table.parquet"
    chosen = columns or list(file.types)
    count, bad = file.write(target, names=dict(zip(chosen, chosen, strict=True)), sequence="n", offset=0)
    return count, bad, pq.read_table(target).to_pylist()


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_found_in_the_header(tmp_path, delimiter):
    text = "\n".join(delimiter.join(line) for line in (("user", "item"), ("a", "b"), ("c", "d"))) + "\n"
    assert staged(tmp_path, text)[2] == [
        {"user": "a", "item": "b", "n": 1},
        {"user": "c", "item": "d", "n": 2},
    ]


def test_the_columns_wanted_decide_between_delimiters(tmp_path):
    # By a comma there are more columns, but not the right ones.
    _, _, rows = staged(tmp_path, "user;item;a,b,c,d\n1;2;x,y\n")
    assert rows == [{"user": "1", "item": "2", "a,b,c,d": "x,y", "n": 1}]


def test_a_given_delimiter_is_used(tmp_path):
    _, _, rows = staged(tmp_path, "user~item\n1~2\n", delimiter="~")
    assert rows == [{"user": "1", "item": "2", "n": 1}]


def test_quotes_protect_delimiters_and_line_ends(tmp_path):
    _, _, rows = staged(tmp_path, 'user,item\n"a, b","line\nbreak"\n5" disc,"say ""hi"""\n')
    assert rows == [
        {"user": "a, b", "item": "line\nbreak", "n": 1},
        {"user": '5" disc', "item": 'say "hi"', "n": 2},
    ]


def test_blanks_and_byte_order_mark_are_cut_off_and_empty_is_null(tmp_path):
    _, _, rows = staged(tmp_path, b"\xef\xbb\xbf user , item \r\n a , \r\n\r\n b ,c\r\n")
    assert rows == [{"user": "a", "item": None, "n": 1}, {"user": "b", "item": "c", "n": 2}]


def test_malformed_rows_are_set_aside_with_their_numbers(tmp_path):
    count, bad, rows = staged(tmp_path, "user,item\n1,1\n2\n\n3,3\n4,4,4\n5,5\n")
    assert count == 5
    assert [(row.sequence, row.reason) for row in bad] == [
        (2, "expected 2 columns, found 1"),
        (4, "expected 2 columns, found 3"),
    ]
    assert [(row["user"], row["n"]) for row in rows] == [("1", 1), ("3", 3), ("5", 5)]


def test_row_numbers_are_right_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.data.reading.csv_files"], "BLOCK_BYTES", 64)
    lines = [f"{n},x" if n % 7 else f"{n}" for n in range(1, 101)]
    count, bad, rows = staged(tmp_path, "user,item\n" + "\n".join(lines) + "\n")
    assert count == 100
    assert [row.sequence for row in bad] == list(range(7, 101, 7))
    assert all(row["user"] == str(row["n"]) for row in rows)


def test_a_delimiter_cut_by_a_block_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.data.reading.csv_files"], "BLOCK_BYTES", 16)
    lines = [f"{'u' * (n % 5)}{n}::i:{n}" for n in range(50)]
    _, bad, rows = staged(tmp_path, "user::item\n" + "\n".join(lines) + "\n")
    assert not bad
    assert [f"{row['user']}::{row['item']}" for row in rows] == lines


def test_latin_1_is_read_with_a_warning(tmp_path, caplog):
    _, _, rows = staged(tmp_path, "user,item\n1,Amélie\n".encode("latin-1"))
    assert rows == [{"user": "1", "item": "Amélie", "n": 1}]
    assert "is not UTF-8; reading it as Latin-1" in caplog.text


def test_gzip_is_unpacked(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"user,item\n1,2\n"))
    file = open_csv(path, required=["user"])
    file.write(tmp_path / "t.parquet", names={"item": "item"}, sequence="n", offset=10)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == [{"item": "2", "n": 11}]


def test_a_column_without_a_name_is_passed_over(tmp_path):
    # pandas writes its index so.
    _, _, rows = staged(tmp_path, ",user,item\n0,a,b\n")
    assert rows == [{"user": "a", "item": "b", "n": 1}]


def test_a_header_alone_is_a_table_without_rows(tmp_path):
    assert staged(tmp_path, "user,item\n") == (0, [], [])
    assert staged(tmp_path, "user,item") == (0, [], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected column names in its first line, found nothing"),
        ("user,item,user\n1,2,3\n", "found `user` twice"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        staged(tmp_path, content)
