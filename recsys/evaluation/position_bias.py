"""The command `python -m recsys.evaluation.position_bias`: a log -> how likely each position is looked at."""

from pathlib import Path
from typing import Any

from recsys.doctor import importing

with importing():
    from recsys.config.command import command
    from recsys.experiments.position_bias import PositionBiasConfig, estimate_curve


@command("position_bias", PositionBiasConfig)
def main(config: PositionBiasConfig, plain: dict[str, Any]) -> Path:
    """Estimates the curve."""
    return estimate_curve(config, plain)


if __name__ == "__main__":
    main()
