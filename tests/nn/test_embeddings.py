import pytest
import torch

from recsys.nn.cross import Cross
from recsys.nn.embeddings import FeatureTables
from recsys.schema.feature_kinds import IdFeature, MultiIdFeature
from tests.worlds import SCHEMA, checkerboard, keyed

FEATURES = [SCHEMA[name] for name in ("user_id", "history", "item_id", "genres")]


@pytest.fixture
def tables() -> FeatureTables:
    torch.manual_seed(0)
    return FeatureTables(FEATURES, embedding_dim=4, init_std=1.0).eval()


def weight(tables: FeatureTables, table: str) -> torch.Tensor:
    return tables.collection.embedding_bags[table].weight


def test_bag_is_the_mean_of_its_rows_and_zero_when_empty(tables):
    embedded = tables(keyed({"genres": [[1, 3], [], [2]]}))
    genres = weight(tables, "genres")
    expected = torch.stack([(genres[1] + genres[3]) / 2, torch.zeros(4), genres[2]])
    torch.testing.assert_close(embedded["genres"], expected)


def test_only_features_that_are_there_come_back(tables):
    assert list(tables(keyed({"genres": [[1]], "hour": [[3]]}))) == ["genres"]


def test_history_and_item_read_one_table(tables):
    embedded = tables(keyed({"history": [[5]], "item_id": [[5]]}))
    assert torch.equal(embedded["history"], embedded["item_id"])
    assert [name for name, _ in tables.named_parameters()].count(
        "collection.embedding_bags.item_id.weight"
    ) == 1


def test_rows_are_embedded_one_by_one_where_asked():
    tables = FeatureTables(FEATURES, embedding_dim=4, init_std=1.0, one_by_one=["history"])
    embedded = tables(keyed({"history": [[5, 2], [], [7]], "item_id": [[5], [1], [2]]}))
    items = weight(tables, "item_id")
    nothing = torch.zeros(4)
    expected = torch.stack(
        [torch.stack(bag) for bag in ([items[5], items[2]], [nothing] * 2, [items[7], nothing])]
    )
    assert torch.equal(embedded["history"], expected)
    assert torch.equal(embedded["item_id"], items[[5, 1, 2]])


def test_nothing_to_embed_one_by_one_is_a_history_of_length_0():
    tables = FeatureTables(FEATURES, embedding_dim=4, one_by_one=["history"])
    assert tables(keyed({"history": [[], []], "item_id": [[5], [1]]}))["history"].shape == (2, 0, 4)


def test_ids_are_dropped_in_training_alone_and_only_of_kind_id():
    torch.manual_seed(0)
    tables = FeatureTables(FEATURES, embedding_dim=4, init_std=1.0, id_dropout=1.0)
    ids = checkerboard().queries.ids
    unknown = weight(tables, "user_id")[0]
    assert torch.equal(tables(ids)["user_id"], unknown.expand(17, 4))
    history = tables(ids)["history"]
    tables.eval()
    assert torch.equal(tables(ids)["user_id"], weight(tables, "user_id"))
    assert torch.equal(tables(ids)["history"], history)


def test_id_dropout_drops_its_share():
    torch.manual_seed(0)
    feature = IdFeature("user_id", "user", num_rows=2)
    tables = FeatureTables([feature], embedding_dim=4, init_std=1.0, id_dropout=0.25)
    embedded = tables(keyed({"user_id": [[1]] * 4000}))["user_id"]
    dropped = (embedded == weight(tables, "user_id")[0]).all(dim=1).float().mean()
    assert dropped.item() == pytest.approx(0.25, abs=0.03)


def test_cross_has_a_table_of_its_own_under_the_prefix():
    cross = Cross(("user_id", "genres"), 50)
    tables = FeatureTables(FEATURES, embedding_dim=4, crosses=[cross], prefix="wide_").eval()
    assert weight(tables, "wide_user_id_x_genres").shape == (51, 4)
    both = tables(keyed({"user_id": [[1]], "genres": [[1, 2]]}))
    assert "wide_user_id_x_genres" in both
    assert "wide_user_id_x_genres" not in tables(keyed({"user_id": [[1]]}))


def test_dense_feature_has_no_table():
    with pytest.raises(ValueError, match=r"features \['age'\] are dense"):
        FeatureTables([SCHEMA["age"]], embedding_dim=4)


@pytest.mark.parametrize(
    ("feature", "bags", "expected", "got"),
    [
        ("user_id", [[1], [17], [2]], "from 0 to 16", 17),
        ("genres", [[1, 3], [], [2, 4]], "from 0 to 3", 4),
        ("genres", [[1, -1], [], [2]], "from 0 to 3", -1),
        ("history", [[], [], [16, 2**40]], "from 0 to 16", 2**40),
    ],
)
def test_row_beyond_its_table_is_refused_by_the_name_of_the_feature(tables, feature, bags, expected, got):
    columns = {"user_id": [[16], [0], [1]], "history": [[16], [], [1, 2]], "genres": [[3], [0, 1], []]}
    tables(keyed(columns))
    match = f"expected rows of feature `{feature}` {expected}, its table's last, got {got}: the batch was not"
    with pytest.raises(ValueError, match=match):
        tables(keyed({**columns, feature: bags}))


def test_rows_pooled_by_idf_weigh_as_tf_idf_and_others_stay_means():
    features = [
        MultiIdFeature("tags", "item", num_rows=4, pooling="idf", idf=(0.0, 1.0, 2.0, 3.0)),
        MultiIdFeature("genres", "item", num_rows=4),
    ]
    tables = FeatureTables(features, embedding_dim=4, init_std=1.0).eval()
    bags = [[1, 3], [], [2], [0]]
    embedded = tables(keyed({"tags": bags, "genres": bags}))
    tags, genres = weight(tables, "tags"), weight(tables, "genres")
    nothing = torch.zeros(4)
    expected = torch.stack([(tags[1] + 3 * tags[3]) / 10**0.5, nothing, tags[2], nothing])
    torch.testing.assert_close(embedded["tags"], expected)
    expected = torch.stack([(genres[1] + genres[3]) / 2, nothing, genres[2], genres[0]])
    torch.testing.assert_close(embedded["genres"], expected)
    assert set(tables.state_dict()) == {
        "collection.embedding_bags.tags.weight",
        "collection.embedding_bags.genres.weight",
    }
