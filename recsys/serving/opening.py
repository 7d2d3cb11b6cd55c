"""Opens the log and the state of a server where its options say."""

from __future__ import annotations

import functools
from pathlib import Path

from recsys.serving.journal import Journal
from recsys.serving.log.interface import FeedbackLog
from recsys.serving.log.kafka import KafkaLog
from recsys.serving.log.lmdb import LmdbLog
from recsys.serving.log.redis_streams import RedisLog
from recsys.serving.options import LogOptions, ServeOptions
from recsys.serving.store.lmdb import LmdbEnvironment, LmdbStore
from recsys.serving.store.redis import RedisStore, redis_client


def open_log(options: LogOptions, folder: Path) -> FeedbackLog:
    """The log of the server in `folder`.

    Raises:
        ValueError: a package is missing, or the log would not keep what it acknowledges.
    """
    if options.log == "lmdb":
        return LmdbLog(LmdbEnvironment(folder / "feedback"))
    return _remote_log(options)


def open_journal(options: ServeOptions) -> Journal:
    """Log and state of a server; what is kept in its folder is one file.

    Raises:
        ValueError: as of `open_log`.
    """

    @functools.cache
    def environment() -> LmdbEnvironment:
        return LmdbEnvironment(Path(options.folder) / "feedback", max_gigabytes=options.max_gigabytes)

    log = LmdbLog(environment()) if options.log == "lmdb" else _remote_log(options)
    is_local = options.store == "lmdb"
    store = LmdbStore(environment()) if is_local else RedisStore(redis_client(options.redis_url))
    return Journal(log, store, options.rules)


def _remote_log(options: LogOptions) -> FeedbackLog:
    if options.log == "redis":
        return RedisLog(redis_client(options.redis_url))
    return KafkaLog(options.kafka_servers, topic=options.kafka_topic)
