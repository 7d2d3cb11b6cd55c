"""evaluation=backtest, in a world whose items live for forty days: what an older model knows is dead."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest

import evaluate
import train
from recsys.runs.environment import PROJECT
from recsys.schema.manifest import read_station

DAY = 86_400
LIFE, NUM_ITEMS, NUM_USERS, START = 40, 60, 24, 1_600_000_000
ASKED = (
    "run=a",
    "evaluation=backtest",
    "evaluation.backtest.folds=3",
    "evaluation.backtest.first=0.55",
    "evaluation.baselines=[popularity]",
    "evaluation.resamples=100",
)


def end(main, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """`events.csv`, in which every user takes every item once in its life, and a run `a` trained on it."""
    folder = tmp_path_factory.mktemp("backtest")
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp"])
        for item in range(NUM_ITEMS):  # one is born every four days
            for user in range(NUM_USERS):
                day = 4 * item + (7 * user + 11 * item) % LIFE
                rows.writerow([f"u{user}", f"i{item}", START + DAY * day + 600 * user])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert end(train.main, *words(folder), "run_dir=a") == 0
    return folder


def words(folder):
    return (
        "data=table",
        f"data.interactions.path={folder / 'events.csv'}",
        "data.split=leave_last_out",
        f"data.cache_dir={folder / 'cache'}",
        "data.batch_size=64",
        "model=matrix_factorization",
        "model.embedding_dim=8",
        "trainer.progress_bar=false",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        "evaluation=fast",
    )


@pytest.fixture(scope="module")
def done(world):
    """The folder, after a backtest of three folds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        assert end(evaluate.main, *ASKED) == 0
    return world


@pytest.fixture
def there(done, tmp_path, monkeypatch):
    """A copy of the folder, to be spoilt."""
    shutil.copytree(done / "a", tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results_of(folder):
    return json.loads((folder / "a" / "backtest" / "backtest.json").read_text())


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_model_older_than_the_items_that_live_hits_nothing(done):
    table = pq.read_table(done / "a" / "backtest" / "backtest.parquet").to_pylist()
    cells = {
        (row["fold"], row["period"]): row
        for row in table
        if (row["system"], row["metric"]) == ("model", "hit_rate@10")
    }
    assert set(cells) == {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}
    # About 33 days each: at the age of two periods everything the model knew has died.
    assert cells[0, 2]["age_days"] - (cells[0, 1]["age_days"] - cells[0, 0]["age_days"]) > LIFE
    assert cells[0, 2]["value"] == 0
    assert cells[0, 2]["queries"] == cells[2, 2]["queries"]
    assert min(cells[n, n]["value"] for n in range(3)) > 0.1
    results = results_of(done)
    assert results["decay_per_day"]["interval"][1] < 0
    assert results["verdict"].startswith("The model ages: NDCG@10 changes by -")


def test_no_fold_learns_from_what_comes_after_its_cut(done):
    for period in results_of(done)["periods"]:
        run = done / "a" / "folds" / f"{period['fold']:02d}-seed0"
        prepared = read_station(run, "run")["prepared"]
        cut, validation = (time_of(period[key]) for key in ("cut", "validation"))
        assert max_time(prepared, "train") < validation
        assert max_time(prepared, "validation") < cut
        vocabulary = pq.read_table(f"{prepared}/vocabularies/item_id.parquet")["value"].to_pylist()
        born = {f"i{item}": START + DAY * 4 * item for item in range(NUM_ITEMS)}
        assert max(born[item] for item in vocabulary) * 1_000_000 < validation
        assert (
            read_station(run / "evaluation", "evaluation")["source"]
            == read_station(run, "run")["fingerprint"]
        )


def time_of(text):
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def max_time(prepared, split):
    return max(pq.read_table(f"{prepared}/{split}")["timestamp"].to_pylist())


def test_station_is_whole_and_the_page_needs_nothing_else(done):
    manifest = read_station(done / "a" / "backtest", "backtest")
    assert set(manifest["files"]) == {"backtest.json", "backtest.parquet", "backtest.html"}
    page = (done / "a" / "backtest" / "backtest.html").read_text()
    assert len(re.findall("<svg", page)) == 2
    assert not re.search(r"https?:|url\(|@import|<script", page)
    assert results_of(done)["verdict"].split(":")[0] in page
    HTMLParser().feed(page)


def test_what_is_done_is_not_done_again_and_a_killed_fold_goes_on(done, there, capsys):
    shutil.rmtree(there / "a" / "backtest")
    shutil.rmtree(there / "a" / "folds" / "02-seed0")  # not begun
    killed = there / "a" / "folds" / "01-seed0"  # in training
    shutil.rmtree(killed / "evaluation")
    (killed / "manifest.json").unlink()
    kept = contents(there / "a" / "folds" / "00-seed0")
    assert end(evaluate.main, *ASKED) == 0
    out, err = capsys.readouterr()
    assert out == "a/backtest\n"
    assert "00-seed0 is done already" in err
    assert re.search("fold 1 .*: goes on in ", err)
    assert re.search("fold 2 .*: begins", err)
    assert contents(there / "a" / "folds" / "00-seed0") == kept
    again, before = results_of(there), results_of(done)
    for key in ("cells", "by_age", "decay_per_day", "verdict"):
        assert again[key] == before[key]


@pytest.mark.slow
def test_other_judging_keeps_the_trainings_and_other_training_does_not(there, capsys):
    runs = {path: path.stat().st_mtime_ns for path in there.glob("a/folds/*/manifest.json")}
    assert end(evaluate.main, *ASKED, "evaluation.confidence=0.9") == 0
    assert {path: path.stat().st_mtime_ns for path in there.glob("a/folds/*/manifest.json")} == runs
    changed = ("evaluation.backtest.training={trainer.max_epochs: 1}", "evaluation.backtest.max_periods=1")
    assert end(evaluate.main, *ASKED, *changed) == 0
    assert "fold 0" in (err := capsys.readouterr().err)
    assert "has other settings than before: made anew" in err
    config = (there / "a" / "folds" / "00-seed0" / "config.yaml").read_text()
    assert "max_epochs: 1\n" in config
    assert "nothing is said about decay" in results_of(there)["verdict"]


def test_fold_that_fails_is_named_and_the_others_count(there, capsys):
    shutil.rmtree(there / "a" / "folds" / "01-seed0")
    (there / "a" / "folds" / "01-seed0").write_text("in the way")
    assert end(evaluate.main, *ASKED) == 0
    assert re.search(r"fold 1 \(cut at .*\) failed: InputError: expected a new or", capsys.readouterr().err)
    results = results_of(there)
    assert [(one["fold"], one["seed"]) for one in results["failed"]] == [(1, 0)]
    assert {(cell["fold"], cell["period"]) for cell in results["cells"]} == {(0, 0), (0, 1), (0, 2), (2, 2)}
    assert "Fold 1 (seed 0) failed" in (there / "a" / "backtest" / "backtest.html").read_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            "data.interactions.columns.timestamp=null",
            "a backtest cuts the data by time, but `data.interactions",
        ),
        (
            "evaluation.backtest.first=2001-01-01",
            "`evaluation.backtest.first` puts the cut of fold 0 at",
        ),
        ("evaluation.backtest.min_queries=5000", "fewer than `evaluation.backtest.min_queries=5000`"),
        ("evaluation.queries=user", "`evaluation.queries=user` asks once a user, at no instant"),
        ("data.prepared=somewhere", "`data.prepared=somewhere` is one cut of the data"),
        (
            "evaluation.backtest.training={trainer.epochs: 3}",
            "there is no key `trainer.epochs`; did you mean `trainer.max_epochs`?",
        ),
    ],
)
def test_what_cannot_be_backtested_is_said_before_any_training(world, monkeypatch, capsys, changed, message):
    monkeypatch.chdir(world)
    before = set(world.glob("a/folds/*"))
    assert end(evaluate.main, *ASKED, "evaluation.backtest.seeds=[7]", changed) == 2
    assert message in capsys.readouterr().err
    assert set(world.glob("a/folds/*")) == before


def test_training_itself_takes_no_backtest(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert end(train.main, *words(world), "evaluation=backtest") == 2
    assert "`evaluation.backtest` trains a finished run anew" in capsys.readouterr().err


@pytest.mark.slow
def test_ranking_model_is_backtested_by_auc(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = (*words(world), "data.negatives_per_positive=1", "model=wide_deep", "run_dir=a")
    assert end(train.main, *asked, "trainer.max_epochs=1") == 0
    changed = ("evaluation.backtest.folds=2", "evaluation.backtest.seeds=[3]")
    assert end(evaluate.main, *ASKED, *changed) == 0
    results = results_of(tmp_path)
    assert results["main_metric"] == "auc"
    # What was liked before is dead: rates of items are worse than one rate for all, which ranks nothing.
    assert results["best_baseline"] == "rate"
    rates = [one for one in results["cells"] if (one["system"], one["metric"]) == ("rate", "auc")]
    assert [one["value"] for one in rates] == [0.5] * 3
    asked_of = [one["queries"] for one in rates if one["period"] == 1]
    assert asked_of[0] == asked_of[1]
    assert asked_of[0] % 2 == 0
    assert (tmp_path / "a" / "folds" / "01-seed3" / "evaluation" / "predictions.parquet").is_file()


@pytest.mark.slow
def test_backtest_that_was_killed_ends_with_the_same_figures(done, there):
    shutil.rmtree(there / "a" / "backtest")
    shutil.rmtree(there / "a" / "folds")
    program = [sys.executable, str(PROJECT / "evaluate.py"), *ASKED]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    process = subprocess.Popen(program, cwd=there, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (there / "a" / "folds" / "01-seed0" / "checkpoints" / "last").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = contents(there / "a" / "folds" / "00-seed0")
    subprocess.run(program, cwd=there, env=environment, check=True, capture_output=True, timeout=120)
    assert contents(there / "a" / "folds" / "00-seed0") == kept
    assert results_of(there)["cells"] == results_of(done)["cells"]
