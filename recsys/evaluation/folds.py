"""Rolling origin: at which instants a backtest cuts the time line, and what each model is judged on.

    fold 0   ----- train -----|- validation -|-- period 0 --|-- period 1 --|-- period 2 --|
    fold 1   ------------ train -----------|- validation -|-- period 1 --|-- period 2 --|
    fold 2   ------------------- train -----------------|- validation -|-- period 2 --|

The model of a fold knows nothing from its cut on, and is judged on the period that begins there and on those
that follow, so that each period is judged with models of several ages.

Legend: N interactions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.schema.errors import InputError

Instants = npt.NDArray[np.int64]

MICROSECONDS_A_DAY = 86_400_000_000


@dataclasses.dataclass(frozen=True)
class BacktestOptions:
    """Which folds a backtest goes through, and how the model of each is trained.

    Args:
        folds: how many models are trained, each from a later cut.
        first: the first cut: an instant as ISO text, or the share of all interactions before it.
        horizon_days: length of a period, which is also the distance between cuts. Null, with
            `horizon_share`: what follows the first cut is divided into equally long periods.
        horizon_share: share of all interactions in each period, in place of its length.
        window_days: a model learns from so many days before its cut alone, what is older being history; null
            learns from everything before.
        validation_days: last days before each cut, by which the best epoch is picked and which are not
            learned from; null takes as large a share of what comes before as in the run.
        max_periods: how many periods a model is judged on, its own being the first; null judges it on all
            that follow.
        seeds: each fold is trained with each of them and the figures are means; none is the run's own.
        min_queries: a period with fewer queries (rows of a ranking task) is refused.
        training: keys that differ from the run's, as `{trainer.max_epochs: 5}`.
    """

    folds: int = 6
    first: float | str = 0.5
    horizon_days: float | None = None
    horizon_share: float | None = None
    window_days: float | None = None
    validation_days: float | None = None
    max_periods: int | None = None
    seeds: tuple[int, ...] = ()
    min_queries: int = 50
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("folds", "min_queries", "max_periods"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"`evaluation.backtest.{key}` must be at least 1, got {value}")
        for key in ("horizon_days", "horizon_share", "window_days", "validation_days"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise InputError(f"`evaluation.backtest.{key}` must be above 0, got {value}")
        if self.horizon_days is not None and self.horizon_share is not None:
            raise InputError(
                f"`evaluation.backtest.horizon_days={self.horizon_days}` and `horizon_share="
                f"{self.horizon_share}` both say how long a period is; give one of them"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"`evaluation.backtest.seeds` must be different, got {list(self.seeds)}")
        _check_first(self.first)


def _check_first(first: float | str) -> None:
    if isinstance(first, str):
        try:
            datetime.fromisoformat(first)
        except ValueError as error:
            raise InputError(
                f"`evaluation.backtest.first` must be an ISO instant or a share, got `{first}`"
            ) from error
    elif not 0 < first < 1:
        raise InputError(
            f"`evaluation.backtest.first` must be an ISO instant or a share between 0 and 1, got {first}"
        )


@dataclasses.dataclass(frozen=True)
class Fold:
    """A model's instants, in microseconds since 1970 (UTC); it is the fold that its period is fresh for.

    Args:
        number: from 0; that of the period that begins at its cut too.
        train_from: where what is learned from begins; None is the beginning.
        validation: where validation begins.
        cut: where what it is judged on begins.
        end: of the period that begins at its cut.
        until: where what it is judged on ends.
    """

    number: int
    train_from: int | None
    validation: int
    cut: int
    end: int
    until: int


@dataclasses.dataclass(frozen=True)
class TimeLine:
    """Describes the interactions that a backtest cuts: all usable ones.

    Args:
        times: [N] microseconds.
        positives: [N] bool.
        task: `retrieval`, whose queries are the positives, or `ranking`, whose rows are all of them.
    """

    times: Instants
    positives: npt.NDArray[np.bool_]
    task: str


def plan_folds(line: TimeLine, options: BacktestOptions, *, split_fractions: Sequence[float]) -> list[Fold]:
    """The folds, after checking that each has something to learn from and to be judged on.

    Args:
        line: the interactions.
        options: how they are cut.
        split_fractions: train, validation and test in the run, for the share that validates.

    Raises:
        ValueError: a cut lies outside the data, or a fold has too little to learn from or to be judged on.
    """
    times_N = np.sort(line.times)
    edges = _edges(times_N, options)
    folds = []
    for number in range(options.folds):
        cut = edges[number]
        last = min(options.folds, number + (options.max_periods or options.folds))
        train_from = cut - _days(options.window_days) if options.window_days else None
        validation = _validation(times_N, cut, train_from, options, split_fractions)
        folds.append(Fold(number, train_from, validation, cut, edges[number + 1], until=edges[last]))
    for fold in folds:
        _check_fold(fold, line, options)
    return folds


def _edges(times_N: Instants, options: BacktestOptions) -> list[int]:
    """Where each period begins, and where the last one ends."""
    beginning, end = int(times_N[0]), int(times_N[-1]) + 1
    if isinstance(options.first, str):
        first = microseconds(options.first)
    else:
        first = int(times_N[int(options.first * len(times_N))])
    _check_inside(first, beginning, end, key="evaluation.backtest.first")
    steps = np.arange(options.folds + 1)
    if options.horizon_share is not None:
        before = np.searchsorted(times_N, first) / len(times_N)
        most = (1 - before) / options.folds
        if options.horizon_share > most * (1 + 1e-9):
            raise InputError(
                f"`evaluation.backtest.horizon_share={options.horizon_share}` times {options.folds} folds is "
                f"more than the {1 - before:.3f} of the interactions that follow the first cut; give at most "
                f"{most:.3f}, fewer `evaluation.backtest.folds`, or an earlier `evaluation.backtest.first`"
            )
        places = np.round((before + steps * options.horizon_share) * len(times_N)).astype(np.int64)
        return [int(times_N[place]) if place < len(times_N) else end for place in places]
    if options.horizon_days is None:
        return [int(edge) for edge in np.round(np.linspace(first, end, options.folds + 1))]
    edges = [first + int(step) * _days(options.horizon_days) for step in steps]
    _check_inside(edges[-2], beginning, end, key="evaluation.backtest.horizon_days", fold=options.folds - 1)
    return edges


def _check_inside(cut: int, beginning: int, end: int, *, key: str, fold: int = 0) -> None:
    if not beginning < cut < end:
        raise InputError(
            f"`{key}` puts the cut of fold {fold} at {written(cut)}, outside the interactions, which go from "
            f"{written(beginning)} to {written(end - 1)}; give another `evaluation.backtest.first`, shorter "
            "`evaluation.backtest.horizon_days` or fewer `evaluation.backtest.folds`"
        )


def _validation(
    times_N: Instants, cut: int, train_from: int | None, options: BacktestOptions, fractions: Sequence[float]
) -> int:
    if options.validation_days is not None:
        return cut - _days(options.validation_days)
    learned = times_N[(times_N < cut) & (times_N >= (times_N[0] if train_from is None else train_from))]
    train, validation = fractions[0], fractions[1]
    place = round(len(learned) * train / (train + validation))
    return int(learned[place]) if place < len(learned) else cut


def _check_fold(fold: Fold, line: TimeLine, options: BacktestOptions) -> None:
    since = line.times >= (fold.train_from if fold.train_from is not None else line.times.min())
    learned = since & (line.times < fold.validation)
    if not line.positives[learned].any():
        raise InputError(
            f"fold {fold.number}, cut at {written(fold.cut)}, has no positive to learn from before its "
            f"validation begins at {written(fold.validation)}; give a later `evaluation.backtest.first`, "
            "a shorter `evaluation.backtest.validation_days` or a longer `evaluation.backtest.window_days`"
        )
    asked = (line.times >= fold.cut) & (line.times < fold.end)
    num_positives, num_rows = int(line.positives[asked].sum()), int(asked.sum())
    count, named = (num_positives, "queries") if line.task == "retrieval" else (num_rows, "rows")
    period = f"the period of fold {fold.number}, {written(fold.cut)} to {written(fold.end)}"
    advice = "give fewer `evaluation.backtest.folds` or longer periods"
    if count < options.min_queries:
        raise InputError(
            f"{period}, holds {count} {named}, fewer than `evaluation.backtest.min_queries="
            f"{options.min_queries}`; {advice}"
        )
    if line.task == "ranking" and not line.positives.all() and num_positives in (0, num_rows):
        raise InputError(f"{period}, holds rows of one class alone, which have no AUC; {advice}")


def microseconds(text: str) -> int:
    """Microseconds since 1970 of ISO text, UTC where it names no zone.

    Example:
        >>> microseconds("1970-01-02")
        86400000000
    """
    instant = datetime.fromisoformat(text)
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def written(instant: int) -> str:
    """An instant in a message, to the minute."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)).strftime("%Y-%m-%d %H:%M")


def _days(days: float) -> int:
    return round(days * MICROSECONDS_A_DAY)
