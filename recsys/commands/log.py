"""The command `recsys log`: what a server has logged, as tables."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from recsys.commands.entry import command
from recsys.schema.errors import InputError
from recsys.serving.options import ServeOptions
from recsys.serving.rules import Rules
from recsys.serving.service import open_journal
from recsys.serving.tables import Target, write_tables


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Every key of `recsys log`.

    Args:
        folder: of the server, as in `recsys serve folder=`.
        out: of the tables; one that is there is replaced.
        log, redis_url, kafka_servers, kafka_topic: where the log is, as in `recsys serve`.
        rules: weights by kind and the attribution window, as in `recsys serve`.
        after: position of the log after which to begin.
        policy: whose lists are in `logged_feedback.parquet`; null: all.
        target: another policy, whose probabilities are written beside.
    """

    folder: Path
    out: Path
    log: Literal["lmdb", "redis", "kafka"] = "lmdb"
    redis_url: str = "redis://localhost:6379/0"
    kafka_servers: str = "localhost:9092"
    kafka_topic: str = "recsys-feedback"
    rules: Rules = dataclasses.field(default_factory=Rules)
    after: int = 0
    policy: str | None = None
    target: Target | None = None


@command("log", LogConfig)
def main(config: LogConfig, plain: dict[str, Any]) -> Path:
    """Writes interactions, logged feedback and request features."""
    if config.log == "lmdb" and not (config.folder / "feedback").is_dir():
        raise InputError(
            f"`folder={config.folder}`: expected the folder of a server, with `feedback` in it, found none; "
            "name the folder that `recsys serve` was given"
        )
    options = ServeOptions(
        bundle=config.folder,
        folder=config.folder,
        log=config.log,
        store="redis" if config.log == "redis" else "lmdb",
        redis_url=config.redis_url,
        kafka_servers=config.kafka_servers,
        kafka_topic=config.kafka_topic,
    )
    return write_tables(
        open_journal(options).log,
        config.out,
        rules=config.rules,
        after=config.after,
        policy=config.policy,
        target=config.target,
    )
