"""Loads the TorchScript file of a bundle."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from recsys.schema.errors import InputError


def load_scripted(file: Path) -> Any:
    """A TorchScript file on the CPU, loaded as any server would.

    Raises:
        InputError: it is none, whatever its manifest says: a pickle, for one, of which nothing is run.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        try:
            return torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            found = str(error).strip().splitlines()[0][:200]
            raise InputError(
                f"`{file}`: expected a TorchScript file, found none ({found}); get the bundle again from "
                "whoever made it, or export it anew"
            ) from error
