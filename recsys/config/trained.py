"""A trained run, opened for use: its model with the best weights, and the dataset it was trained on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from recsys.config.build import build
from recsys.config.options import EvaluateConfig, ExportConfig
from recsys.config.runs import Run, open_run
from recsys.data.datamodule import Task
from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare
from recsys.models.weights import load_weights

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Args:
        run: its folder, manifest and metrics.
        dataset: what it was trained on.
        model: with the weights of the best checkpoint, in evaluation mode.
        task: what it was trained for.
    """

    run: Run
    dataset: PreparedDataset
    model: nn.Module
    task: Task


def open_trained(config: EvaluateConfig | ExportConfig) -> Trained:
    """The run that `config` names.

    Raises:
        ValueError: the run or its dataset is missing, damaged or unfinished, or they do not belong together.
    """
    run = open_run(config.run)
    dataset = _dataset(run, config)
    model = config.model(schema=dataset.schema)
    load_weights(model, run.path / "checkpoints" / "best")
    return Trained(run, dataset, model.eval(), run.manifest["task"])


def judging_config(folder: Path, plain: Mapping[str, Any]) -> EvaluateConfig:
    """How the run in `folder` is judged, given the configuration that it was trained with.

    Args:
        folder: of the run.
        plain: its composed configuration; what judging does not read is left out.
    """
    known = {field.name for field in dataclasses.fields(EvaluateConfig)}
    asked = {key: value for key, value in plain.items() if key in known} | {"run": str(folder)}
    config: EvaluateConfig = build(asked, EvaluateConfig, "", [])
    return config


def _dataset(run: Run, config: EvaluateConfig | ExportConfig) -> PreparedDataset:
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
        raise ValueError(
            f"expected the prepared dataset that the run `{run.path}` was trained on, but `{path}` has"
            " another fingerprint; name the right one with `data.prepared=PATH`, or train again"
        )
    return dataset
