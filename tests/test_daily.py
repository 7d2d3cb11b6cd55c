"""experiment=daily: models that go on, train anew or stay as they are, step by step."""

import csv
import json

import pytest

import train
from recsys.schema.manifest import read_station

DAY = 86_400
START = 1_700_006_400  # 2023-11-15, midnight (UTC)
STEPS = ["000-first", "001-continued", "001-retrained", "002-continued", "002-retrained"]


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Twenty users, one item of forty a day each, for twenty days; two steps of two days from the 15th."""
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp"])
        rows.writerows(
            (f"u{user}", f"p{(7 * day + user) % 40}", START + DAY * day + 600 * user)
            for day in range(20)
            for user in range(20)
        )
    return [
        "data=table",
        "data.interactions.path=events.csv",
        "data.cache_dir=cache",
        "data.batch_size=64",
        "model=matrix_factorization",
        "model.embedding_dim=8",
        "trainer.max_epochs=1",
        "trainer.progress_bar=false",
        "trainer.log_every_n_steps=1",
        "evaluation=fast",
        "daily={first: '2023-11-29', num_steps: 2, step_days: 2, validation_days: 1}",
        "run_dir=loop",
    ]


def end(*arguments):
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    return ended.value.code


def test_steps_are_trained_once_go_on_and_are_compared(words, tmp_path, capsys):
    assert end(*words) == 0
    loop = tmp_path / "loop"
    assert sorted(path.name for path in loop.iterdir() if path.is_dir()) == STEPS
    results = json.loads((loop / "results.json").read_text())
    assert [(row["step"], row["model"]) for row in results["steps"]] == [
        (step, model) for step in (1, 2) for model in ("continued", "retrained", "frozen")
    ]
    # Each step learns from the end of the one before, and knows its weights.
    second = read_station(loop / "002-continued", "run")
    assert second["initialised_from"]["run"].endswith("001-continued")
    assert second["config"]["data"]["train_from"].startswith(
        "2023-11-30"
    )  # the validation of the step before
    assert json.loads((loop / "001-retrained" / "trial.json").read_text())["status"] == "complete"
    (loop / "002-continued" / "manifest.json").unlink()  # as if killed in its training
    capsys.readouterr()
    assert end(*words) == 0
    err = capsys.readouterr().err
    assert [name for name in STEPS if f"trial {name} is done already" in err] == [
        name for name in STEPS if name != "002-continued"
    ]
    assert "trial 002-continued: goes on in `loop/002-continued`" in err
    assert json.loads((loop / "results.json").read_text())["mean"] == results["mean"]
    assert end(*words, "trainer.max_epochs=2") == 2
    assert "`loop` holds a loop with other settings of `trainer`" in capsys.readouterr().err
