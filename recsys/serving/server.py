"""Starts the processes of a server: `python -m recsys.serving.server`, its options in the environment."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from recsys.schema.errors import InputError
from recsys.schema.terminal import PlainFormatter, plainly
from recsys.serving.extras import optional_module
from recsys.serving.journal import now_microseconds
from recsys.serving.options import ServeOptions

# Of the environment, which only the owner of a process can read: there may be a token among the options.
OPTIONS = "RECSYS_SERVE_OPTIONS"
_STARTED = "RECSYS_SERVE_STARTED"
_SWITCH_SECONDS = 0.0005


def options_to_json(options: ServeOptions) -> str:
    """The options as JSON, for another process."""
    return json.dumps(dataclasses.asdict(options), default=str)


def options_from_json(content: str) -> ServeOptions:
    """The options that `options_to_json` wrote."""
    return msgspec.convert(json.loads(content), ServeOptions, dec_hook=_read_path)


def _read_path(kind: type[Any], value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)


def create_app() -> Any:
    """The application of a process, by what the process that started it has left in the environment."""
    from recsys.serving.app import make_app
    from recsys.serving.service import Service

    torch.set_num_threads(1)
    # Otherwise the first requests of each new form wait for TorchScript, which compiles for what it has seen.
    torch._C._jit_set_profiling_mode(False)
    # Threads that write and follow hand the interpreter back soon.
    sys.setswitchinterval(_SWITCH_SECONDS)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    options = options_from_json(os.environ[OPTIONS])
    # Modules stay: each collection of garbage looked through them again, for a tenth of a second.
    gc.collect()
    gc.freeze()
    return make_app(Service(options, started=int(os.environ[_STARTED])))


def serve(options: ServeOptions) -> None:
    """Serves until it is told to stop (SIGINT, SIGTERM).

    Raises:
        ValueError: a package is missing, or the bundle or the folder can't be used.
    """
    uvicorn = optional_module("uvicorn", extra="serve", wanted="`recsys serve`")
    optional_module("starlette", extra="serve", wanted="`recsys serve`")
    os.environ[OPTIONS], os.environ[_STARTED] = options_to_json(options), str(now_microseconds())
    settings: dict[str, Any] = {
        "host": options.host,
        "port": options.port,
        "log_level": "warning",
        "access_log": False,
        "proxy_headers": False,  # nothing depends on where a request comes from
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": 10,
    }
    print(f"serving on http://{options.host}:{options.port}", file=sys.stderr, flush=True)
    if options.workers > 1:
        uvicorn.run("recsys.serving.server:create_app", factory=True, workers=options.workers, **settings)
    else:
        uvicorn.run(create_app(), **settings)


def main() -> int:
    """Serves by the options in the environment, and says where the feedback is when it ends."""
    options = options_from_json(os.environ[OPTIONS])
    try:
        serve(options)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"error: {plainly(line)}", file=sys.stderr)
        return 2
    print(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
