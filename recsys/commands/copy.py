"""The command `recsys copy`: a dataset, run, bundle or evaluation to another place, checked byte for byte."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.config.help import HelpTexts
from recsys.schema.disk import replacing_folder
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import MANIFEST, VERSIONS, StationKind, read_station

_HELP = HelpTexts("recsys copy", keys=("what", "to"), example="what=runs/first to=s3://models/first")


@dataclasses.dataclass(frozen=True)
class CopyConfig:
    """Every key of `recsys copy`.

    Args:
        what: folder of a prepared dataset, run, bundle or evaluation, or its address on a store.
        to: where: a folder, or an address on a store.
    """

    what: Path
    to: Path


@command("copy", CopyConfig, help_texts=_HELP)
def main(config: CopyConfig, plain: dict[str, Any]) -> Path:
    """Copies what a command wrote to another place, as its manifest lists it."""
    kind = _kind_of(config.what)
    manifest = read_station(config.what, kind, verify_all=True)
    if config.to.exists() and any(config.to.iterdir()):
        read_station(config.to, kind)  # what is replaced is one of the same kind
    with replacing_folder(config.to) as folder:
        for name in (*manifest["files"], MANIFEST):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(config.what / name, folder / name)
    return config.to


def _kind_of(folder: Path) -> StationKind:
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(f"`what={folder}`: expected a folder that a command wrote, with `{MANIFEST}`")
    name = str(read_json(file)["format"]).removeprefix("recsys.")
    kinds: dict[str, StationKind] = {kind: kind for kind in VERSIONS}
    if name not in kinds:
        raise InputError(f"`{file}` has the format `{name[:80]}`, which no command writes")
    return kinds[name]
