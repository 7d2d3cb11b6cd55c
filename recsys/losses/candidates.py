"""Defines what a retrieval loss is given, and what the task must know of it.

A loss is a class with flat arguments that configurations name (`task.loss`). Either it compares each positive
with candidates, the batch's items and drawn ones, or with the whole catalogue.

Legend: B examples, N candidates, D embedding dimension, I catalogue without row 0, P constants of an item.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class WeightedConstants(NamedTuple):
    """Terms of the scores beside the products of vectors: weights of each query times constants of the items.

    Args:
        weights_BP: [B, P] of the queries.
        constants: positions [G] of queries and the constants [I, P] of the items for these; together they
            hold every query once.
    """

    weights_BP: Tensor
    constants: Sequence[tuple[Tensor, Tensor]]


class CandidateScores(NamedTuple):
    """Scores of a batch's positives and of the candidates that all of them compete with.

    Args:
        positive_B: [B] score of each example's positive.
        candidates_BN: [B, N] scores: the items of the batch (of all processes), then the drawn ones.
        accidental_BN: [B, N] bool, True where a candidate is the example's own positive.
        positive_log_q_B: [B] log of how often each positive is expected among the candidates; up to a
            constant where nothing is drawn.
        candidates_log_q_N: [N] the same of the candidates.
        num_drawn: how many of the candidates are drawn ones; they stand last.
        sampling_rate: number of drawn ones by that of other items in the catalogue, at most 1.
        weights_B: [B] of the examples, not negative; None where all weigh the same.
    """

    positive_B: Tensor
    candidates_BN: Tensor
    accidental_BN: Tensor
    positive_log_q_B: Tensor
    candidates_log_q_N: Tensor
    num_drawn: int
    sampling_rate: float
    weights_B: Tensor | None

    @property
    def drawn(self) -> tuple[Tensor, Tensor]:
        """Scores and accidental hits of the drawn candidates alone."""
        first = self.candidates_BN.shape[1] - self.num_drawn
        return self.candidates_BN[:, first:], self.accidental_BN[:, first:]


@runtime_checkable
class CandidateLoss(Protocol):
    """Compares positives with candidates; `draws` says whether any are drawn beside the batch's items."""

    draws: bool

    def of_candidates(self, scores: CandidateScores) -> Tensor:
        """Weighted mean over the examples (scalar)."""


@runtime_checkable
class CatalogueLoss(Protocol):
    """Compares positives with every item of the catalogue."""

    def of_catalogue(
        self,
        queries_BD: Tensor,
        candidates_ID: Tensor,
        target_rows_B: Tensor,
        *,
        added: WeightedConstants | None = None,
        weights_B: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean over the examples (scalar); arguments as of `full_softmax`."""


RetrievalLoss = CandidateLoss | CatalogueLoss
