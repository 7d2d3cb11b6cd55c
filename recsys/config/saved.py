"""The composed configuration of a run, as its folder keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recsys.schema.errors import InputError

CONFIG = "config.yaml"


def read_config(folder: str | Path) -> dict[str, Any]:
    """The composed configuration of the run in `folder`, finished or not.

    Raises:
        InputError: the folder is missing, is not a run, or its configuration is damaged.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        received = f"no {CONFIG} in it" if path.is_dir() else "no such folder"
        raise InputError(
            f"expected the folder of a run, got `{path}`: {received}; `python train.py` makes a run"
        )
    try:
        content = OmegaConf.to_container(OmegaConf.load(path / CONFIG))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"`{path / CONFIG}` is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"`{path / CONFIG}` is damaged: expected keys and values, got {content!r}")
    return {str(key): value for key, value in content.items()}
