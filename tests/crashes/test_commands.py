"""Kills and full disks at the calls of real work: what was there is whole, or what is new is whole."""

import os
import shutil
from functools import partial

import pytest
import torch

from recsys.commands.sweeps.study import RECORD, STUDY, Record, open_study
from recsys.config.saved import ENVIRONMENT, read_config
from recsys.runs.folders import run_folder
from recsys.schema.json_files import read_json
from recsys.schema.manifest import read_station
from recsys.training.checkpoint import AtomicCheckpointIO, find_damage
from tests.crashes.strace import crash, needs_strace
from tests.crashes.working import commands, done, import_everything, stations

pytestmark = [pytest.mark.slow, needs_strace]

# A kill, and a full disk, at every call that may change what is on the disk; a disk that cannot be read at
# every opening of a file of ours.
KILL, FULL, UNREADABLE = "signal=SIGKILL", "error=ENOSPC", "error=EIO"
INJECTED = [KILL, FULL, UNREADABLE]


@pytest.fixture
def crashes(tmp_path, tmp_path_factory, record_property):
    """Has a piece of work crash at each of its calls, and says how often it did."""

    def crash_at_each(name, work, check, inject, before, *, is_command=True, part=slice(None)):
        reads = tmp_path_factory.getbasetemp() if inject == UNREADABLE else None
        options = {
            "trace": tmp_path / "trace",
            "inject": inject,
            "reads": reads,
            "before": before,
            "part": part,
        }
        number = crash(work, check, is_command=is_command, **options)
        record_property("crashes", number)
        print(f"{name}, {inject}: {number} crashes")
        assert number >= (1 if reads else 10)

    return crash_at_each


def folders_left(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


@pytest.fixture(scope="module")
def finished(whole, tmp_path_factory):
    """The table, and a copy of what all commands have written; a fork has all it needs imported."""
    import_everything()
    table, before, _ = whole
    folder = tmp_path_factory.mktemp("finished") / "work"
    shutil.copytree(before, folder, symlinks=True)
    return table, folder


@pytest.mark.parametrize("inject", INJECTED)
def test_preparing(finished, tmp_path, inject, crashes):
    main, arguments = commands(finished[0], tmp_path)["prepare"]

    def check():
        for folder, kind in stations(tmp_path, "prepare"):
            read_station(folder, kind, verify_all=True)

    def before():
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    crashes("preparing", partial(main, arguments), check, inject, before)
    status, said = done(partial(main, arguments), tmp_path / "said")
    assert status == 0, said
    assert folders_left(tmp_path / "cache" / "prepared") == []


@pytest.mark.parametrize("inject", INJECTED)
def test_checkpoints(tmp_path, inject, crashes):
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

    crashes("checkpoints", lambda: save(3.0), check, inject, before, is_command=False)
    save(4.0)
    assert folders_left(folder) == []


@pytest.mark.parametrize("inject", INJECTED)
def test_taking_up_a_run(finished, tmp_path, inject, crashes):
    """A kill leaves the run as it was or one that can be taken up, a full disk leaves it as it was."""
    run = tmp_path / "run"
    former = read_config(finished[1] / "run")
    statuses = []

    def before():
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(finished[1] / "run", run)

    def work():
        with run_folder({**former, "seed": 7}, run_dir=None, resume=str(run)):
            pass

    def check():
        seed = read_config(run)["seed"]
        assert seed in (former["seed"], 7)
        read_json(run / ENVIRONMENT)
        if inject == FULL and seed != 7:
            read_station(run, "run", verify_all=True)
        statuses.append(seed)

    crashes("taking up a run", work, check, inject, before, is_command=False)
    assert set(statuses) == {former["seed"], 7}
    work()
    assert read_config(run)["seed"] == 7
    assert folders_left(run) == []


@pytest.mark.parametrize("inject", INJECTED)
@pytest.mark.parametrize("name", ["evaluate", "export", "add-items"])
def test_old_folder_stays_whole_or_the_new_one_is(finished, tmp_path, name, inject, crashes):
    table, folder = finished
    main, arguments = commands(table, folder)[name]

    def before():
        if name == "add-items":  # never written over
            shutil.rmtree(folder / "more", ignore_errors=True)

    def check():
        read_station(folder / "run" / "bundle", "bundle", verify_all=True)
        for path, kind in stations(folder, name):
            read_station(path, kind, verify_all=True)

    crashes(name, partial(main, arguments), check, inject, before)
    before()
    status, said = done(partial(main, arguments), tmp_path / "said")
    assert status == 0, said
    assert folders_left(folder / "run") == []
    assert folders_left(folder) == []


@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("inject", INJECTED)
def test_sweeping(finished, tmp_path, inject, part, crashes):
    """Whatever stands in the journal can be read, and the same command goes on to the end."""
    main, arguments = commands(finished[0], tmp_path)["sweep"]
    sweep = tmp_path / "sweep"

    def check():
        if (sweep / STUDY).exists() and (sweep / RECORD).exists():
            open_study(sweep, Record.read(sweep))

    def before():
        shutil.rmtree(sweep, ignore_errors=True)

    crashes("sweeping", partial(main, arguments), check, inject, before, part=slice(part, None, 8))
    status, said = done(partial(main, arguments), tmp_path / "said")
    assert status == 0, said
    assert len(stations(tmp_path, "sweep")) == 2
    for path, kind in stations(tmp_path, "sweep"):
        read_station(path, kind, verify_all=True)
