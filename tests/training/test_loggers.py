"""Where the curves of a training go."""

import csv
import importlib.util

import pytest

from recsys.config.register import lookup
from recsys.schema.errors import InputError
from recsys.training.loggers import CSV, MLflow, TensorBoard, WandB, show_configuration


def test_csv_holds_what_is_logged(tmp_path):
    logger = CSV().open(tmp_path)
    show_configuration(logger, {"seed": 3}, {"val/ndcg@10": 0.5})
    logger.log_metrics({"train/loss": 2.0}, step=1)
    logger.save()
    [row] = csv.DictReader((tmp_path / "csv" / "metrics.csv").read_text().splitlines())
    assert (row["train/loss"], row["step"]) == ("2.0", "1")


def test_tensorboard_writes_in_the_run(tmp_path):
    logger = TensorBoard().open(tmp_path)
    show_configuration(logger, {"seed": 3}, {"val/ndcg@10": 0.5})
    logger.finalize("success")
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.parametrize(("logger", "package"), [(WandB(mode="offline"), "wandb"), (MLflow(), "mlflow")])
def test_missing_package_is_named_with_its_extra(tmp_path, logger, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(
        InputError, match=rf"`logger={package}` needs a package .*pip install '.\[{package}\]'"
    ):
        logger.open(tmp_path)


@pytest.mark.parametrize("name", ["TensorBoard", "CSV", "WandB", "MLflow"])
def test_loggers_have_their_place(name):
    assert not isinstance(lookup(f"recsys.training.loggers.{name}", "logger"), str)
    assert isinstance(lookup(f"recsys.training.loggers.{name}", "model"), str)
