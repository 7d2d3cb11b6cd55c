"""Kills and full disks at the calls of real work: what was there is whole, or what is new is whole."""

import csv
import os
import random
import shutil

import pytest
import torch

from recsys.commands import add_items, evaluate, export, prepare, train
from recsys.schema.manifest import read_station
from recsys.training.checkpoint import AtomicCheckpointIO, find_damage
from tests.crashes.strace import crash, needs_strace

pytestmark = [pytest.mark.slow, needs_strace]

KILL, FULL = "signal=SIGKILL", "error=ENOSPC"
SMALL = (
    *("trainer.max_epochs=1", "model.embedding_dim=8", "trainer.log_every_n_steps=1"),
    *("data.split=leave_last_out", "evaluation.latency_requests=0"),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    random.seed(0)
    with (folder / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in range(40):
            for place, item in enumerate(random.sample(range(20), 8)):
                writer.writerow([f"u{user}", f"i{item}", 1_700_000_000 + 60 * place])
    with (folder / "new.csv").open("w") as file:
        file.write("item_id\nbrand_new\n")
    return folder


def keys(table, cache):
    return ["data=table", f"data.interactions.path={table / 'events.csv'}", f"data.cache_dir={cache}"]


def folders_left(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    """A trained, evaluated and exported run."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("finished")
    run = place / "run"
    for main, arguments in (
        (train.main, [*keys(table, place / "cache"), *SMALL, f"run_dir={run}"]),
        (evaluate.main, [f"run={run}", "evaluation=fast"]),
        (export.main, [f"run={run}"]),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    return run


@pytest.mark.parametrize("inject", [KILL, FULL])
def test_preparing(table, tmp_path, inject, record_property):
    cache = tmp_path / "cache"

    def work():
        prepare.main(keys(table, cache))

    def check():
        for folder in (cache / "prepared").glob("[!.]*"):
            read_station(folder, "prepared", verify_all=True)

    def start_anew():
        shutil.rmtree(cache, ignore_errors=True)

    crashes = crash(work, check, trace=tmp_path / "trace", inject=inject, before=start_anew, most=15)
    record_property("crashes", crashes)
    assert crashes > 20
    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 0
    assert folders_left(cache / "prepared") == []


@pytest.mark.parametrize("inject", [KILL, FULL])
def test_checkpoints(tmp_path, inject, record_property):
    folder = tmp_path / "checkpoints"
    writer = AtomicCheckpointIO()

    def save(value):
        writer.save_checkpoint({"state_dict": {"weight": torch.full([1000], value)}}, folder / "last")

    def before():
        shutil.rmtree(folder, ignore_errors=True)
        save(1.0)
        save(2.0)

    def check():
        assert find_damage(folder / "last") is None
        weight = writer.load_checkpoint(folder / "last")["state_dict"]["weight"]
        assert weight.unique().item() in (2.0, 3.0)

    crashes = crash(lambda: save(3.0), check, trace=tmp_path / "trace", inject=inject, before=before)
    record_property("crashes", crashes)
    assert crashes > 5
    save(4.0)
    assert folders_left(folder) == []


@pytest.mark.parametrize("inject", [KILL, FULL])
@pytest.mark.parametrize(
    ("kind", "main", "more"),
    [("evaluation", evaluate.main, ["evaluation=fast"]), ("bundle", export.main, [])],
)
def test_evaluating_and_exporting(finished, tmp_path, kind, main, more, inject, record_property):
    crashes = crash(
        lambda: main([f"run={finished}", *more]),
        lambda: read_station(finished / kind, kind, verify_all=True),
        trace=tmp_path / "trace",
        inject=inject,
        most=3,
    )
    record_property("crashes", crashes)
    assert crashes > 10
    with pytest.raises(SystemExit) as ended:
        main([f"run={finished}", *more])
    assert ended.value.code == 0
    assert folders_left(finished) == []


@pytest.mark.parametrize("inject", [KILL, FULL])
def test_adding_items(finished, table, tmp_path, inject, record_property):
    target = tmp_path / "more"

    def check():
        read_station(finished / "bundle", "bundle", verify_all=True)
        if target.exists():
            read_station(target, "bundle", verify_all=True)

    crashes = crash(
        lambda: add_items.main(
            [f"bundle={finished / 'bundle'}", f"items={table / 'new.csv'}", f"folder={target}"]
        ),
        check,
        trace=tmp_path / "trace",
        inject=inject,
        before=lambda: shutil.rmtree(target, ignore_errors=True),
        most=3,
    )
    record_property("crashes", crashes)
    assert crashes > 10
