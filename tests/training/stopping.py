"""Ends a training by something that befalls it, and looks at what is left of it."""

import pytest

from recsys.schema.errors import InputError
from tests.training.runs import AtStep, checkpoint, differences, run


def assert_stops_and_resumes(case, options, folder, act, *, match, mend=lambda: None, step=7, kept_steps=6):
    """`act` before `step` ends the run with `match`; mended and resumed, it equals one that nothing befell.

    Args:
        case: of the run, which writes `last` at least once before `step`.
        options: of its data.
        folder: an empty one.
        act: gets the task and the batch of `step`.
        match: pattern of the error, which is one line for the user.
        mend: takes back what `act` did beyond the process.
        step: from 0.
        kept_steps: that the checkpoint holds which is left.
    """
    whole, broken = folder / "whole", folder / "broken"
    run(case, options, whole)
    before = []

    def keep_and_act(task, batch) -> None:
        before.append(contents(broken))
        act(task, batch)

    with pytest.raises(ValueError, match=match) as stopped:
        run(case, options, broken, watchers=[AtStep(step, keep_and_act)])
    assert isinstance(stopped.value, InputError)
    assert "\n" not in str(stopped.value)
    mend()
    assert [contents(broken)] == before
    assert checkpoint(broken)["global_step"] == kept_steps
    run(case, options, broken, resume=True)
    for name in ("last", "best"):
        assert differences(checkpoint(whole, name), checkpoint(broken, name)) == []


def contents(run_dir) -> dict[str, bytes]:
    """The files of a run's checkpoints, hidden ones included, and links to what is no file as empty ones."""
    found = (run_dir / "checkpoints").iterdir()
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in found}
