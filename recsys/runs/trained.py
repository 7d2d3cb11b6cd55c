"""TrainedRun: a run on disk, opened once, with its dataset, its model and how it was evaluated."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from recsys.config.build import built
from recsys.config.saved import CONFIG, ENVIRONMENT, read_config
from recsys.config.targets import Factory
from recsys.runs.folders import CHECKPOINTS, METRICS
from recsys.schema.errors import InputError
from recsys.schema.json_files import Kinds, read_json
from recsys.schema.manifest import MANIFEST, file_sha256, read_station
from recsys.schema.places import at_home

if TYPE_CHECKING:  # the metrics of a run are read without torch
    from torch import nn

    from recsys.data.dataset import PreparedDataset
    from recsys.data.options import DataOptions
    from recsys.data.queries import Seen
    from recsys.schema.features import FeatureSchema

EVALUATION, BUNDLE = "evaluation", "bundle"
CheckpointName = Literal["best", "last"]

logger = logging.getLogger(__name__)

# Of METRICS, what its readers rely on.
_METRICS: Kinds = {"validation": dict, "seed": int}


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A trained run. Dataset and model are opened when they are first asked for.

    Args:
        path: its folder.
        manifest: of the folder; `prepared` and `source` name the dataset it was trained on.
        metrics: content of metrics.json.
        config: composed configuration, by which data and model are opened.
        checkpoint: name of the one whose weights the model has.
    """

    path: Path
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    checkpoint: CheckpointName = "best"

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        config: Mapping[str, Any] | None = None,
        checkpoint: CheckpointName | None = None,
    ) -> TrainedRun:
        """The run in `folder`.

        Args:
            folder: of the run.
            config: composed configuration in place of the run's own, with another place of the data, say.
            checkpoint: whose weights are used, also those of a run that has not been trained to its end;
                None takes the best ones of a finished run.

        Raises:
            InputError: there is no run, it is damaged, or its training has not ended.
        """
        path = at_home(folder)
        own = read_config(path)
        config, name = own if config is None else config, checkpoint or "best"
        if (path / MANIFEST).is_file():
            manifest = read_station(path, "run")
            return cls(path, manifest, read_json(path / METRICS, _METRICS), config, name)
        if checkpoint is None:
            raise InputError(
                f"the run `{path}` has not been trained to its end; continue it with `python train.py "
                f"resume={path}`, or take it as it is with `checkpoint=best` or `checkpoint=last`"
            )
        return cls(path, _unfinished(path, name), {}, config, name)

    @property
    def fingerprint(self) -> str:
        """Identifies the run with its weights."""
        return str(self.manifest["fingerprint"])

    @property
    def task(self) -> Literal["retrieval", "ranking"]:
        """The task that the model was trained for."""
        task: Literal["retrieval", "ranking"] = self.manifest["task"]
        return task

    @property
    def weights(self) -> Path:
        """The checkpoint's file."""
        return self.path / CHECKPOINTS / self.checkpoint

    @functools.cached_property
    def weights_sha256(self) -> str:
        """Hash of the checkpoint, which the evaluation and the bundle remember."""
        file = self.manifest.get("files", {}).get(f"{CHECKPOINTS}/{self.checkpoint}")
        return str(file["sha256"]) if file else file_sha256(self.weights)

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

    @property
    def seen(self) -> Seen:
        """Whether items of a history may be recommended again: `exclude` or `keep`, as it was trained."""
        evaluation = read_config(self.path).get("evaluation") or {}
        return cast("Seen", evaluation.get("seen", "exclude"))

    @functools.cached_property
    def dataset(self) -> PreparedDataset:
        """The dataset that the run was trained on, prepared again when it is gone.

        Raises:
            InputError: it is damaged, or another one.
        """
        from recsys.data.dataset import PreparedDataset
        from recsys.data.prepare import prepare, prepared_folder

        path = prepared_folder(self.data.prepared or self.manifest["prepared"], cache=self.data.cache_path)
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
        """The model with the weights of the checkpoint, in evaluation mode."""
        from recsys.models.weights import load_weights

        model = self.build_model(self.dataset.schema)
        load_weights(model, self.weights)
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

    def warn_of_outdated(self, *names: str) -> None:
        """Says which of `evaluation/` and `bundle/` were made of another checkpoint than the run has now."""
        for name in names:
            path = self.path / name / MANIFEST
            manifest = read_json(path) if path.is_file() else {}
            made_of = manifest.get("checkpoint") or (manifest.get("run") or {}).get("checkpoint")
            if made_of and made_of["sha256"] != self.weights_sha256:
                logger.warning(
                    "`%s` was made of another checkpoint (%s) than the run has now (%s); make it anew with "
                    "`python %s.py run=%s`",
                    *(path.parent, made_of["sha256"][:12], self.weights_sha256[:12]),
                    *({EVALUATION: "evaluate", BUNDLE: "export"}[name], self.path),
                )

    @property
    def made_of(self) -> dict[str, str]:
        """The checkpoint, as what is made from it remembers it."""
        return {"name": self.checkpoint, "sha256": self.weights_sha256}

    def provenance(self) -> dict[str, Any]:
        """The run's place, metrics and evaluation protocol, for the manifest of what is made from it."""
        evaluation = self.evaluation()
        return {
            "run": str(self.path),
            "checkpoint": self.made_of,
            "fingerprint": self.fingerprint,
            "metrics": self.metrics,
            EVALUATION: evaluation
            and {name: evaluation[name] for name in ("protocol_hash", "fingerprint", "created")},
        }

    def _built(self, key: str, hint: Any) -> Any:
        return built(self.config[key], hint, key, behind=f" (in {self.path / CONFIG})")


def _unfinished(path: Path, checkpoint: CheckpointName) -> dict[str, Any]:
    """Returns the manifest entries of a run whose training has not ended.

    Raises:
        InputError: it has no such checkpoint yet, or does not say which dataset it is trained on.
    """
    weights = path / CHECKPOINTS / checkpoint
    if not weights.is_file():
        raise InputError(
            f"expected `checkpoint={checkpoint}` of the run `{path}`, but there is no `{weights}` yet; "
            f"continue it with `python train.py resume={path}`"
        )
    environment = read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else {}
    dataset = environment.get("dataset")
    if not dataset:
        raise InputError(
            f"`{path / ENVIRONMENT}` does not say which dataset the run is trained on, as in runs of earlier "
            f"releases; continue it with `python train.py resume={path}`"
        )
    return {
        "task": dataset["task"],
        "prepared": dataset["path"],
        "source": dataset["fingerprint"],
        "fingerprint": file_sha256(weights),
    }
