"""The command `recsys refresh`: what a server has heard becomes the next bundle, if that is not worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.commands.live.refreshing import RefreshConfig


@command("refresh", "recsys.commands.live.refreshing.RefreshConfig")
def main(config: RefreshConfig, plain: dict[str, Any]) -> Path:
    """Goes on with training from what the server has heard."""
    from recsys.commands.live.refreshing import refresh, refresh_forever, undo

    if config.undo:
        return undo(config)
    if config.every is not None:
        refresh_forever(config)
    return refresh(config)
