"""Refreshes a server: what it has heard becomes the next bundle, if that is not worse.

    log -> raw tables -> train init_from=run -> export -> judge on held-out events -> swap, record

The latest positive events of the log are held out: neither bundle has learnt from them, and both are asked
what comes next. The new one serves from then on if its NDCG is not below that of the one that serves.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.bandits.estimates import difference, ratio_estimate
from recsys.commands.export import export_bundle
from recsys.commands.live.merging import MergedTables, merge_tables
from recsys.commands.options import ExportConfig, TrainConfig
from recsys.commands.training import train
from recsys.config.build import built
from recsys.config.keys import put
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import write_json
from recsys.serving.bundle import Bundle
from recsys.serving.client import Client
from recsys.serving.local import LocalServer
from recsys.serving.log.interface import FeedbackLog
from recsys.serving.opening import open_log
from recsys.serving.options import LogOptions
from recsys.serving.served import iso_text

logger = logging.getLogger(__name__)

_RECORD = "refresh.json"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BATCH = 256
_REFUSED = "a refresh cannot be configured: "


@dataclasses.dataclass(frozen=True)
class RefreshConfig(LogOptions):
    """Every key of `recsys refresh`, those of `LogOptions` included.

    Args:
        server: URL of the server, which runs on this machine.
        run: of the retrieval model whose training goes on.
        ranker: run of a ranking model, for a bundle of two stages.
        out: folder of refreshes, one below it each; null: `refresh` in the server's folder.
        training: keys that differ from the run's, as `{trainer.max_epochs: 2}`.
        holdout_share: of the log's positive events, the latest, on which both bundles are judged.
        max_holdout: events that are judged at most, the latest.
        k: of NDCG@k.
        min_events: positive events that a refresh needs.
        every: time between refreshes, as in `15m`; null: one.
        undo: goes back to the bundle before, in place of a refresh.
        token: of the server.
    """

    server: str
    run: Path | None = None
    ranker: Path | None = None
    out: Path | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    holdout_share: float = 0.2
    max_holdout: int = 2000
    k: int = 10
    min_events: int = 20
    every: str | None = None
    undo: bool = False
    token: str | None = None

    def __post_init__(self) -> None:
        if self.run is None and not self.undo:
            raise InputError("`run` must name the run whose training goes on, got null")
        if not 0 < self.holdout_share < 1:
            raise InputError(f"`holdout_share` must lie between 0 and 1, got {self.holdout_share}")
        if self.every is not None and not re.fullmatch(r"\d+(\.\d+)?[smhd]", self.every):
            raise InputError(f"`every` must be a time as in `15m`, `2h` or `1d`, got `{self.every}`")


def refresh(config: RefreshConfig) -> Path:
    """Makes the next bundle from what the server has heard, and has it serve if it is not worse.

    Returns:
        The folder of the refresh, with its record.

    Raises:
        ValueError: there is too little to learn from, the run cannot go on, or the server does not answer.
    """
    with Client(config.server, token=config.token) as server:
        return refresh_server(config, server, open_log(config, Path(server.ready()["folder"])))


def refresh_server(config: RefreshConfig, server: Client | LocalServer, log: FeedbackLog) -> Path:
    """The same, of a server at hand and its log."""
    assert config.run is not None
    ready = server.ready()
    out = config.out or Path(ready["folder"]) / "refresh"
    last = refresh_that_serves(out, ready["bundle_path"])
    run = TrainedRun.open(Path(last["run"]) if last else config.run)
    if run.task != "retrieval":
        raise InputError(
            f"`run={config.run}` must be of a retrieval model, it is of a ranking model; its bundle is made "
            "anew by hand: recsys log, train, export"
        )
    folder = out / f"{_number(out):04d}"
    folder.mkdir(parents=True)
    merged = merge_tables(
        log,
        _with_tables_of_its_own(run),
        folder / "tables",
        rules=config.rules,
        holdout_share=config.holdout_share,
        min_events=config.min_events,
    )
    trained = _train(run, config, merged, folder / "run")
    bundle = _export(trained, config)
    judged = judge(
        Path(ready["bundle_path"]),
        bundle,
        merged.holdout[-config.max_holdout :],
        merged.histories,
        k=config.k,
    )
    record = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "log_position": merged.position,
        "events": merged.num_events,
        "new_items": merged.num_items,
        "began_with": str(run.path),
        "run": str(trained),
        "bundle": str(bundle),
        "served_before": ready["bundle_path"],
        "judged": judged,
        "swapped": judged["difference"] >= 0,
    }
    if record["swapped"]:
        record["fingerprint"] = server.exchange_bundle(str(bundle.resolve()))
    write_json(folder / _RECORD, record)
    said = "serves from now on" if record["swapped"] else "is worse, and does not serve"
    logger.info(
        "the new bundle %s: ndcg@%d %.4f, before %.4f, on %d held-out events",
        *(said, config.k, judged["new"], judged["serving"], judged["events"]),
    )
    return folder


def judge(
    serving: Path,
    new: Path,
    holdout: Sequence[tuple[Any, Any, int]],
    histories: Mapping[str, list[tuple[int, Any]]],
    *,
    k: int,
) -> dict[str, Any]:
    """NDCG@k of two bundles on events that neither has learnt from, and their paired difference.

    Each event is one query, with the user's positives before it as the history: 1 / log2(1 + rank) where the
    item is among the k, else 0.

    Args:
        serving: folder of the bundle that serves.
        new: of the other.
        holdout: user id, item id and instant of each event.
        histories: instants and items of each user's positives, oldest first, by the user id's text.
        k: length of the lists.
    """
    gains = [_gains(Bundle.open(folder), holdout, histories, k) for folder in (serving, new)]
    _, users = np.unique([str(user_id) for user_id, *_ in holdout], return_inverse=True)
    counts = np.bincount(users)
    before, after = (ratio_estimate(np.bincount(users, weights=folder), counts) for folder in gains)
    gain = difference(after, before)
    return {
        "events": len(holdout),
        "users": len(counts),
        "serving": before.value,
        "new": after.value,
        "difference": gain.value,
        "interval": gain.interval(0.95),
    }


def _gains(
    bundle: Bundle,
    holdout: Sequence[tuple[Any, Any, int]],
    histories: Mapping[str, list[tuple[int, Any]]],
    k: int,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    gains = np.zeros(len(holdout))
    for begin in range(0, len(holdout), _BATCH):
        part = holdout[begin : begin + _BATCH]
        past = [
            [
                item
                for at, item in histories.get(str(user_id), [])
                if at < instant and str(item) != str(item_id)
            ]
            for user_id, item_id, instant in part
        ]
        users = [{"user_id": user_id} for user_id, *_ in part]
        contexts = [{"timestamp": iso_text(instant)} for *_, instant in part]
        lists = bundle.recommend_batch(users, past, k, contexts)[0]
        for place, ((_, item_id, _), listed) in enumerate(zip(part, lists, strict=True), start=begin):
            names = [str(item_name) for item_name in listed]
            if str(item_id) in names:
                gains[place] = 1 / np.log2(2 + names.index(str(item_id)))
    return gains


def _train(run: TrainedRun, config: RefreshConfig, merged: MergedTables, folder: Path) -> Path:
    plain = copy.deepcopy(dict(run.config))
    plain |= dict.fromkeys(("resume", "sweep", "daily"))
    plain |= {"init_from": str(run.path), "run_dir": str(folder)}
    plain["data"] |= {"prepared": None, "extends": None, "source": None}
    if run.data.split == "global_time":
        # What was heard is the latest there is: without this, none of it would be trained on.
        plain["data"] |= {"split_boundaries": list(merged.boundaries), "until": None, "train_from": None}
    for table, path in merged.paths.items():
        plain["data"][table]["path"] = str(path)
    for key, value in config.training.items():
        put(plain, key, value)
    return train(built(plain, TrainConfig, before=_REFUSED), plain)


def _export(run: Path, config: RefreshConfig) -> Path:
    trained = TrainedRun.open(run)
    composed = {key: trained.config[key] for key in ("data", "model", "task", "seed")}
    options = dict(trained.config.get("export") or {})
    composed |= {
        "run": str(run),
        "ranker": str(config.ranker) if config.ranker else None,
        "export": options,
        "checkpoint": None,
    }
    return export_bundle(built(composed, ExportConfig, before=_REFUSED), {**dict(trained.config), **composed})


def _with_tables_of_its_own(run: TrainedRun) -> TrainedRun:
    """The run that refreshes began with: in tables of later ones the events of the log are already."""
    while (record := run.path.parent / _RECORD).is_file():
        run = TrainedRun.open(Path(read_json(record)["began_with"]))
    return run


def _number(out: Path) -> int:
    taken = [int(path.name) for path in out.glob("[0-9]*") if path.name.isdigit()] if out.is_dir() else []
    return max(taken, default=0) + 1


def refresh_that_serves(out: Path, bundle: str) -> dict[str, Any] | None:
    """The record of the refresh that made this bundle, if its run is still there; else None."""
    for path in sorted(out.glob(f"*/{_RECORD}"), reverse=True) if out.is_dir() else ():
        record: dict[str, Any] = read_json(path)
        made = record.get("bundle")
        if made and Path(made).resolve() == Path(bundle).resolve() and Path(record["run"]).is_dir():
            return record
    return None


def undo(config: RefreshConfig) -> Path:
    """Has the bundle before serve again, and says so beside the latest refresh."""
    with Client(config.server, token=config.token) as client:
        fingerprint = client.return_to_last_bundle()
        ready = client.ready()
    out = config.out or Path(ready["folder"]) / "refresh"
    folder = out / f"{_number(out):04d}"
    folder.mkdir(parents=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = {"time": now, "undone": True, "swapped": False, "fingerprint": fingerprint}
    write_json(folder / _RECORD, record)
    return folder


def seconds_of(every: str) -> float:
    """Seconds of a time as in `15m`."""
    return float(every[:-1]) * _UNITS[every[-1]]


def refresh_forever(config: RefreshConfig) -> None:
    """Refreshes every so often until it is interrupted; a refresh that is refused is logged."""
    assert config.every is not None
    pause = seconds_of(config.every)
    while True:
        begin = time.monotonic()
        try:
            logger.info("refreshed: %s", refresh(config))
        except InputError as error:
            logger.warning("not refreshed: %s", error)
        time.sleep(max(pause - (time.monotonic() - begin), 0))
