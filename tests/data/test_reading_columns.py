"""Timestamps in every form that people have, read as what they are."""

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from recsys.data.options import Label
from tests.data.preparing import column, manifest_of, prepared, rows_of

EVERYTHING = {"split": "random", "split_fractions": (0.5, 0.0, 0.5)}
# 2021-06-01 12:30:45 UTC and one day later.
FIRST = 1_622_550_645
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


def test_fractions_of_a_second_are_kept(tmp_path):
    station = station_for(tmp_path, [FIRST + 0.25, FIRST + 86_400.0])
    assert instants(station) == [INSTANTS[0] + 250_000, INSTANTS[1]]
    assert manifest_of(station)["timestamp"]["kind"] == "float"


def test_days_begin_at_midnight(tmp_path):
    station = station_for(tmp_path, [date(2021, 6, 1), date(2021, 6, 2)])
    midnight = int(datetime(2021, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert instants(station) == [midnight, midnight + 86_400_000_000]


def test_small_numbers_are_seconds(tmp_path):
    assert instants(station_for(tmp_path, [0, 7])) == [0, 7_000_000]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # An instant of 1970 among milliseconds; one of the year 8307 among seconds.
        ([5, FIRST * 1000, FIRST * 1000 + 1], [5_000, INSTANTS[0], INSTANTS[0] + 1_000]),
        (
            [FIRST, FIRST + 1, 200_000_000_000],
            [INSTANTS[0], INSTANTS[0] + 1_000_000, 200_000_000_000_000_000],
        ),
    ],
)
def test_the_unit_is_that_of_most_values(tmp_path, values, expected):
    rows = {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": values}
    station = prepared(tmp_path, rows, split="random", split_fractions=(1.0, 0.0, 0.0))
    assert column(station, "train", "timestamp") == expected


@pytest.mark.parametrize(
    ("value", "unit"),
    [(99_999_999_999, "s"), (100_000_000_000, "ms"), (10**14, "us"), (10**17, "ns")],
)
def test_units_meet_where_the_documentation_says(tmp_path, value, unit):
    assert manifest_of(station_for(tmp_path, [value, value]))["timestamp"]["unit"] == unit


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
