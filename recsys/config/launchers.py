"""Checks that the launcher of a sweep, which says where its runs go, is installed here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override

LAUNCHER = "hydra/launcher"
BASIC = "basic"
# Optional extras of this package, by the launchers that they bring.
_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def check_launcher(overrides: Sequence[Override], problems: list[str]) -> list[Override]:
    """The overrides without a launcher that cannot be had, which becomes a problem.

    A launcher comes with a package that may not be installed, SLURM with a machine that may not have it.
    """
    refusals = [
        _refusal(str(override.value())) if override.key_or_group == LAUNCHER else "" for override in overrides
    ]
    problems += filter(None, refusals)
    return [override for override, refusal in zip(overrides, refusals, strict=True) if not refusal]


def _refusal(asked: str) -> str:
    there = GlobalHydra.instance().config_loader().get_group_options(LAUNCHER, ObjectType.CONFIG)
    text = f"`{LAUNCHER}={asked}`"
    if asked not in there:
        extra = _EXTRAS.get(asked)
        mend = f"install it with `pip install --editable '.[{extra}]'`" if extra else "choose one of them"
        return f"{text} is not there; there are: {', '.join(there)}; {mend}"
    if asked == "submitit_slurm" and shutil.which("srun") is None:
        return (
            f"{text} needs SLURM, and there is no `srun` here; give the command where jobs are submitted, or "
            "take `submitit_local`, processes of this machine"
        )
    return ""
