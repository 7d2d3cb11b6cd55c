"""The folder of a run: who finds it again, and what its log tells."""

import errno
import logging
import multiprocessing
import shutil

import pytest

from recsys.config.saved import config_text, read_config
from recsys.runs.folders import claim_folder, is_worth_a_line, run_folder
from recsys.runs.launch import Processes
from recsys.schema import disk
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST

COMPOSED = {
    "model": {"_target_": "recsys.models.wide_deep.WideDeep"},
    "data": {"name": "small"},
    "trainer": {"max_epochs": 3},
    "seed": 4,
}


def test_processes_that_may_be_started_again_must_know_the_folder_of_their_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    match = (
        r"may start the processes again \(3 times\), so they must know the folder of their run: add `run_dir="
    )
    with (
        pytest.raises(ValueError, match=match),
        run_folder(COMPOSED, run_dir=None, resume=None, processes=Processes(max_restarts=3)),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_processes_started_again_take_up_the_run_that_they_had_begun(tmp_path):
    run_dir = str(tmp_path / "run")
    for restarts, is_resumed in ((0, False), (1, True), (2, True)):
        processes = Processes(restarts=restarts, max_restarts=3)
        with run_folder(COMPOSED, run_dir=run_dir, resume=None, processes=processes) as (path, ending):
            assert str(path) == run_dir
            assert ending.is_resumed is is_resumed
    with (
        pytest.raises(ValueError, match=r"but `.*run` holds something; .* continue the run with `resume="),
        run_folder(COMPOSED, run_dir=run_dir, resume=None),
    ):
        pass


def test_job_whose_lost_machine_comes_back_takes_up_its_run_and_no_other_job_does(tmp_path):
    """Torchrun counts no restart then."""
    run_dir = str(tmp_path / "run")
    job, other = Processes(max_restarts=3, job="7"), Processes(max_restarts=3, job="8")
    for is_resumed in (False, True):
        with run_folder(COMPOSED, run_dir=run_dir, resume=None, processes=job) as (_, ending):
            assert ending.is_resumed is is_resumed
    for processes in (other, Processes(max_restarts=3), Processes(job="7")):
        with (
            pytest.raises(ValueError, match=r"but `.*run` holds something"),
            run_folder(COMPOSED, run_dir=run_dir, resume=None, processes=processes),
        ):
            pass
    with run_folder(COMPOSED, run_dir=run_dir, resume=None, processes=job) as (_, ending):
        ending.metrics = {}
    with (
        pytest.raises(ValueError, match=r"but `.*run` holds something"),
        run_folder(COMPOSED, run_dir=run_dir, resume=None, processes=job),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("root", logging.INFO, False),
        ("root", logging.WARNING, True),
        ("recsys.training.fit", logging.INFO, True),
    ],
)
def test_log_of_a_run_leaves_out_what_the_root_logger_says_in_passing(tmp_path, name, level, expected):
    record = logging.LogRecord(name, level, "file.py", 1, "what FBGEMM says", (), None)
    assert is_worth_a_line(record) is expected
    with run_folder(COMPOSED, run_dir=str(tmp_path / "run"), resume=None) as (path, _):
        logging.getLogger(None if name == "root" else name).handle(record)
    assert ("what FBGEMM says" in (path / "train.log").read_text()) is expected


def claim(path, barrier, outcomes):
    barrier.wait()
    try:
        claim_folder(path, key="run_dir", texts={"config.yaml": config_text(COMPOSED)})
        outcomes.put("claimed")
    except InputError as error:
        outcomes.put(str(error))


def test_of_processes_that_claim_one_empty_folder_one_gets_it(tmp_path):
    context = multiprocessing.get_context("fork")
    for number in range(20):
        path = tmp_path / f"run{number}"
        path.mkdir()
        barrier, outcomes = context.Barrier(3), context.Queue()
        processes = [context.Process(target=claim, args=(path, barrier, outcomes)) for _ in range(3)]
        for process in processes:
            process.start()
        found = sorted(outcomes.get(timeout=30) for _ in processes)
        for process in processes:
            process.join()
        assert found[0] == "claimed"
        assert [text.startswith("expected a new or an empty folder") for text in found[1:]] == [True, True]


def finished(path):
    with run_folder(COMPOSED, run_dir=str(path), resume=None) as (_, ending):
        ending.metrics = {"seed": 4}
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_disk_that_fills_up_while_a_run_is_taken_up_leaves_it_as_it_was(tmp_path, monkeypatch):
    before = finished(tmp_path / "run")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    more = {**COMPOSED, "trainer": {"max_epochs": 9}}
    with (
        pytest.raises(InputError, match=r"expected to write `.*config.yaml`, but the disk is full"),
        run_folder(more, run_dir=None, resume=str(tmp_path / "run")),
    ):
        raise AssertionError("went on")
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_run_that_is_taken_up_has_its_new_configuration_and_no_manifest(tmp_path):
    finished(tmp_path / "run")
    more = {**COMPOSED, "trainer": {"max_epochs": 9}}
    with run_folder(more, run_dir=None, resume=str(tmp_path / "run")) as (path, _):
        assert read_config(path)["trainer"] == {"max_epochs": 9}
        assert not (path / MANIFEST).exists()


def remove(path, failure):
    if failure != "half":
        shutil.rmtree(path)
    if failure:
        (path / "tensorboard" / "events.out").open("ab")


def test_removal_of_the_folder_while_training_is_named(tmp_path):
    match = r"expected the run's folder `.*run` to stay while it is trained, but it was removed"
    for number, failure in enumerate(("whole", "half", None)):
        folder = run_folder(COMPOSED, run_dir=str(tmp_path / str(number) / "run"), resume=None)
        with pytest.raises(InputError, match=match), folder as (path, _):
            remove(path, failure)


@pytest.mark.parametrize("lines", [1, 3, 5, 7])
def test_configuration_that_was_cut_off_is_refused(tmp_path, lines):
    finished(tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:lines]))
    if "seed" in path.read_text():
        path.write_text(whole[: whole.index("seed: 4") + len("seed: 4")])
    with pytest.raises(InputError, match=r"`.*config.yaml` is damaged: .* is missing, as where a file"):
        read_config(tmp_path / "run")


def test_aliases_are_refused_before_they_are_expanded(tmp_path):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "config.yaml").write_text("\n".join(["a0: &a0 [x]", *levels]) + "\n")
    with pytest.raises(InputError, match="is damaged: expected no aliases"):
        read_config(tmp_path)
