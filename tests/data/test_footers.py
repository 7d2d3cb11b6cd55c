"""Prepared datasets of strangers, whose manifests agree with files that hold something else."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, write_manifest
from tests.data.test_dataset import options  # noqa: F401 (a fixture)
from tests.test_trust import OWN_KEYS


@pytest.fixture
def spoilt(options, tmp_path):  # noqa: F811
    """Changes a table of a dataset, and has its manifest agree."""
    folder = tmp_path / "there"
    shutil.copytree(prepare(options), folder)

    def spoil(name, change):
        path = folder / name
        if callable(change):
            pq.write_table(change(pq.read_table(path)), path)
        else:
            path.write_text(change)
        manifest = json.loads((folder / MANIFEST).read_text())
        extra = {key: manifest[key] for key in manifest if key not in OWN_KEYS}
        write_manifest(folder, "prepared", config=manifest["config"], source=manifest["source"], extra=extra)
        return folder

    return spoil


def filled(column, value, kind=None):
    def fill(table):
        values = pa.array([value] * len(table), kind or table.schema.field(column).type)
        return table.set_column(table.column_names.index(column), column, values)

    return fill


TRAIN = "train/part-00000.parquet"


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (TRAIN, filled("user_row", -5), "expected rows from 0 to 2 in `user_row`, found -5 to -5"),
        (TRAIN, filled("item_row", 9), "expected rows from 0 to 5 in `item_row`, found 9 to 9"),
        (TRAIN, filled("item_row", None), "in `item_row`, found none, 5 missing"),
        (TRAIN, filled("item_row", "x", pa.string()), "expected whole numbers in `item_row`, found string"),
        (TRAIN, filled("history_row", 7), "expected rows from 0 to 1 in `history_row`, found 7 to 7"),
        (TRAIN, filled("history_length", -1), "in `history_length`, found -1 to -1"),
        (TRAIN, lambda table: table.drop_columns(["positive"]), "a column `positive`, found none"),
        (
            "items.parquet",
            lambda table: table.slice(0, 2),
            "part-00000.parquet` is damaged: expected rows from 0 to 1",
        ),
        ("items.parquet", lambda table: table.drop_columns(["kind"]), "expected a column `kind`"),
        ("users.parquet", lambda table: table.drop_columns(["user_id"]), "expected a column `user_id`"),
        ("histories/train.parquet", lambda _table: pa.table({"a": [1]}), "expected a column `item_rows`"),
        (TRAIN, "hello", "smaller than the minimum file footer"),
        ("schema.json", '{"features": 7}', "expected `features` to be list"),
        ("schema.json", '{"features": [7]}', "it describes no features"),
        ("schema.json", '{"features": [{"kind": "id", "odd": 1}]}', "it describes no features"),
    ],
)
def test_what_no_dataset_holds_is_refused_by_the_name_of_the_file(spoilt, name, change, reason):
    folder = spoilt(name, change)
    with pytest.raises(InputError) as refused:
        PreparedDataset.open(folder)
    assert "` is damaged: " in str(refused.value)
    assert reason in str(refused.value)
