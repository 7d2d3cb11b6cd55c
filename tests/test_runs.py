"""The folder of a run: who finds it again, and what its log tells."""

import logging

import pytest

from recsys.runs.folders import is_worth_a_line, run_folder
from recsys.runs.launch import Processes

COMPOSED = {"model": {"_target_": "recsys.models.wide_deep.WideDeep"}, "data": {"name": "small"}}


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
