"""Windows of timelines against the same thing done event by event in plain Python."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.datamodule import RecDataModule
from recsys.data.dataset import PreparedDataset
from recsys.data.options import DataOptions, InteractionsTable, Label
from recsys.data.prepare import prepare


def raw_events(seed=0):
    """30 users; many ties in time; some items unknown to train; some events disliked."""
    rng = np.random.default_rng(seed)
    size = 900
    return pa.table(
        {
            "user_id": rng.choice(30, size, p=np.arange(1, 31) / 465),
            "item_id": rng.integers(0, 40, size),
            "timestamp": rng.integers(0, 160, size) * 3600,
            "stars": rng.integers(1, 6, size),
        }
    )


@pytest.fixture(scope="module", params=["global_time", "leave_last_out"])
def options(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    pq.write_table(raw_events(), folder / "events.parquet")
    return DataOptions(
        interactions=InteractionsTable(path=str(folder / "events.parquet")),
        label=Label(column="stars", positive_at_least=3),
        split=request.param,
        timestamp_unit="s",
        cache_dir=str(folder / "cache"),
        history_length=7,
        batch_size=5,
    )


@pytest.fixture(scope="module")
def dataset(options):
    return PreparedDataset.open(prepare(options))


def module(options, events, **keys):
    return RecDataModule(options, events_read=events, **keys)


def timelines(dataset, split, events):
    """{history row: [(timestamp, item row, positive, split), ...]}, in the order of preparing."""
    table = pq.read_table(dataset.path / "histories" / f"{split}.parquet").to_pylist()
    found = {}
    for row in table:
        lists = zip(row["timestamps"], row["item_rows"], row["positives"], row["splits"], strict=True)
        found[row["user_row"]] = [event for event in lists if events == "all" or event[2]]
    return found


def expected_pairs(dataset, events, since=0):
    """(user, history as items and instants, when, target) of every positive of train with a known item."""
    ties_by_item = dataset.manifest["config"]["split"] == "leave_last_out"
    found = []
    for user, line in timelines(dataset, "train", events).items():
        for place, (when, item, positive, _) in enumerate(line):
            if not positive or item == 0 or when < since:
                continue
            before = line[:place] if ties_by_item else [event for event in line if event[0] < when]
            found.append((user, tuple((event[1], event[0]) for event in before), when, item))
    return sorted(found)


def shown_pairs(batch):
    """The same of a batch: what each asked state has seen, within its window."""
    sequences = batch.sequences
    rows = sequences.items.ids["item_id"].values()[sequences.positions]
    ends = sequences.lengths.cumsum(0)
    users = batch.ids["user_id"].values()
    kept = zip(
        sequences.query_sequences.tolist(),
        sequences.query_states.tolist(),
        sequences.query_instants.tolist(),
        batch.item_rows.tolist(),
        strict=True,
    )
    for sequence, state, when, item in kept:
        begin = int(ends[sequence] - sequences.lengths[sequence])
        seen = slice(begin, begin + state)
        history = tuple(zip(rows[seen].tolist(), sequences.timestamps[seen].tolist(), strict=True))
        after = (
            sequences.timestamps[begin + state]
            if begin + state < ends[sequence]
            else sequences.ends[sequence]
        )
        yield (int(users[sequence]), history, when, item), int(after)


@pytest.mark.parametrize("events", ["positives", "all"])
def test_every_positive_is_learnt_once_an_epoch_from_what_was_strictly_before(options, dataset, events):
    loader = module(options, events).train_dataloader()
    expected = expected_pairs(dataset, events)
    seen_cuts = set()
    for _ in range(3):
        pairs = [pair for batch in loader for pair in shown_pairs(batch)]
        assert sorted((user, when, item) for (user, _, when, item), _ in pairs) == sorted(
            (user, when, item) for user, _, when, item in expected
        )
        whole = {(user, when, item): history for user, history, when, item in expected}
        for (user, history, when, item), after in pairs:
            assert len(history) <= 7
            full = whole[user, when, item]
            assert history == full[len(full) - len(history) :]
            assert bool(history) == bool(full)
            assert after == when  # what follows the last seen event is what is asked for
        seen_cuts.add(tuple(len(history) for (_, history, _, _), _ in sorted(pairs)))
    assert len(seen_cuts) == 3


def test_learning_can_begin_at_an_instant(options, dataset):
    later = dataclasses.replace(options, train_from=40 * 3600)
    loader = module(later, "positives").train_dataloader()
    pairs = [pair for batch in loader for pair, _ in shown_pairs(batch)]
    expected = expected_pairs(dataset, "positives", since=40 * 3600 * 1_000_000)
    assert sorted((user, when, item) for user, _, when, item in pairs) == sorted(
        (user, when, item) for user, _, when, item in expected
    )
    whole = {(user, when, item): history for user, history, when, item in expected}
    firsts = {}
    for user, history, when, item in sorted(pairs, key=lambda pair: pair[2]):
        firsts.setdefault(user, (history, whole[user, when, item]))
    assert all(len(history) >= min(len(full), 4) for history, full in firsts.values())
    assert any(len(full) > 7 for _, full in firsts.values())


def test_loader_goes_on_in_the_middle_of_an_epoch(options):
    whole = module(options, "positives", seed=3).train_dataloader()
    first = [batch.item_rows.tolist() for batch in whole]
    second = [batch.item_rows.tolist() for batch in whole]
    broken = module(options, "positives", seed=3).train_dataloader()
    list(broken)
    for number, batch in enumerate(broken):
        assert batch.item_rows.tolist() == second[number]
        if number == 2:
            state = broken.state_dict()
            break
    resumed = module(options, "positives", seed=3).train_dataloader()
    resumed.load_state_dict(state)
    assert [batch.item_rows.tolist() for batch in resumed] == second[3:]
    assert first != second
    assert len(whole) == len(second)


def test_ranks_share_each_batch_and_weigh_by_what_is_asked(options):
    whole = module(options, "positives").train_dataloader()
    ranks = [module(options, "positives", rank=rank, num_ranks=3).train_dataloader() for rank in range(3)]
    for batch, *parts in itertools.zip_longest(whole, *ranks):
        kept = [part for part in parts if part.share > 0]
        assert torch.equal(torch.cat([part.item_rows for part in kept]), batch.item_rows)
        assert sum(part.share for part in parts) == pytest.approx(3)
        for part in kept:
            assert part.share == pytest.approx(3 * len(part) / len(batch))


@pytest.mark.parametrize("events", ["positives", "all"])
@pytest.mark.parametrize("mode", ["event", "user"])
def test_queries_see_the_latest_events_before_them(options, dataset, events, mode):
    queries = dataset.queries("test", mode=mode, history_length=7, events_read=events)
    batch = queries.batch(torch.arange(len(queries)))
    lines = timelines(dataset, "test", events)
    keys = {
        row["user_row"]: row for row in pq.read_table(dataset.path / "histories" / "test.parquet").to_pylist()
    }
    assert set(lines) == set(keys)
    ties_by_item = dataset.manifest["config"]["split"] == "leave_last_out"
    unknown = 0
    for number, ((user, history, when, _), _) in enumerate(shown_of_queries(batch)):
        if user == 0:
            unknown += 1
            continue
        line = lines[user]
        if mode == "user":
            before = [event for event in line if event[3] < 2]
        elif ties_by_item:
            item = int(queries.events.item_rows[number])
            before = line[: [(event[0], event[1]) for event in line].index((when, item))]
        else:
            before = [event for event in line if event[0] < when]
        assert history == tuple((event[1], event[0]) for event in before[-7:])
        seen = batch.seen.lists()[number]
        assert sorted(seen) == sorted(event[1] for event in before)
    assert unknown < len(queries)


def shown_of_queries(batch):
    batch.item_rows = torch.zeros(len(batch), dtype=torch.int64)
    return shown_pairs(batch)
