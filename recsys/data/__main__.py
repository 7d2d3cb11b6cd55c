"""The command `python -m recsys.data`: raw tables -> prepared dataset."""

import dataclasses
from pathlib import Path
from typing import Any

from recsys.doctor import importing

with importing():
    from recsys.config.command import command
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


if __name__ == "__main__":
    main()
