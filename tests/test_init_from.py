"""init_from: a model that goes on with newer data and a grown vocabulary."""

import csv
import shutil

import pyarrow.parquet as pq
import pytest
import torch

import evaluate
import train
from recsys.models.weights import read_weights
from recsys.schema.manifest import read_station


def write(path, *, users, items, start):
    """Every user, one after the other, with ten of the items, a third of them disliked."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "stars"])
        for user in users:
            for step in range(10):
                item = items[(7 * step + user) % len(items)]
                rows.writerow([f"u{user}", item, start + 600 * step + 400 * user, 5 - (step + user) % 3])


def words(folder, name, *more):
    return (
        "data=table",
        f"data.interactions.path={folder / name}",
        f"data.items.path={folder / 'items.csv'}",
        "data.label={column: stars, positive_at_least: 4}",
        f"data.cache_dir={folder / 'cache'}",
        "data.batch_size=64",
        "model.embedding_dim=8",
        "trainer.progress_bar=false",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1",
        "evaluation=fast",
        *more,
    )


def end(*arguments):
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    return ended.value.code


MODELS = {
    "two_tower": ("model=two_tower", "model.cold_start=none"),
    "gate": ("model=two_tower", "model.cold_start=gate"),
    "fused": ("model=two_tower", "model.cold_start=none", "optimizer.tables=rowwise_adagrad"),
    "matrix_factorization": ("model=matrix_factorization",),
    "wide_deep": ("model=wide_deep", "model.crosses=[[user_id,genre]]", "model.cross_buckets=50"),
}
# Nothing moves: what the run ends with is what it began with.
STILL = ("optimizer.learning_rate=0", "optimizer.table_learning_rate=0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tables of events, and a run of each model on the first; the second has further users and items."""
    folder = tmp_path_factory.mktemp("growing")
    names = [f"p{number:02d}" for number in range(16)]
    write(folder / "early.csv", users=range(30), items=names[:12], start=1_700_000_000)
    write(folder / "late.csv", users=range(20, 40), items=names, start=1_700_500_000)
    genres = "".join(f"{name},g{number % 5},{number / 2}\n" for number, name in enumerate(names))
    (folder / "items.csv").write_text("item_id,genre,price\n" + genres)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, model in MODELS.items():
            assert end(*words(folder, "early.csv", *model), f"run_dir={name}") == 0
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def weights(run):
    return read_weights(run / "checkpoints" / "best")


@pytest.mark.parametrize("name", MODELS)
def test_known_rows_stay_and_new_ones_are_out_of_vocabulary(folder, tmp_path, name):
    run = tmp_path / "grown"
    asked = words(folder, "late.csv", *MODELS[name], *STILL, f"run_dir={run}", f"init_from={name}")
    assert end(*asked) == 0
    before, after = weights(folder / name), weights(run)
    assert list(before) == list(after)
    grown = set()
    counts = before.pop("counts.counts", None)
    if counts is not None:  # those of the newer dataset, whose events are others
        assert len(after["counts.counts"]) > len(counts)
        assert 0 < after["counts.counts"].sum() != counts.sum()
    for key, old in before.items():
        new = torch.atleast_1d(after[key])
        old = torch.atleast_1d(old)
        assert torch.equal(new[: len(old)], old), key  # removing what is new gives the earlier model
        if len(new) > len(old):
            grown.add(key)
            assert torch.equal(new[len(old) :], old[:1].expand(len(new) - len(old), -1)), key
    assert any("user_id" in key for key in grown)
    assert any("item_id" in key for key in grown)
    assert all(".embedding_bags." in key for key in grown)
    manifest, origin = read_station(run, "run"), read_station(folder / name, "run")
    assert manifest["initialised_from"] == {
        "run": str(folder / name),
        "fingerprint": origin["fingerprint"],
    }
    assert read_station(manifest["prepared"], "prepared")["config"]["extends"] == origin["prepared"]


def test_dataset_in_another_order_is_mapped_by_value(folder, tmp_path, capsys):
    alone = tmp_path / "alone"
    assert end(*words(folder, "late.csv"), f"run_dir={alone}") == 0
    prepared = read_station(alone, "run")["prepared"]
    run, given = tmp_path / "grown", (f"data.prepared={prepared}", "init_from=two_tower", *STILL)
    assert end(*words(folder, "late.csv"), *given, f"run_dir={run}") == 0
    assert "`price` (mean" in capsys.readouterr().err  # scaled anew, which we are told
    known, values = (user_ids(at) for at in (folder / "two_tower", run))
    assert values[:5] != known[:5]
    key = "tables.collection.embedding_bags.user_id.weight"
    before, after = weights(folder / "two_tower")[key], weights(run)[key]
    for row, value in enumerate(values, start=1):
        assert torch.equal(after[row], before[known.index(value) + 1 if value in known else 0]), value
    assert sum(value not in known for value in values) == 10


def user_ids(run):
    """Raw ids by row, from 1."""
    prepared = read_station(run, "run")["prepared"]
    return pq.read_table(f"{prepared}/vocabularies/user_id.parquet")["value"].to_pylist()


def test_continued_run_learns_and_is_evaluated_and_resumed(folder, tmp_path, capsys):
    run = tmp_path / "grown"
    asked = ("init_from=two_tower", "data.train_from=1700510000", f"run_dir={run}")
    assert end(*words(folder, "late.csv", *asked)) == 0
    before, after = weights(folder / "two_tower"), weights(run)
    assert not all(torch.equal(after[key][: len(old)], old) for key, old in before.items())
    with pytest.raises(SystemExit) as ended:
        evaluate.main([f"run={run}"])
    assert ended.value.code == 0
    assert end(f"resume={run}", "trainer.max_epochs=2") == 0
    assert read_station(run, "run")["initialised_from"]["run"] == str(folder / "two_tower")


def test_moved_rows_of_a_cross_are_refused(folder, tmp_path, capsys):
    assert end(*words(folder, "late.csv"), f"run_dir={tmp_path / 'alone'}") == 0
    prepared = f"data.prepared={read_station(tmp_path / 'alone', 'run')['prepared']}"
    asked = (*MODELS["wide_deep"], prepared, "init_from=wide_deep", f"run_dir={tmp_path / 'grown'}")
    capsys.readouterr()
    assert end(*words(folder, "late.csv"), *asked) == 2
    assert "the cross `user_id_x_genre` hashes rows, and those of `user_id`" in capsys.readouterr().err
    assert not (tmp_path / "grown").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            ("model.embedding_dim=16",),
            "its `tables.collection.embedding_bags.user_id.weight` is [",
        ),
        (("model.embedding_dim=16",), "; the run had model.embedding_dim=8"),
        (("model.leave_out=[genre]",), "it has a `tables.collection.embedding_bags.genre.weight`, which the"),
        (("model.hidden=[128,64]",), "it has no `candidate_tower.mlp."),
        (("model=wide_deep",), "holds a `recsys.models.two_tower.TwoTower`, and the new model is a `recsys."),
        (("data.ids={item_id: {kind: id, encoder: hash, num_buckets: 9}}",), "`item_id` has encoder 'hash'"),
        (("resume=two_tower",), "`resume=two_tower` goes on with a run as it is, `init_from=two_tower` beg"),
        (("init_from=nowhere",), "expected the folder of a run, got `nowhere`"),
        (("data.train_from=2100-01-01",), "`data.train_from=2100-01-01` leaves nothing to learn from in"),
        (("data.train_from=soon",), "`data.train_from` must be given as ISO text or as a number in s"),
    ],
)
def test_what_does_not_fit_is_named_before_any_work(folder, tmp_path, capsys, changed, message):
    run = tmp_path / "grown"
    base = words(folder, "late.csv", "init_from=two_tower", f"run_dir={run}")
    if changed[0].startswith("resume"):
        base = ("init_from=two_tower",)
    assert end(*base, *changed) == 2
    assert message in capsys.readouterr().err
    assert not (run / "checkpoints").exists()


def test_lost_dataset_of_the_run_is_prepared_again(folder, tmp_path, capsys):
    lost = tmp_path / "lost"
    asked = words(folder, "early.csv", f"data.cache_dir={tmp_path / 'cache'}", f"run_dir={lost}")
    assert end(*asked) == 0
    prepared = read_station(lost, "run")["prepared"]
    shutil.rmtree(prepared)
    assert end(*words(folder, "late.csv"), f"init_from={lost}") == 0
    assert f"the prepared dataset `{prepared}` is gone; preparing it again" in capsys.readouterr().err
