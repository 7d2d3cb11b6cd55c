"""Run folders: where a new run goes, and what it keeps about itself while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from recsys.config.register import TARGET
from recsys.config.saved import CONFIG, read_config
from recsys.runs.environment import available_cores, cpu_name, installed_versions, memory_gib
from recsys.runs.launch import ALONE, Processes
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, git_commit, write_json, write_manifest

ENVIRONMENT = "environment.json"
METRICS = "metrics.json"
BEST, LAST = "checkpoints/best", "checkpoints/last"
LOG = "train.log"
LOG_FORMAT = logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """False for what FBGEMM says of itself, some twenty long lines a table collection, on the root logger."""
    return record.name != "root" or record.levelno >= logging.WARNING


def progress(folder: Path) -> Literal["done", "begun", "nothing"]:
    """How far the run in `folder` has come; one that fell before its first checkpoint is removed."""
    if (folder / MANIFEST).is_file():
        return "done"
    if (folder / LAST).is_file():
        return "begun"
    shutil.rmtree(folder, ignore_errors=True)
    return "nothing"


@dataclasses.dataclass
class Ending:
    """What a run comes to; filled in while it trains.

    Args:
        metrics: for metrics.json; None as long as training has not ended.
        source: fingerprint of the prepared dataset.
        extra: further keys of the manifest.
        is_resumed: the run was there before.
    """

    metrics: dict[str, Any] | None = None
    source: str | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_resumed: bool = False


@contextlib.contextmanager
def run_folder(
    composed: Mapping[str, Any],
    *,
    run_dir: str | None,
    resume: str | None,
    processes: Processes = ALONE,
    agree: Callable[[Path | None], Path | None] = lambda path: path,
) -> Iterator[tuple[Path, Ending]]:
    """Makes the folder of a run, or takes up that of `resume`; while inside, its train.log gets the logs too.

    When the ending has been filled in, the run is complete and gets metrics.json and its manifest. Processes
    that torchrun has started again take up the run of `run_dir`.

    Args:
        composed: the composed configuration, kept as config.yaml.
        run_dir: where; null is runs/<date>-<time>-<model>-<data>.
        resume: folder of the run to continue.
        processes: those that train together; the main one writes.
        agree: gives every process what the main one has.

    Raises:
        InputError: `run_dir` holds something already, or `resume` is no run.
    """
    _check_restarts(run_dir or resume, processes)
    if processes.restarts and run_dir and (Path(run_dir).expanduser() / CONFIG).is_file():
        resume = run_dir
    ending = Ending(is_resumed=resume is not None)
    made = None
    if processes.is_main:
        made = _resumed(resume) if resume else _new(run_dir, composed)
    path = agree(made)
    assert path is not None
    if not processes.is_main:
        yield path, ending
        return
    # Where a run lies is no part of what it is: the file can be used for another run as it is.
    kept = {**composed, "run_dir": None, "resume": None, "init_from": None}
    OmegaConf.save(OmegaConf.create(kept), path / CONFIG)
    write_json(path / ENVIRONMENT, _environment(composed, path / ENVIRONMENT))
    with _logging_to(path / LOG):
        yield path, ending
    if ending.metrics is not None:
        write_json(path / METRICS, ending.metrics)
        write_manifest(path, "run", config=kept, source=ending.source, extra=ending.extra)


def _check_restarts(folder: str | None, processes: Processes) -> None:
    """Raises ValueError where torchrun may start the processes again and they would not find their run."""
    if processes.max_restarts and not folder:
        raise InputError(
            f"torchrun may start the processes again ({processes.max_restarts} times), so they must know"
            " the folder of their run: add `run_dir=PATH`"
        )


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(LOG_FORMAT)
    handler.addFilter(is_worth_a_line)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def unique_folder(name: str, parent: Path = Path("runs")) -> Path:
    """Makes and returns `parent/<date>-<time>-<name>`, numbered when that is taken."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / f"{stamp}-{name}{f'-{number}' if number > 1 else ''}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError(f"a thousand folders called {name} in one second")


def claim_folder(path: Path, *, key: str) -> Path:
    """Makes `path`, which must be new or empty.

    Raises:
        ValueError: something is there; `key` is named as where it came from.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"expected a new or an empty folder for `{key}`, but `{path}` holds something; name another one"
            + (f", or continue the run with `resume={path}`" if (path / CONFIG).is_file() else "")
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def _new(run_dir: str | None, composed: Mapping[str, Any]) -> Path:
    return (
        claim_folder(Path(run_dir).expanduser(), key="run_dir") if run_dir else unique_folder(_name(composed))
    )


def _resumed(resume: str) -> Path:
    path = Path(resume).expanduser()
    read_config(path)
    (path / MANIFEST).unlink(missing_ok=True)  # until training has ended again, the run is not a finished one
    return path


def _name(composed: Mapping[str, Any]) -> str:
    """`two_tower-movielens_100k`, from the file that holds the model and the name of the data."""
    module = str(composed["model"][TARGET]).split(".")[-2:][0]
    return re.sub(r"[^\w.-]+", "_", f"{module}-{composed['data'].get('name', 'data')}")


def _environment(composed: Mapping[str, Any], path: Path) -> dict[str, Any]:
    earlier = json.loads(path.read_text()) if path.is_file() else None
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *sys.argv],
        "seed": composed.get("seed"),
        "commit": git_commit(),
        "python": platform.python_version(),
        "versions": installed_versions(),
        "machine": {
            "name": platform.node(),
            "system": platform.platform(),
            "cpu": cpu_name(),
            "cores": available_cores(),
            "memory_gib": memory_gib(),
        },
        **({"resumed_from": earlier} if earlier else {}),
    }
