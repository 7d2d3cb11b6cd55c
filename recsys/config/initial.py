"""init_from: a new run that starts with the weights of a finished one, on newer data."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from recsys.config.keys import flattened
from recsys.config.options import TrainConfig
from recsys.config.runs import Run, open_run, read_config
from recsys.config.targets import TARGET
from recsys.config.trained import dataset_of
from recsys.data.dataset import PreparedDataset
from recsys.data.growth import earlier_rows
from recsys.models.weights import grow_weights, read_weights
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json

INITIAL = "initial.json"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Initial:
    """Where a new run starts.

    Args:
        run: the finished run that `init_from` names.
        dataset: what it was trained on.
        model: composed configuration of the new run's model.
    """

    run: Run
    dataset: PreparedDataset
    model: Mapping[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """Composed configuration of the run."""
        return read_config(self.run.path)

    def start(self, model: nn.Module, dataset: PreparedDataset) -> None:
        """Puts the run's best weights into the model of a newer dataset, its tables grown.

        Raises:
            ValueError: the features or the weights do not fit; every difference is named.
        """
        rows = earlier_rows(dataset, self.dataset)
        try:
            grow_weights(model, read_weights(self.run.path / "checkpoints" / "best"), rows)
        except ValueError as error:
            raise InputError(f"{error}{self._other_settings()}") from error
        num_new = {table: int((origins[1:] == 0).sum()) for table, origins in rows.items()}
        found = ", ".join(f"{count} of {table}" for table, count in num_new.items() if count)
        logger.info("weights of %s, new rows as out-of-vocabulary: %s", self.run.path, found or "none")

    def _other_settings(self) -> str:
        """Keys of the model that the run had otherwise, which may be why its weights do not fit."""
        before, now = (flattened({"model": one}) for one in (self.config["model"], self.model))
        keys = [f"{key}={before.get(key)}" for key in {**before, **now} if before.get(key) != now.get(key)]
        return f"; the run had {', '.join(keys)}" if keys else ""


def open_initial(
    config: TrainConfig, composed: dict[str, Any]
) -> tuple[TrainConfig, dict[str, Any], Initial | None]:
    """The run to start from, and the configuration with its dataset to be extended.

    Args:
        config: of the new run.
        composed: what it was made from.

    Returns:
        Both as they are without `init_from`; else with `data.extends`, where that is for us to say.

    Raises:
        ValueError: the run or its dataset is missing, damaged or unfinished, or holds another kind of model.
    """
    if config.init_from is None:
        return config, composed, None
    run = open_run(Path(config.init_from).expanduser())
    had, has = read_config(run.path)["model"][TARGET], composed["model"][TARGET]
    if had != has:
        raise InputError(
            f"`init_from={run.path}` holds a `{had}`, and the new model is a `{has}`; choose the same"
        )
    initial = Initial(run, dataset_of(run, Path(run.manifest["prepared"])), composed["model"])
    if config.data.prepared is None and config.data.extends is None:
        extends = str(initial.dataset.path)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, extends=extends))
        composed = {**composed, "data": {**composed["data"], "extends": extends}}
    return config, composed, initial


def initialised_from(run_dir: Path, initial: Initial | None) -> dict[str, Any]:
    """What the manifest of a run says of where it started; kept in its folder, for a run that is resumed."""
    path = run_dir / INITIAL
    if initial is not None:
        run = initial.run
        said = {"run": str(run.path.absolute()), "fingerprint": run.manifest["fingerprint"]}
        write_json(path, said)
    return {"initialised_from": json.loads(path.read_text())} if path.is_file() else {}
