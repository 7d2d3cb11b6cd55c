"""backtest: a run's configuration trained anew from several cuts of time, each model judged on what follows.

    DIR/folds/00-seed0/             a run of its own, with its evaluation
    DIR/folds/01-seed0/             ...
    DIR/backtest/                   backtest.json, backtest.parquet, backtest.html

A fold that is done is kept as long as its configuration, its data and its weights are those that it was made
from; one that was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.commands.driver import Driver, Training, is_whole_run, run_once
from recsys.commands.evaluation import evaluate_run, options_of
from recsys.commands.options import EvaluateConfig, TrainConfig
from recsys.commands.training import train
from recsys.config.build import built
from recsys.config.keys import put
from recsys.config.saved import CONFIG, read_config
from recsys.data.dataset import SPLITS, PreparedDataset
from recsys.data.options import DataOptions
from recsys.data.prepare import prepare
from recsys.data.reading.instants import iso
from recsys.evaluation.backtest import backtest_results, backtest_table
from recsys.evaluation.decay import Decay, FoldScores
from recsys.evaluation.folds import BacktestOptions, Fold, TimeLine, plan_folds
from recsys.evaluation.station import FOLDER
from recsys.evaluation.systems import read_systems
from recsys.report.backtest_page import render_backtest
from recsys.runs.trained import TrainedRun
from recsys.schema import tables
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import read_station, write_json, writing_station

STATION, FOLDS = "backtest", "folds"
RESULTS, TABLE, REPORT = "backtest.json", "backtest.parquet", "backtest.html"

# Of the evaluation's keys those that training reads; the others may change without training again.
_READ_IN_TRAINING = ("queries", "k", "seen")

logger = logging.getLogger(__name__)


def backtest(config: EvaluateConfig, composed: dict[str, Any]) -> Path:
    """Trains and judges what is not there yet, and writes the backtest station.

    Args:
        config: names the run; its `evaluation.backtest` says which folds.
        composed: the plain configuration that it was made from.

    Returns:
        The station's folder, `backtest/` in that of the run.

    Raises:
        ValueError: the run or the data cannot be backtested, a fold would have too little to go on, or every
            fold failed. All but the last is found out before any training.
        KeyboardInterrupt: it was interrupted; given again, the command goes on.
    """
    assert config.run is not None
    assert config.data is not None
    assert config.evaluation is not None
    options = config.evaluation.backtest
    assert options is not None
    run = TrainedRun.open(config.run)
    whole = _whole(config)
    folds = plan_folds(_time_line(whole, run.task), options, split_fractions=config.data.split_fractions)
    trials = _trials(run, composed, folds, options)
    scores, failed = _judgements(trials, run.path / FOLDS)
    if not scores:
        raise InputError(f"every fold of the backtest failed, the first one by: {failed[0]['error']}")
    decay = Decay(scores, folds, config.evaluation)
    keys = decay.keys()
    main_metric = "auc" if "auc" in keys else f"ndcg@{config.evaluation.main_k}"
    results = {
        "name": run.path.resolve().name,
        "run": str(run.path.absolute()),
        "task": run.task,
        "dataset": {"name": whole.manifest["name"], "fingerprint": whole.manifest["fingerprint"]},
        "options": dataclasses.asdict(config.evaluation),
        "failed": failed,
        "trained": [trial.described() for trial in trials if (trial.folder / "metrics.json").is_file()],
        **backtest_results(decay, folds, main_metric=main_metric),
    }
    return _write(run, composed, results)


def _whole(config: EvaluateConfig) -> PreparedDataset:
    """Everything there is, to see where it can be cut.

    Raises:
        ValueError: it has no timestamps, or the run asks in a way that has no time.
    """
    data = config.data
    assert data is not None
    assert config.evaluation is not None
    if data.prepared is not None:
        raise InputError(
            f"`data.prepared={data.prepared}` is one cut of the data, and a backtest prepares a cut for each "
            "fold from the raw tables; give `data.prepared=null` and the keys that name them"
        )
    if data.interactions.columns.timestamp is None:
        raise InputError(
            "a backtest cuts the data by time, but `data.interactions.columns.timestamp` is null; name the "
            "column, or judge the run without `evaluation=backtest`"
        )
    if config.evaluation.queries == "user":
        raise InputError(
            "`evaluation.queries=user` asks once a user, at no instant; a backtest needs "
            "`evaluation.queries=event`"
        )
    whole: DataOptions = dataclasses.replace(data, extends=None)
    return PreparedDataset.open(prepare(whole))


def _time_line(dataset: PreparedDataset, task: str) -> TimeLine:
    columns = [tables.TIMESTAMP, tables.POSITIVE]
    files = [file for split in SPLITS for file in dataset.files(split)]
    events = pa.concat_tables([pq.read_table(file, columns=columns) for file in files])
    return TimeLine(events[tables.TIMESTAMP].to_numpy(), events[tables.POSITIVE].to_numpy(), task)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """One training of a fold.

    Args:
        fold: its instants.
        seed: of the training.
        folder: of its run.
        plain: its composed configuration.
        config: the same, typed.
    """

    fold: Fold
    seed: int
    folder: Path
    plain: dict[str, Any]
    config: TrainConfig

    @property
    def name(self) -> str:
        """For the log."""
        return f"fold {self.fold.number} (cut at {iso(self.fold.cut)}, seed {self.seed})"

    def described(self) -> dict[str, Any]:
        """For `backtest.json`."""
        seconds = read_json(self.folder / "metrics.json")["train_seconds"]
        return {
            "fold": self.fold.number,
            "seed": self.seed,
            "run": str(self.folder),
            "train_seconds": seconds,
        }


def _trials(
    run: TrainedRun, composed: Mapping[str, Any], folds: Sequence[Fold], options: BacktestOptions
) -> list[_Trial]:
    """All trainings, their configurations checked."""
    trained = run.config
    trials = []
    for fold in folds:
        for seed in options.seeds or (trained["seed"],):
            plain = _plain(trained, composed, fold, options) | {"seed": seed}
            config = built(plain, TrainConfig, before="a fold of the backtest cannot be configured: ")
            folder = run.path / FOLDS / f"{fold.number:02d}-seed{seed}"
            trials.append(_Trial(fold, seed, folder, plain, config))
    return trials


def _plain(
    trained: Mapping[str, Any], composed: Mapping[str, Any], fold: Fold, options: BacktestOptions
) -> dict[str, Any]:
    """The run's configuration on the data of a fold."""
    ours = {key: composed[key] for key in ("data", "model", "task", "evaluation")}
    plain = copy.deepcopy({**trained, **ours})
    plain |= dict.fromkeys(("run_dir", "resume", "init_from", "sweep", "daily"))
    plain["evaluation"]["backtest"] = None
    for key, value in options.training.items():
        put(plain, key, value)
    plain["data"] |= {
        "split": "global_time",
        "split_boundaries": [iso(fold.validation), iso(fold.cut)],
        "until": iso(fold.until),
        "train_from": None if fold.train_from is None else iso(fold.train_from),
        "extends": None,
        "prepared": None,
    }
    return plain


def _judgements(trials: Sequence[_Trial], root: Path) -> tuple[list[FoldScores], list[dict[str, Any]]]:
    """Trains and evaluates every trial; returns the scores of each, and the errors of those that failed."""
    by_folder = {trial.folder.name: trial for trial in trials}
    scores: dict[str, FoldScores] = {}
    failures: dict[str, Exception] = {}

    def judge(trial: _Trial, failure: Exception | None = None) -> None:
        name = trial.folder.name
        try:
            if failure is not None:
                raise failure
            table = read_systems(_evaluate(trial), k=trial.config.evaluation.main_k)
            scores[name] = FoldScores(trial.fold, trial.seed, table)
        except Exception as error:  # the others still count
            failures[name] = error
            logger.warning("%s failed: %s: %s", trial.name, type(error).__name__, error)

    def launch(trainings: Sequence[Training]) -> None:
        for training in trainings:
            trial = by_folder[training.folder]
            judge(trial, run_once(trial.folder, training, functools.partial(_train, trial), name=trial.name))

    for trial in trials:
        _remove_outdated(trial)
    Driver(root, launch, "the same command goes on with the backtest", is_done=is_whole_run).run(
        [Training(number, trial.folder.name) for number, trial in enumerate(trials)]
    )
    for name, trial in by_folder.items():
        if name not in scores and name not in failures:  # it was trained already
            judge(trial)
    failed = [
        {"fold": trial.fold.number, "seed": trial.seed, "error": f"{type(error).__name__}: {error}"}
        for trial, error in ((by_folder[name], error) for name, error in failures.items())
    ]
    return [scores[name] for name in by_folder if name in scores], failed


def _remove_outdated(trial: _Trial) -> None:
    """Removes the run of a fold that was made with other settings, or of other data, than are there now."""
    folder = trial.folder
    if not (folder / CONFIG).is_file():
        return
    if _as_trained(read_config(folder)) != _as_trained(trial.plain):
        logger.info("%s has other settings than before: made anew", trial.name)
    elif (
        not is_whole_run(folder)
        or TrainedRun.open(folder).manifest["source"]
        == read_station(prepare(trial.config.data), "prepared")["fingerprint"]
    ):
        return
    else:
        logger.info("%s was trained on other data: made anew", trial.name)
    shutil.rmtree(folder)


def _train(trial: _Trial, goes_on: bool) -> None:
    folder = str(trial.folder)
    resume, run_dir = (folder, None) if goes_on else (None, folder)
    train(dataclasses.replace(trial.config, resume=resume, run_dir=run_dir), trial.plain)


def _as_trained(plain: Mapping[str, Any]) -> str:
    """Returns the part of a configuration that decides what is trained, as text that can be compared."""
    evaluation = {key: plain["evaluation"].get(key) for key in _READ_IN_TRAINING}
    return json.dumps({**plain, "evaluation": evaluation}, sort_keys=True, default=str)


def _evaluate(trial: _Trial) -> Path:
    """The evaluation of a fold's run, made unless it is there for this run and these settings."""
    asked = {key: trial.plain[key] for key in ("data", "model", "task", "evaluation", "seed")}
    run, path = TrainedRun.open(trial.folder), trial.folder / FOLDER
    try:
        manifest = read_station(path, "evaluation")
    except ValueError:
        pass  # not there, or not whole
    else:
        same = json.dumps(manifest["config"], sort_keys=True) == json.dumps(asked, sort_keys=True)
        if same and manifest["source"] == run.fingerprint:
            return path
    return evaluate_run(run, options_of(run, trial.plain["evaluation"]), asked)


def _write(run: TrainedRun, composed: Mapping[str, Any], results: dict[str, Any]) -> Path:
    path = run.path / STATION
    with writing_station(path, "backtest", config=composed, source=run.fingerprint) as (folder, _extra):
        write_json(folder / RESULTS, results)
        pq.write_table(backtest_table(results["cells"]), folder / TABLE, compression="zstd")
        (folder / REPORT).write_text(render_backtest(results), encoding="utf-8")
    logger.info("%s", results["verdict"])
    logger.info("report: %s", path / REPORT)
    return path
