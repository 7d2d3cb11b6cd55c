"""Says how a command's process speaks and ends: its log, its signals, its exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from recsys.commands.installation import installation_problems
from recsys.commands.limits import enough_of_the_system
from recsys.config.compose import Command, Composition
from recsys.config.settle import settle
from recsys.runs.folders import LOG_FORMAT, is_worth_a_line
from recsys.runs.launch import launched
from recsys.schema.errors import InputError, is_out_of_memory
from recsys.schema.terminal import plainly

C = TypeVar("C")
Function = Callable[[C, dict[str, Any]], Path]

# What libraries say about themselves at every start.
_NOISY = {
    "hydra": logging.WARNING,
    "pytorch_lightning": logging.WARNING,
    "lightning.pytorch": logging.WARNING,
    "torch.fx._symbolic_trace": logging.ERROR,
    "torchrec": logging.WARNING,
    "torchrec.distributed.planner": logging.ERROR,
}
_NOISY_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "distutils Version classes are deprecated",
    "Please use DTensor instead and we are deprecating ShardedTensor",
    "HeuristicalStorageReservation is known to cause issues",
    # torchrun is what SLURM starts; a machine from which jobs are sent has `srun`, too.
    "The `srun` command is available on your system but is not used",
)

_REFUSED_BY_THE_DISK = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)
_FAULTS_OF_THE_DISK = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV)

DONE, FAULT, USERS_MISTAKE, INTERRUPTED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """A command line, its flags apart from its overrides.

    Args:
        overrides: keys and groups with their values.
        trusted: packages whose classes may be named.
        topics: what `--help` is asked about; None without it.
        multirun: `-m`.
        shows: `--cfg job`.
        config_dir: a further folder of configuration files.
        config_name: another root file.
    """

    overrides: list[str]
    trusted: list[str]
    topics: list[str] | None = None
    multirun: bool = False
    shows: bool = False
    config_dir: str | None = None
    config_name: str | None = None


def report(error: Exception) -> int:
    """Prints what went wrong, as the contract says, and returns the exit status."""
    if said := _said_of_the_disk(error):
        print(f"error: {said}", file=sys.stderr)
        return USERS_MISTAKE
    if not isinstance(error, InputError):
        if is_out_of_memory(error):
            print(
                f"error: the memory that this process may use is used up ({_first_line(error)})",
                file=sys.stderr,
            )
            print(
                "error: give it more (`ulimit -v`, the container's limit), or fewer rows at once",
                file=sys.stderr,
            )
            return USERS_MISTAKE
        advice = installation_problems() if _is_failed_import(error) else []
        for line in advice:
            print(f"error: {line}", file=sys.stderr)
        if advice:
            return USERS_MISTAKE
        traceback.print_exception(error)
        return FAULT
    for line in str(error).splitlines():
        print(f"error: {plainly(line)}", file=sys.stderr)
    return USERS_MISTAKE


def _said_of_the_disk(error: Exception) -> str | None:
    """Says what the disk refused or could not do; None where something else went wrong."""
    if isinstance(error, InputError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number in _REFUSED_BY_THE_DISK:
        advice = "name another place, or make room there"
    # Libraries say it in words alone.
    elif number in _FAULTS_OF_THE_DISK or os.strerror(errno.EIO) in str(error):
        advice = "have the disk looked at, or go on with a copy elsewhere"
    else:
        return None
    filename = error.filename if isinstance(error, OSError) else None
    named = os.fsdecode(filename) if isinstance(filename, bytes) else filename
    place = f" `{named}`" if named else ""
    reason = (error.strerror if isinstance(error, OSError) else None) or _first_line(error)
    return plainly(f"cannot read or write{place}: {reason}; {advice}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _is_failed_import(error: Exception) -> bool:
    """True for what came out of an `import`: commands import torch after their arguments are checked."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.startswith("<frozen importlib") for frame in frames)


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Raises KeyboardInterrupt for SIGTERM and Ctrl-C, whatever a library has made of them."""
    came: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        former[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as error:
        if came:  # DuckDB makes a RuntimeError of it
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def outcome_of(command: Command[C], function: Function[C], composition: Composition) -> Path:
    """Runs the command's function on what was composed, and returns the station's path."""
    with enough_of_the_system():
        options, plain = settle(command, composition)
        with contextlib.redirect_stdout(sys.stderr):
            return function(options, plain)


def log_to_stderr() -> None:
    """Sends the log to stderr, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LOG_FORMAT)
    handler.addFilter(is_worth_a_line)
    logging.basicConfig(
        level=logging.INFO if launched().is_main else logging.WARNING, handlers=[handler], force=True
    )
    quiet_libraries()


def quiet_libraries() -> None:
    """Silences what libraries say about themselves at every start."""
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)
    for message in _NOISY_WARNINGS:
        warnings.filterwarnings("ignore", message)
