"""A sweep's folder: what is searched (`sweep.json`) and the Optuna study of its trials (`study.log`).

The study is a journal, lines added to a file: several processes may write to it, and it needs no database.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf

from recsys.commands.sweeps.journal import open_journal
from recsys.commands.sweeps.options import PruneOptions
from recsys.schema.errors import InputError
from recsys.schema.json_files import Kinds, check_kinds, read_json
from recsys.schema.manifest import write_json

RECORD = "sweep.json"
STUDY = "study.log"
LOCKS = ".locks"
# The second study, that of the best trials with several seeds, and the folder of its runs.
RERANK = "rerank"
FORMAT = 1
# What cannot change in a sweep that goes on: its earlier trials would answer another question.
_FIXED = ("space", "metric", "direction", "sampler", "seed", "prune", "config")
# Types of what a record holds, which a stranger may have written.
_KINDS: Kinds = {
    "name": str,
    "space": dict,
    "overrides": list,
    "config": dict,
    "metric": str,
    "direction": str,
    "sampler": str,
    "seed": int,
    "num_trials": int,
    "rerank": dict,
    "prune": dict,
    "max_epochs": (int, type(None)),
}


@dataclasses.dataclass(frozen=True)
class Record:
    """Records what a sweep searches, as `sweep.json` keeps it beside the result.

    Args:
        name: of the study.
        space: as it is written in the configuration.
        overrides: of the command line, the same for every trial.
        config: composed, without what a trial overrides.
        metric, direction, sampler, seed, num_trials, rerank, prune: see `SweepOptions`; decided.
        max_epochs: of `hyperband`: what its stages are parts of.
        started: when.
        commit: of this project.
    """

    name: str
    space: dict[str, str]
    overrides: list[str]
    config: dict[str, Any]
    metric: str
    direction: Literal["maximize", "minimize"]
    sampler: str
    seed: int
    num_trials: int
    rerank: dict[str, Any]
    prune: dict[str, Any]
    max_epochs: int | None
    started: str
    commit: str | None
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record of the sweep in `folder`.

        Raises:
            ValueError: it is damaged or of another version.
        """
        path = folder / RECORD
        try:
            content = read_json(path)
            if content["format"] == FORMAT:
                check_kinds(content, _KINDS, path)
                return cls(**content.plain())
            received = f"format {content['format']}"
        except (TypeError, InputError) as error:
            received = f"what cannot be read ({error})"
        raise InputError(
            f"expected the record of a sweep (format {FORMAT}) in `{path}`, got {received}; start the sweep "
            "in another folder with `run_dir=PATH`"
        )

    def write(self, folder: Path) -> None:
        """Keeps the record in `folder`."""
        write_json(folder / RECORD, dataclasses.asdict(self))

    def changed(self, other: Record) -> list[str]:
        """Lists the settings in which another record searches differently."""
        mine, others = (
            json.loads(json.dumps(dataclasses.asdict(record), default=str)) for record in (self, other)
        )
        changed = [key for key in _FIXED if mine[key] != others[key]]
        return [name for key in changed for name in _differing(key, mine[key], others[key])]


def plain_settings(config: DictConfig, *, without: Sequence[str]) -> dict[str, Any]:
    """Sections of a composed configuration, as JSON keeps them."""
    return {
        str(key): OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in config.items()
        if key not in without
    }


def is_sweep(folder: Path) -> bool:
    """True for the folder of a sweep, or one that another process is just making into one."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return RECORD in names or (bool(names) and names <= {LOCKS, f".{RECORD}.tmp"})


def open_study(folder: Path, record: Record, *, part: str = "") -> optuna.Study:
    """The study in `folder`, made when it is not there.

    Args:
        folder: of the sweep.
        record: what is searched.
        part: `rerank` for the second study, that of the best trials with several seeds.

    Raises:
        InputError: its journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=f"{record.name}-{part}" if part else record.name,
        storage=open_journal(folder / STUDY),
        direction=record.direction,
        pruner=_pruner(record),
        load_if_exists=True,
    )


def sampler(record: Record, number: int) -> optuna.samplers.BaseSampler:
    """Draws the trial of this number: the same values in whichever process, before a crash or after."""
    seed = int(np.random.SeedSequence([record.seed, number]).generate_state(1)[0])
    if record.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed)


def _pruner(record: Record) -> optuna.pruners.BasePruner:
    options = PruneOptions(**record.prune)
    if options.rule == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=options.startup_trials, n_warmup_steps=options.warmup_epochs
        )
    if options.rule == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=options.warmup_epochs,
            max_resource=record.max_epochs or "auto",
            reduction_factor=options.reduction_factor,
        )
    return optuna.pruners.NopPruner()


def _differing(key: str, mine: Any, other: Any) -> list[str]:
    """Dotted keys in which two plain values differ."""
    if not isinstance(mine, dict) or not isinstance(other, dict):
        return [] if mine == other else [key]
    names = [name for name in {**mine, **other} if mine.get(name) != other.get(name)]
    return [found for name in names for found in _differing(f"{key}.{name}", mine.get(name), other.get(name))]
