"""The composed configuration of a run, as its folder keeps it: bounded, and with a checksum of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys.schema.bounded_yaml import read_bounded_yaml
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
# The last line of the file: a run that goes on with half of its configuration would be another one.
_CHECKSUM = "# sha256 of the lines above: "
# Of every run; `seed` comes after all sections, so that a file which was cut off lacks it.
_ALWAYS_THERE = ("model", "trainer", "seed")


def config_text(composed: Mapping[str, Any]) -> str:
    """Content of config.yaml, without where the run lies, so that it serves for another run as it is."""
    kept = {**composed, "run_dir": None, "resume": None, "init_from": None}
    text = OmegaConf.to_yaml(OmegaConf.create(kept))
    return f"{text}{_CHECKSUM}{_sha256(text)}\n"


def read_config(folder: str | Path) -> dict[str, Any]:
    """The composed configuration of the run in `folder`, finished or not.

    Raises:
        InputError: the folder is missing, is not a run, or its configuration is damaged or cut off.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        received = f"no {CONFIG} in it" if path.parent.is_dir() else "no such folder"
        raise InputError(
            f"expected the folder of a run, got `{path.parent}`: {received}; `python train.py` makes a run"
        )

    def parse(text: str) -> Any:
        _check_whole(path, text)
        return OmegaConf.to_container(OmegaConf.create(text))

    try:
        content = read_bounded_yaml(path, parse)
    except OmegaConfBaseException as error:
        raise InputError(f"`{path}` is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"`{path}` is damaged: expected keys and values, got {str(content)[:80]}")
    missing = [key for key in _ALWAYS_THERE if key not in content]
    if missing:
        end = ", ".join(f"`{key}`" for key in missing)
        raise InputError(
            f"`{path}` is damaged: {end} is missing, as where a file was cut off; copy it from a run with "
            "the same settings, or train again"
        )
    return {str(key): value for key, value in content.items()}


def _check_whole(path: Path, text: str) -> None:
    """Compares a run's configuration with its checksum.

    Raises:
        InputError: it was cut or changed, or an earlier release wrote it and the run has not come to its end.
    """
    *lines, last = text.splitlines(keepends=True) or [""]
    if last.startswith(_CHECKSUM):
        if last.removeprefix(_CHECKSUM).strip() == _sha256("".join(lines)):
            return
        raise InputError(
            f"`{path}` is damaged: its lines are not those that its checksum was made of; give keys that "
            "shall differ on the command line, or train again"
        )
    manifest = path.with_name(MANIFEST)
    is_listed = manifest.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in manifest.read_text()
    if path.with_name(ENVIRONMENT).is_file() and not is_listed:
        raise InputError(
            f"`{path}` is damaged: its last line, a checksum, is missing, as where a file was cut off; an "
            "earlier release wrote none: train again"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
