"""What is said of raw tables: columns, joins, shares of splits, queries that cannot be hit."""

import logging
import random

import pytest

from recsys.commands.doctor_data import main as doctor
from recsys.data.dataset import PreparedDataset
from recsys.data.understand import understand
from recsys.schema.errors import InputError
from tests.data.preparing import manifest_of, options_for, rows_of
from tests.data.test_reading_tables import HEADER, ROWS, items_table, station_of, text_of, written

INTEGERS = [(user[1:], item[1:], when, stars) for user, item, when, stars in ROWS]


@pytest.fixture
def base(tmp_path):
    return written(tmp_path, text_of(ROWS), "base.csv")


def column_of(understood, name):
    return next(column for column in understood["columns"] if column["column"] == name)


def test_the_manifest_says_what_each_column_was_taken_for(tmp_path, base, caplog):
    items = items_table(tmp_path, dept=lambda n: f"0{n % 7}", price=lambda n: "?" if n == 3 else n / 2)
    with caplog.at_level(logging.INFO):
        station = station_of(tmp_path, base, items=items)
    understood = manifest_of(station)["understood"]
    assert column_of(understood, "dept") | {"examples": []} == {
        "table": "items",
        "column": "dept",
        "type": "string",
        "there": 1.0,
        "read": 1.0,
        "taken for": "feature (id)",
        "why": "codes, such as numbers with leading zeros",
        "examples": [],
    }
    assert (column_of(understood, "price")["read"], column_of(understood, "price")["why"]) == (
        0.975,
        "numbers",
    )
    assert column_of(understood, "rating")["taken for"] == "not used"
    assert understood["joins"]["items"]["in_table"] == understood["joins"]["items"]["ids"] == 40
    assert understood["files"]["interactions"] == {
        "read": [str(base)], "passed_over": [], "rows": 1440, "malformed": 0,
    }  # fmt: skip
    assert understood["instants"]["first"].startswith("2023-11-14")
    assert understood["look_alikes"]["item_id"] == {"ids": 40, "alike": 0, "example": None}
    assert "items of the interactions in their table: 40 of 40" in caplog.text
    assert "`price`: 1 of 40 values are no numbers and count as missing" in caplog.text


@pytest.mark.parametrize(
    ("table", "rows", "hint"),
    [
        ("items", [f"{n:03d},g{n % 4}" for n in range(40)], "40 more would match but for leading zeros"),
        ("users", [f"{n:04d},{n}" for n in range(1, 121)], "119 more would match but for leading zeros"),
    ],
)
def test_a_side_table_of_which_nothing_matches_is_refused(tmp_path, table, rows, hint):
    events = written(tmp_path, text_of(INTEGERS))
    side = written(tmp_path, "\n".join([f"{table[:-1]}_id,kind", *rows]) + "\n", f"{table}.csv")
    with pytest.raises(InputError, match=rf"0 of \d+ {table} of the interactions .* `0`.*{hint}"):
        station_of(tmp_path, events, **{table: side})


def test_a_side_table_that_knows_most_is_used_with_a_warning(tmp_path, base, caplog):
    lines = ["item_id,kind", *(f"{'P' if n < 8 else 'p'}{n},k{n % 3}" for n in range(40))]
    station = station_of(tmp_path, base, items=written(tmp_path, "\n".join(lines) + "\n", "items.csv"))
    assert manifest_of(station)["understood"]["joins"]["items"]["in_table"] == 32
    assert "32 of 40 items of the interactions are in the items table" in caplog.text
    assert "8 more would match but for capitals" in caplog.text


@pytest.mark.parametrize(
    ("rewritten", "example"),
    [
        (str.upper, "`u0` and `U0`"),
        (lambda user: f"e\u0301{user}", None),
        (lambda user: f"\u200b{user}", r"`\u200bu0` and `u0`"),
    ],
)
def test_ids_that_nobody_can_tell_apart_are_said(tmp_path, caplog, rewritten, example):
    before = "é" if example is None else ""
    rows = [
        [rewritten(user) if n % 2 else before + user, item, when, stars]
        for n, (user, item, when, stars) in enumerate(ROWS)
    ]
    said = understand(options_for(tmp_path, text_of(rows))).facts["look_alikes"]
    assert said["user_id"]["alike"] > 200
    assert said["item_id"] == {"ids": 40, "alike": 0, "example": None}
    assert "values of `user_id` differ from another one only in capitals, in how accents are" in caplog.text
    assert (example or "`éu0` and `e") in caplog.text


def test_a_few_ids_that_are_alike_by_chance_are_counted_alone(tmp_path, caplog):
    rows = [[f"{user}-{n % 3}", *more] for n, (user, *more) in enumerate(ROWS)]
    understood = understand(options_for(tmp_path, text_of([[rows[0][0].upper(), *rows[0][1:]], *rows])))
    assert understood.facts["look_alikes"]["user_id"]["alike"] == 2
    assert "differ from another one" not in caplog.text


def test_examples_stay_on_their_line(tmp_path):
    rows = [[user, f'"{item}\u200b\nx"', *more] for user, item, *more in ROWS]
    assert r"p16\u200b\nx, " in understand(options_for(tmp_path, text_of(rows))).text


def bulk(share_before, share_at):
    """Rows of which many are of one instant."""
    draw = random.Random(5)
    for user, item, when, stars in ROWS:
        at = draw.random()
        if at >= share_before:
            when = 1_710_000_000 if at < share_before + share_at else 1_710_000_000 + when % 2_592_000
        yield user, item, when, stars


def test_a_split_that_one_instant_empties_is_refused_with_it(tmp_path):
    path = written(tmp_path, text_of(bulk(0.22, 0.7)))
    message = r"asks for 80 / 10 / 10 %.*has 28 / 0 / 72 %.* of the instant 2024-03-09T16:00:00\+00:00"
    with pytest.raises(InputError, match=message):
        station_of(tmp_path, path, max_rejected_share=0.5)


def test_a_split_of_other_shares_is_said(tmp_path, caplog):
    path = written(tmp_path, text_of(bulk(0.6, 0.25)))
    station_of(tmp_path, path, max_rejected_share=0.5)
    assert "`data.split_fractions` asks for 80 / 10 / 10 % of events" in caplog.text


def test_queries_that_cannot_be_hit_are_counted(tmp_path, base, caplog):
    station = station_of(tmp_path, base)
    liked, repeats, tested = set(), 0, 0
    rows = sorted(ROWS, key=lambda row: row[2])
    for number, (user, item, _when, _stars) in enumerate(rows):
        if number >= len(rows) - 144:
            tested += 1
            repeats += (user, item) in liked
        liked.add((user, item))
    assert manifest_of(station)["understood"]["repeats"] == {
        "test_positives": tested,
        "test_positives_seen_before": repeats,
    }
    assert f"{repeats} of {tested} positives of test are of an item that their user had liked" in caplog.text


def test_unknown_items_of_one_user_are_told_apart(tmp_path):
    rows = sorted(ROWS, key=lambda row: row[2])
    cold = [
        (user, f"new{n % 37}" if n >= 1296 and n % 2 else item, when, stars)
        for n, (user, item, when, stars) in enumerate(rows)
    ]
    station = station_of(tmp_path, written(tmp_path, text_of(cold)))
    queries = PreparedDataset.open(station).queries("test", mode="user", history_length=20)
    expected: dict[str, set[str]] = {}
    for row in rows_of(station, "test"):
        expected.setdefault(row["user_id"], set()).add(row["item_id"])
    lengths = dict(zip(queries.user_ids, queries.relevant.lengths.tolist(), strict=True))
    assert lengths == {user: len(items) for user, items in expected.items()}
    assert max(lengths.values()) > 1


@pytest.mark.parametrize("name", ["event", "rating", "clicked", "event_type", "dwell_time"])
def test_what_came_of_an_event_is_no_input_unasked(tmp_path, name, caplog):
    rows = [(user, item, when, n % 3) for n, (user, item, when, _) in enumerate(ROWS)]
    path = written(tmp_path, text_of(rows, header=(*HEADER[:3], name)))
    station = station_of(tmp_path, path, features="infer")
    assert name not in rows_of(station, "train")[0]
    assert f"left out for their names say what came of the event: `{name}`" in caplog.text


def test_understanding_prepares_nothing(tmp_path, base):
    options = options_for(tmp_path, base.read_text(), max_rejected_share=0.0)
    found = understand(options)
    assert found.facts["instants"]["read_as"] == "s"
    assert "user_id (string)" in found.text
    assert "hour:" in found.declaration
    assert not (tmp_path / "cache").exists()


def test_rows_that_cannot_be_used_do_not_end_understanding(tmp_path):
    path = written(
        tmp_path, text_of([(None if n % 2 else u, i, t, s) for n, (u, i, t, s) in enumerate(ROWS)])
    )
    options = options_for(tmp_path, path.read_text().replace("None", ""))
    assert understand(options).facts["rejected"] == 720


def test_doctor_prints_the_table_and_writes_the_declaration(tmp_path, base, capsys):
    words = ["data=table", f"data.interactions.path={base}", f"out={tmp_path / 'features.yaml'}"]
    with pytest.raises(SystemExit) as ended:
        doctor(words)
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "features.yaml")
    assert "weekday" in (tmp_path / "features.yaml").read_text()
    with pytest.raises(SystemExit) as again:
        doctor(words)
    assert again.value.code == 2
    assert "must be a new file" in capsys.readouterr().err
