"""Where the curves of a training go: one class for each service, chosen by `logger=NAME`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from recsys.schema.errors import InputError

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


class Curves(Protocol):
    """A place where the curves of a training go."""

    def open(self, run_dir: Path) -> Logger:
        """The logger of a run."""


@dataclasses.dataclass(frozen=True)
class TensorBoard:
    """Files in `tensorboard/` of the run, from which the report draws how training went."""

    def open(self, run_dir: Path) -> Logger:
        """The logger of a run."""
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(save_dir=str(run_dir), name="tensorboard", version="")


@dataclasses.dataclass(frozen=True)
class CSV:
    """One table, `csv/metrics.csv` of the run."""

    def open(self, run_dir: Path) -> Logger:
        """The logger of a run."""
        from pytorch_lightning.loggers import CSVLogger

        return CSVLogger(save_dir=str(run_dir), name="csv", version="")


@dataclasses.dataclass(frozen=True)
class WandB:
    """Weights & Biases; needs the extra `wandb`.

    Args:
        project: that the run is listed in.
        entity: user or team; null is the default of the account.
        name: of the run; null is that of its folder.
        tags: of the run.
        mode: `offline` keeps everything in the run's folder, to be sent by `wandb sync`.
    """

    project: str = "recsys"
    entity: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["online", "offline"] = "online"

    def open(self, run_dir: Path) -> Logger:
        """The logger of a run.

        Raises:
            InputError: the package is not installed.
        """
        from pytorch_lightning.loggers import WandbLogger

        try:
            return WandbLogger(
                name=self.name or run_dir.name,
                save_dir=str(run_dir),
                project=self.project,
                entity=self.entity,
                tags=list(self.tags),
                offline=self.mode == "offline",
            )
        except ModuleNotFoundError as error:
            raise _missing("wandb", error) from error


@dataclasses.dataclass(frozen=True)
class MLflow:
    """An MLflow server or folder; needs the extra `mlflow`.

    Args:
        experiment: that the run is listed in.
        tracking_uri: of the server, or of a database such as sqlite:///mlflow.db; null is what MLflow's
            environment says, or a folder beside the run.
        name: of the run; null is that of its folder.
    """

    experiment: str = "recsys"
    tracking_uri: str | None = None
    name: str | None = None

    def open(self, run_dir: Path) -> Logger:
        """The logger of a run.

        Raises:
            InputError: the package is not installed.
        """
        from pytorch_lightning.loggers import MLFlowLogger

        try:
            return MLFlowLogger(
                experiment_name=self.experiment,
                run_name=self.name or run_dir.name,
                tracking_uri=self.tracking_uri,
                save_dir=str(run_dir / "mlflow"),
            )
        except ModuleNotFoundError as error:
            raise _missing("mlflow", error) from error


def show_configuration(logger: Logger, flat: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Gives a logger the configuration of a run, and to TensorBoard its best metrics beside it."""
    from pytorch_lightning.loggers import TensorBoardLogger

    if isinstance(logger, TensorBoardLogger):
        logger.log_hyperparams(dict(flat), dict(metrics))
    else:
        logger.log_hyperparams(dict(flat))


def _missing(extra: str, error: ModuleNotFoundError) -> InputError:
    return InputError(
        f"`logger={extra}` needs a package that is not installed ({error}); install it with "
        f"`pip install '.[{extra}]'`"
    )
