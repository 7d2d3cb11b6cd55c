"""Imports of optional packages, with what to install where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from recsys.schema.errors import InputError


def optional_module(name: str, *, extra: str, wanted: str) -> Any:
    """Imports a module of an optional extra.

    Args:
        name: of the module.
        extra: of pyproject.toml that brings it.
        wanted: the setting that needs it, for the message.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{wanted} needs the package `{name.partition('.')[0]}`, which is not installed ({error}); "
            f"install it: pip install 'recsys[{extra}]'"
        ) from error
