"""recsys prepare: raw tables -> prepared dataset."""

import dataclasses
from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.data.options import DataOptions
from recsys.data.prepare import prepare


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Every key of the command.

    Args:
        data: the dataset.
    """

    data: DataOptions


@command("prepare", PrepareConfig)
def main(config: PrepareConfig, plain: dict[str, Any]) -> Path:
    """Prepares a dataset, unless it is there already."""
    return prepare(config.data)
