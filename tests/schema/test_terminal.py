"""What a terminal is shown of names that strangers have chosen."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.commands import doctor
from recsys.commands.figures import print_figures
from recsys.runs.folders import LOG_FORMAT
from recsys.schema.terminal import plainly

# Clears the screen, renames the window, turns the line around, goes back to its start.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp\r\x9b1A"


def test_only_tabs_and_line_feeds_are_left_of_control_characters():
    odd = [chr(code) for code in range(0x110000) if chr(code) != plainly(chr(code))]
    controls = [chr(code) for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"]
    assert odd == [*controls, *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]


@pytest.mark.parametrize("key", ["data.interactions.columns.user_id=nobody", "data.split=random"])
def test_names_of_columns_are_spelled_out(tmp_path, monkeypatch, capfd, key):
    monkeypatch.chdir(tmp_path)
    columns = {"user_id": [n % 9 for n in range(90)], "item_id": [n % 7 for n in range(90)]}
    columns |= {"timestamp": [1_700_000_000 + n for n in range(90)], HOSTILE: [HOSTILE] * 45 + ["x"] * 45}
    pq.write_table(pa.table(columns), "events.parquet")
    with pytest.raises(SystemExit):
        doctor.main(
            ["data=table", "data.interactions.path=events.parquet", "data.interactions.features=infer", key]
        )
    said = "".join(capfd.readouterr())
    assert "\\x1b[2J" in said
    assert not set(HOSTILE) & set(said) & {"\x1b", "\x07", "\u202e", "\x9b"}


def test_lines_of_a_log_are_spelled_out():
    record = logging.LogRecord("a", logging.INFO, "b", 1, "read %s", (HOSTILE,), None)
    assert LOG_FORMAT.format(record).endswith(r"read \x1b[2J\x1b]0;owned\x07\u202egnp\r\x9b1A")


def test_tables_show_brackets_as_they_are(capfd):
    print_figures({f"[user_id] :smile: {HOSTILE}": {"auc": 0.5}}, title="[bold]", k=10)
    said = capfd.readouterr().err
    assert "[bold]" in said
    assert r"[user_id] :smile: \x1b[2J" in said
    assert "\x1b]" not in said
