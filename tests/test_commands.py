"""The contract of the commands, on a small table of one's own."""

import csv
import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

import evaluate
import export
import train
from recsys.commands import prepare, process
from recsys.commands.entry import command
from recsys.exporting.bundle import load_bundle
from recsys.runs.environment import PROJECT
from recsys.runs.folders import claim_folder, unique_folder
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError
from recsys.schema.manifest import read_station


@dataclasses.dataclass(frozen=True)
class Options:
    size: int = 3


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Runs a function as a command and returns its exit status, stdout and stderr."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy.yaml").write_text("size: 3\n")
    monkeypatch.chdir(tmp_path)

    def run(work, *arguments):
        with pytest.raises(SystemExit) as ended:
            command("toy", Options, configs=tmp_path / "configs")(work)(arguments)
        return ended.value.code, *capsys.readouterr()

    return run


def test_path_is_the_last_line_and_all_else_goes_to_stderr(run):
    def work(options, composed):
        print("a library that talks")
        assert options == Options(4)
        assert composed == {"size": 4}
        return "the/station"

    status, out, err = run(work, "size=4")
    assert (status, out) == (0, "the/station\n")
    assert "a library that talks" in err


def test_nothing_is_written_beside_the_station(run, tmp_path):
    assert run(lambda options, composed: "the/station")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


def fail_on_purpose(options, composed):
    raise InputError("events.csv must have the columns c; missing: `c`; found: a, b")


def fail_in_a_library(options, composed):
    json.loads("{")


# In a module of ours, but not on purpose.
fail_by_accident = eval("lambda options, composed: int('three')", {"__name__": "recsys.accident"})


def run_out_of_permissions(options, composed):
    raise PermissionError(13, "Permission denied", "/runs")


def test_users_mistake_is_a_line_without_a_traceback(run):
    status, out, err = run(fail_on_purpose)
    assert (status, out) == (2, "")
    assert err == "error: events.csv must have the columns c; missing: `c`; found: a, b\n"


@pytest.mark.parametrize("work", [fail_in_a_library, fail_by_accident])
def test_fault_of_ours_shows_its_traceback(run, work):
    status, out, err = run(work)
    assert (status, out) == (1, "")
    assert "Traceback" in err
    assert "error:" not in err


def test_disk_that_refuses_is_the_users_to_mend(run):
    status, _, err = run(run_out_of_permissions)
    assert status == 2
    said = "cannot read or write `/runs`: Permission denied"
    assert err == f"error: {said}; name another place, or make room there\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.EIO, os.strerror(errno.EIO), b"/data/items.parquet"),
            " `/data/items.parquet`: Input/output error",
        ),
        (
            RuntimeError("open file failed: Input/output error\nwhere"),
            ": open file failed: Input/output error",
        ),
    ],
)
def test_disk_that_has_a_fault_is_the_users_to_mend(run, error, said):
    def work(options, composed):
        raise error

    status, _, err = run(work)
    assert status == 2
    advice = "have the disk looked at, or go on with a copy elsewhere"
    assert err == f"error: cannot read or write{said}; {advice}\n"


def test_folder_below_a_file_is_the_users_to_mend(run, tmp_path):
    (tmp_path / "file").write_text("mine")

    def work(options, composed):
        claim_folder(tmp_path / "file" / "run", key="run_dir")

    status, _, err = run(work)
    assert status == 2
    assert f"error: cannot read or write `{tmp_path / 'file'}`: File exists" in err


def test_interruption_says_how_to_go_on(run):
    def work(options, composed):
        raise KeyboardInterrupt("continue with `python train.py resume=runs/a`")

    status, out, err = run(work)
    assert (status, out) == (130, "")
    assert err == "interrupted: continue with `python train.py resume=runs/a`\n"


def test_mistaken_configuration_does_no_work(run):
    def work(options, composed):
        raise AssertionError("did work")

    status, _, err = run(work, "sice=3", "size=big")
    assert status == 2
    assert err.splitlines() == [
        "error: expected int for `size`, got 'big' (on the command line)",
        "error: there is no key `sice` (on the command line); did you mean `size`?",
    ]


def test_flags_may_stand_between_overrides(run):
    status, out, _ = run(lambda options, composed: "never", "size=5", "--cfg", "job")
    assert (status, out) == (0, "size: 5\n")


def test_only_training_runs_several_times(run):
    status, _, err = run(lambda options, composed: "never", "-m", "size=1,2")
    assert status == 2
    assert err == "error: `-m` is for `train.py`; `toy` runs once\n"


def test_folders_of_the_same_second_differ(tmp_path):
    folders = [unique_folder("model-data", tmp_path) for _ in range(3)]
    assert len({folder.name for folder in folders}) == 3
    assert all(folder.is_dir() and "-model-data" in folder.name for folder in folders)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Overrides naming a table of 30 users and 12 items, each user fond of one kind of item."""
    folder = tmp_path_factory.mktemp("data")
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "product", "when", "stars"])
        for user in range(30):
            for step in range(10):
                product = (7 * step + user) % 12
                rows.writerow(
                    [f"u{user}", f"p{product}", 1_700_000_000 + 3600 * step + user, 5 - product % 3]
                )
    return (
        "data=table",
        f"data.interactions.path={folder / 'events.csv'}",
        "data.interactions.columns={user_id: user, item_id: product, timestamp: when}",
        "data.label.column=stars",
        "data.label.positive_at_least=4",
        "data.split=leave_last_out",
        f"data.cache_dir={folder / 'cache'}",
        "data.batch_size=64",
        "trainer.progress_bar=false",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1",
        "evaluation=fast",
    )


def end(main, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A folder in which a run `a` has been trained."""
    folder = tmp_path_factory.mktemp("runs")
    here = os.getcwd()
    os.chdir(folder)
    try:
        assert end(train.main, *data, "run_dir=a", "seed=4") == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def there(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def test_run_holds_what_the_contract_says(there):
    run = there / "a"
    present = {path.name for path in run.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.json",
        "checkpoints",
        "tensorboard",
        "train.log",
    } <= present
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best", "last"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) == {
        "validation",
        "test",
        "monitor",
        "best_epoch",
        "train_seconds",
        "examples_per_second",
        "seed",
    }
    assert (metrics["seed"], metrics["monitor"]) == (4, "val/ndcg@10")
    assert 0 <= metrics["test"]["ndcg@10"] <= 1
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 4
    assert "torchrec" in environment["versions"]
    assert environment["machine"]["cores"] >= 1
    manifest = read_station(run, "run")
    assert manifest["task"] == "retrieval"
    assert read_station(manifest["prepared"], "prepared")["fingerprint"] == manifest["source"]
    assert "epoch 0" in (run / "train.log").read_text()


def test_configuration_of_a_run_makes_the_same_run_again(there, capsys):
    name = ("--config-dir", "a", "--config-name", "config")
    assert end(train.main, *name, "model=wide_deep") == 2
    assert "this command does not choose a `model`; it chooses nothing" in capsys.readouterr().err
    assert end(train.main, *name, "run_dir=again") == 0
    assert capsys.readouterr().out == "again\n"
    assert (there / "again" / "config.yaml").read_text() == (there / "a" / "config.yaml").read_text()
    metrics = [json.loads((there / name / "metrics.json").read_text()) for name in ("a", "again")]
    assert metrics[0]["validation"] == metrics[1]["validation"]
    assert metrics[0]["test"] == metrics[1]["test"]


def test_run_is_evaluated_exported_resumed_and_evaluated_again(there, capsys, data):
    assert end(evaluate.main, "run=a", "evaluation.k=[2,5]") == 0
    assert capsys.readouterr().out == "a/evaluation\n"
    assert "ndcg@5" in (there / "a" / "evaluation" / "metrics.json").read_text()
    assert end(export.main, "run=a", "export.parity_rows=20") == 0
    assert capsys.readouterr().out == "a/bundle\n"
    assert end(train.main, "resume=a", "trainer.max_epochs=2") == 0
    assert capsys.readouterr().out == "a\n"
    assert "epoch 1" in (there / "a" / "train.log").read_text()
    assert json.loads((there / "a" / "environment.json").read_text())["resumed_from"]["seed"] == 4
    # What was made from the run is no part of it: making it anew damages nothing.
    assert end(evaluate.main, "run=a") == 0
    assert "ndcg@10" in (there / "a" / "evaluation" / "metrics.json").read_text()
    assert end(export.main, "run=a", "export.parity_rows=20") == 0
    check_lists(there / "a", next(word.split("=")[1] for word in data if ".path=" in word))


def check_lists(run, events):
    """The bundle, asked with what stands in the raw table, gives the lists that `evaluate.py` has written."""
    recommended = pq.read_table(run / "evaluation" / "recommendations.parquet").to_pylist()
    program = load_bundle(run / "bundle")[1]
    with open(events) as file:
        liked = [row for row in csv.DictReader(file) if int(row["stars"]) >= 4]
    users = {row["user_id"] for row in recommended}
    assert len(users) == 30
    for user in users:
        *past, asked = sorted((row for row in liked if row["user"] == user), key=lambda row: int(row["when"]))
        expected = [row for row in recommended if row["user_id"] == user]
        context = {"timestamp": int(asked["when"])}
        history = [row["product"] for row in past]
        ids, scores = program.recommend({"user_id": user}, history, len(expected), context)
        assert ids == [row["item_id"] for row in expected]
        assert scores == pytest.approx([row["score"] for row in expected], abs=1e-5)


@pytest.fixture(scope="module")
def ranker(data, trained):
    """Beside `a`, a run `b` of a ranking model on the same table, split otherwise."""
    here = os.getcwd()
    os.chdir(trained)
    try:
        words = [word for word in data if not word.startswith("data.split")]
        words += ["data.split=random", "data.split_fractions=[0.4,0.3,0.3]", "model=wide_deep"]
        assert end(train.main, *words, "run_dir=b") == 0
    finally:
        os.chdir(here)
    return trained / "b"


def test_two_runs_become_one_recommender(there, ranker, capsys):
    keys = ("export.parity_rows=8", "export.num_candidates=5", "export.diversity=0.1")
    assert end(export.main, "run=a", "ranker=b", *keys) == 0
    assert capsys.readouterr().out == "a/bundle\n"
    manifest = read_station(there / "a" / "bundle", "bundle")
    assert (manifest["task"], manifest["num_candidates"], manifest["diversity"]) == ("two_stage", 5, 0.1)
    assert manifest["config"]["ranker"] == "b"
    run = manifest["stages"]["ranking"]["run"]
    assert run["run"] == "b"
    assert run["evaluation"] is None
    assert run["metrics"]["seed"] == 0
    assert (there / "a" / "bundle" / "recommender.pt").is_file()


def test_evaluation_of_an_earlier_state_of_a_run_is_not_that_of_its_bundle(ranker, tmp_path, capsys):
    shutil.copytree(ranker, tmp_path / "b")
    assert end(evaluate.main, f"run={tmp_path / 'b'}") == 0
    judged = json.loads((tmp_path / "b" / "evaluation" / "manifest.json").read_text())
    found = TrainedRun.open(tmp_path / "b").provenance()
    assert found["evaluation"]["protocol_hash"] == judged["protocol_hash"]
    assert end(train.main, f"resume={tmp_path / 'b'}", "trainer.max_epochs=2") == 0
    found = TrainedRun.open(tmp_path / "b").provenance()
    assert found["evaluation"] is None
    assert "is of the run before it was resumed; evaluate it anew" in capsys.readouterr().err
    (tmp_path / "b" / "evaluation" / "metrics.json").unlink()
    assert TrainedRun.open(tmp_path / "b").provenance()["evaluation"] is None
    assert "the evaluation of the run is left out: `" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["run=a", "ranker=nowhere"], "error: `ranker`: expected the folder of a run, got `nowhere`"),
        (["run=a", "ranker=a"], "error: `ranker` must name a run of a ranking model"),
        (["run=b", "ranker=b"], "error: `run` must name a run of a retrieval model"),
        (["run=a", "export.num_candidates=0"], "`export.num_candidates` must be at least 1, got 0"),
    ],
)
def test_runs_that_make_no_recommender_are_refused(there, ranker, capsys, keys, message):
    assert end(export.main, *keys) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_dataset_is_prepared_once(data, there, capsys):
    words = [word for word in data if word.startswith("data")]
    assert end(prepare.main, *words) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines() == [json.loads((there / "a" / "manifest.json").read_text())["prepared"]]


@pytest.fixture
def copied(there, tmp_path):
    """A copy of the run, to be spoilt."""
    shutil.copytree(there / "a", tmp_path / "copy")
    return tmp_path / "copy"


def test_damaged_run_is_refused_by_the_name_of_the_file(copied, capsys):
    best = copied / "checkpoints" / "best"
    best.write_bytes(best.read_bytes()[:-100])
    for main in (evaluate.main, export.main):
        assert end(main, f"run={copied}") == 2
        err = capsys.readouterr().err
        assert f"error: `{best}` is damaged" in err
        assert "Traceback" not in err


def test_unfinished_run_can_only_be_continued(copied, capsys):
    (copied / "manifest.json").unlink()
    assert end(evaluate.main, f"run={copied}") == 2
    assert f"continue it with `python train.py resume={copied}`" in capsys.readouterr().err
    assert end(train.main, f"resume={copied}", "trainer.max_epochs=3") == 0


def test_dataset_of_another_run_is_refused(data, copied, capsys):
    words = [word for word in data if word.startswith("data")]
    assert end(prepare.main, *words, "data.label.positive_at_least=5") == 0
    other = capsys.readouterr().out.strip()
    assert end(evaluate.main, f"run={copied}", f"data.prepared={other}") == 2
    assert "has another fingerprint" in capsys.readouterr().err


def test_model_of_a_run_cannot_be_changed(there, capsys):
    assert end(evaluate.main, "run=a", "model.embedding_dim=8") == 2
    assert "does not fit the model" in capsys.readouterr().err


def test_run_must_be_named(there, capsys):
    assert end(evaluate.main) == 2
    assert capsys.readouterr().err == (
        "error: one of run=DIR, recommendations=FILE, runs=[DIR,DIR] and sweep=DIR must be given, got none "
        "of them\n"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("-m", "seed=1,2"),
            "several runs (`-m`, `sweep=`) are started by one process, but torchrun has started 2;",
        ),
        (
            (),
            "`trainer.strategy=single` trains in one process, but torchrun has started 2; add",
        ),
    ],
)
def test_torchrun_starts_one_run_that_is_sharded(data, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    assert end(train.main, *arguments, *data) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: {expected}" in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_interrupted_training_can_be_resumed(data, tmp_path):
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    program = [sys.executable, str(PROJECT / "train.py")]
    process = subprocess.Popen(
        [*program, *data, "trainer.max_epochs=100000", "trainer.patience=null", "run_dir=a"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "a" / "checkpoints" / "last").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "interrupted: continue with `python train.py resume=a`"
    resumed = subprocess.run(
        [*program, "resume=a", "trainer.max_steps=1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == "a\n"


def test_rows_without_users_and_items_go_all_the_way(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open("rows.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["city", "price", "click"])
        rows.writerows(
            [["Rome", place % 9 + 0.5, 1] if place % 3 else ["Oslo", 1.5, 0] for place in range(300)]
        )
    shared = [word for word in data if not re.match(r"data.(interactions|label|split)", word)]
    words = [*shared, "experiment=ranking_rows", "data.interactions.path=rows.csv", "data.label.column=click"]
    assert end(train.main, *words, "data.label.positive_at_least=1", "run_dir=a") == 0
    log = (tmp_path / "a" / "train.log").read_text()
    assert "val/auc" in log
    assert "val/gauc" not in log
    assert end(evaluate.main, "run=a") == 0
    metrics = json.loads((tmp_path / "a" / "evaluation" / "metrics.json").read_text())
    assert metrics["metrics"]["auc"] > 0.9
    assert "gauc" not in metrics["metrics"]
    assert end(export.main, "run=a", "export.parity_rows=8") == 0
    program = load_bundle(tmp_path / "a" / "bundle")[1]
    rome, oslo, unknown = program.predict(
        [{"city": "Rome", "price": 5.5}, {"city": "Oslo", "price": 1.5}, {}]
    )
    assert rome > unknown > oslo


def test_a_mistake_that_memory_led_to_keeps_its_own_advice(capsys):
    mistake = InputError("memory ran out while tables were read; leave out columns")
    mistake.__cause__ = MemoryError()
    assert process.report(mistake) == 2
    assert capsys.readouterr().err == "error: memory ran out while tables were read; leave out columns\n"


def test_an_error_without_words_is_of_memory_where_that_is_limited(capsys, monkeypatch):
    """Where there is no memory for an error, the interpreter raises a SystemError in its place."""
    error = SystemError("error return without exception set")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**30, 2**30))
    assert process.report(error) == 2
    assert "memory that this process may use is used up" in capsys.readouterr().err
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert process.report(error) == 1
    assert "SystemError: error return without" in capsys.readouterr().err


def test_memory_that_is_used_up_is_said_without_a_traceback(capsys):
    assert process.report(RuntimeError("DefaultCPUAllocator: can't allocate memory")) == 2
    said = capsys.readouterr().err
    assert "memory that this process may use is used up" in said
    assert "Traceback" not in said
