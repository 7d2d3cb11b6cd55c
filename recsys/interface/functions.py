"""prepare, train, evaluate, export and open_run: the commands, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from recsys.commands.evaluation import evaluate_recommendations
from recsys.commands.training import train as train_run
from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare as prepare_dataset
from recsys.interface.composing import Tables, cache_of, configured, keys_of, logging_shown
from recsys.interface.frames import Table, path_of
from recsys.interface.objects import Evaluation, Run
from recsys.runs.trained import CheckpointName, TrainedRun
from recsys.schema.errors import InputError
from recsys.serving.bundle import Bundle

Overrides = Mapping[str, Any]


def prepare(*, overrides: Overrides | None = None, **tables: Unpack[Tables]) -> PreparedDataset:
    """Prepares a dataset, or opens the one that was prepared from the same tables with the same options.

    Args:
        overrides: keys of `recsys prepare`, as `{"data.split": "leave_last_out"}`.
        **tables: `interactions`, `users`, `items` and the names of columns, see `Tables`.

    Returns:
        The dataset; its `path` does for `data.prepared`.

    Raises:
        InputError: a table, a column or a key is not what it should be.
    """
    overrides = overrides or {}
    with logging_shown():
        config, _ = configured("prepare", {**keys_of(tables, overrides), **overrides})
        return PreparedDataset.open(prepare_dataset(config.data))


def train(
    *,
    experiment: str | None = None,
    overrides: Overrides | None = None,
    run_dir: str | Path | None = None,
    resume: Run | str | Path | None = None,
    **tables: Unpack[Tables],
) -> Run:
    """Trains a model and returns its run, with the metrics of the best epoch on validation and test.

    Args:
        experiment: a file of configs/experiment, as `implicit_sequence`.
        overrides: keys and groups of `recsys train`, as `{"model": "two_tower", "trainer.max_epochs": 5}`.
        run_dir: folder of the run, new or empty; by default runs/<date>-<time>-<model>-<data>.
        resume: a run to go on with, where it stopped.
        **tables: `interactions`, `users`, `items` and the names of columns, see `Tables`.

    Returns:
        The run.

    Raises:
        InputError: a table, a column or a key is not what it should be; nothing has been trained.
        KeyboardInterrupt: interrupted; the message says how to go on.

    Example:
        >>> import recsys
        >>> run = recsys.train(  # doctest: +SKIP
        ...     interactions=events, experiment="implicit_sequence", overrides={"trainer.max_epochs": 5}
        ... )
        >>> run.metrics["test"]["ndcg@10"]  # doctest: +SKIP
        0.0578
    """
    overrides = overrides or {}
    keys: dict[str, Any] = {} if experiment is None else {"experiment": experiment}
    with logging_shown():
        keys |= keys_of(tables, overrides)
        if run_dir is not None:
            keys["run_dir"] = str(run_dir)
        if resume is not None:
            keys["resume"] = str(resume.path if isinstance(resume, Run) else resume)
        try:
            return open_run(train_run(*configured("train", {**keys, **overrides})))
        except KeyboardInterrupt as interruption:
            folder = str(interruption).rpartition("resume=")[2].rstrip("`")
            advice = f'go on with `recsys.train(resume="{folder}")`' if folder else "nothing was trained yet"
            raise KeyboardInterrupt(advice) from interruption


def evaluate(
    run: Run | str | Path | None = None,
    *,
    recommendations: Table | None = None,
    run_dir: str | Path | None = None,
    overrides: Overrides | None = None,
    **tables: Unpack[Tables],
) -> Evaluation:
    """Evaluates a run, or recommendations made by anyone, on the test split.

    Args:
        run: the run, or its folder; the same as `run.evaluate()`.
        recommendations: in place of a run: `user_id`, `rank`, `item_id`, perhaps `timestamp` and `score`, a
            row per item.
        run_dir: folder that gets the evaluation of recommendations; a new one in runs/ by default.
        overrides: keys of `recsys evaluate`, as `{"data.split": "leave_last_out"}`; those that prepared the
            data must be the same.
        **tables: `interactions`, `users`, `items` and the names of columns, see `Tables`.

    Returns:
        The evaluation.

    Raises:
        InputError: a table, a column or a key is not what it should be.
    """
    overrides = overrides or {}
    if recommendations is None:
        if run is None:
            raise InputError("expected `run` or `recommendations`, received neither")
        if tables or run_dir is not None:
            raise InputError("a run has its own tables and folder: expected neither tables nor `run_dir`")
        return _opened(run).evaluate(overrides=overrides)
    if run is not None:
        raise InputError("expected either `run` or `recommendations`, received both")
    with logging_shown():
        keys = keys_of(tables, overrides)
        path = path_of(recommendations, name="recommendations", cache=cache_of(overrides))
        keys["recommendations"] = str(path)
        if run_dir is not None:
            keys["run_dir"] = str(run_dir)
        return Evaluation(evaluate_recommendations(*configured("evaluate", {**keys, **overrides})))


def export(
    run: Run | str | Path, *, ranker: Run | str | Path | None = None, overrides: Overrides | None = None
) -> Bundle:
    """Writes the run's bundle and opens it, the same as `run.export()`.

    Args:
        run: the run, or its folder.
        ranker: the run of a ranking model, to recommend in two stages.
        overrides: keys below `export.`, as `{"export.quantize": "int8"}`.
    """
    return _opened(run).export(ranker=ranker, overrides=overrides)


def open_run(folder: str | Path, *, checkpoint: CheckpointName | None = None) -> Run:
    """Opens a finished run, or one that was stopped.

    Args:
        folder: of the run.
        checkpoint: `best` or `last`, whose weights are used, also of a run that has not been trained to its
            end; None takes the best ones of a finished run.

    Raises:
        InputError: there is no run, it is damaged, or its training has not ended.
    """
    return Run(TrainedRun.open(folder, checkpoint=checkpoint))


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else open_run(run)
