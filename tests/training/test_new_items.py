"""The default two-tower finds what is new of a catalogue of which a fifth is new and has tags, unasked."""

import logging

import numpy as np
import pandas as pd
import pytest

import recsys

NUM_USERS, NUM_ITEMS, NUM_TOPICS, K = 240, 200, 10, 20
OVERRIDES = {
    "data.split": "cold_item",
    "data.interactions.features": {},
    "trainer.max_epochs": 6,
    "trainer.projector_items": 0,
    "trainer.progress_bar": False,
    "trainer.patience": None,
    "evaluation.resamples": 10,
    "evaluation.k": [K],
    "logger": "none",
}


def shop(seed=0):
    """Each item has a tag of its topic and three of hundreds; each user likes 12 items of two topics."""
    generator = np.random.default_rng(seed)
    items = pd.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(NUM_ITEMS)],
            "tags": [
                [f"topic{item % NUM_TOPICS}", *(f"tag{tag}" for tag in generator.integers(300, size=3))]
                for item in range(NUM_ITEMS)
            ],
        }
    )
    rows = []
    for user in range(NUM_USERS):
        topics = generator.choice(NUM_TOPICS, 2, replace=False)
        liked = np.flatnonzero(np.isin(np.arange(NUM_ITEMS) % NUM_TOPICS, topics))
        rows += [(f"u{user}", f"i{item}") for item in generator.permutation(liked)[:12]]
    return pd.DataFrame(rows, columns=["user_id", "item_id"]), items


def trained(tmp_path, caplog, experiment=None, **overrides):
    events, items = shop()
    with caplog.at_level(logging.INFO):
        return recsys.train(
            experiment=experiment,
            interactions=events,
            items=items,
            timestamp=None,
            run_dir=tmp_path / "run",
            overrides={**OVERRIDES, "data.cache_dir": str(tmp_path / "cache"), **overrides},
        )


def test_default_finds_new_items_among_new_and_in_the_whole_catalogue(tmp_path, caplog):
    run = trained(tmp_path, caplog)
    assert "`model.cold_start` is gate: 40 of 200 items (20.0%) are new and have content" in caplog.text
    assert "40 of 200 items have no train positives and are left out of the losses" in caplog.text
    # Of the 40 new items 8 are of a user's two topics, about half of which are in the test split. By chance
    # recall@20 is .1, and recall@5 among the new .125; whoever knows the topics and nothing else has some .7
    # (20 places for the 28 items of both topics that are not known) and 5 / 8.
    assert run.metrics["test"][f"recall@{K}"] > 0.5
    among_new = run.evaluate(overrides={"evaluation.candidates": "new", "evaluation.k": [5]})
    assert among_new.metrics["recall@5"] > 0.5


def test_recipe_of_new_items_finds_them_in_three_epochs(tmp_path, caplog):
    events = {"data.interactions.columns.split": None, "trainer.max_epochs": 3, "data.batch_size": 128}
    tags = {"data.items.features": {"tags": {"kind": "multi_id", "pooling": "idf"}}}
    run = trained(tmp_path, caplog, "cold_items", **events, **tags, **{"evaluation.k": [5]})
    # Whoever knows the topics and nothing else has 5 / 8; by chance it is .125.
    assert run.metrics["test"]["recall@5"] > 0.5


@pytest.mark.slow
def test_what_the_default_was_finds_nothing_new(tmp_path, caplog):
    before = {"model.cold_start": "none", "task.new_items": "negatives"}
    run = trained(tmp_path, caplog, **before)
    assert run.metrics["test"][f"recall@{K}"] < 0.3
    assert "are negatives in every step, never positives" in caplog.text


def test_plain_tower_leaves_many_new_items_out_unasked(tmp_path, caplog):
    trained(tmp_path, caplog, **{"model.cold_start": "none", "trainer.max_epochs": 1})
    assert "are left out of the losses" in caplog.text


def test_model_of_ids_alone_says_that_it_places_nothing_new(tmp_path, caplog):
    trained(tmp_path, caplog, **{"model": "matrix_factorization", "trainer.max_epochs": 1})
    assert "40 of 200 items are new and have content, which MatrixFactorization does not read" in caplog.text
