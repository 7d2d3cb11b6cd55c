"""EASE and an implicit matrix factorization, their scores added: what answers unordered likes best here.

    score(u, i) = iALS(history of u, i) + weight x EASE(history of u, i) x std of iALS / std of EASE

Both (`recsys.models.ials`, `recsys.models.ease`) are solved and not trained, read what was liked since, and
are wrong about different things. The standard deviations are those of their scores for the users of train, so
that a weight means the same for every catalogue. In EASE a user of n positives counts n^-1/2 times. How much
an unobserved pair counts, both penalties and the weight are chosen by validation, one after the other.

MovieLens-100K, 70/10/20 of each user's likes at random, seed 0: see docs/reference/models.md.

Legend: B examples, D embedding dimension of iALS, E singular values of EASE, T rows of the item table,
U users.
"""

from collections.abc import Sequence
from typing import Dict, NamedTuple  # noqa: UP035 (scripted)

import torch
from scipy import sparse
from torch import nn

from recsys.models import sizes
from recsys.models.ease import ease_factors
from recsys.models.ials import IALS
from recsys.models.protocols import TowerModel
from recsys.models.validated_settings import next_settings, num_settings
from recsys.nn.factors import computed_tables, history_feature, put_rows
from recsys.nn.spectral import Spectrum, interaction_matrix, spectrum_of, weigh_users
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID, FeatureSchema
from recsys.schema.positives import TrainPositives

# Of users in EASE: 0 is EASE itself, 1 has all users count alike. Chosen on validation of MovieLens-1M.
_USER_EXPONENT = 0.5
# In the order in which validation chooses them.
_SEARCHED = ("unobserved_weight", "penalty", "ease_weight", "ease_l2")


class EaseFactorization(TowerModel):
    """Retrieval by the sum of iALS and EASE.

    Every key with several values begins with the first, which is kept where there is no validation split.

    Args:
        schema: features of the prepared dataset; `item_id` and the history are used.
        embedding_dim: D, of the factorization, a multiple of 4.
        ease_dim: E, singular values of EASE that are kept, a multiple of 4.
        unobserved_weight: of a pair that is no positive; 0.03 to 1 works.
        penalty: of a user's squared vector, where nothing is known of the user, from which `l2` of `IALS`
            follows. What works, 5 to 12, is alike for catalogues of all sizes.
        ease_weight: standard deviations of EASE's scores count so many times those of iALS.
        ease_l2: regularisation of EASE; 50 to 1000 works.
        num_rounds: of iALS; 5 to 20 works.

    Raises:
        ValueError: a key without a value, or with one that is not positive (`ease_weight` may be 0), or the
            dataset has no history.
    """

    auto_sizes = sizes.EASE_FACTORIZATION

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        ease_dim: int = 512,
        unobserved_weight: Sequence[float] = (0.3, 0.1, 0.06),
        penalty: Sequence[float] = (9.0, 6.0, 12.0, 16.0),
        ease_weight: Sequence[float] = (0.5, 0.0, 1.0, 2.0),
        ease_l2: Sequence[float] = (400.0, 100.0, 200.0, 800.0),
        num_rounds: int = 8,
    ) -> None:
        super().__init__()
        self.axes = (unobserved_weight, penalty, ease_weight, ease_l2)
        for name, values in zip(_SEARCHED, self.axes, strict=True):
            if not values or min(values) < 0 or (min(values) == 0 and name != "ease_weight"):
                raise InputError(f"`model.{name}` must be one or more positive numbers, got {list(values)}")
        self.num_rounds = num_rounds
        ials = IALS(schema, embedding_dim=embedding_dim)
        self._ials = (ials,)  # no child: its tables and its towers are children here
        self.read, self.scored, self.popularity = ials.read, ials.scored, ials.popularity
        history = history_feature(schema, "EASE")
        self.ease_read = computed_tables(history, embedding_dim=ease_dim, prefix="ease_read_")
        self.ease_scored = computed_tables(schema[ITEM_ID], embedding_dim=ease_dim, prefix="ease_scored_")
        self.query_tower = _WithEase(ials.query_tower, "ease_read_history")
        self.candidate_tower = _WithEase(ials.candidate_tower, "ease_scored_item_id")
        self._solved: _Solved | None = None

    @property
    def num_fits(self) -> int:
        """Fits of a training with a validation split; one without."""
        return num_settings(self.axes)

    def fit(self, positives: TrainPositives, number: int, qualities: Sequence[float] = ()) -> None:
        """Fits with the settings that come next after what validation gave those before."""
        unobserved_weight, penalty, ease_weight, ease_l2 = next_settings(self.axes, qualities)
        if self._solved is None or self._solved.positives is not positives:
            matrix_UT = interaction_matrix(positives, num_rows=self.scored.features[0].num_rows)
            weighed_UT = weigh_users(matrix_UT, exponent=_USER_EXPONENT)
            spectrum = spectrum_of(weighed_UT, rank=self.ease_scored.embedding_dim)
            self._solved = _Solved(positives, matrix_UT, spectrum, (), 0.0)
        if self._solved.settings != (unobserved_weight, penalty):
            deviation = self._fit_ials(unobserved_weight, penalty)
            self._solved = self._solved._replace(settings=(unobserved_weight, penalty), deviation=deviation)
        read_TE, scored_TE = ease_factors(self._solved.spectrum, l2=ease_l2)
        matrix_UT = self._solved.matrix_UT
        liked_U1 = torch.from_numpy(matrix_UT.sum(axis=1)).clamp(min=1)
        of_ease = _deviation(torch.from_numpy(matrix_UT @ read_TE.numpy()) / liked_U1, scored_TE)
        put_rows(self.ease_read, read_TE)
        put_rows(self.ease_scored, ease_weight * self._solved.deviation / of_ease * scored_TE)

    def _fit_ials(self, unobserved_weight: float, penalty: float) -> float:
        """Fits the factorization; returns the standard deviation of its scores."""
        assert self._solved is not None
        (ials,) = self._ials
        liked_items = int(torch.unique(self._solved.positives.item_rows).count_nonzero())
        ials.start(
            unobserved_weight=unobserved_weight, l2=penalty / (unobserved_weight * max(liked_items, 1))
        )
        for _ in range(self.num_rounds):
            users_UD = ials.solve_round(self._solved.positives)
        return _deviation(users_UD, ials.item_vectors())


class _Solved(NamedTuple):
    """Holds what stays from fit to fit, and the settings of the factorization that the tables contain."""

    positives: TrainPositives
    matrix_UT: sparse.csr_matrix
    spectrum: Spectrum
    settings: tuple[float, ...]
    deviation: float


def _deviation(queries_UD: torch.Tensor, items_TD: torch.Tensor) -> float:
    """Mean standard deviation of a user's scores of all items, without the product."""
    centred_TD = items_TD[1:] - items_TD[1:].mean(dim=0)
    covariance_DD = centred_TD.T @ centred_TD / max(len(centred_TD), 1)
    deviations_U = ((queries_UD @ covariance_DD) * queries_UD).sum(dim=1).clamp(min=0).sqrt()
    known_U = deviations_U[deviations_U > 0]
    return float(known_U.mean()) if len(known_U) else 1.0


class _WithEase(nn.Module):
    """[the factorization's vector, EASE's]."""

    def __init__(self, factorization: nn.Module, ease: str) -> None:
        super().__init__()
        self.factorization = factorization
        self.ease = ease

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1 + E]."""
        return torch.cat([self.factorization(embedded, dense), embedded[self.ease]], dim=1)
