"""The command `recsys position-bias`: a log -> how likely each position is looked at."""

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.experiments.position_bias import PositionBiasConfig, estimate_curve


@command("position_bias", PositionBiasConfig)
def main(config: PositionBiasConfig, plain: dict[str, Any]) -> Path:
    """Estimates the curve."""
    return estimate_curve(config, plain)
