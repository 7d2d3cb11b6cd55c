"""Writes the log of a server as tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json
from recsys.serving.audit import audit
from recsys.serving.opening import open_log
from recsys.serving.options import LogOptions
from recsys.serving.tables import Target, read_log, write_tables


@dataclasses.dataclass(frozen=True)
class LogConfig(LogOptions):
    """Every key of `recsys log`, those of `LogOptions` included.

    Args:
        folder: of the server, as in `recsys serve folder=`.
        out: of the tables; one that is there is replaced.
        after: position of the log after which to begin.
        policy: whose lists are in `logged_feedback.parquet`; null: all.
        target: another policy, whose probabilities are written beside.
        check: whether `check.json` says how what was logged of each list agrees with the replayed log.
        keep: share of the lists that is kept, drawn by their ids, above 0 to 1; with `keep_probability`.
    """

    folder: Path
    out: Path
    after: int = 0
    policy: str | None = None
    target: Target | None = None
    check: bool = False
    keep: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError(f"`keep` must lie in (0, 1], got {self.keep}")


def write_log(config: LogConfig) -> Path:
    """Writes interactions, logged feedback and request features.

    Raises:
        InputError: the folder is not that of a server.
    """
    if config.log == "lmdb" and not (config.folder / "feedback").is_dir():
        raise InputError(
            f"`folder={config.folder}`: expected the folder of a server, with `feedback` in it, found none; "
            "name the folder that `recsys serve` was given"
        )
    log = open_log(config, config.folder)
    out = write_tables(
        log,
        config.out,
        rules=config.rules,
        after=config.after,
        policy=config.policy,
        target=config.target,
        keep=config.keep,
    )
    if config.check:
        write_json(out / "check.json", audit(read_log(log), config.rules))
    return out
