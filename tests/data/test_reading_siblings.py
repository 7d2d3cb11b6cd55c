"""Siblings of tables that were misread: types, packings and mixtures that other writers make."""

import bz2
import datetime as dt
import gzip
import io
import lzma
import tarfile
import uuid
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.schema.errors import InputError
from tests.data.preparing import column, manifest_of
from tests.data.test_reading_tables import COLUMNS, ROWS, station_of, text_of

NUMBERS = [int(item[1:]) for item in COLUMNS["item_id"]]
TEXT = text_of(ROWS)


def written(path, **changes):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({**COLUMNS, **changes}), path)
    return path


def items_of(station):
    return pq.read_table(station / "items.parquet")["item_id"].to_pylist()[1:]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([Decimal(n) + Decimal("0.25") for n in NUMBERS], {f"{n}.25" for n in range(40)}),
        ([Decimal(n) / 2 for n in NUMBERS], {f"{n / 2:g}" for n in range(40)}),
        ([Decimal(f"{n}.00") for n in NUMBERS], set(range(40))),
        (
            pa.array([Decimal(n + 10**30) for n in NUMBERS], pa.decimal256(50, 0)),
            {str(n + 10**30) for n in range(40)},
        ),
        (pa.array([Decimal(n) for n in NUMBERS], pa.decimal64(18, 2)), set(range(40))),
    ],
)  # fmt: skip
def test_ids_that_are_decimals_stay_as_many_as_they_are(tmp_path, ids, expected):
    assert set(items_of(station_of(tmp_path, written(tmp_path / "d.parquet", item_id=ids)))) == expected


def test_ids_of_float32_beyond_2_to_the_24_are_refused(tmp_path):
    ids = pa.array([float(2**24 + n) for n in NUMBERS]).cast(pa.float32(), safe=False)
    with pytest.raises(InputError, match=r"floats up to 1.67773e\+07, beyond 2\^24, where different ids"):
        station_of(tmp_path, written(tmp_path / "f.parquet", item_id=ids))


def test_uuids_are_read_as_they_are_written(tmp_path):
    ids = {item: uuid.uuid5(uuid.NAMESPACE_DNS, item) for item in COLUMNS["item_id"]}
    column = pa.array([ids[item].bytes for item in COLUMNS["item_id"]], pa.uuid())
    assert set(items_of(station_of(tmp_path, written(tmp_path / "u.parquet", item_id=column)))) == {
        str(each) for each in ids.values()
    }


def test_categories_of_polars_are_read(tmp_path):
    table = pl.DataFrame(COLUMNS).with_columns(pl.col("item_id").cast(pl.Categorical))
    table.write_ipc(tmp_path / "c.arrow")
    assert set(items_of(station_of(tmp_path, tmp_path / "c.arrow"))) == set(COLUMNS["item_id"])


def test_ids_that_are_lists_are_refused(tmp_path):
    path = written(tmp_path / "l.parquet", item_id=[[item] for item in COLUMNS["item_id"]])
    with pytest.raises(InputError, match=r"item_id=item_id`: expected one value a row"):
        station_of(tmp_path, path)


def test_instants_of_float32_are_read_and_their_steps_said(tmp_path, caplog):
    seconds = pa.array([float(n) for n in COLUMNS["timestamp"]]).cast(pa.float32(), safe=False)
    station_of(tmp_path, written(tmp_path / "f.parquet", timestamp=seconds))
    assert "`timestamp` is float32, whose steps are 128" in caplog.text


def packed_in_half(pack):
    return pack(TEXT.encode())[:-60]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", packed_in_half(gzip.compress)),
        ("b.csv.gz", gzip.compress(TEXT.encode()) + b"garbage" * 9),
        ("c.csv.gz", gzip.compress(TEXT.encode())[:2000] + bytes(99) + gzip.compress(TEXT.encode())[2099:]),
        ("d.csv.bz2", packed_in_half(bz2.compress)),
        ("e.csv.xz", packed_in_half(lzma.compress)),
        ("f.csv.zst", packed_in_half(lambda data: pa.compress(data, codec="zstd", asbytes=True))),
    ],
)
def test_a_packed_file_that_is_damaged_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}` cannot be unpacked.*not fetched whole"):
        station_of(tmp_path, tmp_path / name)


def test_lz4_is_unpacked(tmp_path):
    with pa.CompressedOutputStream(str(tmp_path / "a.csv.lz4"), "lz4") as file:
        file.write(TEXT.encode())
    assert len(items_of(station_of(tmp_path, tmp_path / "a.csv.lz4"))) == 40


def test_a_tar_archive_is_refused_by_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("events.csv")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT.encode()))
    with pytest.raises(InputError, match="is a tar archive"):
        station_of(tmp_path, tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    "content", [b"\x80\x02}q\x00.", b'[\n  {"a": 1}]', b'{  "a": 1}\n', bytes(range(256)) * 9]
)
def test_what_is_no_table_of_text_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"is a pickle|holds JSON|holds bytes that are no text"):
        station_of(tmp_path, tmp_path / "a.csv")


LISTS = [["a", "b"], ["c"], None, [], ["d"]] * 8


@pytest.mark.parametrize("kind", [pa.list_view(pa.string()), pa.large_list_view(pa.string())])
def test_views_of_lists_are_lists(tmp_path, kind):
    items = pa.table({"item_id": [f"p{n}" for n in range(40)], "genres": pa.array(LISTS, kind)})
    pq.write_table(items, tmp_path / "i.parquet")
    path = written(tmp_path / "d.parquet")
    station = station_of(tmp_path, path, items=tmp_path / "i.parquet")
    table = pq.read_table(station / "items.parquet")
    held = dict(zip(table["item_id"].to_pylist(), table["raw.genres"].to_pylist(), strict=True))
    assert held["p0"] == ["a", "b"]


def test_arrow_file_with_a_column_of_no_use_is_read(tmp_path):
    """Intervals, which nothing reads, and one value for a whole run of rows."""
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([700, 1440], pa.int32()), pa.array(["u1", "u2"]))
    table = pa.table({**COLUMNS, "user_id": runs, "span": pa.array([pa.MonthDayNano((1, 2, 3))] * 1440)})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    station = station_of(tmp_path, tmp_path / "a.arrow")
    assert set(pq.read_table(station / "users.parquet")["user_id"].to_pylist()) == {None, "u1", "u2"}


@pytest.mark.parametrize(
    "other",
    [
        [dt.datetime.fromtimestamp(n, dt.UTC) for n in COLUMNS["timestamp"]],
        [[n] for n in COLUMNS["timestamp"]],
    ],
)
def test_parts_whose_types_cannot_be_one_column_are_refused_by_name(tmp_path, other):
    written(tmp_path / "parts" / "a.parquet")
    written(tmp_path / "parts" / "b.parquet", timestamp=other)
    with pytest.raises(InputError, match=r"`timestamp` is int64 in `.*a.parquet` and .* in `.*b.parquet`"):
        station_of(tmp_path, tmp_path / "parts")


def test_values_in_names_of_folders_are_said_not_to_be_read(tmp_path, caplog):
    (tmp_path / "parts").mkdir()
    written(tmp_path / "parts" / "day=1" / "a.parquet")
    station_of(tmp_path, tmp_path / "parts")
    assert "`day=1` name values of a column that is not read" in caplog.text


def test_names_in_single_quotes_are_read_as_the_values_are(tmp_path):
    lines = [",".join(f"'{value}'" for value in line.split(",")) for line in TEXT.splitlines()]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    assert len(items_of(station_of(tmp_path, tmp_path / "a.csv"))) == 40


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ([f"{n % 28 + 1:02d}/01/2020" for n in range(40)], "not used", "no dates in ISO form"),
        ([f"{n % 28 + 1:02d}.01.2020" for n in range(40)], "not used", "no dates in ISO form"),
        ([f"{n % 4}/5" for n in range(40)], "feature (id)", None),
        ([f"[{n / 2}, -2e-3]" for n in range(40)], "feature (vector)", None),
        ([f"[{n / 2}  1.0 -2.0e-03]" for n in range(40)], "not used", "without commas"),
    ],
)
def test_text_is_not_taken_for_a_set_of_its_pieces(tmp_path, caplog, values, kind, reason):
    rows = [f'p{n},"{value}"' for n, value in enumerate(values)]
    (tmp_path / "i.csv").write_text("\n".join(["item_id,thing", *rows]) + "\n")
    caplog.set_level("INFO")
    station = station_of(tmp_path, written(tmp_path / "d.parquet"), items=tmp_path / "i.csv")
    described = {entry["column"]: entry for entry in manifest_of(station)["understood"]["columns"]}
    assert described["thing"]["taken for"] == kind
    assert reason is None or reason in caplog.text


def test_share_of_values_leaves_out_words_for_null_and_what_is_not_finite(tmp_path):
    rows = [f"p{n},{'NaN' if n % 4 == 0 else 'abc'[n % 3]}" for n in range(40)]
    (tmp_path / "i.csv").write_text("\n".join(["item_id,word", *rows]) + "\n")
    gone = [float("nan") if n % 10 == 0 else float(n) for n in range(1440)]
    path = written(tmp_path / "d.parquet", length=gone)
    station = station_of(tmp_path, path, items=tmp_path / "i.csv", features={"length": {"kind": "numeric"}})
    described = {entry["column"]: entry for entry in manifest_of(station)["understood"]["columns"]}
    assert (described["word"]["there"], described["length"]["there"]) == (0.75, 0.9)
    assert "NaN" not in described["word"]["examples"]
    assert column(station, "train", "label")


def bomb(path):
    with gzip.open(path, "wb") as file:
        file.write(TEXT.encode())
        for _ in range(100):
            file.write(bytes(2**20))


def sparse(path):
    path.write_text(TEXT)
    with path.open("ab") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("made", [bomb, sparse])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, made):
    made(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a.csv`: expected lines of at most 67,108,864 bytes"):
        station_of(tmp_path, tmp_path / "a.csv")
