"""`auto`: facts of a train split -> sizes, and where they end up."""

import dataclasses
import logging

import pytest

from recsys.commands.auto_sizes import fitted
from recsys.commands.options import TrainConfig
from recsys.config.auto import left_to_data, without
from recsys.config.build import build
from recsys.config.check import Problem
from recsys.config.compose import Command
from recsys.config.review import review
from recsys.data.dataset import PreparedDataset
from recsys.models import sizes as sizes_of
from recsys.models.dcn_v2 import DCNv2
from recsys.models.ease import EASE
from recsys.models.ials import IALS
from recsys.models.mmoe import MMoE
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.models.two_tower import TwoTower
from recsys.schema.errors import InputError
from recsys.schema.facts import DataFacts
from tests.data.preparing import STARS, prepared

COMMAND = Command("train", TrainConfig, continues="resume", repeats=True)
# Positives, users, items, median and long history of sets that people publish figures on, roughly.
SETS = {
    "a thousand clicks": (1_000, 100, 50, 8, 20),
    "movielens_100k": (53_000, 942, 1_682, 33, 130),
    "amazon beauty": (131_000, 22_363, 12_101, 4, 10),
    "movielens_1m": (988_000, 6_040, 3_706, 94, 397),
    "gowalla": (810_000, 29_858, 40_981, 15, 58),
    "a shop": (500_000_000, 20_000_000, 5_000_000, 5, 60),
}


def facts(name) -> DataFacts:
    positives, users, items, median, long = SETS[name]
    return DataFacts(
        num_users=users,
        num_items=items,
        num_rows=positives,
        num_positives=positives,
        num_features=6,
        median_history=median,
        long_history=long,
    )


def sizes(model, name):
    return {key: rule(facts(name)).value for key, rule in model.auto_sizes.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a thousand clicks", (32, 1, 0.3, 20, 200, 10)),
        ("movielens_100k", (64, 2, 0.3, 130, 200, 10)),
        ("amazon beauty", (64, 1, 0.3, 20, 123, 6)),
        ("movielens_1m", (64, 2, 0.3, 200, 20, 5)),
        ("a shop", (16, 1, 0.3, 60, 20, 5)),
    ],
)
def test_sequence_model_grows_with_what_is_known(name, expected):
    found = sizes(SequenceTwoTower, name)
    keys = ("model.embedding_dim", "model.num_blocks", "model.dropout", "data.history_length", *_LASTING)
    assert tuple(found[key] for key in keys) == expected
    assert found["model.max_length"] == found["data.history_length"]


_LASTING = ("trainer.max_epochs", "trainer.patience")


@pytest.mark.parametrize("model", [TwoTower, SequenceTwoTower, DCNv2, MMoE, EASE, IALS])
@pytest.mark.parametrize("fact", [f.name for f in dataclasses.fields(DataFacts) if f.name != "leave_out"])
def test_every_rule_is_monotone_and_bounded(model, fact):
    """More of one fact moves a size in one direction, and no size leaves the range of the model's config."""
    for key, rule in model.auto_sizes.items():
        grown = [
            rule(dataclasses.replace(facts("movielens_100k"), **{fact: 10**power})).value
            for power in range(10)
        ]
        numbers = [sum(one) if isinstance(one, list) else _ORDER.get(one, one) for one in grown]
        assert numbers in (sorted(numbers), sorted(numbers, reverse=True)), key
        assert 0 < min(numbers) <= max(numbers) <= 10_000, key


_ORDER = {"none": 1, "gate": 2}

STEPS = [
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_positives": 19_999}, 32),
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_positives": 20_000}, 64),
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_positives": 999_999}, 64),
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_positives": 1_000_000}, 128),
    # 2 GiB of float32 are 2^29 numbers: 2^23 rows of 64, so that one row more halves them.
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_users": 2**23 - 1, "num_items": 1}, 64),
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_users": 2**23, "num_items": 1}, 32),
    (sizes_of.RETRIEVAL["model.embedding_dim"], {"num_users": 2**30, "num_items": 1}, 16),
    (sizes_of.RANKING["model.embedding_dim"], {"num_rows": 19_999}, 8),
    (sizes_of.RANKING["model.embedding_dim"], {"num_rows": 20_000}, 16),
    (sizes_of.RANKING["model.embedding_dim"], {"num_rows": 4_999_999}, 16),
    (sizes_of.RANKING["model.embedding_dim"], {"num_rows": 5_000_000}, 32),
    (sizes_of.RANKING["model.hidden"], {"num_rows": 19_999}, [64]),
    (sizes_of.RANKING["model.hidden"], {"num_rows": 20_000}, [128, 64]),
    (sizes_of.RANKING["model.hidden"], {"num_rows": 999_999}, [128, 64]),
    (sizes_of.RANKING["model.hidden"], {"num_rows": 1_000_000}, [256, 128]),
    (sizes_of.RANKING["task.embedding_penalty"], {"num_features": 0}, 0.06),
    (sizes_of.RANKING["task.embedding_penalty"], {"num_features": 6}, 0.01),
    (sizes_of.RANKING["task.embedding_penalty"], {"num_features": 600}, 0.001),
    (sizes_of.SEQUENCE["model.dropout"], {"median_history": 99}, 0.3),
    (sizes_of.SEQUENCE["model.dropout"], {"median_history": 100}, 0.2),
    (sizes_of.SEQUENCE["model.num_blocks"], {"median_history": 19}, 1),
    (sizes_of.SEQUENCE["model.num_blocks"], {"median_history": 20}, 2),
    (sizes_of.RETRIEVAL["data.history_length"], {"long_history": 3}, 20),
    (sizes_of.RETRIEVAL["data.history_length"], {"long_history": 121}, 130),
    (sizes_of.RETRIEVAL["data.history_length"], {"long_history": 1000}, 200),
    (sizes_of.RANKING["data.history_length"], {"long_history": 31}, 40),
    (sizes_of.RANKING["data.history_length"], {"long_history": 121}, 50),
    (sizes_of.LEAST_SQUARES["model.l2"], {"num_items": 400}, 0.05),
    (sizes_of.LEAST_SQUARES["model.l2"], {"num_items": 2_500}, 0.01),
    (sizes_of.LEAST_SQUARES["model.l2"], {"num_items": 30_000}, 0.001),
    (sizes_of.LINEAR["model.embedding_dim"], {"num_users": 9}, 12),
    (sizes_of.LINEAR["model.embedding_dim"], {"num_users": 10**6, "num_items": 100_000}, 512),
    (sizes_of.LINEAR["model.embedding_dim"], {"num_users": 10**6, "num_items": 100_001}, 256),
    (sizes_of.RETRIEVAL["trainer.max_epochs"], {"num_positives": 16_000_000 // 20}, 20),
    (sizes_of.RETRIEVAL["trainer.max_epochs"], {"num_positives": 160_001}, 100),
    (sizes_of.RETRIEVAL["trainer.max_epochs"], {"num_positives": 1}, 200),
    (sizes_of.RETRIEVAL["trainer.patience"], {"num_positives": 16_000_000 // 20}, 5),
    (sizes_of.RETRIEVAL["trainer.patience"], {"num_positives": 16_000_000 // 160}, 8),
    (sizes_of.RETRIEVAL["trainer.patience"], {"num_positives": 1}, 10),
    # Of 1,682 films a tenth is 168.2; by time 66 are new.
    (sizes_of.TOWERS["model.cold_start"], {"num_new_items": 66}, "none"),
    (sizes_of.TOWERS["model.cold_start"], {"num_new_items": 168}, "none"),
    (sizes_of.TOWERS["model.cold_start"], {"num_new_items": 169}, "gate"),
    (sizes_of.TOWERS["model.cold_start"], {"num_new_items": 169, "leave_out": ("item_id",)}, "none"),
    (sizes_of.TOWERS["model.cold_start"], {"num_new_items": 169, "leave_out": ("history",)}, "none"),
    (sizes_of.TOWERS["model.cold_start"], {"num_new_items": 169, "leave_out": ("user_id",)}, "gate"),
]


@pytest.mark.parametrize(("rule", "changed", "expected"), STEPS)
def test_rule_steps_where_it_says(rule, changed, expected):
    assert rule(dataclasses.replace(facts("movielens_100k"), **changed)).value == expected


def test_reasons_name_the_fact():
    rule = SequenceTwoTower.auto_sizes["data.history_length"]
    assert rule(facts("gowalla")) == (60, "a tenth of the users have more than 58 positives")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> PreparedDataset:
    """User n has n likes and one dislike, n from 1 to 20; the last row of each is the test split."""
    rows = [
        (f"u{user}", f"i{item}", item, 5 if item < user else 1, "train")
        for user in range(1, 21)
        for item in range(user + 1)
    ]
    rows += [(f"u{user}", "i0", 99, 5, "test") for user in range(1, 21)]
    names = ("user_id", "item_id", "timestamp", "stars", "part")
    table = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return PreparedDataset.open(
        prepared(
            tmp_path_factory.mktemp("sized"),
            table,
            label=STARS,
            split="predefined",
            columns={"split": "part"},
            max_rejected_share=1.0,
        )
    )


def test_facts_are_counted_on_positives_of_train(dataset):
    found = dataset.facts()
    # 1 + 2 + ... + 20 likes and 20 dislikes; of the 20 numbers of likes the 10th is 10 and the 18th is 18.
    assert found == DataFacts(
        num_users=20,
        num_items=21,
        num_rows=230,
        num_positives=210,
        num_features=4,
        median_history=10,
        long_history=18,
    )
    assert found.density == 210 / (20 * 21)


def composed(*overrides):
    first = review(COMMAND, ["data=table", "data.interactions.path=x", *overrides]).first
    problems: list[Problem] = []
    plain = without(first.plain, left_to_data(first.plain))
    config = build(plain, TrainConfig, "", problems)
    assert problems == []
    return config, first.plain


def test_numbers_are_left_as_they_are(dataset):
    config, plain = composed("model=sequence_two_tower", "model.embedding_dim=32", *GIVEN)
    assert fitted(config, plain, dataset) == (config, plain)


GIVEN = (
    "model.cold_start=none",
    "model.dropout=0.1",
    "data.history_length=50",
    "trainer.max_epochs=3",
    "trainer.patience=2",
)


def test_auto_becomes_a_number_in_options_configuration_and_log(dataset, caplog):
    config, plain = composed("model=sequence_two_tower", "model.embedding_dim=auto", *GIVEN)
    with caplog.at_level(logging.INFO):
        config, plain = fitted(config, plain, dataset)
    assert config.model.arguments["embedding_dim"] == plain["model"]["embedding_dim"] == 32
    assert "`model.embedding_dim` is 32: 210 positives" in caplog.text
    assert (plain["data"]["history_length"], plain["model"]["max_length"]) == (50, 50)


def test_history_and_positions_get_the_same_length(dataset):
    config, plain = composed("model=sequence_two_tower", "data.history_length=auto")
    config, plain = fitted(config, plain, dataset)
    assert config.data.history_length == config.model.arguments["max_length"] == 20


def test_run_that_starts_from_another_keeps_its_sizes(dataset):
    config, plain = composed("model=sequence_two_tower", "model.embedding_dim=auto")
    _, plain = fitted(config, plain, dataset, earlier={"model": {"embedding_dim": 128}})
    assert plain["model"]["embedding_dim"] == 128


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=mmoe", "model.hidden=auto"],
            "expected a list of int for `model.hidden`, got .auto.: .*MMoE` has a rule .*embedding_dim",
        ),
        (
            ["model=two_tower", "model.dropout=auto"],
            "expected float for `model.dropout`, got 'auto': .*history_",
        ),
        (["model=two_tower", "seed=auto"], "expected int for `seed`, got 'auto': .* give a number"),
    ],
)
def test_auto_without_a_rule_is_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        review(COMMAND, ["data=table", "data.interactions.path=x", *overrides])


@pytest.mark.parametrize(
    "recipe",
    [
        "implicit_sequence",
        "implicit_unordered",
        "features_sequence",
        "large_catalogue",
        "ranking",
        "ranking_neighbours",
        "ml1m_sequence_leave_last_out",
    ],
)
def test_recipe_leaves_its_sizes_to_the_data(recipe, dataset):
    first = review(COMMAND, [f"experiment={recipe}", "data.interactions.path=x"]).first
    problems: list[Problem] = []
    plain = without(first.plain, left_to_data(first.plain))
    config = build(plain, TrainConfig, "", problems)
    assert first.plain["model"]["embedding_dim"] == "auto"
    config, plain = fitted(config, first.plain, dataset)
    assert problems == []
    assert config.model.arguments["embedding_dim"] == plain["model"]["embedding_dim"] in (8, 32)


@pytest.mark.parametrize("model", ["ease", "item_knn", "ials", "ease_factorization", "popularity"])
def test_fitted_model_reads_one_batch_an_epoch_and_is_not_stopped_early(model):
    trainer = review(COMMAND, ["data=table", "data.interactions.path=x", f"model={model}"]).first.plain[
        "trainer"
    ]
    assert (trainer["patience"], trainer["limit_train_batches"]) == (None, 1)
