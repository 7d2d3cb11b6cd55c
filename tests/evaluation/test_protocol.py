"""The protocol: what changes its hash and what does not."""

import dataclasses
import json

import pytest

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.protocol import (
    LEAK_WARNING,
    protocol_hash,
    ranking_protocol,
    retrieval_protocol,
    warnings_of,
)
from recsys.schema.environment import environment
from tests.data.preparing import STARS, prepared

OPTIONS = EvaluationOptions()


def hash_of(dataset, options=OPTIONS, **changes):
    return protocol_hash(retrieval_protocol(dataset, options, queries=dataset.queries("test", **changes)))


def test_hash_stays_when_only_the_model_could_differ(rated, ratings, tmp_path):
    again = PreparedDataset.open(
        prepared(tmp_path, ratings, items={"item_id": rated.item_ids[1:].tolist()}, label=STARS)
    )
    assert not again.item_titles[1].startswith("Film")  # other features
    assert hash_of(again) == hash_of(rated)
    assert hash_of(rated, history_length=3) == hash_of(rated)
    assert hash_of(rated, dataclasses.replace(OPTIONS, resamples=3, seed=5, baselines=())) == hash_of(rated)
    assert hash_of(rated, dataclasses.replace(OPTIONS, k=OPTIONS.k[::-1])) == hash_of(rated)


def test_hash_tells_other_questions_apart(rated, ratings, tmp_path):
    later = dict(ratings, timestamp=[when + 1 for when in ratings["timestamp"]])
    other = PreparedDataset.open(prepared(tmp_path / "a", later, label=STARS))
    smaller = PreparedDataset.open(prepared(tmp_path / "b", ratings, label=STARS))
    assert smaller.num_items < rated.num_items
    hashes = {
        hash_of(rated),
        hash_of(other),
        hash_of(smaller),
        hash_of(rated, mode="user"),
        hash_of(rated, dataclasses.replace(OPTIONS, k=(10,))),
        hash_of(rated, dataclasses.replace(OPTIONS, known="train"), known="train"),
    }
    assert len(hashes) == 6
    options = dataclasses.replace(OPTIONS, known="train")
    said = retrieval_protocol(rated, options, queries=rated.queries("test", known="train"))["queries_rule"]
    assert said.endswith("before it; of these, those of train alone (`evaluation.known=train`)")


def test_hash_tells_other_moments_and_other_candidates_apart(rated, ratings, tmp_path):
    queries = rated.queries("test")
    events = dataclasses.replace(queries.events, timestamps=queries.events.timestamps + 1)
    later = retrieval_protocol(rated, OPTIONS, queries=dataclasses.replace(queries, events=events))
    assert protocol_hash(later) != hash_of(rated)
    ids = [f"other{i}" if i == "i29" else i for i in sorted(rated.item_ids[1:])]
    assert "i29" not in ratings["item_id"]
    other = PreparedDataset.open(prepared(tmp_path, ratings, items={"item_id": ids}, label=STARS))
    assert other.num_items == rated.num_items
    assert hash_of(other) != hash_of(rated)


def test_ranking_protocol_names_sampled_negatives(clicked):
    rows = clicked.split_table("test")
    plain = ranking_protocol(clicked, rows=rows, num_negatives=0)
    sampled = ranking_protocol(clicked, rows=rows, num_negatives=4)
    assert "beside each 4 items drawn uniformly" in sampled["rows"]
    assert protocol_hash(plain) != protocol_hash(sampled)


@pytest.mark.parametrize(("name", "expected"), [("rated", []), ("clicked", [LEAK_WARNING])])
def test_random_split_is_said_to_leak(name, expected, request):
    assert warnings_of(request.getfixturevalue(name)) == expected
    assert "leaks the future" in LEAK_WARNING


def test_environment_is_plain_data():
    found = environment()
    assert {"commit", "python", "torch", "machine", "threads"} == found.keys()
    json.dumps(found)
