"""A small table, its run, evaluation and bundle, and the real commands in forked processes.

A fork has everything imported already, so that a command costs what its work costs.
"""

import csv
import importlib
import os
import pkgutil
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import recsys
from recsys.commands import add_items, evaluate, export, prepare, train

SMALL = (
    *("trainer.max_epochs=1", "model.embedding_dim=8", "trainer.log_every_n_steps=1"),
    *("data.split=leave_last_out", "evaluation.latency_requests=0", "trainer.progress_bar=false"),
)
# A sweep of two trials.
SWEEP = (
    *("sweep=two_tower", "sweep.space={model.dropout: 'choice(0.0,0.1)'}", "sweep.num_trials=2"),
    *("sweep.workers=0", "sweep.rerank.top=0"),
)

# Where each command writes, and what.
STATIONS = {
    "prepare": ("cache/prepared/*", "prepared"),
    "train": ("run", "run"),
    "evaluate": ("run/evaluation", "evaluation"),
    "export": ("run/bundle", "bundle"),
    "add-items": ("more", "bundle"),
    "sweep": ("sweep/[0-9]*", "run"),
}


def import_everything() -> None:
    """Imports all of the package, which a fork then need not do."""
    for module in pkgutil.walk_packages(recsys.__path__, "recsys."):
        importlib.import_module(module.name)


def raw_table(folder: Path) -> Path:
    """The folder, with `events.csv` and `new.csv` in it."""
    draw = random.Random(0)
    with (folder / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in range(40):
            for place, item in enumerate(draw.sample(range(20), 8)):
                writer.writerow([f"u{user}", f"i{item}", 1_700_000_000 + 60 * place])
    (folder / "new.csv").write_text("item_id\nbrand_new\n")
    return folder


def keys(table: Path, cache: Path) -> list[str]:
    """Names the table and where it is prepared."""
    return ["data=table", f"data.interactions.path={table / 'events.csv'}", f"data.cache_dir={cache}"]


def commands(table: Path, folder: Path) -> dict[str, tuple[Callable, list[str]]]:
    """Every command that writes a folder, each reading what the one before has written to `folder`."""
    data = keys(table, folder / "cache")
    bundle = folder / "run" / "bundle"
    more = [f"bundle={bundle}", f"items={table / 'new.csv'}", f"folder={folder / 'more'}"]
    return {
        "prepare": (prepare.main, [*data, "data.split=leave_last_out"]),
        "train": (train.main, [*data, *SMALL, f"run_dir={folder / 'run'}"]),
        "evaluate": (evaluate.main, [f"run={folder / 'run'}", "evaluation=fast"]),
        "export": (export.main, [f"run={folder / 'run'}"]),
        "add-items": (add_items.main, more),
        "sweep": (train.main, [*data, *SMALL, *SWEEP, f"run_dir={folder / 'sweep'}"]),
    }


def stations(folder: Path, name: str) -> list[tuple[Path, str]]:
    """What a command has written, and its kind."""
    place, kind = STATIONS[name]
    return [(path, kind) for path in folder.glob(place) if path.is_dir() and not path.name.startswith(".")]


def begin(work: Callable[[], object], errors: Path) -> int:
    """Starts `work` in a forked process, in a group of its own; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        with errors.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        work()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end(child: int) -> int:
    """Waits for a forked process; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def done(work: Callable[[], object], errors: Path) -> tuple[int, str]:
    """Does `work` in a forked process; exit status and all that was said."""
    status = end(begin(work, errors))
    return status, errors.read_text()


def stopped(work: Callable[[], object], errors: Path, *, after: float, by: int) -> int:
    """Does `work` in a forked process that gets a signal after so many seconds; its exit status."""
    child = begin(work, errors)
    time.sleep(after)
    try:
        os.killpg(child, by)
    except ProcessLookupError:  # at its end already, or not yet a group of its own
        os.kill(child, by)
    return end(child)
