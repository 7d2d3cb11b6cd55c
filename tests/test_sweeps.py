"""Sweeps that are killed, shared, pruned, and end with a winner: a toy command in processes of its own."""

import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from recsys.commands.sweeps.options import PruneOptions, RerankOptions, SweepOptions
from recsys.commands.sweeps.reports import trial_report
from recsys.commands.sweeps.study import Record, open_study
from recsys.config.register import trusting
from recsys.runs.environment import PROJECT
from tests import toy_sweep

WAIT_SECONDS = 60


@pytest.fixture
def here(tmp_path):
    for name, text in toy_sweep.CONFIGS.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return tmp_path


def start(here, *arguments):
    return subprocess.Popen(
        [sys.executable, toy_sweep.__file__, *arguments],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(here, *arguments, status=0):
    process = start(here, *arguments)
    out, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == status, err
    return out, err


@pytest.fixture
def quick(here, monkeypatch, capsys):
    """Runs the command in this process."""
    monkeypatch.chdir(here)

    def run(*arguments, status=0):
        with trusting(["tests"]), pytest.raises(SystemExit) as ended:
            toy_sweep.entry()(arguments)
        out, err = capsys.readouterr()
        assert ended.value.code == status, err
        return out, err

    return run


def runs(here):
    """Folder, process and kind of every run that began."""
    path = here / toy_sweep.RUNS
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for(condition):
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def study_of(folder):
    return open_study(folder, Record.read(folder))


def states(folder):
    return dict(collections.Counter(trial.state.name for trial in study_of(folder).trials))


def drawn(folder):
    return [trial.params for trial in study_of(folder).trials]


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def winner_of(folder):
    return json.loads((folder / "winner.json").read_text())


@pytest.mark.slow
def test_killed_sweep_goes_on_as_if_it_had_not_been(here):
    command = ["sweep=wide", "sweep.num_trials=14", "pause=0.2", "sweep.prune.rule=none"]
    run(here, *command[:2], command[3], "run_dir=whole")
    (here / toy_sweep.RUNS).unlink()
    process = start(here, *command, "run_dir=search")
    wait_for(lambda: len(runs(here)) == 3)
    process.kill()
    process.communicate()
    assert states(here / "search") == {"COMPLETE": 2, "RUNNING": 1}
    out, _ = run(here, *command, "run_dir=search")
    assert out.splitlines()[-1] == "search"
    assert states(here / "search") == {"COMPLETE": 14}
    begun = collections.Counter(folder for folder, _, _ in runs(here))
    assert begun == {f"search/{number}": 1 + (number == 2) for number in range(14)}
    assert [kind for folder, _, kind in runs(here) if folder == "search/2"] == ["new", "again"]
    assert drawn(here / "search") == drawn(here / "whole")


def test_finished_sweep_given_again_runs_nothing_and_more_trials_when_asked(here, quick):
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    assert len(runs(here)) == 2
    quick("sweep=wide", "sweep.num_trials=4", "run_dir=search")
    assert len(runs(here)) == 4


@pytest.mark.slow
def test_two_workers_share_a_study_and_no_trial_is_run_twice(here):
    command = ["sweep=wide", "sweep.num_trials=16", "pause=0.3", "sweep.prune.rule=none", "run_dir=search"]
    workers = [start(here, *command) for _ in range(2)]
    ended = [worker.communicate(timeout=WAIT_SECONDS) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ended
    assert sorted(folder for folder, _, _ in runs(here)) == sorted(f"search/{n}" for n in range(16))
    assert {int(pid) for _, pid, _ in runs(here)} == {worker.pid for worker in workers}
    assert states(here / "search") == {"COMPLETE": 16}
    assert len({str(one) for one in drawn(here / "search")}) == 16
    assert [out.splitlines()[-1] for out, _ in ended] == ["search", "search"]


@pytest.mark.slow
def test_worker_takes_up_the_trial_of_one_that_was_killed(here):
    command = ["sweep=grid", "pause=1.0", "run_dir=search"]
    victim, heir = (start(here, *command) for _ in range(2))
    wait_for(lambda: any(int(pid) == victim.pid for _, pid, _ in runs(here)))
    victim.kill()
    victim.communicate()
    _, err = heir.communicate(timeout=WAIT_SECONDS)
    assert heir.returncode == 0, err
    assert states(here / "search") == {"COMPLETE": 6}
    assert len(runs(here)) == 7


@pytest.mark.slow
def test_workers_of_one_command_survive_a_trial_that_kills_its_process(here):
    space = [f"sweep.space={{model.width: 'choice(1,{toy_sweep.KILLED},3)'}}", "sweep.max_retries=1"]
    out, err = run(here, "sweep=grid", *space, "sweep.workers=2", "run_dir=search")
    assert out == "search\n"
    assert states(here / "search") == {"COMPLETE": 2, "FAIL": 1}
    ending = json.loads((here / "search" / "1" / "trial.json").read_text())
    assert ending["status"] == "failed"
    assert ending["error"] == "its process died 2 times (killed, or out of memory)"
    assert ending["overrides"] == [f"model.width={toy_sweep.KILLED}"]
    assert "a worker died (SIGKILL" in err
    assert "trial 1 failed: its process died 2 times" in err
    assert len(runs(here)) == 4
    assert winner_of(here / "search")["budget"]["trials"] == {"complete": 2, "fail": 1}


def test_sweep_ends_when_more_trials_failed_than_may(here, quick):
    space = [f"sweep.space={{model.width: 'choice({toy_sweep.FAILS},1,2)', seed: 'choice(0,1,2)'}}"]
    command = ["sweep=grid", *space, "run_dir=search"]
    _, err = quick(*command, "sweep.max_failures=1", status=2)
    assert "2 trials failed, more than `sweep.max_failures=1`: the sweep ends here" in err
    assert "error: all of 2 trials failed, the first one by: InputError: the unlucky table must have" in err
    assert states(here / "search")["FAIL"] == 2
    assert not (here / "search" / "winner.json").exists()
    quick(*command, "sweep.max_failures=3")
    assert states(here / "search") == {"COMPLETE": 6, "FAIL": 3}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sweep_says_how_to_go_on_and_does(here, number):
    command = ["sweep=grid", "pause=1.0", "sweep.workers=2", "run_dir=search"]
    process = start(here, *command)
    wait_for(lambda: len(runs(here)) >= 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130
    assert "interrupted: the same command with `run_dir=search` goes on" in err
    assert not any(is_alive(int(pid)) for _, pid, _ in runs(here))
    # It did not die by itself: the attempt is not counted.
    assert {
        trial.user_attrs["attempts"]
        for trial in study_of(here / "search").trials
        if trial.state.name == "RUNNING"
    } == {0}
    run(here, *command)
    assert states(here / "search") == {"COMPLETE": 6}


@pytest.mark.slow
def test_workers_end_with_their_supervisor(here):
    process = start(here, "sweep=grid", "pause=2.0", "sweep.workers=2", "run_dir=search")
    wait_for(lambda: len(runs(here)) >= 2)
    process.kill()
    process.communicate(timeout=WAIT_SECONDS)  # the workers hold its stderr
    wait_for(lambda: not any(is_alive(int(pid)) for _, pid, _ in runs(here)))
    assert len(runs(here)) == 2


def test_bad_trial_is_given_up_and_is_no_failure(here, quick):
    space = ["sweep.space={model.width: 'choice(8,9,10,1,11)'}", "sweep.max_failures=0"]
    rule = ["sweep.prune.startup_trials=2", "sweep.prune.warmup_epochs=2"]
    _, err = quick("sweep=grid", *space, *rule, "run_dir=search")
    assert states(here / "search") == {"COMPLETE": 4, "PRUNED": 1}
    ending = json.loads((here / "search" / "3" / "trial.json").read_text())
    assert ending["status"] == "pruned"
    assert ending["reason"].startswith("val/ndcg@10 0.6667 after 2 epochs is not among the better ones")
    pruned = study_of(here / "search").trials[3]
    assert pruned.intermediate_values == {1: 1 / 3, 2: 2 / 3}
    assert "trial 3 is given up: val/ndcg@10 0.6667" in err
    quick("sweep=grid", *space, "sweep.prune.rule=none", "run_dir=unpruned")
    assert states(here / "unpruned") == {"COMPLETE": 5}


@pytest.mark.slow
def test_hyperband_gives_up_most_of_many(here, quick):
    rule = ["sweep.prune.rule=hyperband", "sweep.prune.warmup_epochs=1", "sweep.prune.reduction_factor=2"]
    quick("sweep=wide", "sweep.num_trials=30", *rule, "run_dir=search")
    found = states(here / "search")
    assert found["PRUNED"] >= 5
    assert found["COMPLETE"] + found["PRUNED"] == 30


def test_winner_is_the_best_mean_over_seeds(here, quick):
    # 6 and 5 lose 1 and 2 with the seeds 1 and 2, 4 loses nothing: (6 + 5 + 4) / 3 = 5, 4, 4.
    quick("sweep=grid", "sweep.rerank={top: 3, seeds: [0, 1, 2]}", "run_dir=search")
    told = winner_of(here / "search")
    assert [(one["trial"], one["values"]) for one in told["candidates"]] == [
        (5, {"0": 6.0, "1": 5.0, "2": 4.0}),
        (3, {"0": 4.0, "1": 4.0, "2": 4.0}),
        (4, {"0": 5.0, "1": 4.0, "2": 3.0}),
    ]
    assert told["winner"]["mean"] == 5.0
    assert told["winner"]["std"] == 1.0
    assert told["winner"]["command"] == "python train.py model.width=6"
    # The search ran with seed 0, which is not run again.
    again = [folder for folder, _, _ in runs(here) if "rerank" in folder]
    assert sorted(again) == [f"search/rerank/{trial}-seed{seed}" for trial in (3, 4, 5) for seed in (1, 2)]
    assert told["budget"] == {
        "num_trials": 6,
        "trials": {"complete": 6},
        "rerank_runs": 6,
        "seconds": told["budget"]["seconds"],
        "rerank_seconds": told["budget"]["rerank_seconds"],
    }
    assert told["searched"]["space"] == {"model.width": "choice(1,2,3,4,5,6)"}
    assert told["searched"]["rerank"] == {"top": 3, "seeds": [0, 1, 2]}


def test_luck_in_the_search_does_not_make_a_winner(here, quick):
    _, err = quick("sweep=grid", "sweep.rerank={top: 3, seeds: [2, 4]}", "run_dir=search")
    told = winner_of(here / "search")
    # Of 6, 5 and 4: (4 + 2) / 2, (3 + 1) / 2, (4 + 4) / 2.
    assert [(one["trial"], one["mean"]) for one in told["candidates"]] == [(3, 4.0), (5, 3.0), (4, 2.0)]
    assert "winner: trial 3, val/ndcg@10 4.0000 ± 0.0000 over seeds 2, 4" in err
    assert "best: python train.py model.width=4" in err


def test_candidate_that_fails_with_a_seed_does_not_win(here, quick):
    space = [f"sweep.space={{model.width: 'choice(3,{toy_sweep.FAILS_WITH_OTHER_SEEDS})'}}"]
    _, err = quick("sweep=grid", *space, "sweep.rerank={top: 2, seeds: [0, 1]}", "run_dir=search")
    told = winner_of(here / "search")
    # 9 is by far the better one with seed 0, the only one with which it does not fail.
    assert [(one["trial"], one["mean"], one["failed_seeds"]) for one in told["candidates"]] == [
        (0, 3.0, []),
        (1, 9.0, [1]),
    ]
    assert told["winner"]["trial"] == 0
    assert "trial 1: val/ndcg@10 9.0000 with seed 0, failed with seeds [1]" in err


def test_seed_of_the_command_line_gives_way_to_those_of_the_rerank(here, quick):
    _, err = quick("sweep=grid", "seed=7", "sweep.rerank={top: 1, seeds: [1]}", "run_dir=search")
    assert json.loads((here / "search" / "3" / "metrics.json").read_text())["seed"] == 7
    assert json.loads((here / "search" / "rerank" / "3-seed1" / "metrics.json").read_text())["seed"] == 1
    assert "winner: trial 3, val/ndcg@10 4.0000 with seed 1" in err


@pytest.mark.slow
def test_rerank_that_was_killed_goes_on(here):
    command = ["sweep=grid", "pause=0.2", "sweep.rerank={top: 2, seeds: [1, 2, 3]}", "run_dir=search"]
    process = start(here, *command)
    wait_for(lambda: len(runs(here)) == 6 + 3)
    process.kill()
    process.communicate()
    run(here, *command)
    assert len(runs(here)) == 6 + 6 + 1
    assert [len(one["values"]) for one in winner_of(here / "search")["candidates"]] == [3, 3]


def test_folder_of_another_sweep_is_refused_with_what_differs(here, quick):
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    other = ["model.drop=interval(0.0,0.9)", "pause=0.1"]
    _, err = quick("sweep=wide", *other, "run_dir=search", status=2)
    [line] = [line for line in err.splitlines() if line.startswith("error:")]
    assert "`search` holds a sweep with another `space.model.drop`, `config.pause`; give what" in line
    assert len(runs(here)) == 2


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"name": ', "what cannot be read (`search/sweep.json` is damaged"),
        ("[" * 100_000, "what cannot be read (`search/sweep.json` is damaged (nested too deep)"),
        ('{"format": 1, "name": 7}', "what cannot be read (`search/sweep.json` is damaged: expected `name`"),
        ('{"format": 9}', "format 9;"),
    ],
)
def test_record_that_cannot_be_used_is_refused_by_name(here, quick, content, found):
    (here / "search").mkdir()
    (here / "search" / "sweep.json").write_text(content)
    _, err = quick("sweep=wide", "run_dir=search", status=2)
    assert f"error: expected the record of a sweep (format 1) in `search/sweep.json`, got {found}" in err


def test_line_that_was_left_half_written_is_put_aside(here, quick):
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    with (here / "search" / "study.log").open("a") as file:
        file.write('{"op_code":4,"worker_')
    _, err = quick("sweep=wide", "sweep.num_trials=4", "run_dir=search")
    assert states(here / "search") == {"COMPLETE": 4}
    assert "a line of `search/study.log` was half written; it is put aside in `search/study.log.torn`" in err
    assert (here / "search" / "study.log.torn").read_text() == '{"op_code":4,"worker_\n'


def test_last_line_without_its_end_is_kept(here, quick):
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    path = here / "search" / "study.log"
    before = path.read_text()
    path.write_text(before.rstrip("\n"))
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    assert path.read_text().startswith(before)


@pytest.mark.parametrize(
    ("damage", "line", "reason"),
    [
        (lambda lines: [*lines[:3], lines[3][:20], *lines[4:]], 4, "JSONDecodeError"),
        (
            lambda lines: [*lines[:5], '{"op_code":99,"worker_id":"x"}', *lines[5:]],
            6,
            "ValueError: 99 is not",
        ),
        (lambda lines: [*lines[:2], '{"op_code":5,"worker_id":"x"}', *lines[2:]], 3, "KeyError: 'trial_id'"),
        (lambda lines: [*lines[:4], "[]", *lines[4:]], 5, "TypeError"),
        (lambda lines: [lines[0][:-9]], 1, "Unterminated string|Expecting"),
        (lambda lines: ["[" * 100_000], 1, "recursion"),
    ],
)
def test_damaged_study_is_refused_by_line_and_stays_as_it_is(here, quick, damage, line, reason):
    quick("sweep=wide", "sweep.num_trials=2", "run_dir=search")
    path = here / "search" / "study.log"
    lines = damage(path.read_text().splitlines())
    path.write_text("\n".join(lines) + "\n" * (len(lines) > 1))
    before = path.read_bytes()
    _, err = quick("sweep=wide", "sweep.num_trials=4", "run_dir=search", status=2)
    assert re.search(rf"error: `search/study.log` is damaged in line {line} \(.*({reason})", err)
    assert "nothing was changed" in err
    assert path.read_bytes() == before


def test_mistyped_key_of_a_sweep_names_the_nearest(here, quick):
    wrong = ["sweep.rerank.tpo=3", "sweep.prune.rule=mediann", "sweep.max_failure=2"]
    _, err = quick("sweep=wide", *wrong, "run_dir=search", status=2)
    assert "no key `sweep.rerank.tpo` (on the command line); did you mean `sweep.rerank.top`?" in err
    assert "expected one of median, hyperband, none for `sweep.prune.rule`, got 'mediann'; did you" in err
    assert "no key `sweep.max_failure` (on the command line); did you mean `sweep.max_failures`?" in err
    assert not (here / "search").exists()


def test_sweep_meant_for_another_model_is_refused(quick):
    _, err = quick("sweep=wide", "sweep.meant_for=wide_deep", status=2)
    assert "error: the sweep is meant for `model=wide_deep`, got `model=None`; add `model=wide_deep`" in err


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: PruneOptions(warmup_epochs=0), "`sweep.prune.warmup_epochs` must be at least 1, got 0"),
        (lambda: RerankOptions(top=-1), "`sweep.rerank.top` must be at least 0, got -1"),
        (lambda: RerankOptions(seeds=[1, 1]), r"`sweep.rerank.seeds` must be .* different .*, got \[1, 1\]"),
        (lambda: SweepOptions(space={}, workers=-1), "`sweep.workers` must be at least 0, got -1"),
        (lambda: SweepOptions(space={}, max_failures=-1), "`sweep.max_failures` must be .*, got -1"),
    ],
)
def test_impossible_option_is_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made()


def test_run_of_its_own_reports_to_nobody(tmp_path):
    assert trial_report(tmp_path) is None


def test_trial_reports_each_epoch_once_and_only_while_it_runs(quick, here):
    quick("sweep=wide", "sweep.num_trials=1", "run_dir=search")
    assert trial_report(here / "search" / "0") is None  # it goes on by itself, after the sweep
    assert trial_report(here / "search" / "mine") is None
    assert trial_report(here / "search" / "7") is None
    study = study_of(here / "search")
    trial = study.ask()
    report = trial_report(here / "search" / str(trial.number))
    report(1, {"val/ndcg@10": 0.5, "val/other": 3.0})
    report(1, {"val/ndcg@10": 0.7})  # an epoch that was trained again after a crash
    report(2, {"val/other": 3.0})
    assert study.trials[trial.number].intermediate_values == {1: 0.5}
