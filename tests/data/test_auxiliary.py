"""Auxiliary labels from the raw table to the batch."""

import dataclasses
import json
import math

import pytest
import torch

from recsys.data.datamodule import RecDataModule
from recsys.data.options import Auxiliary, Label
from recsys.data.prepare import prepare
from recsys.schema.features import FeatureSchema
from tests.data.preparing import options_for, rows_of

EVENTS = {
    "user_id": [1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
    "item_id": [7, 8, 7, 8, 7, 8, 7, 8, 7, 8],
    "timestamp": list(range(1_600_000_000, 1_600_000_010)),
    "rating": [5, 1, 4, 2, 5, 3, 5, 1, 2, 5],
    "shared": ["yes", "0", "1", "2.5", None, "0", "1", "1", "0", "1"],
    "seconds": [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, None, 100.0, 3.0, 5.0],
}
LABELS = {
    "shared": Auxiliary("shared", positive_at_least=1),
    "dwell": Auxiliary("seconds"),
    "log_dwell": Auxiliary("seconds", transform="log"),
}


def options(folder, **changes):
    changes = {"label": Label("rating", 4), "split": "global_time", "auxiliary_labels": LABELS, **changes}
    return options_for(folder, EVENTS, **changes)


def labels_of(station):
    return FeatureSchema.from_dict(json.loads((station / "schema.json").read_text())).labels


def test_labels_are_read_fitted_on_train_and_written(tmp_path):
    station = prepare(options(tmp_path))
    rows = rows_of(station, "train")
    # 8 of 10 rows by time; "yes" and null are no numbers
    assert [row["label.shared"] for row in rows] == [None, 0.0, 1.0, 1.0, None, 0.0, 1.0, 1.0]
    known = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 100.0]
    mean = sum(known) / 7
    std = math.sqrt(sum((x - mean) ** 2 for x in known) / 7)
    shared, dwell, log_dwell = labels_of(station)
    assert (shared.name, shared.kind, shared.mean, shared.std) == ("shared", "binary", 0.0, 1.0)
    assert (dwell.kind, dwell.column) == ("numeric", "seconds")
    assert (dwell.mean, dwell.std) == pytest.approx((mean, std))
    assert log_dwell.mean == pytest.approx(sum(math.log(1 + x) for x in known) / 7)
    assert rows[3]["label.dwell"] == pytest.approx((6.0 - mean) / std)
    assert rows[3]["label.log_dwell"] == pytest.approx((math.log(7) - log_dwell.mean) / log_dwell.std)
    assert rows[6]["label.dwell"] is None
    assert rows_of(station, "test")[0]["label.dwell"] == pytest.approx((5.0 - mean) / std)


def test_batches_hold_them_in_the_order_of_the_schema(tmp_path):
    module = RecDataModule(dataclasses.replace(options(tmp_path), batch_size=4), task="ranking")
    batch = next(iter(module.loader("validation", shuffle=False)))
    _, dwell, log_dwell = module.dataset.schema.labels
    expected = [0.0, (3.0 - dwell.mean) / dwell.std, (math.log(4) - log_dwell.mean) / log_dwell.std]
    torch.testing.assert_close(batch.auxiliary_labels, torch.tensor([expected]))
    batches = list(module.train_dataloader())
    assert [tuple(batch.auxiliary_labels.shape) for batch in batches] == [(4, 3), (4, 3)]


def test_data_without_them_has_none_in_its_batches(tmp_path):
    module = RecDataModule(options(tmp_path, auxiliary_labels={}), task="ranking")
    assert next(iter(module.loader("validation", shuffle=False))).auxiliary_labels is None
    assert "labels" not in json.loads((module.dataset.path / "schema.json").read_text())


def test_of_sampled_negatives_nothing_is_known(tmp_path):
    module = RecDataModule(
        dataclasses.replace(options(tmp_path, label=Label()), negatives_per_positive=2), task="ranking"
    )
    batch = next(iter(module.train_dataloader()))
    assert (batch.auxiliary_labels[batch.labels == 0].isnan()).all()
    assert not batch.auxiliary_labels[batch.labels == 1].isnan().all()


def test_an_extending_dataset_keeps_mean_and_deviation(tmp_path):
    first = options(tmp_path, until=1_600_000_006)
    before = prepare(first)
    after = prepare(dataclasses.replace(first, until=None, extends=str(before)))
    assert labels_of(after) == labels_of(before)
    assert labels_of(prepare(dataclasses.replace(first, until=None))) != labels_of(before)


def test_a_feature_must_not_read_a_label(tmp_path):
    with pytest.raises(ValueError, match=r"reads the column `seconds`, which is not known before the event"):
        prepare(options(tmp_path, context={"dwell": {"kind": "numeric", "column": "seconds"}}))


def test_a_column_that_is_not_there_is_named_with_its_key(tmp_path):
    with pytest.raises(ValueError, match=r"`data.auxiliary_labels.liked.column`|liked"):
        prepare(options(tmp_path, auxiliary_labels={"liked": Auxiliary("like")}))


def test_a_label_without_a_number_is_refused(tmp_path):
    events = {**EVENTS, "seconds": ["soon"] * 10}
    with pytest.raises(ValueError, match=r"`data.auxiliary_labels.dwell`: no number in the column `seconds`"):
        prepare(options_for(tmp_path, events, auxiliary_labels={"dwell": Auxiliary("seconds")}))


@pytest.mark.parametrize("name", ["main", "a b", "1st"])
def test_a_name_that_a_head_cannot_have_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"`data.auxiliary_labels.{name}`: expected letters, digits"):
        prepare(options(tmp_path, auxiliary_labels={name: Auxiliary("seconds")}))


def test_a_binary_label_has_no_transform(tmp_path):
    label = Auxiliary("seconds", positive_at_least=3, transform="log")
    with pytest.raises(ValueError, match=r"`data.auxiliary_labels.long.transform=log` is of a numeric label"):
        prepare(options(tmp_path, auxiliary_labels={"long": label}))


def test_a_dataset_of_other_labels_is_another(tmp_path):
    one, two = (
        FeatureSchema((), labels_of(prepare(options(tmp_path, auxiliary_labels=labels))))
        for labels in (LABELS, {"dwell": LABELS["dwell"]})
    )
    assert "the auxiliary labels are" in one.differences(two)[0]
