"""Training curves as they are read back from the board of a run."""

import json

from torch.utils.tensorboard import SummaryWriter

from recsys.evaluation.training_curves import training_of
from tests.evaluation.conftest import write_curves


def test_curves_are_those_that_were_written(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    write_curves(tmp_path, monitor="auc")
    found = training_of(tmp_path)
    assert found["monitor"] == "auc"
    assert found["best_epoch"] == 2
    assert found["epochs"] == [1, 2, 3]
    assert found["train_loss"] == [3.0, 2.0, 1.0]
    assert [round(value, 6) for value in found["validation"]["auc"]] == [0.1, 0.3, 0.2]
    assert list(found["validation"]) == ["auc"]
    json.dumps(found, allow_nan=False)


def test_run_without_a_board_has_no_curves(tmp_path):
    assert training_of(tmp_path) is None
    (tmp_path / "tensorboard").mkdir()
    assert training_of(tmp_path) is None


def test_station_holds_the_curves_of_its_run(evaluated):
    for task, monitor in (("retrieval", "ndcg@5"), ("ranking", "auc")):
        training = evaluated[task].results["training"]
        assert (training["monitor"], training["epochs"]) == (monitor, [1, 2, 3])
        assert "Judged is epoch 2 of 3, the best by " in evaluated[task].page


def test_table_of_hyperparameters_does_not_overwrite_an_epoch_of_one_step(tmp_path):
    with SummaryWriter(str(tmp_path / "tensorboard")) as board:
        for epoch, value in enumerate((0.1, 0.3)):
            board.add_scalar("val/auc", value, epoch)
            board.add_scalar("epoch", epoch, epoch)
        board.add_scalar("val/auc", 0.3, 0)
    found = training_of(tmp_path)
    assert [round(value, 6) for value in found["validation"]["auc"]] == [0.1, 0.3]
    assert found["train_loss"] == [None, None]
    assert (found["monitor"], found["best_epoch"]) == (None, None)
