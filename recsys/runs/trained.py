"""TrainedRun: a run on disk, opened once, with its dataset, its model and how it was evaluated."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recsys.config.build import Problem, build
from recsys.config.saved import CONFIG, read_config
from recsys.config.targets import Factory
from recsys.runs.folders import BEST, METRICS
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, read_station

if TYPE_CHECKING:  # the metrics of a run are read without torch
    from torch import nn

    from recsys.data.dataset import PreparedDataset
    from recsys.data.options import DataOptions
    from recsys.schema.features import FeatureSchema

EVALUATION = "evaluation"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run that has been trained to its end. Dataset and model are opened when they are first asked for.

    Args:
        path: its folder.
        manifest: of the folder; `prepared` and `source` name the dataset it was trained on.
        metrics: content of metrics.json.
        config: composed configuration, by which data and model are opened.
    """

    path: Path
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path, *, config: Mapping[str, Any] | None = None) -> TrainedRun:
        """The finished run in `folder`.

        Args:
            folder: of the run.
            config: composed configuration in place of the run's own, with another place of the data, say.

        Raises:
            InputError: there is no run, it is damaged, or its training has not ended.
        """
        path = Path(folder).expanduser()
        own = read_config(path)
        if not (path / MANIFEST).is_file():
            raise InputError(
                f"the run `{path}` has not been trained to its end; "
                f"continue it with `python train.py resume={path}`"
            )
        manifest = read_station(path, "run")
        return cls(
            path, manifest, json.loads((path / METRICS).read_text()), own if config is None else config
        )

    @property
    def fingerprint(self) -> str:
        """Identifies the run with its weights."""
        return str(self.manifest["fingerprint"])

    @property
    def task(self) -> Literal["retrieval", "ranking"]:
        """The task that the model was trained for."""
        task: Literal["retrieval", "ranking"] = self.manifest["task"]
        return task

    @functools.cached_property
    def data(self) -> DataOptions:
        """Every key under `data.`."""
        from recsys.data.options import DataOptions

        options: DataOptions = self._built("data", DataOptions)
        return options

    @property
    def history_length(self) -> int:
        """Latest items of a history that the model sees."""
        return self.data.history_length

    @functools.cached_property
    def dataset(self) -> PreparedDataset:
        """The dataset that the run was trained on, prepared again when it is gone.

        Raises:
            InputError: it is damaged, or another one.
        """
        from recsys.data.dataset import PreparedDataset
        from recsys.data.prepare import prepare

        path = Path(self.data.prepared or self.manifest["prepared"]).expanduser()
        if not path.exists() and not self.data.prepared:
            logger.warning("the prepared dataset `%s` is gone; preparing it again", path)
            path = prepare(self.data)
        dataset = PreparedDataset.open(path)
        if dataset.manifest["fingerprint"] != self.manifest["source"]:
            # Rows of its vocabularies mean other users and items: every answer would be wrong in silence.
            raise InputError(
                f"expected the prepared dataset that the run `{self.path}` was trained on, but `{path}` has"
                " another fingerprint; name the right one with `data.prepared=PATH`, or train again"
            )
        return dataset

    @functools.cached_property
    def model(self) -> nn.Module:
        """The model with the weights of the best checkpoint, in evaluation mode."""
        from recsys.models.weights import load_weights

        model = self.build_model(self.dataset.schema)
        load_weights(model, self.path / BEST)
        return model.eval()

    def build_model(self, schema: FeatureSchema) -> nn.Module:
        """A model of the same configuration for the features of `schema`, not trained."""
        factory = self._built("model", Factory)
        model: nn.Module = factory(schema=schema)
        return model

    def evaluation(self) -> dict[str, Any] | None:
        """Manifest of the run's evaluation; None where there is none of the run as it is now."""
        folder = self.path / EVALUATION
        if not folder.exists():
            return None
        try:
            manifest = read_station(folder, "evaluation")
        except InputError as error:
            logger.warning("the evaluation of the run is left out: %s", error)
            return None
        if manifest["source"] != self.fingerprint:
            logger.warning(
                "the evaluation of the run is left out: `%s` is of the run before it was resumed; "
                "evaluate it anew with `python evaluate.py run=%s`",
                folder,
                self.path,
            )
            return None
        return manifest

    def provenance(self) -> dict[str, Any]:
        """The run's place, metrics and evaluation protocol, for the manifest of what is made from it."""
        evaluation = self.evaluation()
        return {
            "run": str(self.path),
            "fingerprint": self.fingerprint,
            "metrics": self.metrics,
            EVALUATION: evaluation
            and {name: evaluation[name] for name in ("protocol_hash", "fingerprint", "created")},
        }

    def _built(self, key: str, hint: Any) -> Any:
        problems: list[Problem] = []
        built = build(self.config[key], hint, key, problems)
        if problems:
            raise InputError("\n".join(f"{problem.text} (in {self.path / CONFIG})" for problem in problems))
        return built
