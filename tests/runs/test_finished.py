"""Runs that have ended and are resumed, and runs that were stopped and are taken as they are."""

import json
import logging

import pytest

import recsys
from recsys.commands.training import train
from recsys.interface.composing import configured
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError
from recsys.training.callbacks import Interruption
from tests.interface.worlds import events

RECIPE = {
    "model": "matrix_factorization",
    "data.split": "leave_last_out",
    "trainer.projector_items": 0,
    "evaluation": "fast",
    "optimizer.learning_rate": 0.5,
}


def trained(folder, **overrides):
    keys = {**RECIPE, **{name.replace("__", "."): value for name, value in overrides.items()}}
    return recsys.train(interactions=events(), run_dir=folder, overrides=keys)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resumed(folder, **overrides):
    keys = {name.replace("__", "."): value for name, value in overrides.items()}
    return train(*configured("train", {"resume": str(folder), **keys}))


def test_run_that_patience_ended_says_so_and_stays_as_it_is(tmp_path, caplog):
    run = trained(tmp_path / "run", trainer__max_epochs=40, trainer__patience=2)
    before = content(run.path)
    with caplog.at_level(logging.INFO):
        assert resumed(run.path) == run.path
    assert (
        "by patience: 2 validations without a better one; to train longer give `trainer.patience`"
        in caplog.text
    )
    assert content(run.path) == before
    # More epochs alone would end at once again.
    resumed(run.path, trainer__max_epochs=60)
    assert content(run.path) == before


def test_run_that_patience_ended_goes_on_with_more_of_it(tmp_path):
    run = trained(tmp_path / "run", trainer__max_epochs=40, trainer__patience=1)
    last = TrainedRun.open(run.path, checkpoint="last").weights.read_bytes()
    again = recsys.train(resume=run, overrides={"trainer.patience": 3})
    assert again.path == run.path
    assert TrainedRun.open(run.path, checkpoint="last").weights.read_bytes() != last


def test_run_at_its_last_epoch_says_so_and_goes_on_with_more(tmp_path, caplog):
    run = trained(tmp_path / "run", trainer__max_epochs=1, trainer__patience=None)
    before = content(run.path)
    with caplog.at_level(logging.INFO):
        resumed(run.path)
    assert "finished at epoch 0, the last of `trainer.max_epochs=1`; to train longer give more" in caplog.text
    assert content(run.path) == before
    resumed(run.path, trainer__max_epochs=2)
    assert content(run.path) != before


def test_evaluation_and_bundle_of_another_checkpoint_are_named(tmp_path, capsys, monkeypatch):
    for logger in (
        logging.getLogger(),
        logging.getLogger("recsys"),
    ):  # as nobody set them up
        monkeypatch.setattr(logger, "handlers", [])
        logger.setLevel(logging.WARNING if logger is logging.root else logging.NOTSET)
    run = trained(tmp_path / "run", trainer__max_epochs=1, trainer__patience=None)
    run.evaluate()
    bundle = run.export(overrides={"export.parity_rows": 4, "export.recorded_requests": 1})
    digest = run.trained.weights_sha256
    kept = json.loads((run.path / "evaluation" / "manifest.json").read_text())
    assert kept["checkpoint"] == {"name": "best", "sha256": digest}
    assert bundle.manifest["run"]["checkpoint"] == {"name": "best", "sha256": digest}
    assert "another checkpoint" not in capsys.readouterr().err
    again = recsys.train(resume=run, overrides={"trainer.max_epochs": 8})
    assert again.trained.weights_sha256 != digest
    said = capsys.readouterr().err
    for name, command in (("evaluation", "evaluate"), ("bundle", "export")):
        assert f"`{run.path / name}` was made of another checkpoint ({digest[:12]})" in said
        assert f"make it anew with `python {command}.py run={run.path}`" in said


def test_stopped_run_is_evaluated_and_exported_as_it_is(tmp_path, monkeypatch):
    begin = Interruption.on_train_batch_end

    def interrupt(self, trainer, *others):
        self.requested = trainer.current_epoch == 2
        begin(self, trainer, *others)

    monkeypatch.setattr(Interruption, "on_train_batch_end", interrupt)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="go on with"):
        trained(folder, trainer__max_epochs=9)
    with pytest.raises(InputError, match=r"has not been trained to its end; .* `checkpoint=best` or"):
        recsys.open_run(folder)
    for name in ("best", "last"):
        run = recsys.open_run(folder, checkpoint=name)
        assert run.evaluate().metrics["ndcg@10"] >= 0
        kept = json.loads((folder / "evaluation" / "manifest.json").read_text())
        assert kept["checkpoint"] == {"name": name, "sha256": run.trained.weights_sha256}
    bundle = run.export(overrides={"export.parity_rows": 4, "export.recorded_requests": 1})
    assert bundle.manifest["run"]["checkpoint"]["name"] == "last"
