"""The command `recsys serve`: a bundle behind HTTP, with a log of feedback and a state made of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command

if TYPE_CHECKING:
    from recsys.serving.options import ServeOptions


@command("serve", "recsys.serving.options.ServeOptions")
def main(config: ServeOptions, plain: dict[str, Any]) -> Path:
    """Becomes the server, which needs nothing of what composed its options."""
    from recsys.schema.manifest import read_station
    from recsys.serving.extras import optional_module
    from recsys.serving.server import OPTIONS, options_to_json

    read_station(config.bundle, "bundle")
    for module in ("uvicorn", "starlette", "msgspec"):
        optional_module(module, extra="serve", wanted="`recsys serve`")
    config.folder.mkdir(parents=True, exist_ok=True)
    os.environ[OPTIONS] = options_to_json(config)
    sys.stdout.flush()
    sys.stderr.flush()
    # The entry point has redirected stdout in Python alone: the file descriptors are as they were.
    os.execv(sys.executable, [sys.executable, "-m", "recsys.serving.server"])
