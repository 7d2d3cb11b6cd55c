"""Generated requests: each has a defined answer or an error that names the field; no NaN, no unknown id."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
SCALARS = st.one_of(st.none(), st.booleans(), INT64, st.integers(0, 50), st.floats(), st.text(max_size=20))
LISTS = st.one_of(
    st.lists(st.text(max_size=8), min_size=1, max_size=5),
    st.lists(INT64, min_size=1, max_size=5),
    st.lists(st.floats(), min_size=1, max_size=5),
    st.lists(st.one_of(st.none(), st.sampled_from(["Drama", "p"])), min_size=1, max_size=5),
)
ITEM_IDS = st.one_of(
    st.integers(0, 40).map("sku-{}é".format), st.none(), st.text(max_size=5), INT64, st.floats()
)
HISTORIES = st.lists(ITEM_IDS, max_size=30)
USER_FIELDS = ["user_id", "uid", "age", "zip", "member", "city", "plan", "interests", "typo"]
ITEM_FIELDS = [
    "item_id",
    "sku",
    "title",
    "genres",
    "tags",
    "colours",
    "price",
    "weight",
    "year",
    "maker",
    "city",
]
CONTEXT_FIELDS = ["timestamp", "ts", "device", "basket", "dwell"]
MULTIVALUED = {"interests", "genres", "tags", "colours", "basket", "typo"}
OUR_NAMES = {"uid": "user_id", "ts": "timestamp"}
FUZZ = settings(max_examples=200, deadline=None)


def records(fields):
    """Records of some of the fields; lists only where lists belong."""
    return st.fixed_dictionaries(
        {}, optional={f: st.one_of(SCALARS, LISTS) if f in MULTIVALUED else SCALARS for f in fields}
    )


def wild_records(fields):
    """Records of anything that torch can hand over."""
    return st.dictionaries(st.sampled_from(fields), st.one_of(SCALARS, LISTS), max_size=4)


def qualified(record, table):
    """The record as part of a flat row: `city` is a column of users and of items."""
    return {f"{table}.{field}" if field == "city" else field: value for field, value in record.items()}


@FUZZ
@given(records(USER_FIELDS), HISTORIES, records(CONTEXT_FIELDS), st.integers(1, 50), HISTORIES)
def test_every_request_gets_known_ids_and_finite_scores(retrieval, user, history, context, k, exclude):
    ids, scores = retrieval.program.recommend(user, history, k, context, exclude)
    known = set(retrieval.dataset.item_ids[1:])
    left = known - set(history) - set(exclude)
    assert len(ids) == len(set(ids)) == len(scores) == min(k, len(left))
    assert set(ids) <= left
    assert all(math.isfinite(score) for score in scores)
    assert scores == sorted(scores, reverse=True)


@FUZZ
@given(records(ITEM_FIELDS))
def test_every_item_gets_a_finite_vector(retrieval, item):
    vector = retrieval.program.encode_item(item)
    assert vector.isfinite().all()
    assert torch.allclose(vector.norm(), torch.tensor(1.0), atol=1e-5)


@settings(FUZZ, max_examples=60)
@given(st.lists(st.tuples(*map(records, (USER_FIELDS, ITEM_FIELDS, CONTEXT_FIELDS)), HISTORIES), max_size=4))
def test_every_row_gets_a_probability_whatever_stands_beside_it(ranking, parts):
    rows = [
        {**qualified(user, "users"), **qualified(item, "items"), **context}
        | ({"history": history} if history and len({type(i) for i in history}) == 1 else {})
        for user, item, context, history in parts
    ]
    together = ranking.program.predict(rows)
    assert together.shape == (len(rows),)
    assert ((together >= 0) & (together <= 1)).all()
    for row, probability in zip(rows, together, strict=True):
        torch.testing.assert_close(ranking.program.predict([row])[0], probability, rtol=0, atol=1e-5)


@FUZZ
@given(wild_records(USER_FIELDS), wild_records(CONTEXT_FIELDS))
def test_a_value_of_the_wrong_type_is_answered_or_refused_by_name(retrieval, user, context):
    read = {OUR_NAMES.get(field, field): value for field, value in {**user, **context}.items()}
    read |= {field: value for field, value in {**user, **context}.items() if field not in OUR_NAMES}
    wrong = {field for field, value in read.items() if isinstance(value, list)} - MULTIVALUED
    if wrong:
        with pytest.raises(torch.jit.Error, match=f"`({'|'.join(wrong)})` must be one value"):
            retrieval.program.encode_user(user, [], context)
    else:
        assert retrieval.program.encode_user(user, [], context).isfinite().all()


REQUESTS = st.tuples(
    *(records(USER_FIELDS), HISTORIES, records(CONTEXT_FIELDS), st.integers(1, 50), HISTORIES),
    st.one_of(st.none(), st.integers(1, 60)),
    st.one_of(st.none(), st.floats(0, 1)),
)


def check_list(recommender, user, history, context, k, exclude, num_candidates, diversity):
    """A list of k known items that are left, each with a probability, a finite score and a source."""
    ids, probabilities, scores, sources = recommender.program.recommend(
        user, history, k, context, exclude, num_candidates=num_candidates, diversity=diversity
    )
    left = set(recommender.retrieval.dataset.item_ids[1:]) - set(history) - set(exclude)
    assert len(ids) == len(set(ids)) == min(k, len(left))
    assert set(ids) <= left
    assert len(probabilities) == len(scores) == len(sources) == len(ids)
    assert all(0 <= probability <= 1 for probability in probabilities)
    assert all(math.isfinite(score) for score in scores)
    assert set(sources) <= {"retrieval", "ranking", "diversity"}
    if not diversity:
        assert probabilities == sorted(probabilities, reverse=True)
        assert "diversity" not in sources


@FUZZ
@given(REQUESTS)
def test_every_request_to_two_stages_gets_known_ids_and_probabilities(recommender, asked):
    check_list(recommender, *asked)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REQUESTS)
def test_ten_thousand_requests_to_two_stages_get_known_ids_and_probabilities(recommender, asked):
    check_list(recommender, *asked)


@FUZZ
@given(wild_records(USER_FIELDS), wild_records(CONTEXT_FIELDS))
def test_two_stages_answer_a_wrong_type_or_refuse_it_by_name(recommender, user, context):
    wrong = {
        field
        for record, fields in ((user, USER_FIELDS), (context, CONTEXT_FIELDS))
        for field, value in record.items()
        if isinstance(value, list) and field in fields and field not in MULTIVALUED
    }
    if wrong - set(OUR_NAMES):
        with pytest.raises(torch.jit.Error, match="must be one value"):
            recommender.program.recommend(user, [], 3, context)
    elif not wrong:
        ids, probabilities, _, _ = recommender.program.recommend(user, [], 3, context)
        assert len(ids) == 3
        assert all(0 <= probability <= 1 for probability in probabilities)
