"""A signal outside of a training step ends the training as one inside of it does."""

import signal

import pytest
import pytorch_lightning as pl

from tests.training.runs import Case, checkpoint, differences, run


class InterruptsAtTheStart(pl.Callback):
    """Gets, before the first step, the signal of Ctrl-C."""

    def on_fit_start(self, trainer, pl_module) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def handlers():
    """Signals are answered afterwards as before: Lightning ignores Ctrl-C while it ends."""
    former = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGINT, former[0])
    signal.signal(signal.SIGTERM, former[1])


def test_signal_before_the_first_step_is_an_interruption_and_no_exit(handlers, options, tmp_path):
    run(Case(), options, tmp_path / "whole")
    losses = run(Case(), options, tmp_path / "run", watchers=[InterruptsAtTheStart()])
    assert losses == []
    run(Case(), options, tmp_path / "run", resume=True)
    assert differences(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "run")) == []
