"""The winner of a sweep: the best trials run again with several seeds, and what came out."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from recsys.commands.endings import METRICS, TRIAL, read_ending, read_metrics
from recsys.commands.sweeps.locks import exclusive
from recsys.commands.sweeps.options import RerankOptions, SweepOptions
from recsys.commands.sweeps.queue import Queue
from recsys.commands.sweeps.space import Space, drawn
from recsys.commands.sweeps.study import LOCKS, RERANK, STUDY, Record, open_study
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json

WINNER = "winner.json"
_LARGEST = 2**31 - 1


def rerank_queue(
    folder: Path, record: Record, options: SweepOptions, study: optuna.Study, space: Space
) -> Queue:
    """The runs of the best trials with each seed, those left out that the search has made already."""
    again = open_study(folder, record, part=RERANK)
    with exclusive(folder / LOCKS / "queue"):
        for trial in _best_trials(study, options.rerank.top):
            for seed in options.rerank.seeds:
                if read_metrics(folder / str(trial.number)).get("seed") != seed:
                    again.enqueue_trial({"trial": trial.number, "seed": seed}, skip_if_exists=True)

    def draw(trial: optuna.Trial) -> list[str]:
        number, seed = _asked(again.get_trials(deepcopy=False)[trial.number])
        for name in ("trial", "seed"):
            trial.suggest_int(name, 0, _LARGEST)
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        chosen = [one for one in finished if one.number == number]
        if not chosen:
            raise InputError(f"`{STUDY}` asks for trial {number} again, which is none of those that finished")
        return [*drawn(chosen[0], space), f"seed={seed}"]

    return Queue(
        folder,
        again,
        metric=record.metric,
        num_trials=len(again.get_trials(deepcopy=False)),
        max_retries=options.max_retries,
        draw=draw,
        folder_of=lambda frozen: _folder(*_asked(frozen)),
    )


def _asked(frozen: FrozenTrial) -> tuple[int, int]:
    """Trial and seed that are run again; a journal of a stranger may name a place outside the folder."""
    asked = frozen.system_attrs.get("fixed_params")
    pair = (asked.get("trial"), asked.get("seed")) if isinstance(asked, dict) else (None, None)
    if not all(isinstance(one, int) and 0 <= one <= _LARGEST for one in pair):
        raise InputError(f"`{STUDY}`: expected a trial and a seed to run again, got {asked!r}")
    return cast(tuple[int, int], pair)


def _best_trials(study: optuna.Study, top: int) -> list[FrozenTrial]:
    """The finished trials of the best values, no two of them the same configuration."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    ordered = sorted(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    different = {json.dumps(trial.params, sort_keys=True): trial for trial in reversed(ordered)}
    return [trial for trial in ordered if trial in different.values()][:top]


def write_winner(
    folder: Path, record: Record, options: RerankOptions, study: optuna.Study, space: Space
) -> None:
    """Writes `winner.json`: the winner and its command, the others, and what was searched at what cost."""
    candidates = [
        _candidate(folder, record, options, trial, drawn(trial, space))
        for trial in _best_trials(study, max(options.top, 1))
    ]
    if not candidates:
        return
    sign = -1 if record.direction == "maximize" else 1
    # One that failed with some seed is no winner, as long as there is another.
    candidates.sort(
        key=lambda candidate: (
            len(candidate.failed_seeds),
            math.inf if candidate.mean is None else sign * candidate.mean,
            candidate.trial,
        )
    )
    states = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    searched = dataclasses.asdict(record)
    content = {
        "metric": record.metric,
        "direction": record.direction,
        "winner": dataclasses.asdict(candidates[0]),
        "candidates": [dataclasses.asdict(candidate) for candidate in candidates],
        "searched": {
            key: searched[key] for key in ("space", "overrides", "sampler", "seed", "prune", "rerank")
        },
        "budget": {
            "num_trials": record.num_trials,
            "trials": dict(states),
            "rerank_runs": len(list(folder.glob(f"{RERANK}/*/{METRICS}"))),
            "seconds": _seconds(folder.glob(f"*/{TRIAL}")),
            "rerank_seconds": _seconds(folder.glob(f"{RERANK}/*/{TRIAL}")),
        },
        "commit": record.commit,
    }
    write_json(folder / WINNER, content)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """One of the best trials, with its figures.

    Args:
        trial: its number.
        overrides: the command line that trains it.
        command: the same, ready to be given.
        searched: its value in the search, by which it got here.
        values: validation metric with each seed.
        mean, std: of them; a single value has no spread.
        test: mean of the same metric on the test split, which decides nothing.
        failed_seeds: with these it failed.
    """

    trial: int
    overrides: list[str]
    command: str
    searched: float | None
    values: dict[str, float]
    mean: float | None
    std: float | None
    test: float | None
    failed_seeds: list[int]


def _candidate(
    folder: Path, record: Record, options: RerankOptions, trial: FrozenTrial, values: list[str]
) -> _Candidate:
    overrides = [*record.overrides, *(text.lstrip("+") for text in values)]
    own = read_metrics(folder / str(trial.number))
    seeds = list(options.seeds) if options.top else [int(own["seed"])]
    runs = {
        str(seed): own if own.get("seed") == seed else read_metrics(folder / _folder(trial.number, seed))
        for seed in seeds
    }
    name = record.metric.removeprefix("val/")
    figures = _figures(runs, "validation", name)
    test = list(_figures(runs, "test", name).values())
    return _Candidate(
        trial=trial.number,
        overrides=overrides,
        command=f"python train.py {shlex.join(overrides)}",
        searched=trial.value,
        values=figures,
        mean=statistics.fmean(figures.values()) if figures else None,
        std=statistics.stdev(figures.values()) if len(figures) > 1 else None,
        test=statistics.fmean(test) if test else None,
        failed_seeds=[seed for seed in seeds if str(seed) not in figures],
    )


def _figures(runs: dict[str, dict[str, Any]], split: str, name: str) -> dict[str, float]:
    figures = {seed: run.get(split, {}).get(name) for seed, run in runs.items()}
    known = {seed: float(value) for seed, value in figures.items() if value is not None}
    return {seed: value for seed, value in known.items() if math.isfinite(value)}


def _folder(trial: int, seed: int) -> str:
    return f"{RERANK}/{trial}-seed{seed}"


def _seconds(paths: Iterable[Path]) -> float:
    return round(sum(float(read_ending(path.parent)["seconds"]) for path in paths), 1)


def lines_of(winner: dict[str, Any]) -> Sequence[str]:
    """Formats `winner.json` as lines for a terminal."""
    several = winner["candidates"] if len(winner["candidates"]) > 1 else []
    lines = [f"trial {candidate['trial']}: {_written(candidate, winner['metric'])}" for candidate in several]
    best = winner["winner"]
    figure = f"winner: trial {best['trial']}, {_written(best, winner['metric'])}"
    return [*lines, figure, f"best: {best['command']}"]


def _written(one: dict[str, Any], metric: str) -> str:
    if one["mean"] is None:
        return f"failed with seeds {one['failed_seeds']}"
    spread = f" ± {one['std']:.4f}" if one["std"] is not None else ""
    failed = f", failed with seeds {one['failed_seeds']}" if one["failed_seeds"] else ""
    over = (
        f"over seeds {', '.join(one['values'])}"
        if len(one["values"]) > 1
        else f"with seed {next(iter(one['values']))}"
    )
    return f"{metric} {one['mean']:.4f}{spread} {over}{failed}"
