"""The commands `recsys pilot plan` and `read`: before and after live pilots."""

from pathlib import Path
from typing import Any

from recsys.commands.entry import command, subcommands
from recsys.experiments.pilot_plan import PlanConfig, plan
from recsys.experiments.pilot_results import ReadConfig, read


@command("pilot_plan", PlanConfig)
def plan_main(config: PlanConfig, plain: dict[str, Any]) -> Path:
    """Says how many users and days a pilot needs."""
    return plan(config, plain)


@command("pilot_read", ReadConfig)
def read_main(config: ReadConfig, plain: dict[str, Any]) -> Path:
    """Says what a pilot that has run says."""
    return read(config, plain)


main = subcommands("recsys pilot", {"plan": plan_main, "read": read_main})
