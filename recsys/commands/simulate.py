"""The command `recsys simulate`: readers of a world whose truth is known live with a real server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.commands.live.simulation import SimulateConfig


@command("simulate", "recsys.commands.live.simulation.SimulateConfig")
def main(config: SimulateConfig, plain: dict[str, Any]) -> Path:
    """Has readers of a world live with a server."""
    from recsys.commands.live.simulation import simulate

    return simulate(config)
