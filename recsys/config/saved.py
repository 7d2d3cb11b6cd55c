"""The composed configuration of a run, as its folder keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys.schema.errors import InputError

CONFIG = "config.yaml"
# Of every run; `seed` comes after all sections, so that a file which was cut off lacks it.
_ALWAYS_THERE = ("model", "trainer", "seed")


def config_text(composed: Mapping[str, Any]) -> str:
    """Content of config.yaml, without where the run lies, so that it serves for another run as it is."""
    kept = {**composed, "run_dir": None, "resume": None, "init_from": None}
    return OmegaConf.to_yaml(OmegaConf.create(kept))


def read_config(folder: str | Path) -> dict[str, Any]:
    """The composed configuration of the run in `folder`, finished or not.

    Raises:
        InputError: the folder is missing, is not a run, or its configuration is damaged or cut off.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        received = f"no {CONFIG} in it" if path.parent.is_dir() else "no such folder"
        raise InputError(
            f"expected the folder of a run, got `{folder}`: {received}; `python train.py` makes a run"
        )
    try:
        text = path.read_text(encoding="utf-8")
        # Ours have none; ten levels of them, ten each, would take minutes to expand.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError(f"`{path}` is damaged: expected no aliases (`*name`), got one; write the value")
        content = OmegaConf.to_container(OmegaConf.create(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"`{path}` is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"`{path}` is damaged: expected keys and values, got {content!r}")
    missing = [key for key in _ALWAYS_THERE if key not in content]
    if missing or not text.endswith("\n"):
        end = ", ".join(f"`{key}`" for key in missing) or "the end of its last line"
        raise InputError(
            f"`{path}` is damaged: {end} is missing, as where a file was cut off; copy it from a run with "
            "the same settings, or train again"
        )
    return {str(key): value for key, value in content.items()}
