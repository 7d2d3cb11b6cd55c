"""Training on a GPU: every model, mixed precision, fused tables, NCCL, checkpoints that change devices.

`make test-gpu` runs these on CUDA. The same bodies run on the CPU in `make test-slow`, so that what is left
to find on a GPU is the GPU's.
"""

import json
import math
import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch

from recsys.commands import prepare, training
from recsys.commands.options import TrainConfig
from recsys.config.compose import Command
from recsys.config.review import review
from recsys.config.settle import settle
from recsys.runs.environment import PROJECT
from recsys.serving.bundle import Bundle

# What one process logs is what all of them do.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.slow),
    pytest.param(
        "gpu",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")],
    ),
]
RANKING = ("wide_deep", "deep_fm", "dcn_v2", "dlrm", "din", "final_mlp", "autoint", "xdeepfm", "mmoe", "ple")
RETRIEVAL = ("two_tower", "sequence_two_tower", "matrix_factorization", "light_gcn")
FITTED = ("ease", "item_knn", "ials", "ease_factorization", "popularity")
DATA = ["data=synthetic", "data.source.num_interactions=4000", "data.source.num_users=200"]
DATA += ["data.source.num_items=150", "data.source.repeats=true", "data.batch_size=256"]
# Nothing is drawn, so that devices can be compared.
NOTHING_DRAWN = ["model.dropout=0", "model.id_dropout=0"]


class Losses(pl.Callback):
    """Keeps every step's loss, where there is one, and where it was computed."""

    def __init__(self):
        self.values, self.devices = [], set()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values += [float(outputs["loss"])] if outputs and "loss" in outputs else []
        self.devices.add(pl_module.device.type)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Overrides that name the prepared dataset."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.raises(SystemExit):
        prepare.main([*DATA, f"data.cache_dir={cache}"])
    [prepared] = (cache / "prepared").glob("synthetic-*")
    return ["data=synthetic", f"data.prepared={prepared}", f"data.cache_dir={cache}", "data.batch_size=256"]


def trained(words, device) -> Losses:
    """Trains as `train.py` does, on a device, and returns what each step lost."""
    command = Command("train", TrainConfig, continues="resume", repeats=True)
    reviewed = review(command, [*words, f"trainer.accelerator={device}"], config_dir=None, multirun=False)
    options, plain = settle(command, reviewed.first)
    losses = Losses()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_callbacks", lambda config, run_dir: [losses])
        training.train(options, plain)
    assert losses.devices == {"cuda" if device == "gpu" else "cpu"}
    assert all(math.isfinite(value) for value in losses.values)
    return losses


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("model", [*RANKING, *RETRIEVAL])
def test_model_trains_an_epoch_in_mixed_precision(data, tmp_path, model, tables, device):
    words = [*data, f"model={model}", f"optimizer.tables={tables}", "trainer.precision=bf16-mixed"]
    trained([*words, "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}"], device)
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in figures["test"].values())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", FITTED)
def test_fitted_model_is_fitted(data, tmp_path, model, device):
    trained([*data, f"model={model}", f"run_dir={tmp_path / 'run'}"], device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("strategy", ["single", "sharded"])  # sharded: NCCL with one rank, gloo on the CPU
@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad", "adagrad"])
@pytest.mark.parametrize("model", ["wide_deep", "two_tower", "sequence_two_tower"])
def test_run_goes_from_cpu_to_device_and_back_with_the_losses_of_the_cpu(
    data, tmp_path, model, tables, strategy, device
):
    if strategy == "sharded" and tables == "adamw":
        pytest.skip("nothing is sharded")
    drawn = [*NOTHING_DRAWN, *(["model.time_dropout=0"] if model == "sequence_two_tower" else [])]
    loss = [] if model in RANKING else ["task.loss=full_softmax"]
    words = [*data, f"model={model}", *drawn, *loss, f"optimizer.tables={tables}", "trainer.patience=null"]

    def run(name, *devices):
        found = []
        for epochs, where in enumerate(devices, start=1):
            place = f"run_dir={tmp_path / name}" if epochs == 1 else f"resume={tmp_path / name}"
            own = words if epochs == 1 else []
            at = [f"trainer.max_epochs={epochs}", f"trainer.strategy={strategy}", place]
            found += trained([*own, *at], where).values
        return torch.tensor(found)

    alone = run("alone", "cpu", "cpu", "cpu")
    torch.testing.assert_close(run("there and back", "cpu", device, "cpu"), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("model", "tables"), [("two_tower", "rowwise_adagrad"), ("wide_deep", "adagrad")])
def test_bundle_of_a_run_on_the_device_answers(data, tmp_path, model, tables, device):
    words = [*data, f"model={model}", f"optimizer.tables={tables}", "trainer.max_epochs=1"]
    trained([*words, f"run_dir={tmp_path / 'run'}"], device)
    # In a process of its own: torch.jit keeps types from one export to the next.
    command = [sys.executable, "-m", "recsys", "export", f"run={tmp_path / 'run'}"]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    Bundle.open(tmp_path / "run" / "bundle")
