"""`evaluate.py` comparing: runs, baselines, tables made by anyone, and the trials of several runs."""

import csv
import json
import os
import re

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import evaluate
import train
from recsys.schema.manifest import read_station

EVALUATION = (
    "evaluation.k=[3,5]",
    "evaluation.resamples=100",
    "evaluation.small_slice=5",
    "evaluation.ease_l2=[200]",
    "evaluation.knn_neighbours=[5]",
)


def end(main, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Overrides naming a table of 30 users and 12 items."""
    folder = tmp_path_factory.mktemp("data")
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "stars"])
        for user in range(30):
            for step in range(10):
                product, when = (7 * step + user) % 12, 1_700_000_000 + 3600 * step + user
                rows.writerow([f"u{user}", f"p{product}", when, 5 - product % 3])
    return (
        "data=table",
        f"data.interactions.path={folder / 'events.csv'}",
        "data.label={column: stars, positive_at_least: 4}",
        f"data.cache_dir={folder / 'cache'}",
    )


@pytest.fixture(scope="module")
def there(data, tmp_path_factory):
    """A folder with runs `a` and `b` of one split, `c` of another, and `several` of `-m`."""
    folder = tmp_path_factory.mktemp("runs")
    training = (
        *data,
        "data.batch_size=64",
        "trainer.progress_bar=false",
        "trainer.max_epochs=1",
        "model.embedding_dim=4",
        *EVALUATION,
    )
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert end(train.main, *training, "data.split=leave_last_out", "run_dir=a") == 0
        assert end(train.main, *training, "data.split=leave_last_out", "run_dir=b", "seed=1") == 0
        assert end(train.main, *training, "data.split=random", "run_dir=c") == 0
        several = ("-m", "data.split=leave_last_out", "run_dir=several", "seed=2,3")
        assert end(train.main, *training, *several) == 0
        yield folder
    finally:
        os.chdir(here)


def comparison(folder):
    read_station(folder, "comparison", verify_all=True)
    return json.loads((folder / "comparison.json").read_text())


def test_run_is_compared_with_a_run_and_a_baseline_which_are_judged_as_it_was(there, capsys):
    assert end(evaluate.main, "run=a", "against=[b,ease]") == 0
    out, err = capsys.readouterr()
    assert out == "a/comparison\n"
    assert "evaluating `a`" in err
    assert "evaluating `b`" in err
    found = comparison(there / "a" / "comparison")
    assert [one["name"] for one in found["systems"]] == ["a", "b", "EASE"]
    assert found["verdict"]["text"] in err
    means = {
        name: pq.read_table(there / name / "evaluation" / "queries.parquet")["ndcg@5"].to_numpy().mean()
        for name in ("a", "b")
    }
    rows = {(row["against"], row["metric"]): row for row in found["differences"]}
    assert rows["b", "ndcg@5"]["difference"] == pytest.approx(means["a"] - means["b"])
    results = json.loads((there / "a" / "evaluation" / "metrics.json").read_text())
    expected = results["metrics"]["ndcg@5"] - results["baselines"]["ease"]["metrics"]["ndcg@5"]
    assert rows["EASE", "ndcg@5"]["difference"] == pytest.approx(expected)
    # The second time everything is there.
    made = [(there / name / "evaluation" / "manifest.json").read_bytes() for name in ("a", "b")]
    assert end(evaluate.main, "run=a", "against=[b,ease]") == 0
    assert [(there / name / "evaluation" / "manifest.json").read_bytes() for name in ("a", "b")] == made
    assert comparison(there / "a" / "comparison") == found
    # Other options judge both anew.
    assert end(evaluate.main, "run=a", "against=b", "evaluation.k=[2]") == 0
    found = comparison(there / "a" / "comparison")
    assert found["protocol"]["k"] == [2]
    assert {row["metric"].partition("@")[2] for row in found["differences"]} == {"2"}


def test_runs_of_other_protocols_are_refused_by_the_keys_that_differ(there, capsys):
    assert end(evaluate.main, "run=a", "against=c") == 2
    err = capsys.readouterr().err
    assert "error: expected `c/evaluation` to have been evaluated by the protocol of `a/evaluation`" in err
    assert 'error: `protocol.split.kind` is "leave_last_out" here and "random" there' in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run=a", "against=eese"), r"one of the baselines that were judged \(popularity, .*`eese`: no such"),
        (("run=a", "against=a"), "`a` is named twice"),
        ((), "one of run=DIR, .* must be given, got none of them"),
        (("run=a", "sweep=several"), "got `run` and `sweep`"),
        (("runs=[a]",), "`runs` must name 2 runs or more"),
        (("run=a", "against=[b,c,d,e,f,g,h,i]"), "at most 8 systems, got 9 in `runs` and `against`"),
        (("recommendations=x.csv",), "`recommendations` needs the data"),
        (("sweep=a",), r"expected the folder of a finished sweep for `sweep`, got `a`: no results.csv"),
        (("run=a", "data=movielens_1m"), "`data=` cannot be chosen anew"),
    ],
)
def test_what_cannot_be_compared_is_named(there, capsys, arguments, expected):
    assert end(evaluate.main, *arguments) == 2
    err = capsys.readouterr().err
    assert re.search(expected, err), err
    assert "Traceback" not in err


def test_best_of_several_runs_is_compared_with_the_others(there, capsys):
    assert end(evaluate.main, "sweep=several") == 0
    assert capsys.readouterr().out == "several/comparison\n"
    found = comparison(there / "several" / "comparison")
    assert {one["name"] for one in found["systems"]} == {"trial 0", "trial 1"}
    with (there / "several" / "results.csv").open() as file:
        best = next(csv.DictReader(file))["trial"]
    assert found["systems"][0]["name"] == f"trial {best}"


def test_winner_of_a_sweep_comes_first(there, capsys):
    with (there / "several" / "results.csv").open() as file:
        second = list(csv.DictReader(file))[1]["trial"]
    (there / "several" / "winner.json").write_text(json.dumps({"winner": {"trial": int(second)}}))
    assert end(evaluate.main, "sweep=several", "run_dir=elsewhere") == 0
    assert capsys.readouterr().out == "elsewhere/comparison\n"
    assert comparison(there / "elsewhere" / "comparison")["systems"][0]["name"] == f"trial {second} (winner)"


def test_runs_are_compared_by_their_folders(there, capsys):
    assert end(evaluate.main, "runs=[b,a]") == 0
    assert capsys.readouterr().out == "b/comparison\n"
    assert [one["name"] for one in comparison(there / "b" / "comparison")["systems"]] == ["b", "a"]


def test_recommendations_of_a_run_are_judged_as_the_run_was(there, data, capsys):
    assert end(evaluate.main, "run=a", *EVALUATION) == 0
    table = pq.read_table(there / "a" / "evaluation" / "recommendations.parquet")
    pyarrow.csv.write_csv(table, there / "made.csv")
    asked = (*data, "data.split=leave_last_out", *EVALUATION)
    capsys.readouterr()
    assert end(evaluate.main, "recommendations=made.csv", *asked, "run_dir=made", "against=a") == 0
    out, err = capsys.readouterr()
    assert out == "made/comparison\n"
    assert "Traceback" not in err
    results = [
        json.loads((there / name / "evaluation" / "metrics.json").read_text()) for name in ("a", "made")
    ]
    by_a_model = {key for key in results[0]["metrics"] if key.startswith("diversity_embedding")}
    assert by_a_model
    expected = {key: value for key, value in results[0]["metrics"].items() if key not in by_a_model}
    assert results[1]["metrics"] == pytest.approx(expected)
    assert results[0]["protocol_hash"] == results[1]["protocol_hash"]
    assert "findings" not in results[1]
    rows = comparison(there / "made" / "comparison")["differences"]
    assert {row["difference"] for row in rows} == {0.0}
    assert {row["p"] for row in rows} == {1.0}
    # A folder of judged recommendations stands in for a run.
    assert end(evaluate.main, "run=a", "against=made") == 0
    assert [one["name"] for one in comparison(there / "a" / "comparison")["systems"]] == ["a", "made"]


def test_evaluation_of_a_run_is_not_written_over_by_recommendations(there, data, capsys):
    (there / "x.csv").write_text("user_id,rank,item_id\nu1,1,p1\n")
    assert end(evaluate.main, "recommendations=x.csv", *data, "data.split=random", "run_dir=b") == 2
    assert "`run_dir=b` holds a run" in capsys.readouterr().err


def test_tables_of_a_comparison_hold_what_its_json_does(there):
    assert end(evaluate.main, "run=a", "against=[b,popularity]", *EVALUATION) == 0
    folder = there / "a" / "comparison"
    found = comparison(folder)
    table = pq.read_table(folder / "differences.parquet").to_pylist()
    assert [row["difference"] for row in table] == [row["difference"] for row in found["differences"]]
    assert [[row["low"], row["high"]] for row in table] == [row["interval"] for row in found["differences"]]
    systems = pq.read_table(folder / "systems.parquet").to_pylist()
    assert len(systems) == 3 * len(found["systems"][0]["metrics"])
    slices = pq.read_table(folder / "slices.parquet")
    assert (
        np.isnan([np.nan if p is None else p for p in slices["p"].to_pylist()]).tolist()
        == slices["small"].to_pylist()
    )
