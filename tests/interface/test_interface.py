"""The Python interface: DataFrames in, runs, recommendations, evaluations and bundles out."""

import json
import subprocess
import sys

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys
from recsys.interface.frames import path_of
from recsys.runs.environment import PROJECT
from recsys.schema.errors import InputError
from tests.interface.worlds import books, events

OVERRIDES = {"trainer.max_epochs": 2, "trainer.projector_items": 0, "evaluation.resamples": 20}
RECIPE = {"experiment": "implicit_sequence", "overrides": OVERRIDES}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return recsys.train(interactions=events(), items=books(), run_dir=folder, **RECIPE)


def test_importing_the_package_loads_nothing_heavy_and_is_quick():
    program = (
        "import time; begun = time.perf_counter(); import recsys; seconds = time.perf_counter() - begun\n"
        "import sys; heavy = ('torch', 'pandas', 'hydra', 'pyarrow')\n"
        "print(seconds, [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    seconds, _, loaded = done.stdout.strip().partition(" ")
    assert loaded == "[]"
    assert float(seconds) < 0.2


def test_package_names_what_it_has():
    assert {"train", "prepare", "evaluate", "open_run", "Bundle", "__version__"} <= set(dir(recsys))
    declared = (PROJECT / "pyproject.toml").read_text()
    assert f'\nversion = "{recsys.__version__}"' in declared
    with pytest.raises(AttributeError, match="module `recsys` has no attribute `fit`; it has prepare, train"):
        _ = recsys.fit


def polars_with(kind):
    return lambda frame: pl.from_pandas(frame).with_columns(pl.col("user_id", "item_id").cast(kind))


@pytest.mark.parametrize(
    "convert",
    [
        pl.from_pandas,
        lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
        polars_with(pl.Categorical),
        polars_with(pl.Enum([f"{word}{number}" for word in ("reader", "book") for number in range(60)])),
        lambda frame: frame.astype({"user_id": "category"}),
        lambda frame: frame.set_index("user_id"),
        lambda frame: frame.set_index(["user_id", "item_id"]),
    ],
)
def test_frames_of_other_libraries_prepare_the_same_rows(tmp_path, convert):
    overrides = {"data.split": "leave_last_out", "data.cache_dir": str(tmp_path)}
    one, other = (
        recsys.prepare(interactions=frame, overrides=overrides) for frame in (events(), convert(events()))
    )
    assert one.manifest["counts"] == other.manifest["counts"]
    assert one.user_ids.tolist() == other.user_ids.tolist()
    assert one.split_table("test").equals(other.split_table("test"))


def test_frame_given_again_is_written_and_prepared_once(tmp_path):
    first = path_of(events(), name="interactions", cache=tmp_path)
    time = first.stat().st_mtime_ns
    assert path_of(events(), name="interactions", cache=tmp_path) == first
    assert first.stat().st_mtime_ns == time
    assert path_of(events(seed=1), name="interactions", cache=tmp_path) != first
    assert len(list((tmp_path / "frames").iterdir())) == 2
    asked = {"interactions": events(), "overrides": {"data.split": "leave_last_out"}}
    assert recsys.prepare(**asked).path == recsys.prepare(**asked).path


def test_path_and_frame_prepare_the_same_rows(tmp_path):
    events().to_csv(tmp_path / "events.csv", index=False)
    overrides = {"data.split": "leave_last_out"}
    from_path = recsys.prepare(interactions=tmp_path / "events.csv", overrides=overrides)
    from_frame = recsys.prepare(interactions=events(), overrides=overrides)
    assert from_path.split_table("train").equals(from_frame.split_table("train"))


def test_columns_are_named_by_arguments():
    renamed = events().rename(columns={"user_id": "uid", "item_id": "sku", "timestamp": "ts"}).assign(stars=5)
    dataset = recsys.prepare(
        interactions=renamed,
        user_id="uid",
        item_id="sku",
        timestamp="ts",
        label="stars",
        overrides={"data.label.positive_at_least": 4},
    )
    assert dataset.num_users == 61
    assert dataset.manifest["label"]["only_positives"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interactions": 3}, r"expected a path or a DataFrame .* for `interactions`, got int"),
        (
            {"interactions": pd.DataFrame({"a": [1, "x"]})},
            "`interactions` cannot be read as a table: .* column a",
        ),
        (
            {"interactions": pl.from_pandas(events()).with_columns(pl.lit({}, dtype=pl.Object).alias("who"))},
            "`who` holds Python objects, which nobody else can read",
        ),
        (
            {"interactions": events().assign(part=pd.cut(events().timestamp, 3))},
            "the column `part` is of the type dictionary<values=extension<pandas.interval",
        ),
        (
            {"interactions": events(), "user": "uid"},
            "there is no argument `user`; there are interactions, users",
        ),
        ({"interactions": events(), "user_id": "uid"}, "columns.user_id=uid`: there is no such column"),
        ({"interactions": events(), "overrides": {"data.splti": "random"}}, "did you mean `data.split`"),
        ({"interactions": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_mistakes_are_refused_with_the_commands_message(arguments, message):
    with pytest.raises(InputError, match=message):
        recsys.prepare(**arguments)


def test_sweep_is_left_to_the_command():
    with pytest.raises(InputError, match="run many trainings: give them to `recsys train`"):
        recsys.train(interactions=events(), overrides={"sweep": "two_tower"})


def test_run_has_its_metrics_and_opens_again(run):
    assert 0 <= run.metrics["test"]["ndcg@10"] <= 1
    assert recsys.open_run(run.path).metrics == run.metrics
    assert "ndcg@10" in repr(run)
    assert "<table" in run._repr_html_()


def test_recommendations_are_new_to_the_user_and_ordered(run):
    table = run.recommend(["reader0", "reader7"], k=5)
    assert table.columns.tolist() == ["user_id", "rank", "item_id", "score"]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    for reader, rows in table.groupby("user_id"):
        seen = set(events().set_index("user_id").loc[reader, "item_id"])
        assert not seen & set(rows["item_id"])
        assert rows["score"].is_monotonic_decreasing


def test_recommendations_are_those_of_the_bundle_for_the_same_history(run):
    bundle = recsys.export(run, overrides={"export.parity_rows": 4, "export.recorded_requests": 1})
    data = events()
    for reader in ("reader3", "reader11"):
        history = data[data["user_id"] == reader].sort_values("timestamp")
        times = history["timestamp"].tolist()
        items, scores = bundle.recommend(
            {"user_id": reader}, history["item_id"].tolist(), 10, history_times=times
        )
        table = run.recommend([reader], k=10)
        assert table["item_id"].tolist() == items
        assert table["score"].tolist() == pytest.approx(scores, abs=1e-5)
    again = recsys.Bundle.open(bundle.folder)
    assert again.manifest["fingerprint"] == bundle.manifest["fingerprint"]


def test_user_without_a_history_is_named(run, caplog):
    table = run.recommend(["nobody"], k=3)
    assert len(table) == 3
    assert "1 of 1 users have no history in the data, for example 'nobody'" in caplog.text


def test_one_id_in_place_of_a_list_is_refused(run):
    with pytest.raises(
        InputError, match=r"expected a list of user ids for `users`, got 'reader0'; write \['reader0'\]"
    ):
        run.recommend("reader0")


def test_evaluation_shows_its_table_and_report(run):
    evaluation = run.evaluate(overrides={"evaluation.baselines": ["popularity"]})
    kept = json.loads((evaluation.path / "metrics.json").read_text())
    assert evaluation.metrics == kept["metrics"]
    assert evaluation.metrics["ndcg@10"] == pytest.approx(run.metrics["test"]["ndcg@10"], abs=1e-9)
    assert evaluation.table.index.tolist() == ["model", "popularity"]
    assert kept["verdict"]["text"] in repr(evaluation)
    assert "<iframe srcdoc=" in evaluation._repr_html_()


def test_recommendations_of_a_frame_get_the_figures_of_the_run_that_made_them(run, tmp_path):
    evaluation = recsys.evaluate(run, overrides={"evaluation.baselines": ["popularity"]})
    lists = pq.read_table(evaluation.path / "recommendations.parquet").to_pandas()
    other = recsys.evaluate(
        recommendations=lists,
        interactions=events(),
        items=books(),
        run_dir=tmp_path / "lists",
        overrides={"data.split": "leave_last_out", "data.interactions.features": {}, "evaluation": "fast"},
    )
    assert other.metrics["ndcg@10"] == pytest.approx(evaluation.metrics["ndcg@10"], abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected `run` or `recommendations`, received neither"),
        ({"run": "runs/x", "recommendations": "lists.parquet"}, "either `run` or `recommendations`"),
        ({"run": "runs/x", "run_dir": "runs/y"}, "a run has its own tables and folder"),
    ],
)
def test_evaluation_of_both_or_neither_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        recsys.evaluate(**arguments)


def test_ranking_model_says_how_it_recommends(tmp_path):
    run = recsys.train(
        interactions=events(),
        run_dir=tmp_path / "ranking",
        overrides={"model": "wide_deep", "data.split": "leave_last_out", "trainer.max_epochs": 1},
    )
    with pytest.raises(InputError, match="expected the run of a retrieval model to recommend with, but"):
        run.recommend(["reader0"])


def test_interrupted_training_says_how_to_go_on_and_does(tmp_path, monkeypatch):
    from recsys.training.callbacks import Interruption

    begin = Interruption.on_train_batch_end

    def interrupt(self, trainer, *others):
        self.requested = trainer.current_epoch == 1
        begin(self, trainer, *others)

    monkeypatch.setattr(Interruption, "on_train_batch_end", interrupt)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match=r'go on with `recsys.train\(resume=".*run"\)`'):
        recsys.train(interactions=events(), items=books(), run_dir=folder, **RECIPE)
    monkeypatch.undo()
    assert recsys.train(resume=folder).metrics["best_epoch"] in (0, 1)
