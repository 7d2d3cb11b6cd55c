"""A training step of `sequence_two_tower` whose sequences are packed, against the same step padded.

Both are the same model on the same batches, forward and backward without a loss, and agree but for dropout. A
quarter of the sequences are of full length, the others shorter, short ones more often.

Legend: B sequences, V events, L events of the longest, D embedding dimension.
"""

from __future__ import annotations

import time

import torch
from torchrec import KeyedJaggedTensor

from benchmarks.harness import Figure, Settings, alternate, ratios
from recsys.models.protocols import embed
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.schema.batch import Batch, Sequences
from recsys.schema.feature_kinds import HistoryFeature, IdFeature
from recsys.schema.features import FeatureSchema
from recsys.schema.jagged import JaggedColumn

_WINDOWS = 32
_MICROSECONDS = 1_000_000


def run(settings: Settings) -> list[Figure]:
    """Ratio of the packed step's seconds to the padded one's, for two lengths of histories."""
    figures = []
    for length, num_items in ((20, 50),) if settings.toy else ((100, 4000), (200, 4000)):
        torch.manual_seed(0)
        model = _model(num_items, length)
        batches = [_batch(num_items, length, seed) for seed in range(2 if settings.toy else 6)]

        def packed(model: SequenceTwoTower = model, batches: list[Batch] = batches) -> float:
            return _seconds(model, batches, is_packed=True)

        def padded(model: SequenceTwoTower = model, batches: list[Batch] = batches) -> float:
            return _seconds(model, batches, is_packed=False)

        seconds = alternate({"packed": packed, "padded": padded}, repeats=settings.repeats)
        held = [len(batch.sequences.positions) / (_WINDOWS * length) for batch in batches if batch.sequences]
        notes = {"seconds": seconds, "share_of_positions_that_hold_events": sum(held) / len(held)}
        name = f"seconds of a packed step to the padded one, {_WINDOWS} histories of up to {length} events"
        figures.append(Figure(name, ratios(seconds["packed"], seconds["padded"]), "at most 0.65", notes))
    return figures


def _model(num_items: int, length: int) -> SequenceTwoTower:
    schema = FeatureSchema(
        (
            IdFeature("user_id", "user", num_rows=1000),
            HistoryFeature("history", "user", num_rows=num_items),
            IdFeature("item_id", "item", num_rows=num_items),
        )
    )
    return SequenceTwoTower(schema, max_length=length, dropout=0.3, leave_out=["user_id"], temperature=0.1)


def _batch(num_items: int, length: int, seed: int) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    is_long = torch.rand(_WINDOWS, generator=draws) < 0.25
    shorter = (torch.rand(_WINDOWS, generator=draws) ** 2 * length).long() + 1
    lengths = torch.where(is_long, length, shorter)
    lengths[0] = length
    sequence_V = torch.repeat_interleave(torch.arange(_WINDOWS), lengths)
    num_events = len(sequence_V)
    rows, positions = torch.unique(
        torch.randint(1, num_items, (num_events,), generator=draws), return_inverse=True
    )
    place_V = torch.arange(num_events) - JaggedColumn.of_lengths(sequence_V, lengths).starts[sequence_V]
    items = Batch(_single("item_id", rows), torch.zeros(len(rows), 0))
    return Batch(
        _single("user_id", torch.ones(_WINDOWS, dtype=torch.int64)),
        torch.zeros(_WINDOWS, 0),
        sequences=Sequences(
            items=items,
            positions=positions,
            lengths=lengths,
            positives=torch.ones(num_events, dtype=torch.bool),
            timestamps=place_V * 3600 * _MICROSECONDS,
            ends=lengths * 3600 * _MICROSECONDS,
            times_known=torch.ones(_WINDOWS, dtype=torch.bool),
            query_sequences=sequence_V,
            query_states=place_V,
            query_instants=place_V * 3600 * _MICROSECONDS,
        ),
    )


def _single(name: str, rows: torch.Tensor) -> KeyedJaggedTensor:
    return KeyedJaggedTensor(keys=[name], values=rows, lengths=torch.ones(len(rows), dtype=torch.int32))


def _seconds(model: SequenceTwoTower, batches: list[Batch], *, is_packed: bool) -> float:
    started = time.perf_counter()
    for batch in batches:
        model.zero_grad()
        vectors = model.encode_queries(batch) if is_packed else _padded_queries(model, batch)
        vectors.sin().sum().backward()
    return time.perf_counter() - started


def _padded_queries(model: SequenceTwoTower, batch: Batch) -> torch.Tensor:
    """Vectors of the queries through the tower as a bundle calls it: every history as long as the longest."""
    sequences = batch.sequences
    assert sequences is not None
    vectors_VD = model.encode_candidates(sequences.items)[:, : model.query_tower.width][sequences.positions]
    longest = int(sequences.lengths.max())
    mask_BL = torch.arange(longest) < sequences.lengths[:, None]
    items_BLD = vectors_VD.new_zeros(len(sequences), longest, vectors_VD.shape[1])
    items_BLD[mask_BL] = vectors_VD
    seconds_BS = torch.arange(longest + 1).expand(len(sequences), -1) * 3600.0
    states_BSD: torch.Tensor = model.query_tower(
        embed(model, batch), batch.dense, items_BLD, mask_BL, seconds_BS, sequences.times_known
    )
    return states_BSD[sequences.query_sequences, sequences.query_states]
