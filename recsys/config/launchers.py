"""Checks that the launcher of a sweep, which says where its runs go, is installed here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override

from recsys.config.build import Problem

LAUNCHER = "hydra/launcher"
BASIC = "basic"
# Optional extras of this package, by the launchers that they bring.
_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


def check_launcher(
    overrides: Sequence[Override], loader: ConfigLoader, problems: list[Problem]
) -> list[Override]:
    """A launcher comes with a package that may not be installed, SLURM with a machine that may not have it.

    Args:
        overrides: of the command line.
        loader: knows which launchers are installed.
        problems: gets what is wrong.

    Returns:
        The overrides, without a launcher that cannot be had.
    """
    refusals = {id(one): _refusal(str(one.value()), loader) for one in overrides if _is_launcher(one)}
    problems += [Problem(LAUNCHER, text) for text in refusals.values() if text]
    return [one for one in overrides if not refusals.get(id(one))]


def _is_launcher(override: Override) -> bool:
    return override.key_or_group == LAUNCHER


def _refusal(asked: str, loader: ConfigLoader) -> str | None:
    there = loader.get_group_options(LAUNCHER, ObjectType.CONFIG)
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
    return None
