"""Words and tags begin as singular vectors: what D dimensions keep of the cosines of contents."""

import numpy as np
import pytest
import torch

from recsys.nn.content_start import pooling_matrix, start_from_content
from recsys.nn.embeddings import FeatureTables, deferred_tables
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import MultiIdFeature
from tests.worlds import keyed

NUM_TAGS = 30


def catalogue(num_items=50, seed=0):
    generator = np.random.default_rng(seed)
    tags = [[], *(sorted(generator.choice(NUM_TAGS, 4, replace=False) + 1) for _ in range(num_items))]
    ids = keyed({"tags": [[int(tag) for tag in bag] for bag in tags]})
    return Batch(ids=ids, dense=torch.zeros(num_items + 1, 0))


@pytest.mark.parametrize("idf", [(), tuple(1.0 + tag % 3 for tag in range(NUM_TAGS + 1))])
def test_all_singular_vectors_give_the_cosines_of_the_contents(idf):
    items = catalogue()
    feature = MultiIdFeature("tags", "item", num_rows=NUM_TAGS + 1, pooling="idf" if idf else "mean", idf=idf)
    tables = FeatureTables([feature], embedding_dim=32, init_std=0.0)
    matrix = pooling_matrix(tables, items, "tags").toarray()
    assert np.allclose(np.linalg.norm(matrix[1:], axis=1), 1)
    start_from_content(tables, items, {"tags": 1.0}, is_known_I=torch.arange(51) > 0)
    embedded = tables(items.ids)["tags"][1:].detach()
    assert float(embedded.norm(dim=1).mean()) == pytest.approx(
        1 if idf else 0.5, rel=1e-3
    )  # a mean of 4, not w / 2
    unit = torch.nn.functional.normalize(embedded, dim=1).numpy()
    assert np.allclose(unit @ unit.T, matrix[1:] @ matrix[1:].T, atol=1e-4)


def test_tags_of_new_items_alone_begin_at_nothing():
    items = catalogue()
    feature = MultiIdFeature("tags", "item", num_rows=NUM_TAGS + 1)
    tables = FeatureTables([feature], embedding_dim=8, init_std=0.1)
    is_known = torch.arange(51) > 45
    start_from_content(tables, items, {"tags": 1.0}, is_known_I=is_known)
    known_tags = set(pooling_matrix(tables, items, "tags")[is_known.numpy()].indices.tolist())
    lengths = tables.weight("tags").norm(dim=1)
    unknown = [tag for tag in range(NUM_TAGS + 1) if tag not in known_tags]
    assert unknown
    # Of 5 items there are 5 singular vectors; the other 3 of the 8 coordinates are as they were drawn.
    assert (tables.weight("tags")[unknown, :5] == 0).all()
    assert (lengths[sorted(known_tags)] > 0).all()


def test_fused_tables_say_what_to_do():
    with deferred_tables():
        tables = FeatureTables([MultiIdFeature("tags", "item", num_rows=NUM_TAGS + 1)], embedding_dim=8)
    with pytest.raises(InputError, match=r"wants tables that are not fused; set `optimizer\.tables=adamw`"):
        start_from_content(tables, catalogue(), {"tags": 1.0}, is_known_I=torch.arange(51) > 0)


def test_word_dropout_leaves_words_out_in_training_alone():
    items = catalogue()
    torch.manual_seed(0)
    feature = MultiIdFeature("tags", "item", num_rows=NUM_TAGS + 1)
    plain, dropped = (
        FeatureTables([feature], embedding_dim=8, init_std=0.1, word_dropout=share) for share in (0.0, 0.5)
    )
    dropped.load_state_dict(plain.state_dict())
    expected = plain(items.ids)["tags"]
    assert torch.allclose(dropped.eval()(items.ids)["tags"], expected, atol=1e-6)
    dropped.train()
    drawn = torch.stack([dropped(items.ids)["tags"].detach() for _ in range(2000)])
    assert not torch.allclose(drawn[0], expected)
    # What is left counts for what is left out, so that the mean is that without dropout.
    assert torch.allclose(drawn.mean(dim=0), expected, atol=0.02)
