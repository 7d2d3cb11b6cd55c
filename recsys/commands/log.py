"""The command `recsys log`: what a server has logged, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.commands.live.logs import LogConfig


@command("log", "recsys.commands.live.logs.LogConfig")
def main(config: LogConfig, plain: dict[str, Any]) -> Path:
    """Writes interactions, logged feedback and request features."""
    from recsys.commands.live.logs import write_log

    return write_log(config)
