"""Tables as other people's tools write them, each read as what it is or refused by name."""

import bz2
import gzip
import json
import logging
import lzma
import random
import sys
import zipfile
from decimal import Decimal

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from recsys.data.options import DataOptions, InteractionsTable, Label, SideTable
from recsys.data.prepare import prepare
from recsys.schema.errors import InputError
from tests.data.preparing import column, manifest_of, rows_of

HEADER = ("user_id", "item_id", "timestamp", "rating")


def interactions():
    """1,440 rows of user, item, seconds and stars; 120 users, 40 items."""
    draw = random.Random(0)
    rows = []
    for user in range(120):
        taste = draw.randrange(4)
        for _ in range(12):
            liked = draw.random() < 0.8
            item = draw.choice([i for i in range(40) if i % 4 == taste]) if liked else draw.randrange(40)
            when = 1_700_000_000 + draw.randrange(8_640_000)
            stars = draw.choice([4, 5]) if item % 4 == taste else draw.choice([1, 2, 3])
            rows.append((f"u{user}", f"p{item}", when, stars))
    draw.shuffle(rows)
    return rows


ROWS = interactions()
COLUMNS = {name: list(values) for name, values in zip(HEADER, zip(*ROWS, strict=True), strict=True)}


def text_of(rows, *, delimiter=",", header=HEADER):
    return "\n".join(delimiter.join(map(str, row)) for row in [header, *rows]) + "\n"


def station_of(folder, path, *, items=None, users=None, features=None, item_features=None, **changes):
    options = DataOptions(
        interactions=InteractionsTable(path=str(path), features=features),
        users=SideTable(path=str(users) if users else None),
        items=SideTable(path=str(items) if items else None, features=item_features),
        cache_dir=str(folder / "cache"),
        **changes,
    )
    return prepare(options)


def written(folder, content, name="events.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def num_rows(station):
    return sum(manifest_of(station)["counts"]["rows"].values())


def items_table(folder, **columns):
    """A CSV file of the 40 items with these columns, each a function of the item's number."""
    names = ["item_id", *columns]
    lines = [",".join(names)]
    for number in range(40):
        values = [str(make(number)) for make in columns.values()]
        lines.append(
            ",".join([f"p{number}", *(f'"{v}"' if "," in v and '"' not in v else v for v in values)])
        )
    return written(folder, "\n".join(lines) + "\n", "items.csv")


def by_item(station, name):
    return {row["item_id"]: row[name] for row in rows_of(station, "items.parquet")[1:]}


@pytest.fixture
def base(tmp_path):
    return written(tmp_path, text_of(ROWS), "base.csv")


# Quotation marks and what is around them.


def test_an_open_quotation_mark_swallows_nothing_and_is_said(tmp_path, caplog):
    rows = [(*row, '"rare phone' if number == 100 else "plain") for number, row in enumerate(ROWS)]
    path = written(tmp_path, text_of(rows, delimiter="\t", header=(*HEADER, "query")), "quote.tsv")
    assert num_rows(station_of(tmp_path, path)) == 1440
    assert "a quotation mark is opened and not closed in 1 row(s) (101)" in caplog.text


@pytest.mark.parametrize("delimiter", ["\t", "::", ";"])
def test_two_open_quotation_marks_swallow_nothing(tmp_path, delimiter):
    rows = [(*row, '"rare' if number in (100, 300, 1439) else "x") for number, row in enumerate(ROWS)]
    path = written(tmp_path, text_of(rows, delimiter=delimiter, header=(*HEADER, "query")))
    assert num_rows(station_of(tmp_path, path)) == 1440


def test_an_open_mark_of_a_side_table_keeps_its_rows(tmp_path, base):
    titles = {2: '"Weird', 3: '"Film'}
    lines = [f"p{number}::{titles.get(number, f'T{number}')}::x" for number in range(40)]
    items = written(tmp_path, "item_id::title::kind\n" + "\n".join(lines) + "\n", "items.dat")
    found = by_item(station_of(tmp_path, base, items=items), "raw.title")
    assert (len(found), found["p2"], found["p3"]) == (40, '"Weird', '"Film')


def test_backslashes_escape_quotation_marks_where_that_makes_rows_whole(tmp_path, base):
    lines = ['p0,"He said \\"yes\\", twice"', 'p1,"\\"quoted\\""', 'p2,"C:\\dir\\"', 'p3,"a ""b"" c"']
    lines += [f"p{number},plain {number}" for number in range(4, 40)]
    items = written(tmp_path, "item_id,title\n" + "\n".join(lines) + "\n", "items.csv")
    found = by_item(station_of(tmp_path, base, items=items), "raw.title")
    assert [found[f"p{n}"] for n in range(4)] == ['He said "yes", twice', '"quoted"', "C:\\dir\\", 'a "b" c']


# Files and encodings.


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("utf16.csv", text_of(ROWS).encode("utf-16")),
        ("utf16be.csv", text_of(ROWS).encode("utf-16-be")),
        ("utf32.csv", text_of(ROWS).encode("utf-32")),
        ("mark.csv", text_of(ROWS).encode("utf-8-sig")),
        ("cr.csv", text_of(ROWS).replace("\n", "\r").encode()),
        ("crlf.csv", text_of(ROWS).replace("\n", "\r\n").encode()),
        ("base.csv.gz", gzip.compress(text_of(ROWS).encode())),
        ("base.csv.bz2", bz2.compress(text_of(ROWS).encode())),
        ("base.csv.xz", lzma.compress(text_of(ROWS).encode())),
        ("base.csv.zst", bytes(pa.compress(text_of(ROWS).encode(), codec="zstd", asbytes=True))),
        ("named.csv", gzip.compress(text_of(ROWS).encode())),
        ("blank.csv", ("\n \n" + text_of(ROWS)).encode()),
        ("comment.csv", ("# made by hand\n" + text_of(ROWS)).encode()),
        ("excel.csv", ("sep=;\n" + text_of(ROWS, delimiter=";")).encode()),
        ("trailing.csv", text_of([(*row, "") for row in ROWS]).encode()),
        ("single.csv", text_of([tuple(f"'{value}'" for value in row) for row in ROWS]).encode()),
    ],
)
def test_files_are_read_whatever_they_are_written_in(tmp_path, name, content):
    station = station_of(tmp_path, written(tmp_path, content, name))
    assert num_rows(station) == 1440
    assert set(column(station, "users.parquet", "user_id")) == {None, *COLUMNS["user_id"]}


def test_text_of_windows_keeps_its_apostrophes(tmp_path, base):
    titles = [f"it\u2019s {number}" for number in range(40)]
    lines = [f"p{number},{title}" for number, title in enumerate(titles)]
    items = written(tmp_path, ("item_id,title\n" + "\n".join(lines) + "\n").encode("cp1252"), "items.csv")
    assert set(by_item(station_of(tmp_path, base, items=items), "raw.title").values()) == set(titles)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.jsonl", b'{"user_id": 1}\n', "holds JSON"),
        ("x.csv", b"\x89HDF\r\n", "is an HDF5 file"),
        ("x.csv", b"<!DOCTYPE html>", "is an HTML page"),
        ("x.pkl", b"\x80\x04\x95", "is a pickle"),
        ("x.parquet", b"not what it says", "is named as Parquet"),
        ("x.csv", b"", "found an empty file"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(tmp_path, name, content, what):
    with pytest.raises(InputError, match=what):
        station_of(tmp_path, written(tmp_path, content, name))


def test_a_zip_archive_is_refused_with_what_to_do(tmp_path, base):
    with zipfile.ZipFile(tmp_path / "base.csv.zip", "w") as archive:
        archive.write(base, "base.csv")
    with pytest.raises(InputError, match=r"is a zip archive .*; unpack it"):
        station_of(tmp_path, tmp_path / "base.csv.zip")


@pytest.mark.parametrize("kind", ["file", "stream", "feather"])
def test_arrow_files_are_read(tmp_path, kind):
    table, path = pa.table(COLUMNS), tmp_path / "events.arrow"
    if kind == "feather":
        feather.write_feather(table, path)
    else:
        make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
            writer.write_table(table)
    assert num_rows(station_of(tmp_path, path)) == 1440


def test_hidden_copies_of_a_folder_are_passed_over_and_named(tmp_path, base, caplog):
    folder = tmp_path / "parts"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("ratings.csv", ".ipynb_checkpoints/ratings-checkpoint.csv"):
        (folder / name).write_bytes(base.read_bytes())
    (folder / "README.md").write_text("what this is")
    assert num_rows(station_of(tmp_path, folder)) == 1440
    assert "`.ipynb_checkpoints/ratings-checkpoint.csv` is passed over (hidden)" in caplog.text
    assert "`README.md` is passed over (no known suffix)" in caplog.text


def test_suffixes_in_capitals_and_of_packings_are_read(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    written(folder, text_of(ROWS[:500]), "jan.csv")
    written(folder, text_of(ROWS[500:900]), "FEB.CSV")
    written(folder, bz2.compress(text_of(ROWS[900:]).encode()), "mar.csv.bz2")
    assert num_rows(station_of(tmp_path, folder)) == 1440


# What values are.


def test_codes_stay_text(tmp_path, base):
    items = items_table(
        tmp_path,
        zipcode=lambda n: f"{(n % 7) * 1000 + 2100:05d}",
        dept=lambda n: ["01", "1", "007", "7"][n % 4],
        sku=lambda n: f"{n % 5}E{n % 3}",
        prefix=lambda n: ["0044", "0049", "044"][n % 3],
        number=lambda n: f"{12345678901234567890 + n % 3}",
    )
    station = station_of(tmp_path, base, items=items)
    assert [f["kind"] for f in features_of(station).values()] == ["id"] * 5
    assert by_item(station, "raw.dept")["p0"] == "01"
    assert set(vocabulary(station, "dept")) == {"01", "1", "007", "7"}
    assert set(vocabulary(station, "sku")) == {f"{a}E{b}" for a in range(5) for b in range(3)}


def features_of(station):
    found = json.loads((station / "schema.json").read_text())["features"]
    return {f["name"]: f for f in found if f["role"] == "item" and f["name"] != "item_id"}


def vocabulary(station, table):
    return [row["value"] for row in rows_of(station, f"vocabularies/{table}.parquet")]


GENRES = ["Action", "Drama", "Sci-Fi", "War", "Kids"]


@pytest.mark.parametrize(
    "write",
    [
        str,
        json.dumps,
        lambda pair: "{" + ",".join(pair) + "}",
        lambda pair: str(tuple(pair)),
        lambda pair: str(set(pair)),
        "|".join,
        ", ".join,
    ],
)
def test_lists_in_text_are_their_elements(tmp_path, base, write):
    pairs = [sorted({GENRES[n % 5], GENRES[(n + 1) % 5]}) for n in range(40)]
    lines = [f"p{n}\t{write(pair)}" for n, pair in enumerate(pairs)]
    items = written(tmp_path, "item_id\tgenres\n" + "\n".join(lines) + "\n", "items.tsv")
    station = station_of(tmp_path, base, items=items)
    assert features_of(station)["genres"]["kind"] == "multi_id"
    assert set(vocabulary(station, "genres")) == set(GENRES)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda n: f"{n + 10},5", 12.5),
        (lambda n: f"1.{n + 100},50", 1102.5),
        (lambda n: f"1,{n + 100}.50", 1102.5),
        (lambda n: f"€{n}.48", 2.48),
        (lambda n: f"{n},48 €", 2.48),
        (lambda n: f"$1,{n + 100}.00", 1102.0),
        (lambda n: f"USD {n}.10", 2.1),
        (lambda n: f"{n} %", 0.02),
        (lambda n: f"1 {n + 100},5", 1102.5),
        (lambda n: f"{n}.5e-01", 0.25),
        (lambda n: f"\u2212{n}.5", -2.5),
        (lambda n: f"\u2212€1.{n + 100},50", -1102.5),
        (lambda n: f"{n}.75" if n != 7 else "unknown", 2.75),
    ],
)
def test_numbers_are_read_however_they_are_written(tmp_path, base, write, expected):
    lines = [f"p{n}\t{write(n)}" for n in range(40)]
    items = written(tmp_path, "item_id\tprice\n" + "\n".join(lines) + "\n", "items.tsv")
    station = station_of(tmp_path, base, items=items)
    assert features_of(station)["price"]["kind"] == "numeric"
    assert by_item(station, "raw.price")["p2"] == pytest.approx(expected)


def test_each_level_of_a_path_is_a_value(tmp_path, base):
    path = lambda n: f"Home > {['Kitchen', 'Bath'][n % 2]} > {['Pans', 'Pots', 'Cups'][n % 3]}"  # noqa: E731
    station = station_of(tmp_path, base, items=items_table(tmp_path, category=path))
    assert set(vocabulary(station, "category")) == {"Home", "Kitchen", "Bath", "Pans", "Pots", "Cups"}


def test_words_for_nothing_are_missing_in_every_column(tmp_path, base):
    items = items_table(
        tmp_path,
        price=lambda n: "-" if n == 5 else n * 1.5,
        votes=lambda n: "n/a" if n == 7 else n * 3,
        kind=lambda n: "NaN" if n % 3 else f"c{n % 4}",
    )
    station = station_of(tmp_path, base, items=items)
    assert by_item(station, "raw.price")["p5"] is None
    assert (by_item(station, "raw.votes")["p7"], by_item(station, "raw.votes")["p8"]) == (None, 24)
    assert set(vocabulary(station, "kind")) == {"c0", "c1", "c2", "c3"}


@pytest.mark.parametrize("words", [("True", "False"), ("true", "false"), ("TRUE", "FALSE")])
def test_truth_values_of_text_are_those_of_parquet(tmp_path, words):
    rows = [(*row, words[number % 2]) for number, row in enumerate(ROWS)]
    declared = {"mobile": {"kind": "id"}}
    path = written(tmp_path, text_of(rows, header=(*HEADER, "mobile")))
    from_text = station_of(tmp_path, path, features=declared)
    table = pa.table({**COLUMNS, "mobile": [number % 2 == 0 for number in range(1440)]})
    pq.write_table(table, tmp_path / "events.parquet")
    from_parquet = station_of(tmp_path, tmp_path / "events.parquet", features=declared)
    assert vocabulary(from_text, "mobile") == vocabulary(from_parquet, "mobile")
    assert column(from_text, "test", "raw.mobile") == column(from_parquet, "test", "raw.mobile")


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_floats_that_are_no_numbers_are_missing(tmp_path, base, odd):
    prices = [odd if n == 3 else n * 1.5 for n in range(40)]
    pq.write_table(
        pa.table({"item_id": [f"p{n}" for n in range(40)], "price": prices}), tmp_path / "i.parquet"
    )
    station = station_of(tmp_path, base, items=tmp_path / "i.parquet")
    assert (by_item(station, "raw.price")["p3"], by_item(station, "raw.price")["p2"]) == (None, 3.0)


# Names of columns.


def test_columns_may_differ_in_capitals_alone(tmp_path, base):
    pq.write_table(
        pa.table({**COLUMNS, "Rating": [10 * r for r in COLUMNS["rating"]]}), tmp_path / "e.parquet"
    )
    for path, features in ((tmp_path / "e.parquet", None), (tmp_path / "e.parquet", "infer")):
        station = station_of(tmp_path, path, label=Label("Rating", 40), features=features)
        assert sum(manifest_of(station)["counts"]["positives"].values()) == 1219
    items = items_table(tmp_path, Genre=lambda n: f"a{n % 3}", genre=lambda n: f"b{n % 4}")
    found = rows_of(station_of(tmp_path, base, items=items), "items.parquet")[1]
    assert (found["raw.Genre"][0], found["raw.genre"][0]) == ("a", "b")


@pytest.mark.parametrize(
    "names",
    [
        ("Label", "Split", "USER_ID"),
        ("file_row_number", "_sequence", "filename"),
        ("Positive", "History", "_offset"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_may_be_called_as_our_own(tmp_path, names, suffix):
    table = pa.table({**COLUMNS, **{name: [n % 3 for n in range(1440)] for name in names}})
    path = tmp_path / f"events.{suffix}"
    if suffix == "csv":
        written(tmp_path, text_of(zip(*table.to_pydict().values(), strict=True), header=table.column_names))
    else:
        pq.write_table(table, path)
    station = station_of(tmp_path, path, features="infer", label=Label("rating", 4))
    assert num_rows(station) == 1440
    kept = {f"raw.{name}" for name in names if name != "Label"}  # an outcome by its name, left out and said
    assert kept <= set(rows_of(station, "test")[0])


# Ids.


def test_ids_beyond_signed_integers_are_text(tmp_path):
    ids = pa.array([int(item[1:]) + 2**63 for item in COLUMNS["item_id"]], pa.uint64())
    pq.write_table(pa.table({**COLUMNS, "item_id": ids}), tmp_path / "events.parquet")
    station = station_of(tmp_path, tmp_path / "events.parquet")
    assert set(by_item(station, "item_id")) == {str(2**63 + n) for n in range(40)}


def test_ids_that_floats_have_made_one_are_refused(tmp_path):
    ids = [float(2**53 + 2 * int(item[1:]) + 2) for item in COLUMNS["item_id"]]
    pq.write_table(pa.table({**COLUMNS, "item_id": ids}), tmp_path / "events.parquet")
    with pytest.raises(InputError, match=r"beyond 2\^53, where different ids have become one"):
        station_of(tmp_path, tmp_path / "events.parquet")


def test_ids_that_a_spreadsheet_has_shortened_are_refused(tmp_path):
    isbns = [(user, f"{9_780_000_000_000 + 7_919 * int(item[1:]):.5E}", *_) for user, item, *_ in ROWS]
    (tmp_path / "events.csv").write_text(text_of(isbns))
    with pytest.raises(InputError, match=r"1440 of 1440 shortened by a spreadsheet, as `9.78000E\+12`"):
        station_of(tmp_path, tmp_path / "events.csv")


def test_missing_ids_of_floats_are_rejected(tmp_path):
    ids = [float("nan") if n < 5 else float(item[1:]) for n, item in enumerate(COLUMNS["item_id"])]
    pq.write_table(pa.table({**COLUMNS, "item_id": ids}), tmp_path / "events.parquet")
    station = station_of(tmp_path, tmp_path / "events.parquet")
    assert [row["row"] for row in rows_of(station, "rejected.parquet")] == [1, 2, 3, 4, 5]


def test_a_header_in_the_middle_is_no_row(tmp_path):
    rows = [(user[1:], f"{item[1:]}.0", when, stars) for user, item, when, stars in ROWS]
    path = written(tmp_path, text_of([*rows[:699], HEADER, *rows[699:]]))
    items = "item_id,genre\n" + "".join(f"{n},g{n % 4}\n" for n in range(40))
    station = station_of(tmp_path, path, items=written(tmp_path, items, "items.csv"))
    assert [(r["row"], r["reason"]) for r in rows_of(station, "rejected.parquet")] == [
        (700, "the column names again")
    ]
    assert len(by_item(station, "item_id")) == 40


# Labels.


def test_of_a_view_and_a_purchase_at_one_instant_the_purchase_is_kept(tmp_path, caplog):
    rows = [(user, item, when, int(n % 5 == 0)) for n, (user, item, when, _) in enumerate(ROWS)]
    bought = [(user, item, when, 1) for user, item, when, label in rows if not label][:12]
    path = written(tmp_path, text_of([*rows, *bought]))
    station = station_of(tmp_path, path, label=Label("rating", 1))
    assert sum(manifest_of(station)["counts"]["positives"].values()) == 300
    assert "12 rows have another label than a row of the same user, item and instant" in caplog.text


WORDS = ["view", "cart", "purchase"]
WORTH = {"view": 0, "cart": 3, "purchase": 10}


@pytest.fixture
def words(tmp_path):
    rows = [(user, item, when, WORDS[n % 3]) for n, (user, item, when, _) in enumerate(ROWS)]
    return written(tmp_path, text_of(rows, header=("user_id", "item_id", "timestamp", "event")), "words.csv")


@pytest.mark.parametrize("threshold", ["purchase", 1.0])
def test_words_as_labels_are_shown_with_the_key_that_reads_them(tmp_path, words, threshold):
    message = r"`view` \(480 rows\).*`data.label.positives="
    with pytest.raises(InputError, match=message):
        station_of(tmp_path, words, label=Label("event", threshold))


@pytest.mark.parametrize(
    ("label", "positives", "values"),
    [
        (Label("event", positives=("cart", "purchase")), 960, {0.0, 1.0}),
        (Label("event", weights={"view": 1, "cart": 3, "purchase": 10}), 1440, {1.0, 3.0, 10.0}),
        (Label("event", 3, weights={"view": 1, "cart": 3, "purchase": 10}), 960, {1.0, 3.0, 10.0}),
        (
            Label("event", positives=("purchase",), weights={"view": 0, "cart": 3, "purchase": 10}),
            480,
            {0.0, 3.0, 10.0},
        ),
    ],
)
def test_words_are_positives_or_have_weights(tmp_path, words, label, positives, values):
    station = station_of(tmp_path, words, label=label)
    assert sum(manifest_of(station)["counts"]["positives"].values()) == positives
    assert set(column(station, "train", "label")) == values


def test_a_word_that_no_row_has_is_refused_with_the_nearest(tmp_path, words):
    with pytest.raises(InputError, match=r"no row of `event` says `card`; did you mean `cart`\?"):
        station_of(tmp_path, words, label=Label("event", positives=("card",)))
    with pytest.raises(InputError, match=r"must give a weight to every value of `event`, lacking: `view`"):
        station_of(tmp_path, words, label=Label("event", weights={"cart": 1, "purchase": 2}))


@pytest.mark.parametrize(
    ("column_of_words", "positives"), [(("yes", "no"), 720), (("Y", "N"), 720), (("true", "False"), 720)]
)
def test_answers_are_labels(tmp_path, column_of_words, positives):
    rows = [(user, item, when, column_of_words[n % 2]) for n, (user, item, when, _) in enumerate(ROWS)]
    station = station_of(tmp_path, written(tmp_path, text_of(rows)), label=Label("rating", 1))
    assert sum(manifest_of(station)["counts"]["positives"].values()) == positives


def test_structs_are_refused_where_they_are_asked_for(tmp_path):
    table = pa.table({**COLUMNS, "item_id": [{"id": item} for item in COLUMNS["item_id"]]})
    pq.write_table(table, tmp_path / "events.parquet")
    with pytest.raises(InputError, match=r"item_id=item_id`: expected one value a row .* the type struct"):
        station_of(tmp_path, tmp_path / "events.parquet")


def test_all_types_of_arrow_are_read(tmp_path, base):
    ids = pa.array([f"p{n}" for n in range(40)])
    table = pa.table(
        {
            "item_id": ids.dictionary_encode(),
            "kind": pa.array([f"k{n % 3}" for n in range(40)], pa.large_string()).cast(pa.large_string()),
            "code": pa.array([f"c{n % 3}".encode() for n in range(40)], pa.binary()),
            "price": pa.array([Decimal(n) / 4 for n in range(40)], pa.decimal128(10, 2)),
            "half": pa.array([float(n) / 2 for n in range(40)], pa.float32()).cast(pa.float16()),
            "tags": pa.array([[f"t{n % 3}", "all"] for n in range(40)], pa.large_list(pa.string())),
            "born": pa.array(range(40), pa.date32()),
            "since": pa.array([n * 10**9 for n in range(40)], pa.timestamp("ns", "UTC")),
            "nothing": pa.nulls(40),
            "nested": [{"a": n} for n in range(40)],
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    station = station_of(tmp_path, base, items=tmp_path / "items.parquet")
    row = next(row for row in rows_of(station, "items.parquet") if row["item_id"] == "p2")
    found = [row[f"raw.{name}"] for name in ("kind", "code", "price", "half", "tags")]
    assert found == ["k2", "c2", 0.5, 1.0, ["t2", "all"]]
    assert "raw.nested" not in row


def test_what_is_read_is_logged(tmp_path, base, caplog):
    with caplog.at_level(logging.INFO):
        station_of(tmp_path, base)
    assert "read 1440 rows of data.interactions from 1 CSV file(s)" in caplog.text


def test_a_damaged_file_is_named(tmp_path):
    good = tmp_path / "a.parquet"
    pq.write_table(pa.table(COLUMNS), good)
    content = bytearray(good.read_bytes())
    start = pq.read_metadata(good).row_group(0).column(1).data_page_offset
    content[start : start + 8] = b"\xff" * 8
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(good.read_bytes())
    (folder / "b.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"parts/b.parquet` is damaged, or was not fetched whole"):
        station_of(tmp_path, folder)


def test_memory_that_runs_out_is_said(tmp_path, base, monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.data.reading.engine"], "MEMORY_LIMIT", "1MB")
    with pytest.raises(InputError, match=r"memory ran out while tables were read .*; free memory"):
        station_of(tmp_path, base)


def test_one_row_one_user_and_no_positives_are_told(tmp_path):
    one = written(tmp_path, text_of(ROWS[:1]), "one.csv")
    with pytest.raises(InputError, match="the split leaves nothing to train on"):
        station_of(tmp_path, one)
    assert num_rows(station_of(tmp_path, one, split="random", split_fractions=(1.0, 0.0, 0.0))) == 1
    same = written(tmp_path, text_of([("u", *row[1:]) for row in ROWS]), "same.csv")
    assert manifest_of(station_of(tmp_path, same))["counts"]["users"] == 1
    with pytest.raises(InputError, match=r"leaves no positive interaction: `rating` lies between 1 and 5"):
        station_of(tmp_path, same, label=Label("rating", 9))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), None])
def test_labels_that_are_no_numbers_are_rejected(tmp_path, odd):
    labels = [odd if n < 5 else float(r) for n, r in enumerate(COLUMNS["rating"])]
    pq.write_table(pa.table({**COLUMNS, "rating": labels}), tmp_path / "events.parquet")
    station = station_of(tmp_path, tmp_path / "events.parquet", label=Label("rating", 4))
    assert [row["row"] for row in rows_of(station, "rejected.parquet")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**53 + 1])
def test_the_ends_of_integers_are_ids_and_features(tmp_path, base, number):
    ids = [number if item == "p1" else int(item[1:]) for item in COLUMNS["item_id"]]
    pq.write_table(pa.table({**COLUMNS, "item_id": ids}), tmp_path / "events.parquet")
    table = pa.table({"item_id": [*range(40), number], "code": [*range(1, 41), number]})
    pq.write_table(table, tmp_path / "items.parquet")
    features = {"code": {"kind": "id"}}
    path = tmp_path / "events.parquet"
    station = station_of(tmp_path, path, items=tmp_path / "items.parquet", item_features=features)
    assert by_item(station, "raw.code")[number] == number
    assert number in vocabulary(station, "code")


def test_objects_in_text_are_no_feature(tmp_path, base, caplog):
    lines = [f'p{n}\t[{{"id": {n % 5}, "name": "x"}}]' for n in range(40)]
    items = written(tmp_path, "item_id\tgenres\n" + "\n".join(lines) + "\n", "items.tsv")
    with caplog.at_level(logging.INFO):
        station = station_of(tmp_path, base, items=items)
    assert features_of(station) == {}
    assert "column `genres` is left out, objects written as text are no feature" in caplog.text


def test_rows_with_a_european_label_are_read(tmp_path):
    rows = [(user, item, when, f"{stars},5") for user, item, when, stars in ROWS]
    station = station_of(tmp_path, written(tmp_path, text_of(rows, delimiter=";")), label=Label("rating", 4))
    assert sum(manifest_of(station)["counts"]["positives"].values()) == 1219


def test_columns_of_types_that_are_not_read_are_left_out_where_all_are_wanted(tmp_path):
    maps = pa.array([[("a", 1)]] * len(ROWS), pa.map_(pa.string(), pa.int64()))
    table = pa.table({**COLUMNS, "extra": maps, "device": ["tv", "pc"] * (len(ROWS) // 2)})
    pq.write_table(table, tmp_path / "maps.parquet")
    station = station_of(tmp_path, tmp_path / "maps.parquet", features="infer")
    features = [f["name"] for f in json.loads((station / "schema.json").read_text())["features"]]
    assert "device" in features
    assert "extra" not in features


def test_a_tab_may_be_written_as_people_write_it(tmp_path):
    path = written(tmp_path, text_of(ROWS, delimiter="\t"), "events.tsv")
    interactions = InteractionsTable(path=str(path), delimiter=r"\t")
    assert num_rows(prepare(DataOptions(interactions=interactions, cache_dir=str(tmp_path)))) == 1440


def test_half_a_catalogue_is_said_without_an_item_that_is_not_there(tmp_path, caplog):
    half = "item_id,genre\n" + "".join(f"p{n},g{n % 4}\n" for n in range(20))
    station_of(tmp_path, written(tmp_path, text_of(ROWS)), items=written(tmp_path, half, "items.csv"))
    assert "20 of 40 items of the interactions are in the items table; such as `p20` is not\n" in caplog.text


def test_lists_that_hold_what_is_no_number_are_no_fault(tmp_path):
    lists = [[float("nan")] if number == 1 else [1.0 * number] * (number % 3) for number in range(40)]
    items = pa.table({"item_id": [f"p{number}" for number in range(40)], "measured": lists})
    pq.write_table(items, tmp_path / "items.parquet")
    station = station_of(tmp_path, written(tmp_path, text_of(ROWS)), items=tmp_path / "items.parquet")
    assert num_rows(station) == 1440


def test_the_lock_of_an_open_spreadsheet_is_passed_over(tmp_path, caplog):
    folder = tmp_path / "parts"
    folder.mkdir()
    written(folder, text_of(ROWS), "part.csv")
    written(folder, "me", "~$part.csv")
    assert num_rows(station_of(tmp_path, folder)) == 1440
    assert "`~$part.csv` is passed over (of a spreadsheet that is open)" in caplog.text
