"""A trained run, opened for use: its model with the best weights, and the dataset it was trained on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from recsys.config.build import Problem, build
from recsys.config.keys import spelled_out
from recsys.config.options import EvaluateConfig, ExportConfig
from recsys.config.runs import Run, open_run, read_config
from recsys.data.datamodule import Task
from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare
from recsys.models.weights import load_weights
from recsys.schema.errors import InputError
from recsys.schema.manifest import read_station

EVALUATION = "evaluation"

logger = logging.getLogger(__name__)

# Keys of training that mean something else when evaluating.
_NOT_OF_A_RUN = {"sweep", "run_dir"}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Args:
        run: its folder, manifest and metrics.
        dataset: what it was trained on.
        model: with the weights of the best checkpoint, in evaluation mode.
        task: what it was trained for.
        history_length: latest items of a history that the model sees.
    """

    run: Run
    dataset: PreparedDataset
    model: nn.Module
    task: Task
    history_length: int

    def provenance(self) -> dict[str, Any]:
        """What is said of the run by what is made from it: where it is, its metrics, how it was judged."""
        return {
            "run": str(self.run.path),
            "fingerprint": self.run.manifest["fingerprint"],
            "metrics": self.run.metrics,
            EVALUATION: _evaluated(self.run),
        }


def open_trained(config: EvaluateConfig | ExportConfig) -> Trained:
    """The run that `config` names.

    Raises:
        ValueError: the run or its dataset is missing, damaged or unfinished, or they do not belong together.
    """
    assert config.run is not None
    assert config.model is not None
    assert config.data is not None
    run = open_run(config.run)
    dataset = _dataset(run, config)
    model = config.model(schema=dataset.schema)
    load_weights(model, run.path / "checkpoints" / "best")
    return Trained(run, dataset, model.eval(), run.manifest["task"], config.data.history_length)


def open_ranker(folder: str) -> Trained:
    """The run in `folder`, as it was trained.

    Raises:
        ValueError: as of `open_trained`, or its configuration is not one of this release.
    """
    known = {field.name for field in dataclasses.fields(ExportConfig)}
    try:
        plain = read_config(folder)
    except ValueError as error:
        raise InputError(f"`ranker`: {error}") from error
    asked = {key: value for key, value in plain.items() if key in known} | {"run": folder}
    problems: list[Problem] = []
    config: ExportConfig = build(asked, ExportConfig, "", problems)
    if problems:
        raise InputError("\n".join(f"`ranker={folder}`: {problem.text}" for problem in problems))
    return open_trained(config)


def _evaluated(run: Run) -> dict[str, Any] | None:
    """The protocol by which a run was judged last; None where it was not, or not as it is now."""
    folder = run.path / EVALUATION
    if not folder.exists():
        return None
    try:
        manifest = read_station(folder, "evaluation")
    except ValueError as error:
        logger.warning("the bundle will not name an evaluation: %s", error)
        return None
    if manifest["source"] != run.manifest["fingerprint"]:
        logger.warning(
            "the bundle will not name an evaluation: `%s` is of the run before it was resumed; judge it anew "
            "with `python evaluate.py run=%s`",
            folder,
            run.path,
        )
        return None
    return {name: manifest[name] for name in ("protocol_hash", "fingerprint", "created")}


def config_of(
    folder: Path, evaluation: Mapping[str, Any] | None = None
) -> tuple[EvaluateConfig, dict[str, Any]]:
    """What `evaluate.py run=DIR` would be asked with, and the plain configuration that it stands for.

    Args:
        folder: of the run.
        evaluation: plain options in place of the run's own.

    Raises:
        ValueError: the folder is no run, or its configuration is not what this release reads.
    """
    plain = read_config(folder)
    known = {field.name for field in dataclasses.fields(EvaluateConfig)} - _NOT_OF_A_RUN
    asked = {key: value for key, value in plain.items() if key in known} | {"run": str(folder)}
    if evaluation is not None:
        asked["evaluation"] = dict(evaluation)
    problems: list[Problem] = []
    config: EvaluateConfig = build(asked, EvaluateConfig, "", problems)
    if problems:
        raise InputError("\n".join(f"{one.text} (in {folder}/config.yaml)" for one in problems))
    return config, spelled_out(asked, EvaluateConfig)


def _dataset(run: Run, config: EvaluateConfig | ExportConfig) -> PreparedDataset:
    assert config.data is not None
    path = Path(config.data.prepared or run.manifest["prepared"]).expanduser()
    if not path.exists() and not config.data.prepared:
        logger.warning("the prepared dataset `%s` is gone; preparing it again", path)
        path = prepare(config.data)
    return dataset_of(run, path)


def dataset_of(run: Run, path: Path) -> PreparedDataset:
    """The dataset at `path`, which the run must have been trained on.

    Raises:
        ValueError: it is missing or damaged, or another one.
    """
    dataset = PreparedDataset.open(path)
    if dataset.manifest["fingerprint"] != run.manifest["source"]:
        # Rows of its vocabularies mean other users and items: every answer would be wrong in silence.
        raise InputError(
            f"expected the prepared dataset that the run `{run.path}` was trained on, but `{path}` has"
            " another fingerprint; name the right one with `data.prepared=PATH`, or train again"
        )
    return dataset
