import dataclasses

import pytest
import torch

from recsys.models.protocols import embed
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.schema.batch import Batch, Sequences
from tests.models.contract import ALL, RetrievalContract
from tests.worlds import SCHEMA, SIZE, checkerboard

HOUR = 3_600_000_000


def padded(sequences, values_V):
    """[B, L, ...] values of the events; zeros behind the end of a shorter sequence."""
    found = values_V.new_zeros(len(sequences), int(sequences.lengths.max()), *values_V.shape[1:])
    begin = 0
    for number, length in enumerate(sequences.lengths.tolist()):
        found[number, :length] = values_V[begin : begin + length]
        begin += length
    return found


def instants_of(sequences):
    """[B, L + 1] seconds from each sequence's first event to every event and, then, its end."""
    found = torch.zeros(len(sequences), int(sequences.lengths.max()) + 1)
    begin = 0
    for number, length in enumerate(sequences.lengths.tolist()):
        instants = [*sequences.timestamps[begin : begin + length].tolist(), int(sequences.ends[number])]
        found[number, : length + 1] = torch.tensor([(at - instants[0]) // 1_000_000 for at in instants])
        begin += length
    return found


def queries(users: torch.Tensor) -> Batch:
    """The checkerboard's queries, their histories event by event: an event an hour, asked an hour later."""
    world = checkerboard()
    batch = world.queries.select(users)
    history = batch.ids["history"]
    lengths = history.lengths().long()
    rows, positions = torch.unique(history.values(), return_inverse=True)
    if not len(rows):
        rows = torch.zeros(1, dtype=torch.int64)
    places = torch.cat([torch.arange(int(length)) for length in lengths])
    batch.sequences = Sequences(
        items=world.catalogue.select(rows),
        positions=positions,
        lengths=lengths,
        positives=torch.ones_like(positions, dtype=torch.bool),
        timestamps=places * HOUR,
        ends=lengths * HOUR,
        times_known=torch.ones_like(lengths, dtype=torch.bool),
        query_sequences=torch.arange(len(lengths)),
        query_states=lengths,
        query_instants=lengths * HOUR,
    )
    return batch


@pytest.mark.parametrize(
    ("history_encoder", "temperature"),
    [
        ("mean", None),
        ("attention", None),
        ("transformer", None),
        ("hstu", None),
        ("transformer", 0.1),
        ("gru", None),
    ],
)
class TestSequenceTwoTower(RetrievalContract):
    @pytest.fixture(autouse=True)
    def chosen(self, history_encoder, temperature):
        self.history_encoder, self.temperature = history_encoder, temperature

    def build(self, schema):
        return SequenceTwoTower(
            schema,
            embedding_dim=16,
            history_encoder=self.history_encoder,
            temperature=self.temperature,
            dropout=0.0,
            max_length=SIZE,
        )

    def queries(self, users):
        return queries(users)

    def query_inputs(self, model, batch):
        sequences = batch.sequences
        vectors = model.encode_candidates(sequences.items)[:, : model.query_tower.width]
        return (
            embed(model, batch),
            batch.dense,
            padded(sequences, vectors[sequences.positions]),
            padded(sequences, sequences.positives),
            instants_of(sequences),
            sequences.times_known,
        )


class TestSequenceGate(RetrievalContract):
    # The unknown item has no behaviour: its content is what places it.
    test_unknown_user_and_item_are_trained = None

    def build(self, schema):
        model = SequenceTwoTower(
            schema,
            embedding_dim=16,
            temperature=0.1,
            cold_start="gate",
            behaviour_dropout=0.1,
            dropout=0.0,
            max_length=SIZE,
        )
        model.counts.set(ALL, torch.full((SIZE + 1,), 5.0))
        return model

    queries = TestSequenceTwoTower.queries
    query_inputs = TestSequenceTwoTower.query_inputs

    def test_state_without_events_is_the_profile_and_each_event_moves_the_weight(self, model):
        batch = self.queries(ALL)
        weights = model.query_weights(batch)
        seen = batch.sequences.query_states
        assert ((weights == 0) == (seen == 0)).all()
        assert set(seen.tolist()) > {0}

    def test_item_without_events_is_its_content_without_a_bias(self, model):
        catalogue = checkerboard().catalogue
        model.counts.counts[3] = 0
        for tables in (model.ids, model.biases):
            for weight in tables.state_dict().values():
                weight += 1.0
        changed = model.encode_candidates(catalogue)
        assert changed[3, 16] == 0
        assert changed[4, 16] == 1
        assert model.candidate_weights(catalogue)[3] == 0


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SequenceTwoTower(SCHEMA, embedding_dim=8, max_length=SIZE, init_std=0.5).eval()


def test_state_in_the_middle_is_the_one_of_a_history_that_ends_there(model):
    whole = queries(torch.tensor([3]))
    whole.sequences.query_sequences = torch.zeros(3, dtype=torch.int64)
    whole.sequences.query_states = torch.tensor([0, 2, 4])
    states = model.encode_queries(whole)
    for number, length in enumerate((0, 2, 4)):
        part = queries(torch.tensor([3]))
        sequences = part.sequences
        part.sequences = dataclasses.replace(
            sequences,
            positions=sequences.positions[:length],
            positives=sequences.positives[:length],
            timestamps=sequences.timestamps[:length],
            lengths=torch.tensor([length]),
            ends=torch.tensor([length]) * HOUR,
            query_states=torch.tensor([length]),
        )
        torch.testing.assert_close(model.encode_queries(part)[0], states[number])


@pytest.mark.parametrize("what", ["ends", "timestamps", "positives", "order"])
def test_time_kind_and_order_of_events_matter(model, what):
    batch = queries(ALL)
    before = model.encode_queries(batch)
    sequences = batch.sequences
    if what == "ends":
        sequences.ends = sequences.ends + 1000 * HOUR
    elif what == "timestamps":
        sequences.timestamps = sequences.timestamps * 100
        sequences.ends = sequences.ends * 100
    elif what == "positives":
        sequences.positives = ~sequences.positives
    else:
        sequences.positions = sequences.positions.flip(0)
    moved = (model.encode_queries(batch) - before).abs().amax(dim=1) > 1e-3
    assert moved[1:].all()  # user 0 has no history
    assert not moved[0]


def test_unknown_times_do_not_matter(model):
    batch = queries(ALL)
    batch.sequences.times_known[:] = False
    before = model.encode_queries(batch)
    batch.sequences.timestamps = batch.sequences.timestamps * 7
    batch.sequences.ends = batch.sequences.ends + 12345678
    assert torch.equal(model.encode_queries(batch), before)


def test_item_is_the_same_as_input_and_as_answer(model):
    names = [name for name, _ in model.named_parameters() if "embedding_bags.item_id" in name]
    assert names == ["tables.collection.embedding_bags.item_id.weight"]
    before = model.encode_queries(queries(ALL)), model.encode_candidates(checkerboard().catalogue)
    with torch.no_grad():
        model.get_parameter("tables.collection.embedding_bags.genres.weight")[:, 0] += 1.0
    after = model.encode_queries(queries(ALL)), model.encode_candidates(checkerboard().catalogue)
    assert not torch.allclose(before[0][1:], after[0][1:])
    assert not torch.allclose(before[1][1:], after[1][1:])


def test_temperature_divides_a_cosine_and_is_learned():
    torch.manual_seed(0)
    model = SequenceTwoTower(SCHEMA, embedding_dim=8, max_length=SIZE, temperature=0.05).eval()
    states, items = model.encode_queries(queries(ALL)), model.encode_candidates(checkerboard().catalogue)
    torch.testing.assert_close(states[:, :8].norm(dim=1), torch.full((len(states),), 20.0))
    torch.testing.assert_close(items[:, :8].norm(dim=1), torch.ones(len(items)))
    (states[:, :8] @ items[:, :8].T).sum().backward()
    assert model.get_parameter("query_tower.log_scale").grad != 0
    with pytest.raises(ValueError, match=r"`model.temperature` must be null or positive, got 0"):
        SequenceTwoTower(SCHEMA, temperature=0.0)


def test_query_without_a_history_knows_the_profile(model):
    batch = queries(torch.tensor([0, 0]))
    batch.dense = torch.tensor([[0.0], [2.0]])
    first, second = model.encode_queries(batch)
    assert not torch.allclose(first, second)


def test_longer_history_than_the_model_has_places_for_is_refused(model):
    short = SequenceTwoTower(SCHEMA, embedding_dim=8, max_length=3)
    match = (
        r"a history of \d events is longer than the model's 3; give `model.max_length` at least `data.hist"
    )
    with pytest.raises(ValueError, match=match):
        short.encode_queries(queries(ALL))


def test_batch_without_sequences_is_refused(model):
    with pytest.raises(ValueError, match="reads histories event by event, and the batch has no sequences"):
        model.encode_queries(checkerboard().queries)


def test_leaving_out_an_unknown_feature_is_refused():
    with pytest.raises(ValueError, match=r"`model.leave_out` names features .* \['colour'\]"):
        SequenceTwoTower(SCHEMA, leave_out=["colour"])


def test_sequences_move_with_their_batch():
    moved = queries(ALL).to(torch.device("meta"))
    assert all(
        getattr(moved.sequences, field.name).device.type == "meta"
        for field in dataclasses.fields(Sequences)
        if field.name != "items"
    )
    assert moved.sequences.items.dense.device.type == "meta"


def test_number_moves_an_item_no_more_than_its_id_does_before_training():
    torch.manual_seed(0)
    model = SequenceTwoTower(SCHEMA, embedding_dim=64, max_length=SIZE)
    catalogue = checkerboard().catalogue
    before = model.encode_candidates(catalogue)
    by_id = model.get_parameter("tables.collection.embedding_bags.item_id.weight").norm(dim=1)
    catalogue.dense = catalogue.dense + 1.0  # one standard deviation
    moved = (model.encode_candidates(catalogue) - before).norm(dim=1)
    assert moved.min() > 0
    assert moved.max() < by_id.min()
    assert torch.allclose(moved, moved[:1])


def test_packed_queries_are_states_of_the_padded_tower(model):
    batch = queries(ALL)
    lengths = torch.minimum(batch.sequences.lengths, torch.arange(len(ALL)) * 5 % 8)
    places = torch.cat([torch.arange(length) for length in batch.sequences.lengths.tolist()])
    kept = places < torch.repeat_interleave(lengths, batch.sequences.lengths)
    events = {name: getattr(batch.sequences, name)[kept] for name in ("positions", "positives", "timestamps")}
    sequences = dataclasses.replace(batch.sequences, lengths=lengths, query_states=lengths, **events)
    sequences.times_known[::3] = False
    sequences.positives[::2] = False
    batch.sequences = sequences
    assert len(set(lengths.tolist())) > 5
    vectors = model.encode_candidates(sequences.items)[:, : model.query_tower.width]
    states = model.query_tower(
        embed(model, batch),
        batch.dense,
        padded(sequences, vectors[sequences.positions]),
        padded(sequences, sequences.positives),
        instants_of(sequences),
        sequences.times_known,
    )
    last = states[torch.arange(len(states)), sequences.lengths]
    torch.testing.assert_close(model.encode_queries(batch), last)
