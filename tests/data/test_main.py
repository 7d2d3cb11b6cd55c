"""The command recsys prepare: the station's path on stdout, the exit status of the contract."""

import pytest

from recsys.commands.prepare import main
from tests.data.preparing import rows_of


@pytest.fixture
def arguments(tmp_path):
    rows = "\n".join(f"u{n % 7},p{n % 5},{n},{n % 6},{n % 2}" for n in range(60))
    (tmp_path / "events.csv").write_text(f"user,product,when,stars,mobile\n{rows}\n")
    columns = {"user_id": "user", "item_id": "product", "timestamp": "when"}
    return [
        "data=table",
        f"data.cache_dir={tmp_path / 'cache'}",
        f"data.interactions.path={tmp_path / 'events.csv'}",
        *(f"data.interactions.columns.{key}={name}" for key, name in columns.items()),
        "data.label.column=stars",
        "data.label.positive_at_least=4",
        "data.timestamp_unit=s",
    ]


def test_the_last_line_of_stdout_is_the_station(tmp_path, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    [line] = capsys.readouterr().out.splitlines()
    [station] = (tmp_path / "cache" / "prepared").iterdir()
    assert line == str(station)
    assert len(rows_of(station, "train")) == 48  # 80 % of 60


def test_declarations_can_be_given_on_the_command_line(tmp_path, arguments):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "data.interactions.features.mobile.kind=id", "data.split_boundaries=[30,40]"])
    assert ended.value.code == 0
    [station] = (tmp_path / "cache" / "prepared").iterdir()
    assert "mobile" in rows_of(station, "train")[0]
    assert len(rows_of(station, "train")) == 30


def test_a_users_mistake_ends_with_status_two_and_says_where(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "data.interactions.columns.user_id=users"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error: `data.interactions.columns.user_id=users`: there is no such column in" in printed.err
    assert "did you mean `user`?" in printed.err


def test_a_tilde_that_names_no_user_is_part_of_a_name(tmp_path, arguments, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.csv").rename("~nobody.csv")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "data.interactions.path='~nobody.csv'"])
    assert ended.value.code == 0, capsys.readouterr().err
