"""Where a backtest cuts the time line, and what it refuses before any training."""

import itertools

import numpy as np
import pytest

from recsys.evaluation.folds import MICROSECONDS_A_DAY, BacktestOptions, TimeLine, plan_folds

START = 1_600_000_000_000_000  # 2020-09-13T12:26:40
FRACTIONS = (0.8, 0.1, 0.1)


def line(task="retrieval", positives=None):
    """An event each hour of a hundred days."""
    times = START + np.arange(2400) * MICROSECONDS_A_DAY // 24
    return TimeLine(times[::-1], np.ones(2400, dtype=bool) if positives is None else positives, task)


def plan(*, of=None, **options):
    return plan_folds(of or line(), BacktestOptions(**options), split_fractions=FRACTIONS)


def days(instant):
    return (instant - START) / MICROSECONDS_A_DAY


def test_what_follows_the_first_cut_is_divided_evenly():
    folds = plan(folds=5, first=0.5)
    # The last event is an hour before day 100.
    length = (100 - 1 / 24 - 50) / 5
    assert [days(fold.cut) for fold in folds] == pytest.approx([50 + n * length for n in range(5)], abs=1e-6)
    assert all(one.end == other.cut for one, other in itertools.pairwise(folds))
    assert {days(fold.until) for fold in folds} == {days(folds[-1].end)}
    assert folds[-1].end == line().times.max() + 1


def test_cuts_are_as_many_days_apart_as_asked():
    folds = plan(folds=3, first="2020-10-13T12:26:40", horizon_days=10, max_periods=2)
    assert [days(fold.cut) for fold in folds] == [30, 40, 50]
    assert [days(fold.until) for fold in folds] == [50, 60, 60]


def test_shares_hold_equally_many_interactions():
    folds = plan(folds=4, first=0.6, horizon_share=0.1)
    times = line().times
    assert [int(((times >= fold.cut) & (times < fold.end)).sum()) for fold in folds] == [240] * 4


def test_validation_is_the_last_part_before_the_cut():
    [fold] = plan(folds=1, first=0.9)
    assert days(fold.validation) == 80  # 8 of 9 parts of the 90 days before
    [fold] = plan(folds=1, first=0.9, validation_days=3)
    assert days(fold.validation) == 87


def test_window_slides_with_the_cut():
    folds = plan(folds=2, first="2020-10-13T12:26:40", horizon_days=10, window_days=9)
    assert [days(fold.train_from) for fold in folds] == [21, 31]
    assert [days(fold.validation) for fold in folds] == [29, 39]  # 8 of 9 days


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"first": "2019-01-01"},
            "`evaluation.backtest.first` puts the cut of fold 0 at 2019-01-01 00:00, ",
        ),
        (
            {"first": "2021-01-01"},
            "outside the interactions, which go from 2020-09-13 12:26 to 2020-12-",
        ),
        ({"horizon_days": 30}, "`evaluation.backtest.horizon_days` puts the cut of fold 5 at 2021-04-"),
        (
            {"horizon_share": 0.2},
            "`evaluation.backtest.horizon_share=0.2` times 6 folds is more than the 0",
        ),
        ({"min_queries": 1000}, "the period of fold 0, 2020-11-02 12:26 to .* holds 200 queries, fewer than"),
        ({"validation_days": 60}, "fold 0, cut at 2020-11-02 12:26, has no positive to learn from before"),
    ],
)
def test_folds_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan(**options)


def test_period_of_one_class_is_refused_for_a_ranking_task():
    positives = np.arange(2400)[::-1] < 1300  # the positives end at hour 1300, in the first of the periods
    with pytest.raises(ValueError, match=r"the period of fold 1, .* holds rows of one class alone"):
        plan(of=line("ranking", positives), folds=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 0}, "`evaluation.backtest.folds` must be at least 1, got 0"),
        ({"window_days": 0}, "`evaluation.backtest.window_days` must be above 0, got 0"),
        ({"first": 1.5}, "must be an ISO instant or a share between 0 and 1, got 1.5"),
        ({"first": "soon"}, "must be an ISO instant or a share, got `soon`"),
        ({"horizon_days": 7, "horizon_share": 0.1}, "both say how long a period is"),
        ({"seeds": (1, 1)}, r"`evaluation.backtest.seeds` must be different, got \[1, 1\]"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BacktestOptions(**options)
