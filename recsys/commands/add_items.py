"""The command `recsys add-items`: new items join a bundle without retraining."""

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.export.additions import AddItemsConfig, extend_bundle


@command("add_items", AddItemsConfig)
def main(config: AddItemsConfig, plain: dict[str, Any]) -> Path:
    """Writes a new bundle that recommends the new items too."""
    return extend_bundle(config)
