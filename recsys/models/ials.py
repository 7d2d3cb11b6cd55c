"""iALS, implicit alternating least squares (Hu et al., 2008), as revisited by Rendle et al. (2021).

    sum over positives (1 - <w_u, h_i>)^2 + a sum over all pairs <w_u, h_i>^2
        + l2 (sum over users (n_u + a I)^v |w_u|^2 + sum over items (n_i + a U)^v |h_i|^2)

with n the number of positives of a user or item. Every round solves for all users with the items held, then
for all items with the users held (arXiv 2110.14037, section 3.2). What we changed: a user's vector is always
solved from the history that a request brings, so that new users and new likes are answered without training;
and a user without a history gets what is most popular.

MovieLens-100K, 70/10/20 of each user's likes at random, seed 0: test NDCG@10 .3182 (`model.l2=0.02`).

Legend: B examples, L longest history, D embedding dimension, T rows of the item table, V positives.
"""

from collections.abc import Sequence
from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import TowerModel
from recsys.nn.factors import (
    ComputedItemVector,
    computed_tables,
    history_feature,
    popularity_table,
    put_popularity,
    put_rows,
)
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID, FeatureSchema
from recsys.schema.positives import TrainPositives

# Small enough to decide only where the history says nothing.
_POPULARITY_SCALE = 1e-6
# Numbers of the systems that are solved at a time.
_BLOCK_NUMBERS = 2**24


class IALS(TowerModel):
    """Retrieval by a matrix factorization that counts every missing pair as a weak dislike.

    Args:
        schema: features of the prepared dataset; the history and `item_id` are used.
        embedding_dim: D, a multiple of 4; 64 to 512 works, more on larger data.
        unobserved_weight: a, of a pair that is no positive; 0.03 to 1 works.
        l2: regularisation; 0.001 to 0.05 works, less for larger catalogues. Too much of it answers everybody
            with what is popular, and half of the best is worse by a tenth: worth a sweep.
        l2_exponent: v, how much more is regularised what has many positives; 0 for all alike, 1 works.
        num_rounds: rounds, an epoch each; the checkpoint keeps the best. 10 to 20 work.
        init_std: standard deviation of the dot products at the beginning.
        seed: of the first vectors.

    Raises:
        ValueError: a weight that is not positive, or the dataset has no history.
    """

    auto_sizes = sizes.LEAST_SQUARES
    query_tower: "_SolvedUser"

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        unobserved_weight: float = 0.3,
        l2: float = 0.02,
        l2_exponent: float = 1.0,
        num_rounds: int = 10,
        init_std: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(unobserved_weight, l2) <= 0:
            raise InputError(
                f"`model.unobserved_weight` and `model.l2` must be positive, got {unobserved_weight} and {l2}"
            )
        self.num_fits = num_rounds
        self.l2_exponent = l2_exponent
        self.init_std = init_std
        self.seed = seed
        self.scored = computed_tables(schema[ITEM_ID], embedding_dim=embedding_dim, prefix="scored_")
        self.read = computed_tables(
            history_feature(schema, "iALS"), embedding_dim=embedding_dim, prefix="read_", each=True
        )
        self.popularity = popularity_table(schema)
        self.query_tower = _SolvedUser(embedding_dim, exponent=l2_exponent)
        self.candidate_tower = ComputedItemVector(_POPULARITY_SCALE)
        self.start(unobserved_weight=unobserved_weight, l2=l2)

    def start(self, *, unobserved_weight: float, l2: float) -> None:
        """Goes back to the first vectors, to be fitted with these from now on."""
        self.unobserved_weight, self.l2 = unobserved_weight, l2
        self.query_tower.weight.fill_(unobserved_weight)
        self.query_tower.l2.fill_(l2)
        generator = torch.Generator().manual_seed(self.seed)
        rows, dim = self.scored.features[0].num_rows, self.scored.embedding_dim
        first_TD = torch.randn(rows, dim, generator=generator) * self.init_std / dim**0.25
        first_TD[0] = 0
        self._put_items(first_TD)

    def fit(self, positives: TrainPositives, number: int, qualities: Sequence[float] = ()) -> None:
        """Solves for all users, then for all items."""
        self.solve_round(positives)

    def solve_round(self, positives: TrainPositives) -> torch.Tensor:
        """Solves for all users, then for all items; returns the users' vectors, [U, D]."""
        known_V = positives.item_rows > 0
        pairs_2V = torch.stack([positives.user_rows[known_V], positives.item_rows[known_V]])
        users_V, items_V = torch.unique(pairs_2V, dim=1)  # a pair counts once
        users_UD = self._solve(users_V, items_V, self.item_vectors(), num_solved=int(users_V.max()) + 1)
        self._put_items(self._solve(items_V, users_V, users_UD, num_solved=self.scored.features[0].num_rows))
        put_popularity(self.popularity, positives.item_rows)
        return users_UD

    def _solve(
        self, solved_V: torch.Tensor, held_V: torch.Tensor, held_TD: torch.Tensor, *, num_solved: int
    ) -> torch.Tensor:
        """Best vectors of one side given those of the other; zeros for rows without a positive."""
        order_V = torch.argsort(solved_V, stable=True)
        rows_N, counts_N = torch.unique_consecutive(solved_V[order_V], return_counts=True)
        held_of_N = torch.split(held_V[order_V], counts_N.tolist())
        dim = held_TD.shape[1]
        num_held = int((held_TD != 0).any(dim=1).sum())
        gram_DD = self.unobserved_weight * held_TD.T @ held_TD
        solved_TD = held_TD.new_zeros(num_solved, dim)
        # Those with as many positives together: little is padded.
        by_count_N = torch.argsort(counts_N, stable=True)
        size = max(1, _BLOCK_NUMBERS // (max(int(counts_N.max()), dim) * dim))
        for chosen in torch.split(by_count_N, size):
            histories = [held_TD[held_of_N[position]] for position in chosen.tolist()]
            padded_BLD = nn.utils.rnn.pad_sequence(histories, batch_first=True)
            l2_B = self.l2 * (counts_N[chosen] + self.unobserved_weight * num_held) ** self.l2_exponent
            solved_TD[rows_N[chosen]] = _solve_ridge(padded_BLD, gram_DD, l2_B.double())
        return solved_TD

    def item_vectors(self) -> torch.Tensor:
        """[T, D] in float64."""
        weight_TD: torch.Tensor = self.scored.state_dict()[self.scored.weight_name(ITEM_ID)]
        return weight_TD.double()

    def _put_items(self, items_TD: torch.Tensor) -> None:
        put_rows(self.scored, items_TD)
        put_rows(self.read, items_TD)
        self.query_tower.gram.copy_(self.unobserved_weight * items_TD.T @ items_TD)
        self.query_tower.num_items.fill_(int((items_TD != 0).any(dim=1).sum()))


def _solve_ridge(history_BLD: torch.Tensor, gram_DD: torch.Tensor, l2_B: torch.Tensor) -> torch.Tensor:
    """[B, D] (H'H + gram + l2 I)^-1 H' 1 of each history H, whose missing items are zeros."""
    eye_DD = torch.eye(gram_DD.size(0), dtype=gram_DD.dtype, device=gram_DD.device)
    left_BDD = torch.bmm(history_BLD.transpose(1, 2), history_BLD) + gram_DD + l2_B[:, None, None] * eye_DD
    solved_BD: torch.Tensor = torch.linalg.solve(left_BDD, history_BLD.sum(dim=1))
    return solved_BD


class _SolvedUser(nn.Module):
    """[the user's vector given the items of the history, 1]."""

    gram: torch.Tensor
    num_items: torch.Tensor
    weight: torch.Tensor
    l2: torch.Tensor

    def __init__(self, embedding_dim: int, *, exponent: float) -> None:
        super().__init__()
        self.register_buffer("gram", torch.zeros(embedding_dim, embedding_dim))
        for name in ("num_items", "weight", "l2"):
            self.register_buffer(name, torch.zeros(()))
        self.exponent = exponent

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1]."""
        history_BLD = embedded["read_history"]
        counts_B = (history_BLD != 0).any(dim=2).sum(dim=1)
        # Where a large `l2` has shrunk all items to zero, nothing is known, and every vector is zero.
        known_B = (counts_B + self.weight * self.num_items).clamp(min=1e-6)
        l2_B = self.l2 * known_B.pow(self.exponent)
        user_BD = _solve_ridge(history_BLD, self.gram, l2_B)
        return torch.cat([user_BD, torch.ones_like(user_BD[:, :1])], dim=1)
