"""The commands `recsys pilot plan` and `read`: before and after live pilots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command, subcommands
from recsys.config.help import HelpTexts

if TYPE_CHECKING:
    from recsys.experiments.pilot_plan import PlanConfig
    from recsys.experiments.pilot_results import ReadConfig


@command("pilot_plan", "recsys.experiments.pilot_plan.PlanConfig", help_texts=HelpTexts("recsys pilot plan"))
def _plan_main(config: PlanConfig, plain: dict[str, Any]) -> Path:
    """Says how many users and days a pilot needs."""
    from recsys.experiments.pilot_plan import plan

    return plan(config, plain)


@command(
    "pilot_read", "recsys.experiments.pilot_results.ReadConfig", help_texts=HelpTexts("recsys pilot read")
)
def _read_main(config: ReadConfig, plain: dict[str, Any]) -> Path:
    """Says which arm of a pilot did better, and how surely."""
    from recsys.experiments.pilot_results import read

    return read(config, plain)


main = subcommands("recsys pilot", {"plan": _plan_main, "read": _read_main})
