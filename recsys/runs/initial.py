"""Starts a model from the weights of a finished run, on newer data: `init_from=` and the day-by-day loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from recsys.config.keys import flattened
from recsys.data.dataset import PreparedDataset
from recsys.data.growth import earlier_rows
from recsys.models.weights import grow_weights, read_weights
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import write_json

INITIAL = "initial.json"

logger = logging.getLogger(__name__)


def start_from(
    run: TrainedRun, model: nn.Module, dataset: PreparedDataset, *, wanted: Mapping[str, Any] | None = None
) -> None:
    """Puts the run's best weights into the model of a newer dataset, its tables grown.

    Args:
        run: a finished run.
        model: of the same class, for the features of `dataset`.
        dataset: what extends the run's.
        wanted: composed configuration of the model where it may differ from the run's.

    Raises:
        InputError: the features or the weights do not fit; every difference is named.
    """
    rows = earlier_rows(dataset, run.dataset)
    try:
        grow_weights(model, read_weights(run.weights), rows)
    except ValueError as error:
        before, now = (
            flattened({"model": model_config})
            for model_config in (run.config["model"], wanted or run.config["model"])
        )
        keys = [f"{key}={before.get(key)}" for key in {**before, **now} if before.get(key) != now.get(key)]
        advice = f"; the run had {', '.join(keys)}" if keys else ""
        raise InputError(f"{error}{advice}") from error
    num_new = {table: int((origins[1:] == 0).sum()) for table, origins in rows.items()}
    new = ", ".join(f"{count} of {table}" for table, count in num_new.items() if count)
    logger.info("weights of %s, new rows as out-of-vocabulary: %s", run.path, new or "none")


def grown_model(run: TrainedRun, dataset: PreparedDataset) -> nn.Module:
    """The run's model for a newer dataset, with its best weights."""
    model = run.build_model(dataset.schema)
    start_from(run, model, dataset)
    return model


def initialised_from(run_dir: Path, run: TrainedRun | None) -> dict[str, Any]:
    """The run that `run_dir` started from, for its manifest; kept in its folder, for when it is resumed."""
    path = run_dir / INITIAL
    if run is not None:
        write_json(path, {"run": str(run.path.absolute()), "fingerprint": run.fingerprint})
    return {"initialised_from": read_json(path)} if path.is_file() else {}
