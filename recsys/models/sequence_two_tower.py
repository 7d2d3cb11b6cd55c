"""Sequence-aware two-tower: a causal encoder of the history against the items it is made of.

SASRec (Kang and McAuley, 2018, arXiv 1808.09781) and HSTU (Zhai et al., 2024, arXiv 2402.17152) as two-tower
models: the query is a state of a causal encoder, trained on every position of a history in one pass. What we
changed: an item is the sum of its id's and its content's embeddings, the same as input and as output, so that
rare items borrow from content; state 0 is the user's profile, so that a user without a history has a query of
its own; each event brings the time until the next one, at request time the time since the last event; a query
weighs how popular items were in the last days, so that what is liked these days is known; and a score may be
a cosine over a learned temperature, from which sparse data are learnt in fewer epochs (the docs).

Legend: B sequences, V events of all of them, L events of the longest, S = L + 1 states, Q queries, U distinct
items, D embedding dimension, W windows of popularity, P positions of the packed states.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Dict, List, cast  # noqa: UP035 (scripted)

import torch
from torch import nn
from torch.nn import functional

from recsys.models import sizes
from recsys.models.hybrid_towers import HISTORY_COUNT, HybridItemTower, check_hybrid, content_of
from recsys.models.protocols import embed
from recsys.nn.cold_start import ColdStart, ColdStartMix, EventCounts
from recsys.nn.dropout import Dropout
from recsys.nn.embeddings import FeatureTables
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.nn.packing import pack
from recsys.nn.sequence import NUM_GAPS, HistoryEncoder, log_gaps, sequence_encoder
from recsys.retrieval.parts import joined, without_popularity
from recsys.schema.batch import Batch, HistoryEvents, Sequences
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
        cold_start: `none`, or `gate` or `rule` as of `TwoTower`: items mix content with their id's embedding,
            and are of length 1; queries mix profile with history.
        cold_start_events: events from which on the rule follows behaviour.
        behaviour_dropout: share of items whose behaviour a training step forgets.
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
        cold_start: ColdStart = "none",
        cold_start_events: int = 3,
        behaviour_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        unknown = [name for name in leave_out if name not in schema]
        if unknown:
            raise InputError(f"`model.leave_out` names features that the dataset does not have: {unknown}")
        if temperature is not None and temperature <= 0:
            raise InputError(f"`model.temperature` must be null or positive, got {temperature}")
        # The history is read event by event, not as a bag.
        users = [f.name for f in schema.embedded(["user"]) if f.name not in (*leave_out, HISTORY)]
        items = [f.name for f in schema.embedded(CANDIDATE_ROLES) if f.name not in leave_out]
        mix = partial(ColdStartMix, cold_start, embedding_dim=embedding_dim, min_events=cold_start_events)
        if cold_start != "none":
            check_hybrid(schema, items)
            items.remove(ITEM_ID)
            self.counts = EventCounts(ITEM_ID, schema[ITEM_ID].num_rows)
            self.ids = FeatureTables(
                [schema[ITEM_ID]], embedding_dim=embedding_dim, init_std=init_std, id_dropout=id_dropout
            )
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
            mix=None if cold_start == "none" else mix(),
        )
        num_windows = len(self.popularity_windows)
        if cold_start != "none":
            self.candidate_tower: nn.Module = HybridItemTower(
                content_of(
                    schema,
                    items,
                    CANDIDATE_ROLES,
                    embedding_dim=embedding_dim,
                    widths=[embedding_dim],
                    dropout=dropout,
                ),
                mix(keeps_content=cold_start == "gate"),
                behaviour_dropout=behaviour_dropout,
                num_windows=num_windows,
            )
            return
        self.candidate_tower = _ItemTower(
            items,
            num_dense=len(schema.dense(CANDIDATE_ROLES)),
            embedding_dim=embedding_dim,
            num_windows=num_windows,
            unit_length=temperature is not None,
        )

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [Q, D + 1 + W] of the queries of `batch.sequences`.

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
        known_B = sequences.times_known
        if self.training and self.time_dropout > 0:
            known_B = known_B & (torch.rand(known_B.shape, device=known_B.device) >= self.time_dropout)
        queries: torch.Tensor = self.query_tower.queries(
            self.query_tower.user(embed(self, batch), batch.dense),
            vectors_UD.index_select(0, sequences.positions),
            sequences,
            known_B,
        )
        return queries

    def encode_candidates(self, batch: Batch) -> torch.Tensor:
        """Vectors [U, D + 1 + W] of the items: embedding, bias, and zeros where their popularity goes."""
        vectors: torch.Tensor = self.candidate_tower(embed(self, batch), batch.dense)
        return vectors

    @torch.no_grad()
    def query_weights(self, batch: Batch) -> torch.Tensor:
        """[Q] weight of behaviour in each query, of a model with `cold_start`."""
        assert batch.sequences is not None
        queries_Q = batch.sequences.query_sequences
        embedded = {name: vectors[queries_Q] for name, vectors in embed(self, batch).items()}
        embedded[HISTORY_COUNT] = batch.sequences.query_states[:, None].float()
        return self.query_tower.behaviour_weights(embedded, batch.dense[queries_Q])

    @torch.no_grad()
    def candidate_weights(self, batch: Batch) -> torch.Tensor:
        """[U] weight of behaviour in each item, of a model with `cold_start`."""
        return cast(HybridItemTower, self.candidate_tower).behaviour_weights(embed(self, batch), batch.dense)


def _dense_part(num_dense: int, embedding_dim: int) -> nn.Linear | None:
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
        mix: ColdStartMix | None = None,
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.mix = mix
        self.max_length = max_length
        self.width = embedding_dim
        self.encoder = encoder
        self.start = nn.Parameter(torch.zeros(embedding_dim))
        self.dense = _dense_part(num_dense, embedding_dim)
        self.places = nn.Embedding(max_length + 1, embedding_dim)
        self.gaps = nn.Embedding(NUM_GAPS, embedding_dim)
        self.kinds = nn.Embedding(2, embedding_dim)  # not liked, liked
        for table in (self.places, self.gaps, self.kinds):
            nn.init.normal_(table.weight, std=_SMALL)
        self.weights = nn.Linear(embedding_dim, num_windows)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        self.dropout = Dropout(dropout)
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
        """States [B, S, D + 1 + W].

        Args:
            embedded: features of the users.
            dense: features of the users that are numbers.
            items_BLD: vectors of the events' items, without their biases.
            positives_BL: bool, whether each was liked.
            instants_BS: whole seconds from each history's first event to every event and, then, the request.
            times_known_B: bool, whether the instants of a sequence mean anything.
        """
        self._check_length(items_BLD.size(1))
        instants_BS = instants_BS * times_known_B[:, None].to(instants_BS.dtype)
        gaps_BL = log_gaps(instants_BS[:, 1:] - instants_BS[:, :-1]) * times_known_B[:, None].long()
        events_BLD = self.events(items_BLD, gaps_BL, positives_BL)
        user_BD = self.user(embedded, dense)
        x_BSD = torch.cat([user_BD[:, None], events_BLD], dim=1)
        x_BSD = x_BSD + self.places(torch.arange(x_BSD.size(1), device=dense.device))
        # Instants of the states: state 0 stands at the first event, state j at event j.
        at_BS = torch.cat([instants_BS[:, :1], instants_BS[:, :-1]], dim=1)
        count, size = x_BSD.size(0), x_BSD.size(1)
        states_PD = self.encoder(self.dropout(x_BSD.flatten(0, 1)), at_BS.flatten(), [(count, size)])
        users_PD = user_BD[:, None].expand(-1, size, -1).flatten(0, 1)
        seen_P1 = torch.arange(size, device=dense.device).repeat(count)[:, None]
        vectors_PD = self.vectors(self.mixed(users_PD, states_PD, seen_P1))
        return vectors_PD.view(count, size, vectors_PD.size(1))  # of no examples, too

    def queries(
        self,
        user_BD: torch.Tensor,
        items_VD: torch.Tensor,
        sequences: Sequences,
        times_known_B: torch.Tensor,
    ) -> torch.Tensor:
        """Vectors [Q, D + 1 + W] of the queries, as `forward` has them, without the padding's arithmetic."""
        lengths_B = sequences.lengths
        self._check_length(int(lengths_B.max()) if len(lengths_B) else 0)
        packing = pack(lengths_B + 1)
        instants_V, gaps_V = _instants_and_gaps(sequences, times_known_B)
        rows_BV = torch.cat([user_BD, self.events(items_VD, gaps_V, sequences.positives)])
        # Of state 0 and of padding the user stands for the event.
        is_event_P = (packing.states_P > 0) & (packing.states_P <= lengths_B[packing.sequences_P])
        first_B = lengths_B.cumsum(0) - lengths_B
        event_P = first_B[packing.sequences_P] + packing.states_P - 1
        rows_P = torch.where(is_event_P, len(user_BD) + event_P, packing.sequences_P)
        at_P = torch.cat([instants_V.new_zeros(len(user_BD)), instants_V])[rows_P]
        x_PD = rows_BV.index_select(0, rows_P) + self.places(packing.states_P)
        states_PD = self.encoder(self.dropout(x_PD), at_P, packing.shapes)
        asked_Q = packing.starts_B[sequences.query_sequences] + sequences.query_states
        states_QD = states_PD.index_select(0, asked_Q)
        seen_Q1 = sequences.query_states[:, None]
        return self.vectors(self.mixed(user_BD[sequences.query_sequences], states_QD, seen_Q1))

    def behaviour_weights(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B] weight of behaviour after so many events as `history_count` says; 1 where nothing is mixed."""
        counts_B1 = embedded["history_count"]
        if self.mix is None:
            return torch.ones_like(counts_B1).squeeze(1)
        weights_B1: torch.Tensor = self.mix.weights(self.user(embedded, dense), counts_B1)
        return weights_B1.squeeze(1)

    def mixed(self, users_QD: torch.Tensor, states_QD: torch.Tensor, seen_Q1: torch.Tensor) -> torch.Tensor:
        """The states, with what is known of the users without a history by how many events they have seen."""
        if self.mix is None:
            return states_QD
        mixed_QD: torch.Tensor = self.mix(users_QD, states_QD, seen_Q1.to(states_QD.dtype))
        return mixed_QD

    def _check_length(self, size: int) -> None:
        """Raises ValueError where a history of `size` events is longer than the model has positions for."""
        if size > self.max_length:
            raise InputError(
                f"a history of {size} events is longer than the model's {self.max_length}; give "
                "`model.max_length` at least `data.history_length`"
            )

    def events(self, items_VD: torch.Tensor, gaps_V: torch.Tensor, positives_V: torch.Tensor) -> torch.Tensor:
        """Adds up what is known of each event: [V, D], or [B, L, D] of padded ones."""
        events_VD: torch.Tensor = items_VD + self.gaps(gaps_V) + self.kinds(positives_V.long())
        return events_VD

    def vectors(self, states_QD: torch.Tensor) -> torch.Tensor:
        """[state, 1, weights of popularity] [Q, D + 1 + W]."""
        ones_Q1 = torch.ones_like(states_QD[:, :1])
        weights_QW = self.weights(states_QD)
        if self.log_scale is not None:
            states_QD = self.log_scale.exp() * functional.normalize(states_QD, dim=1)
        return joined(torch.cat([states_QD, ones_Q1], dim=1), weights_QW)

    def user(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B, D]."""
        user_BD = self.start.expand(dense.size(0), -1)
        for name in self.names:
            user_BD = user_BD + embedded[name]
        if self.dense is not None:
            user_BD = user_BD + self.dense(dense[:, : self.dense.in_features])
        return user_BD


def _instants_and_gaps(sequences: Sequences, known_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[V] seconds of each event since its sequence's first, and the bucket of the time until the next one.

    The last event's next one is the end of its sequence. Where times are unknown all of them are 0.
    """
    lengths_B = sequences.lengths
    sequence_V = torch.repeat_interleave(torch.arange(len(lengths_B), device=lengths_B.device), lengths_B)
    last_B = lengths_B.cumsum(0) - 1
    has_events_B = lengths_B > 0
    seconds_V = sequences.timestamps.div(1_000_000, rounding_mode="floor")
    first_V = seconds_V[(last_B - lengths_B + 1)[sequence_V]]
    known_V = known_B[sequence_V]
    instants_V = (seconds_V - first_V).float() * known_V
    next_V = torch.roll(instants_V, -1)
    ends_V = sequences.ends.div(1_000_000, rounding_mode="floor")[sequence_V] - first_V
    is_last_V = torch.zeros_like(known_V)
    is_last_V[last_B[has_events_B]] = True
    next_V = torch.where(is_last_V, ends_V.float() * known_V, next_V)
    return instants_V, log_gaps(next_V - instants_V) * known_V


class _ItemTower(nn.Module):
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
        self.dense = _dense_part(num_dense, embedding_dim)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [U, D + 1 + P]."""
        vectors_UD = torch.stack([embedded[name] for name in self.names], dim=0).sum(dim=0)
        if self.dense is not None:
            vectors_UD = vectors_UD + self.dense(dense)
        if self.unit_length:
            vectors_UD = functional.normalize(vectors_UD, dim=1)
        bias_U1 = embedded["bias_item_id"].mean(dim=1, keepdim=True)
        return without_popularity(torch.cat([vectors_UD, bias_U1], dim=1), self.num_windows)
