"""The command `recsys position-bias`: how likely each position is looked at, from a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.experiments.position_bias import PositionBiasConfig


@command("position_bias", "recsys.experiments.position_bias.PositionBiasConfig")
def main(config: PositionBiasConfig, plain: dict[str, Any]) -> Path:
    """Estimates how likely each position of a list is looked at."""
    from recsys.experiments.position_bias import estimate_curve

    return estimate_curve(config, plain)
