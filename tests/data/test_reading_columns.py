"""Timestamps in every form that people have, read as what they are."""

import dataclasses
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from recsys.data.options import Label
from recsys.data.prepare import prepare
from recsys.schema.errors import InputError
from recsys.schema.requests import RequestLimits
from recsys.serving.values import read_instant
from tests.data.preparing import column, manifest_of, options_for, prepared, rows_of

EVERYTHING = {"split": "random", "split_fractions": (0.5, 0.0, 0.5)}
# 2021-06-01 12:30:45 UTC and one day later.
FIRST = 1_622_550_645
THIS_YEAR = datetime.now(tz=UTC).year
INSTANTS = [FIRST * 1_000_000, (FIRST + 86_400) * 1_000_000]


def station_for(tmp_path, timestamps):
    """Two users, an event each at both instants; one of them is test."""
    rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": timestamps}
    return prepared(tmp_path, rows, **EVERYTHING)


def instants(station):
    return sorted(column(station, "train", "timestamp") + column(station, "test", "timestamp"))


@pytest.mark.parametrize(
    ("values", "kind", "unit"),
    [
        ([FIRST, FIRST + 86_400], "integer", "s"),
        ([FIRST * 1000, (FIRST + 86_400) * 1000], "integer", "ms"),
        ([FIRST * 10**6, (FIRST + 86_400) * 10**6], "integer", "us"),
        ([FIRST * 10**9, (FIRST + 86_400) * 10**9], "integer", "ns"),
        ([float(FIRST), FIRST + 86_400.0], "integer", "s"),
        ([FIRST * 1e3, (FIRST + 86_400) * 1e3], "integer", "ms"),
        (["2021-06-01T12:30:45Z", "2021-06-02T12:30:45Z"], "text", None),
        (["2021-06-01 12:30:45", "2021-06-02T14:30:45+02:00"], "text", None),
        (["2021-06-01T12:30:45.000", "2021-06-02 12:30:45+00"], "text", None),
        (["20210601T123045", "20210602T123045Z"], "text", None),
        (["2021-06-01 14:30:45 +0200", "2021-06-02T10:00:45\u22120230"], "text", None),
        (["2021-06-01t12:30:45z", "20210602 123045,000 GMT"], "text", None),
        (["2021-06-01 12:30:45 UTC", "2021-06-02 14:30:45 Europe/Berlin"], "text", None),
        ([str(FIRST), str(FIRST + 86_400)], "integer", "s"),
        ([datetime(2021, 6, 1, 12, 30, 45), datetime(2021, 6, 2, 12, 30, 45)], "datetime", None),
        (
            [
                datetime(2021, 6, 1, 14, 30, 45, tzinfo=timezone(timedelta(hours=2))),
                datetime(2021, 6, 2, 14, 30, 45, tzinfo=timezone(timedelta(hours=2))),
            ],
            "datetime",
            None,
        ),
        (pa.array([FIRST, FIRST + 86_400], pa.timestamp("s")), "datetime", None),
        (pa.array([FIRST * 10**9, (FIRST + 86_400) * 10**9], pa.timestamp("ns")), "datetime", None),
    ],
)
def test_timestamps_are_read_as_what_they_are(tmp_path, values, kind, unit):
    station = station_for(tmp_path, values)
    assert instants(station) == INSTANTS
    assert manifest_of(station)["timestamp"] == {"kind": kind, "unit": unit}
    if kind == "text":  # a request may repeat what stands there
        assert [read_instant(text, RequestLimits()) for text in column(station, "test", "raw.timestamp")]


def test_fractions_of_a_second_are_kept(tmp_path):
    station = station_for(tmp_path, [FIRST + 0.25, FIRST + 86_400.0])
    assert instants(station) == [INSTANTS[0] + 250_000, INSTANTS[1]]
    assert manifest_of(station)["timestamp"]["kind"] == "float"


def test_days_begin_at_midnight(tmp_path):
    station = station_for(tmp_path, [date(2021, 6, 1), date(2021, 6, 2)])
    midnight = int(datetime(2021, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert instants(station) == [midnight, midnight + 86_400_000_000]


@pytest.mark.parametrize(
    ("values", "of_others"),
    [
        # An instant of 1970 among milliseconds; one of the year 8307 among seconds.
        ([5, FIRST * 1000, FIRST * 1000 + 1], "read as milliseconds: 5"),
        ([FIRST, FIRST + 1, 200_000_000_000], "read as seconds: 200000000000"),
    ],
)
def test_the_unit_is_that_of_most_values_and_the_others_are_rejected(tmp_path, values, of_others):
    rows = {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": values}
    options = options_for(tmp_path, rows, split="random", split_fractions=(1.0, 0.0, 0.0))
    options = dataclasses.replace(options, timestamp_unit=None, max_rejected_share=0.5)
    [row] = rows_of(prepare(options), "rejected.parquet")
    assert row["reason"] == f"timestamp outside 1990 to {THIS_YEAR + 1} in `timestamp`, {of_others}"


@pytest.mark.parametrize("value", [7, 10**10, 99_999_999_999, 10**14, 10**17])
def test_numbers_that_are_no_instants_of_likely_years_are_refused(tmp_path, value):
    options = options_for(tmp_path, {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [value, value]})
    message = rf"expected instants between 1990 and {THIS_YEAR + 1}, found numbers from"
    with pytest.raises(InputError, match=message):
        prepare(dataclasses.replace(options, timestamp_unit=None))


def test_a_unit_that_is_given_allows_all_years(tmp_path):
    rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [-5, 10**10]}
    station = prepared(tmp_path, rows, **EVERYTHING, timestamp_unit="ms")
    assert instants(station) == [-5_000, 10**13]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["20210601", "20210602"], ["2021-06-01T00:00:00", "2021-06-02T00:00:00"]),
        ([20210601, 20210602], ["2021-06-01T00:00:00", "2021-06-02T00:00:00"]),
        (["20210601123045", "20210602123045"], ["2021-06-01T12:30:45", "2021-06-02T12:30:45"]),
        ([44348.5, 44349.25], ["2021-06-01T12:00:00", "2021-06-02T06:00:00"]),
        (["44348", "44349"], ["2021-06-01T00:00:00", "2021-06-02T00:00:00"]),
    ],
)
def test_calendar_digits_and_days_of_spreadsheets_are_read(tmp_path, values, expected):
    station = station_for(tmp_path, values)
    seconds = [int(datetime.fromisoformat(text + "+00:00").timestamp()) for text in expected]
    assert instants(station) == [second * 1_000_000 for second in seconds]
    assert manifest_of(station)["timestamp"] == {"kind": "text", "unit": None}
    assert column(station, "test", "raw.timestamp")[0].startswith(tuple(expected))


def test_a_format_says_how_text_writes_timestamps(tmp_path):
    rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": ["01.06.2021 12:30", "02.06.2021 12:30"]}
    columns = {"timestamp_format": "%d.%m.%Y %H:%M"}
    station = prepared(tmp_path, rows, **EVERYTHING, columns=columns)
    assert instants(station) == [instant - 45_000_000 for instant in INSTANTS]
    with pytest.raises(InputError, match=r"timestamp_format=%H:%M` must say how timestamps are written"):
        prepared(tmp_path / "other", rows, **EVERYTHING, columns={"timestamp_format": "%H:%M"})


def test_text_without_a_format_is_refused_with_the_key_that_gives_one(tmp_path):
    with pytest.raises(InputError, match=r"for other forms give .*columns.timestamp_format`"):
        station_for(tmp_path, ["01.06.2021 12:30", "02.06.2021 12:30"])


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_with_a_zone_are_read_in_every_unit(tmp_path, unit, zone):
    per_second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    values = pa.array([FIRST * per_second, (FIRST + 86_400) * per_second], pa.timestamp(unit, zone))
    assert instants(station_for(tmp_path, values)) == INSTANTS


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**63 - 1, FIRST, FIRST + 1], pa.int64()),
        pa.array([2**64 - 1, FIRST, FIRST + 1], pa.uint64()),
        pa.array([float("nan"), FIRST, FIRST + 1], pa.float64()),
        pa.array([float("inf"), FIRST, FIRST + 1], pa.float64()),
    ],
)
def test_numbers_beyond_all_instants_are_rejected(tmp_path, values):
    rows = {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": values}
    station = prepared(tmp_path, rows, **EVERYTHING, max_rejected_share=0.5)
    assert [row["row"] for row in rows_of(station, "rejected.parquet")] == [1]
    assert instants(station) == [FIRST * 10**6, (FIRST + 1) * 10**6]


@pytest.mark.parametrize("odd", [2**63 - 1, -(2**63) + 1, 253_402_300_800_000_000])
def test_datetimes_beyond_the_calendar_are_rejected(tmp_path, odd):
    """What databases write for `infinity`; Python, which shows examples, knows no such year."""
    values = pa.array([odd, FIRST * 10**6, (FIRST + 1) * 10**6], pa.timestamp("us"))
    rows = {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": values}
    station = prepared(tmp_path, rows, **EVERYTHING, timestamp_unit=None, max_rejected_share=0.5)
    assert [row["row"] for row in rows_of(station, "rejected.parquet")] == [1]
    assert instants(station) == [FIRST * 10**6, (FIRST + 1) * 10**6]


@pytest.mark.parametrize(
    ("text", "raw"),
    [(str(FIRST), FIRST), (f"{FIRST}.5", FIRST + 0.5), ("2021-06-01T12:30:45Z", "2021-06-01T12:30:45Z")],
)
def test_numbers_of_a_csv_file_are_written_back_as_numbers(tmp_path, text, raw):
    station = prepared(tmp_path, f"user_id,item_id,timestamp\n1,1,{text}\n2,2,{text}\n", **EVERYTHING)
    assert column(station, "test", "raw.timestamp") == [raw]


def test_text_that_is_no_instant_is_an_error_with_an_example(tmp_path):
    with pytest.raises(ValueError, match="unreadable timestamp in `timestamp`: 01/06/2021"):
        station_for(tmp_path, ["01/06/2021", "02/06/2021"])


def test_labels_are_numbers_in_any_type(tmp_path):
    for name, values in (("text", ["1", "0"]), ("flag", [True, False]), ("word", ["true", "False"])):
        rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "label": values}
        label = Label(column="label", positive_at_least=1)
        station = prepared(
            tmp_path / name, rows, label=label, split="random", split_fractions=(1.0, 0.0, 0.0)
        )
        assert [(row["label"], row["positive"]) for row in rows_of(station, "train")] == [
            (1.0, True),
            (0.0, False),
        ]
