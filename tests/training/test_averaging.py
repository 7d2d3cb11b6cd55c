"""The moving average of the weights: what it is, who sees it, and that it survives being interrupted."""

import dataclasses

import pytest
import pytorch_lightning as pl
import torch

from tests.training.runs import AtStep, Case, checkpoint, differences, run
from tests.training.test_sharded import sharded, torchrun

TRAINER = dataclasses.replace(Case().trainer, average_decay=0.8, checkpoint_every_steps=3)


class History(pl.Callback):
    """The weights after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append({n: p.detach().clone() for n, p in pl_module.model.named_parameters()})


def averages(saved: dict) -> dict:
    return saved["callbacks"]["AveragedWeights"]


@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad"])
def test_best_is_the_average_and_last_the_weights_as_trained(options, tmp_path, tables):
    case = Case(model="wide_deep", tables=tables, trainer=dataclasses.replace(TRAINER, max_epochs=1))
    history, start = History(), {}
    begin = AtStep(0, lambda task, _: start.update({n: p.clone() for n, p in task.model.named_parameters()}))
    run(case, options, tmp_path, watchers=[history, begin])
    best, last = checkpoint(tmp_path, "best"), checkpoint(tmp_path, "last")
    for name, weight in start.items():
        expected = weight.detach()
        for step, after in enumerate(history.values):
            decay = min(0.8, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * after[name]
        trained = history.values[-1][name]
        assert torch.equal(last["state_dict"][f"model.{name}"], trained)
        if ".embedding_bags." in name and tables != "adamw":
            assert name not in averages(last)["averages"]
            expected = trained
        else:
            torch.testing.assert_close(averages(last)["averages"][name], expected)
        torch.testing.assert_close(best["state_dict"][f"model.{name}"], expected)
    assert not averages(last)["is_swapped_in"]


def test_averaging_leaves_training_alone(options, tmp_path):
    case = Case(model="deep_fm", dropout=0.2, trainer=dataclasses.replace(TRAINER, average_decay=None))
    plain = run(case, options, tmp_path / "plain")
    averaged = run(dataclasses.replace(case, trainer=TRAINER), options, tmp_path / "averaged")
    assert plain == averaged
    first, second = (checkpoint(tmp_path / name)["state_dict"] for name in ("plain", "averaged"))
    assert differences(first, second) == []
    first, second = (checkpoint(tmp_path / name, "best")["state_dict"] for name in ("plain", "averaged"))
    assert differences(first, second) != []


@pytest.mark.parametrize(
    ("model", "tables"),
    [
        pytest.param("final_mlp", "adamw", marks=pytest.mark.slow),
        pytest.param("wide_deep", "rowwise_adagrad", marks=pytest.mark.slow),
        ("two_tower", "rowwise_adagrad"),
        pytest.param("wide_deep", "adamw", marks=pytest.mark.slow),
        pytest.param("two_tower", "adamw", marks=pytest.mark.slow),
        pytest.param("final_mlp", "rowwise_adagrad", marks=pytest.mark.slow),
    ],
)
def test_stopped_anywhere_and_resumed_equals_not_stopped(options, tmp_path, model, tables):
    case = Case(model=model, tables=tables, dropout=0.2, trainer=TRAINER)
    run(case, options, tmp_path / "whole")
    expected = {name: checkpoint(tmp_path / "whole", name) for name in ("best", "last")}
    num_steps = expected["last"]["global_step"]
    for stop_at in (2, num_steps // 3, num_steps // 2 + 1):
        run_dir = tmp_path / f"stopped-{stop_at}"
        with pytest.raises(_StoppedError):
            run(case, options, run_dir, watchers=[AtStep(stop_at, _stop)])
        run(case, options, run_dir, resume=True)
        for name, whole in expected.items():
            assert differences(whole, checkpoint(run_dir, name)) == [], f"stopped at {stop_at}: {name}"


def test_best_taken_for_last_goes_on_from_the_weights_not_from_the_average(options, tmp_path):
    case = Case(model="wide_deep", tables="adamw", dropout=0.2, trainer=TRAINER)
    run(case, options, tmp_path / "whole")
    short = dataclasses.replace(case, schedule="constant")
    run(short, options, tmp_path / "constant")
    one = dataclasses.replace(short, trainer=dataclasses.replace(TRAINER, max_epochs=1))
    run(one, options, tmp_path / "resumed")
    folder = tmp_path / "resumed" / "checkpoints"
    (folder / "last").write_bytes((folder / "best").read_bytes())
    assert averages(checkpoint(tmp_path / "resumed"))["is_swapped_in"]
    run(short, options, tmp_path / "resumed", resume=True)
    first, second = (checkpoint(tmp_path / name)["state_dict"] for name in ("constant", "resumed"))
    assert differences(first, second) == []


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_average_as_one_does_and_one_goes_on_from_them(options, tmp_path):
    case = Case(model="wide_deep", trainer=TRAINER)
    run(case, options, tmp_path / "one")
    torchrun([(sharded(case), options, tmp_path / "two", False)], tmp_path)
    one, two = (averages(checkpoint(tmp_path / name)) for name in ("one", "two"))
    assert list(one["averages"]) == list(two["averages"])
    for name, average in one["averages"].items():
        torch.testing.assert_close(two["averages"][name], average, rtol=1e-3, atol=1e-5)
    before = checkpoint(tmp_path / "two")
    assert run(case, options, tmp_path / "two", resume=True) == []  # nothing left to do
    assert differences(before, checkpoint(tmp_path / "two")) == []


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_out_of_range_is_refused(options, tmp_path, decay):
    case = Case(trainer=dataclasses.replace(TRAINER, average_decay=decay))
    with pytest.raises(ValueError, match=f"`trainer.average_decay` must lie between 0 and 1, got {decay}"):
        run(case, options, tmp_path)


class _StoppedError(Exception):
    pass


def _stop(task, batch) -> None:
    raise _StoppedError
