from datetime import UTC, datetime, timedelta, timezone

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.exporting.program.instants import as_microseconds

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def seconds(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("value", "per_second", "expected"),
    [
        (881250949, 1, 881250949),
        (881250949.7, 1, 881250949),
        ("881250949", 1, 881250949),
        (881250949999, 1000, 881250949),
        (-1, 1000, -1),  # before 1970 it is rounded down too
        (-0.5, 1, -1),
        (1_500_000_000_123_456_789, 10**9, 1_500_000_000),
        ("2024-05-31", 1, seconds(2024, 5, 31)),
        ("2024-02-29 13:45", 1, seconds(2024, 2, 29, 13, 45)),
        ("2024-05-31T13:45:10.5Z", 1000, seconds(2024, 5, 31, 13, 45, 10)),
        ("2024-05-31T13:45:10+02:00", 1, seconds(2024, 5, 31, 11, 45, 10)),
        ("2024-05-31 13:45:10 -0330", 1, seconds(2024, 5, 31, 17, 15, 10)),
        ("2024/5/1 9:03", 1, seconds(2024, 5, 1, 9, 3)),
        ("0001-01-01", 1, seconds(1, 1, 1)),
        ("2000-02-29", 1, seconds(2000, 2, 29)),
        ("1900-02-29", 1, None),
        ("2023-02-29", 1, None),
        ("2024-13-01", 1, None),
        ("2024-01-01 24:00", 1, None),
        ("2024-01-01 1:2x", 1, None),
        ("31.05.2024", 1, None),
        ("yesterday", 1, None),
        ("", 1, None),
        (None, 1, None),
        (True, 1, None),
        (float("nan"), 1, None),
        (10**18, 1, None),  # seconds beyond the year 9999 are a mistake
    ],
)
def test_timestamps_are_read_as_what_they_are(readers, value, per_second, expected):
    assert readers.seconds(value, per_second) == expected


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS))
def test_iso_text_is_read_as_python_reads_it(scripted_readers, instant):
    expected = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert scripted_readers.seconds(instant.isoformat(), 1) == expected
    assert scripted_readers.seconds(str(instant), 1) == expected


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_integers_of_every_unit_fall_into_the_same_second(scripted_readers, instant):
    since = instant - datetime(1970, 1, 1)
    microseconds = since // timedelta(microseconds=1)
    for per_second in (1, 10**3, 10**6):
        assert (
            scripted_readers.seconds(microseconds // (10**6 // per_second), per_second)
            == microseconds // 10**6
        )


@pytest.mark.parametrize("read", [as_microseconds, torch.jit.script(as_microseconds)])
@pytest.mark.parametrize(
    ("value", "per_second", "expected"),
    [
        (881250949, 1, 881250949_000_000),
        (881250949.7, 1, 881250949_700_000),
        (881250949_123, 1000, 881250949_123_000),
        (881250949_123_456_789, 10**9, 881250949_123_456),
        (-1, 1000, -1000),
        ("1970-01-01T00:00:10.5Z", 1, 10_500_000),
        ("1970-01-01 00:00:10.123456789", 1, 10_123_456),
        ("1970-01-02", 1, 86_400_000_000),
        (10**17, 1, None),
        (None, 1, None),
    ],
)
def test_instants_are_read_to_the_microsecond(read, value, per_second, expected):
    assert read(value, per_second, "when") == expected
