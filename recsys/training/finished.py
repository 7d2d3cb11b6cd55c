"""Says why a training has ended, where the same options would end it again at once."""

from __future__ import annotations

from pathlib import Path

from recsys.models.weights import read_checkpoint
from recsys.schema.manifest import MANIFEST
from recsys.schema.places import at_home
from recsys.training.checkpoint import LAST
from recsys.training.options import TrainerOptions


def why_finished(run_dir: Path, options: TrainerOptions) -> str | None:
    """Why the run in `run_dir` is finished, and what to give to train longer; None where it goes on.

    Args:
        run_dir: the run's folder.
        options: every key under `trainer.`, as they would be from now on.

    Raises:
        InputError: its checkpoint is damaged.
    """
    last = at_home(run_dir) / "checkpoints" / LAST
    if not (at_home(run_dir) / MANIFEST).is_file() or not last.is_file():
        return None
    checkpoint = read_checkpoint(last)
    epoch, steps = checkpoint.get("epoch", 0), checkpoint.get("global_step", 0)
    states = [
        state
        for name, state in checkpoint.get("callbacks", {}).items()
        if str(name).startswith("EarlyStopping") and isinstance(state, dict)
    ]
    waited = [state["wait_count"] for state in states if isinstance(state.get("wait_count"), int)]
    if options.patience is not None and waited and waited[0] >= options.patience:
        return (
            f"finished at epoch {epoch} by patience: {waited[0]} validations without a better one; to train "
            f"longer give `trainer.patience` above {waited[0]} (or null)"
        )
    max_epochs = options.max_epochs
    if isinstance(max_epochs, int) and 0 <= max_epochs <= epoch + 1:
        return (
            f"finished at epoch {epoch}, the last of `trainer.max_epochs={max_epochs}`; to train longer give "
            "more epochs"
        )
    if 0 <= options.max_steps <= steps:
        return (
            f"finished at step {steps} of `trainer.max_steps={options.max_steps}`; to train longer give more"
        )
    return None
