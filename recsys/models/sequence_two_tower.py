"""Sequence-aware two-tower: a causal encoder of the history against the items it is made of.

SASRec (Kang and McAuley, 2018, arXiv 1808.09781) and HSTU (Zhai et al., 2024, arXiv 2402.17152) as two-tower
models: the query is a state of a causal encoder, trained on every position of a history in one pass. What we
changed: an item is the sum of its id's and its content's embeddings, the same as input and as output, so that
rare items borrow from content; state 0 is the user's profile, so that a user without a history has a query of
its own; each event brings the time until the next one, at request time the time since the last event; a query
weighs how popular items were in the last days, so that what is liked these days is known; and a score may be
a cosine over a learned temperature, from which sparse data are learnt in fewer epochs (the docs).

Legend: B sequences, L events, S = L + 1 states, T asked states, U distinct items, D embedding dimension, P
windows of popularity.
"""

import math
from collections.abc import Sequence
from typing import Dict, List  # noqa: UP035 (scripted)

import torch
from torch import nn
from torch.nn import functional

from recsys.models import sizes
from recsys.models.protocols import embed
from recsys.nn.embeddings import FeatureTables
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.nn.sequence import NUM_GAPS, HistoryEncoder, log_gaps, sequence_encoder
from recsys.schema.batch import Batch, HistoryEvents
from recsys.schema.errors import InputError
from recsys.schema.features import CANDIDATE_ROLES, HISTORY, ITEM_ID, FeatureSchema

_SMALL = 0.02


class SequenceTwoTower(nn.Module):
    """Retrieval by the dot product of a history's state and an item's vector, with item biases.

    Args:
        schema: features of the prepared dataset; those of users and items are used but those left out, those
            of the context are not.
        embedding_dim: D, of tables, encoder and vectors; a multiple of 4 and of `num_heads`.
        history_encoder: `transformer`, `hstu`, `attention`, `gru` or `mean`; see `recsys.nn.sequence`.
        num_blocks: of `transformer`, `hstu` and `gru`; 2 works, and 1 of `gru`.
        num_heads: of attention; 2 works.
        history_events: `positives`, or `all` events, so that what was rated low or skipped is read too, and
            not recommended.
        temperature: the score is the cosine of state and item over a temperature that begins here and is
            learned; 0.05 to 0.2 works. None: their plain product.
        popularity_windows: days in which recent likes are counted, known strictly before the request; null
            counts from the beginning. The query weighs the counts, so that a user without a history gets
            what is liked these days.
        max_length: longest history that has positions of its own; longer ones are an error.
        leave_out: names of features the model shall not see.
        dropout: of the embeddings and in the encoder, in training; 0.2 to 0.4 works for small data.
        time_dropout: share of histories whose times are unknown in training, so that a request without any
            is answered well.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.
    """

    auto_sizes = sizes.SEQUENCE

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        history_encoder: HistoryEncoder = "transformer",
        num_blocks: int = 2,
        num_heads: int = 2,
        history_events: HistoryEvents = "positives",
        temperature: float | None = None,
        popularity_windows: Sequence[int | None] = (7, 30, None),
        max_length: int = 100,
        leave_out: Sequence[str] = (),
        dropout: float = 0.2,
        time_dropout: float = 0.05,
        id_dropout: float = 0.0,
        init_std: float = 0.05,
    ) -> None:
        super().__init__()
        unknown = [name for name in leave_out if name not in schema]
        if unknown:
            raise InputError(f"`model.leave_out` names features that the dataset does not have: {unknown}")
        if temperature is not None and temperature <= 0:
            raise InputError(f"`model.temperature` must be null or positive, got {temperature}")
        # The history is read event by event, not as a bag.
        users = [f.name for f in schema.sparse(["user"]) if f.name not in (*leave_out, HISTORY)]
        items = [f.name for f in schema.sparse(CANDIDATE_ROLES) if f.name not in leave_out]
        self.tables = FeatureTables(
            [schema[name] for name in users + items],
            embedding_dim=embedding_dim,
            init_std=init_std,
            id_dropout=id_dropout,
        )
        self.biases = FeatureTables(
            [schema[ITEM_ID]], embedding_dim=LINEAR_DIM, prefix="bias_", init_std=0.0, id_dropout=id_dropout
        )
        self.history_events: HistoryEvents = history_events
        self.popularity_windows = tuple(popularity_windows)
        self.time_dropout = time_dropout
        self.query_tower = SequenceTower(
            users,
            num_dense=len(schema.dense(["user"])),
            embedding_dim=embedding_dim,
            max_length=max_length,
            num_windows=len(self.popularity_windows),
            dropout=dropout,
            temperature=temperature,
            encoder=sequence_encoder(
                history_encoder, width=embedding_dim, blocks=num_blocks, heads=num_heads, dropout=dropout
            ),
        )
        self.candidate_tower = ItemTower(
            items,
            num_dense=len(schema.dense(CANDIDATE_ROLES)),
            embedding_dim=embedding_dim,
            num_windows=len(self.popularity_windows),
            unit_length=temperature is not None,
        )

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [T, D + 1 + P] of the states that `batch.sequences` asks for.

        Raises:
            ValueError: the batch brings no sequences, or longer ones than `max_length`.
        """
        sequences = batch.sequences
        if sequences is None:
            raise InputError(
                f"{type(self).__name__} reads histories event by event, and the batch has no sequences; load "
                "data with `events_read=events_read(model)`"
            )
        vectors_UD = self.encode_candidates(sequences.items)[:, : self.query_tower.width]
        timestamps_BL = sequences.padded(sequences.timestamps)
        known_B = sequences.times_known
        if self.training and self.time_dropout > 0:
            known_B = known_B & (torch.rand(known_B.shape, device=known_B.device) >= self.time_dropout)
        states_BSD = self.query_tower(
            embed(self, batch),
            batch.dense,
            sequences.padded(vectors_UD.index_select(0, sequences.positions)),
            sequences.padded(sequences.positives),
            instants_of(timestamps_BL, sequences.lengths, sequences.ends),
            known_B,
        )
        asked: torch.Tensor = states_BSD[sequences.query_sequences, sequences.query_states]
        return asked

    def encode_candidates(self, batch: Batch) -> torch.Tensor:
        """Vectors [U, D + 1 + P] of the items: embedding, bias, and zeros where their popularity goes."""
        vectors: torch.Tensor = self.candidate_tower(embed(self, batch), batch.dense)
        return vectors


def instants_of(timestamps_BL: torch.Tensor, lengths_B: torch.Tensor, ends_B: torch.Tensor) -> torch.Tensor:
    """[B, S] whole seconds from each sequence's first instant to every event and, then its end."""
    padded_BS = torch.cat([timestamps_BL, ends_B[:, None]], dim=1)
    padded_BS = padded_BS.scatter(1, lengths_B[:, None], ends_B[:, None])
    seconds_BS = padded_BS.div(1_000_000, rounding_mode="floor")
    return (seconds_BS - seconds_BS[:, :1]).float()


def dense_part(num_dense: int, embedding_dim: int) -> nn.Linear | None:
    """Numbers as vectors as small as embeddings are in the beginning; None where there are no numbers."""
    if not num_dense:
        return None
    dense = nn.Linear(num_dense, embedding_dim, bias=False)
    nn.init.normal_(dense.weight, std=_SMALL)
    return dense


class SequenceTower(nn.Module):
    """[state, 1, weights of popularity] of every state of a history; state 0 knows the user alone."""

    names: List[str]  # noqa: UP006

    def __init__(
        self,
        names: Sequence[str],
        *,
        num_dense: int,
        embedding_dim: int,
        max_length: int,
        num_windows: int,
        dropout: float,
        temperature: float | None,
        encoder: nn.Module,
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.max_length = max_length
        self.width = embedding_dim
        self.encoder = encoder
        self.start = nn.Parameter(torch.zeros(embedding_dim))
        self.dense = dense_part(num_dense, embedding_dim)
        self.places = nn.Embedding(max_length + 1, embedding_dim)
        self.gaps = nn.Embedding(NUM_GAPS, embedding_dim)
        self.kinds = nn.Embedding(2, embedding_dim)  # not liked, liked
        for table in (self.places, self.gaps, self.kinds):
            nn.init.normal_(table.weight, std=_SMALL)
        self.weights = nn.Linear(embedding_dim, num_windows)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        self.dropout = nn.Dropout(dropout)
        # As a logarithm, so that it stays positive and its steps are in proportion.
        scale = None if temperature is None else torch.tensor(-math.log(temperature))
        self.log_scale = None if scale is None else nn.Parameter(scale)

    def forward(
        self,
        embedded: Dict[str, torch.Tensor],  # noqa: UP006
        dense: torch.Tensor,
        items_BLD: torch.Tensor,
        positives_BL: torch.Tensor,
        instants_BS: torch.Tensor,
        times_known_B: torch.Tensor,
    ) -> torch.Tensor:
        """States [B, S, D + 1 + P].

        Args:
            embedded: features of the users.
            dense: features of the users that are numbers.
            items_BLD: vectors of the events' items, without their biases.
            positives_BL: bool, whether each was liked.
            instants_BS: seconds, see `instants_of`.
            times_known_B: bool, whether the instants of a sequence mean anything.
        """
        size = items_BLD.size(1)
        if size > self.max_length:
            raise InputError(
                f"a history of {size} events is longer than the model's {self.max_length}; give "
                "`model.max_length` at least `data.history_length`"
            )
        instants_BS = instants_BS * times_known_B[:, None].to(instants_BS.dtype)
        gaps_BL = log_gaps(instants_BS[:, 1:] - instants_BS[:, :-1]) * times_known_B[:, None].long()
        places_S = torch.arange(size + 1, device=dense.device)
        events_BLD = items_BLD + self.gaps(gaps_BL) + self.kinds(positives_BL.long())
        x_BSD = torch.cat([self.user(embedded, dense)[:, None], events_BLD], dim=1) + self.places(places_S)
        # Instants of the states: state 0 stands at the first event, state j at event j.
        at_BS = torch.cat([instants_BS[:, :1], instants_BS[:, :-1]], dim=1)
        states_BSD = self.encoder(self.dropout(x_BSD), at_BS)
        ones_BS1 = torch.ones_like(states_BSD[:, :, :1])
        weights_BSP = self.weights(states_BSD)
        if self.log_scale is not None:
            states_BSD = self.log_scale.exp() * functional.normalize(states_BSD, dim=2)
        return torch.cat([states_BSD, ones_BS1, weights_BSP], dim=2)

    def user(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B, D]."""
        user_BD = self.start.expand(dense.size(0), -1)
        for name in self.names:
            user_BD = user_BD + embedded[name]
        if self.dense is not None:
            user_BD = user_BD + self.dense(dense[:, : self.dense.in_features])
        return user_BD


class ItemTower(nn.Module):
    """[sum of the embeddings of id and content, bias, zeros where popularity goes]."""

    names: List[str]  # noqa: UP006

    def __init__(
        self,
        names: Sequence[str],
        *,
        num_dense: int,
        embedding_dim: int,
        num_windows: int,
        unit_length: bool,
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.num_windows = num_windows
        self.unit_length = unit_length
        self.dense = dense_part(num_dense, embedding_dim)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [U, D + 1 + P]."""
        vectors_UD = torch.stack([embedded[name] for name in self.names], dim=0).sum(dim=0)
        if self.dense is not None:
            vectors_UD = vectors_UD + self.dense(dense)
        if self.unit_length:
            vectors_UD = functional.normalize(vectors_UD, dim=1)
        bias_U1 = embedded["bias_item_id"].mean(dim=1, keepdim=True)
        return torch.cat([vectors_UD, bias_U1, bias_U1.new_zeros(len(bias_U1), self.num_windows)], dim=1)
