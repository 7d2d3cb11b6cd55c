"""The command `recsys add-items`: new items join a bundle without retraining."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.exporting.additions import AddItemsConfig


@command("add_items", "recsys.exporting.additions.AddItemsConfig")
def main(config: AddItemsConfig, plain: dict[str, Any]) -> Path:
    """Writes a new bundle that recommends the new items too."""
    from recsys.exporting.additions import extend_bundle

    return extend_bundle(config)
