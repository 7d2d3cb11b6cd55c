"""EvaluationOptions: every key under `evaluation.`, with its type, meaning and default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

from recsys.evaluation.folds import BacktestOptions
from recsys.schema.errors import InputError

ContentBaseline = Literal["content_knn", "content_ridge", "content_sum"]
Baseline = Literal["popularity", "popularity_recent", "item_knn", "ease"] | ContentBaseline
CONTENT_BASELINES: tuple[Baseline, ...] = get_args(ContentBaseline)
RETRIEVAL_BASELINES: tuple[Baseline, ...] = ("popularity", "popularity_recent", "item_knn", "ease")
QueryChoice = Literal["auto", "event", "user"]
QueryLimit = int | Literal["auto"] | None

MAIN_CUT_OFF = 10
CUT_OFFS = (1, 5, 10, 20, 50)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation: queries, candidates, metrics, baselines and intervals.

    Args:
        queries: `event`, every positive test event is a query; `user`, one query a user; `auto`, by event
            where there are timestamps.
        known: what is known of a user on the test split: `all` that came before, validation included, or
            `train` alone, as many published results on fixed splits have it.
        seen: `exclude`, items of the history are not recommended again, and count as missed where they are
            the answer; `keep`, they may be, as where people buy the same things again. Validation, baselines
            and the bundle follow it.
        k: cut-offs of the lists; the largest is the length of those written.
        candidates: what is ranked on the test split: `all`, the whole catalogue; `new` or `known`, its items
            without or with a positive in train; or a file with a column `item_id`. Queries for other items
            are not asked.
        validation_queries: how many a retrieval model is asked after each epoch, always the same ones; null
            is all, `auto` all where that is quick (up to 1.5 x 10^9 scores: 15,000 queries of 100,000 items).
        max_queries: how many of the test split are asked, drawn at random; null is all, `auto` as many as
            make 2.5 x 10^9 scores. Intervals are of the queries drawn, and the report says how many.
        metrics: names of the metrics of the lists, all when empty; `package.module.function` is one of your
            own (`recsys.metrics.register`). NDCG is always among them: the verdict is about it.
        baselines: what stands beside a retrieval model, fitted on the same train split. Those of content,
            `content_knn`, `content_ridge` and `content_sum`, stand beside every model with a `cold_start`.
        content_weights: of `content_ridge` in `content_sum`; of several, the best on the validation split.
        recent_days: last days of the train split that `popularity_recent` counts.
        knn_neighbours: most similar items from which `item_knn` scores an item; of several, the best on the
            validation split is taken.
        knn_shrinkage: added to the denominator of its cosine, so that rare items are trusted less.
        knn_max_items: largest catalogue for which `item_knn` is fitted: it compares all pairs of items.
        ease_l2: regularisation of `ease`; of several, the best on the validation split is taken.
        ease_max_items: largest catalogue for which `ease` inverts a matrix of items by items; beyond it the
            512 largest singular values stand for the interactions, as in `model=ease`.
        hot_history: users with so many positives before the query count as hot, others with any as warm.
        slices: slices of your own: an expression by the name of each, see `recsys.evaluation.expressions`;
            it may name the columns of `queries.parquet` that are no metrics.
        max_slices_per_attribute: a profile or item feature of at most so many values is a group of slices.
        resamples: bootstrap resamples of users behind every interval; 0 leaves the intervals out.
        confidence: share of resamples that an interval covers.
        small_slice: slices of fewer users are marked as small.
        impressions: of a ranking model, whether rows of one user at one instant are an impression, what was
            shown at once: AUC, MRR, NDCG@5 and NDCG@10 by impression are then measured, as of MIND.
        num_examples: users shown in the report with what was recommended to them.
        latency_requests: requests whose latency is measured, one at a time; 0 leaves it out.
        batch_size: queries or rows scored at a time.
        seed: of the resamples and of the choice of examples.
        backtest: the folds of a backtest; null judges the run itself.
    """

    queries: QueryChoice = "auto"
    known: Literal["all", "train"] = "all"
    seen: Literal["exclude", "keep"] = "exclude"
    k: tuple[int, ...] = CUT_OFFS
    candidates: str = "all"
    validation_queries: QueryLimit = "auto"
    max_queries: QueryLimit = "auto"
    metrics: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = RETRIEVAL_BASELINES
    recent_days: float = 30.0
    knn_neighbours: tuple[int, ...] = (200, 20, 50, 100)
    knn_shrinkage: float = 10.0
    knn_max_items: int = 50_000
    content_weights: tuple[float, ...] = (0.5, 0.25, 1.0)
    ease_l2: tuple[float, ...] = (200.0, 100.0, 500.0, 1000.0)
    ease_max_items: int = 5_000
    hot_history: int = 50
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_slices_per_attribute: int = 20
    resamples: int = 1000
    confidence: float = 0.95
    small_slice: int = 50
    impressions: bool = False
    num_examples: int = 10
    latency_requests: int = 200
    batch_size: int = 4096
    seed: int = 0
    backtest: BacktestOptions | None = None

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1 or len(set(self.k)) < len(self.k):
            raise InputError(f"`evaluation.k` must be different cut-offs of at least 1, got {list(self.k)}")
        if not 0 < self.confidence < 1:
            raise InputError(f"`evaluation.confidence` must lie between 0 and 1, got {self.confidence}")
        if not self.knn_neighbours or min(self.knn_neighbours) < 1:
            given = list(self.knn_neighbours)
            raise InputError(f"`evaluation.knn_neighbours` must be numbers of at least 1, got {given}")
        if not self.ease_l2 or not min(self.ease_l2) > 0:
            raise InputError(f"`evaluation.ease_l2` must be numbers above 0, got {list(self.ease_l2)}")
        if not self.recent_days > 0:
            raise InputError(f"`evaluation.recent_days` must be above 0, got {self.recent_days}")
        for key in ("batch_size", "hot_history", "validation_queries", "max_queries"):
            value = getattr(self, key)
            if isinstance(value, int) and value < 1:
                raise InputError(f"`evaluation.{key}` must be at least 1, got {getattr(self, key)}")
        self._check_counts()
        if not self.slices:
            return
        from recsys.evaluation.expressions import parse  # Arrow, which most mistakes need not wait for

        for name, expression in self.slices.items():
            parse(expression, key=f"evaluation.slices.{name}")

    def _check_counts(self) -> None:
        for key in (
            "max_slices_per_attribute",
            "resamples",
            "small_slice",
            "num_examples",
            "latency_requests",
            "knn_shrinkage",
            "knn_max_items",
            "ease_max_items",
            "seed",
        ):
            if getattr(self, key) < 0:
                raise InputError(f"`evaluation.{key}` must not be negative, got {getattr(self, key)}")

    def within(self, num_items: int) -> EvaluationOptions:
        """The options with the default cut-offs that a catalogue of so many items can fill.

        Raises:
            ValueError: a cut-off was asked for that is larger than the catalogue.
        """
        kept = tuple(k for k in self.k if k <= num_items)
        if kept == self.k:
            return self
        if self.k != CUT_OFFS or not kept:
            raise InputError(
                f"expected cut-offs of at most {num_items:,}, the items that can be recommended, for "
                f"`evaluation.k`, got {list(self.k)}; nothing was written"
            )
        return dataclasses.replace(self, k=kept)

    @property
    def list_metrics(self) -> tuple[str, ...]:
        """Names of the metrics of the lists, empty for all; NDCG is among them."""
        return tuple(dict.fromkeys(["ndcg", *self.metrics])) if self.metrics else ()

    @property
    def list_length(self) -> int:
        """Length of the lists that are made."""
        return max(self.k)

    @property
    def main_k(self) -> int:
        """Cut-off of tables, slices and the verdict: 10 where it is among `k`, else the largest."""
        return MAIN_CUT_OFF if MAIN_CUT_OFF in self.k else self.list_length
