"""Run folders: where a new run goes, and what it keeps about itself while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.config.register import TARGET
from recsys.config.saved import CONFIG, ENVIRONMENT, config_text, read_config
from recsys.runs.environment import available_cores, cpu_name, installed_versions, memory_gib
from recsys.runs.launch import ALONE, Processes
from recsys.schema.disk import locked, replace_files, write_file
from recsys.schema.errors import InputError, led_to
from recsys.schema.json_files import read_json
from recsys.schema.manifest import MANIFEST, git_commit, json_text, write_json, write_manifest
from recsys.schema.places import at_home
from recsys.schema.terminal import PlainFormatter

METRICS = "metrics.json"
CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last"
LOG = "train.log"
LOG_FORMAT = PlainFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """False for what FBGEMM says of itself, some twenty long lines a table collection, on the root logger."""
    return record.name != "root" or record.levelno >= logging.WARNING


@dataclasses.dataclass
class Ending:
    """Collects the results of a run while it trains.

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
    dataset: Mapping[str, Any] | None = None,
    processes: Processes = ALONE,
    agree: Callable[[Path | None], Path | None] = lambda path: path,
) -> Iterator[tuple[Path, Ending]]:
    """Makes the folder of a run, or takes up that of `resume`; while inside, its train.log gets the logs too.

    When the ending has been filled in, the run is complete and gets metrics.json and its manifest. Processes
    that torchrun has started again take up the run of `run_dir`, and so does a job of the same `--rdzv-id`.

    Args:
        composed: the composed configuration, kept as config.yaml.
        run_dir: where; null is runs/<date>-<time>-<model>-<data>.
        resume: folder of the run to continue.
        dataset: `path`, `fingerprint` and `task` of what is trained on, by which a run that is not
            finished is opened.
        processes: those that train together; the main one writes.
        agree: gives every process what the main one has.

    Raises:
        InputError: `run_dir` holds something already, `resume` is no run, or the folder was removed.
    """
    _check_restarts(run_dir or resume, processes)
    if run_dir and _is_begun(at_home(run_dir), processes):
        resume = run_dir
    ending = Ending(is_resumed=resume is not None)
    made = None
    if processes.is_main:
        texts = {CONFIG: config_text(composed)}
        environment = {**_environment(composed), "dataset": dataset, "job": processes.job}
        if resume:
            made = _resumed(resume, texts, environment=environment)
        else:
            texts[ENVIRONMENT] = json_text(environment)
            made = claim_folder(at_home(run_dir), key="run_dir", texts=texts) if run_dir else None
            made = made or unique_folder(_name(composed), texts=texts)
    path = agree(made)
    assert path is not None
    if not processes.is_main:
        yield path, ending
        return
    with _removal_named(path):
        with _logging_to(path / LOG):
            yield path, ending
        if ending.metrics is not None:
            write_json(path / METRICS, ending.metrics)
            write_manifest(path, "run", config=read_config(path), source=ending.source, extra=ending.extra)


def _is_begun(path: Path, processes: Processes) -> bool:
    """Whether these processes, or earlier ones of the same job of torchrun, have begun a run at `path`.

    NOTE: torchrun counts failures. Where a machine is lost and another one joins, all start again at count 0.
    """
    if not (path / CONFIG).is_file():
        return False
    if processes.restarts:
        return True
    if not processes.max_restarts or processes.job is None or (path / METRICS).is_file():
        return False
    earlier = read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else {}
    return bool(earlier.get("job") == processes.job)


@contextlib.contextmanager
def _removal_named(path: Path) -> Iterator[None]:
    """Says that the folder of a run was removed while it was trained, whatever failed because of it.

    Raises:
        InputError: in place of what failed, or at the end.
    """
    removed = (
        f"expected the run's folder `{path}` to stay while it is trained, but it was removed or moved away; "
        "train again, perhaps with another `run_dir`"
    )
    try:
        yield
    except Exception as error:
        if (path / CONFIG).is_file() and not _is_lost(error, path):
            raise
        raise InputError(removed) from error
    if not (path / CONFIG).is_file():
        raise InputError(removed)


def _is_lost(error: BaseException | None, path: Path) -> bool:
    """Whether an error is about a file of the folder that is gone, as while the folder is being removed."""
    for one in led_to(error):
        name = getattr(one, "filename", None)
        if isinstance(one, FileNotFoundError) and name is not None:
            return Path(os.fsdecode(name)).absolute().is_relative_to(path.absolute())
    return False


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


def unique_folder(name: str, parent: Path = Path("runs"), *, texts: Mapping[str, str] | None = None) -> Path:
    """Makes and returns `parent/<date>-<time>-<name>`, numbered when that is taken.

    Args:
        name: of what it is for.
        parent: where.
        texts: first files of the folder, by name.
    """
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / f"{stamp}-{name}{f'-{number}' if number > 1 else ''}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            for file, text in (texts or {}).items():
                write_file(folder / file, text)
            return folder
    raise AssertionError(f"a thousand folders called {name} in one second")


def claim_folder(path: Path, *, key: str, texts: Mapping[str, str] | None = None) -> Path:
    """Makes `path`, which must be new or empty, and writes its first files; of two processes one is refused.

    Args:
        path: of the folder.
        key: where it came from, for the message.
        texts: first files of the folder, by name: what the other process sees.

    Raises:
        InputError: something is there.
    """
    with locked(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"expected a new or an empty folder for `{key}`, but `{path}` holds something; name another "
                "one" + (f", or continue the run with `resume={path}`" if (path / CONFIG).is_file() else "")
            )
        path.mkdir(parents=True, exist_ok=True)
        for name, text in (texts or {}).items():
            write_file(path / name, text)
    return path


def _resumed(resume: str, texts: Mapping[str, str], environment: Mapping[str, Any]) -> Path:
    """Takes up a run: until its training has ended again it is not a finished one, and has no manifest."""
    path = at_home(resume)
    read_config(path)
    _check_plain(path)
    earlier = read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else None
    environment = {**environment, **({"resumed_from": earlier} if earlier else {})}
    files = {path / name: text for name, text in texts.items()}
    replace_files({**files, path / ENVIRONMENT: json_text(environment)}, without=path / MANIFEST)
    return path


def _check_plain(path: Path) -> None:
    """Looks at what a run that is taken up writes on to: its log, its checkpoints, its curves.

    Raises:
        InputError: one of them is a link, which leads elsewhere, or a pipe, which waits for ever.
    """
    for place, folders, names in os.walk(path):
        for name in (*folders, *names):
            mode = os.lstat(Path(place) / name).st_mode
            if not name.startswith(".") and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError(
                    f"`{Path(place) / name}` is neither a file nor a folder, and may lead out of the run; "
                    "put what it leads to in its place, or take it away"
                )


def _name(composed: Mapping[str, Any]) -> str:
    """`two_tower-movielens_100k`, from the file that holds the model and the name of the data."""
    module = str(composed["model"][TARGET]).split(".")[-2:][0]
    return re.sub(r"[^\w.-]+", "_", f"{module}-{composed['data'].get('name', 'data')}")


def _environment(composed: Mapping[str, Any]) -> dict[str, Any]:
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
    }
