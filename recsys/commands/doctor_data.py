"""recsys doctor data=...: what is understood of raw tables, and the declaration of features to edit."""

import dataclasses
from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.data.options import DataOptions
from recsys.data.understand import understand
from recsys.schema.disk import write_file
from recsys.schema.errors import InputError
from recsys.schema.terminal import plainly


@dataclasses.dataclass(frozen=True)
class DoctorConfig:
    """Every key of the command.

    Args:
        data: the dataset.
        out: file for the declaration of its features, which `data.features_file=` takes back when edited.
        overwrite: whether that file may be there already.
    """

    data: DataOptions
    out: Path = Path("features.yaml")
    overwrite: bool = False


@command("doctor", DoctorConfig)
def main(config: DoctorConfig, plain: dict[str, Any]) -> Path:
    """Prints what is understood of the tables and writes the declaration."""
    if config.out.exists() and not config.overwrite:
        raise InputError(
            f"`out={config.out}` must be a new file, for it may hold what somebody edited; name another, or "
            "say `overwrite=true`"
        )
    tables = understand(config.data)
    print(plainly(tables.text))
    write_file(config.out, tables.declaration)
    return config.out.absolute()
