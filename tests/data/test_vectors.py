"""Vectors made elsewhere: held as float16 beside the tables, in the rows of users and items."""

import re

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.schema.tables import vector_file
from tests.data.preparing import manifest_of, prepared

EVENTS = {"user_id": [1, 1, 1, 2], "item_id": ["a", "b", "b", "a"], "timestamp": [1, 2, 3, 4]}
COVERS = {"a": [0.5, -1.0, 2.0], "b": [3.0, 0.0, 0.25], "c": None, "d": [1.0, 1.0, 1.0]}
COVER = {"cover": {"kind": "vector"}}


def items(covers=COVERS, kind=None):
    kind = kind or pa.list_(pa.float32())
    return {"item_id": list(covers), "cover": pa.array(list(covers.values()), kind)}


def opened(folder, table=None, **changes):
    settings = {"split": "random", "split_fractions": (1.0, 0.0, 0.0), "item_features": COVER, **changes}
    return PreparedDataset.open(prepared(folder, EVENTS, items=table or items(), **settings))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 3), pa.list_(pa.float16())])
def test_vectors_stand_in_the_rows_of_their_items_and_zeros_where_there_is_none(tmp_path, kind):
    dataset = opened(tmp_path, items(kind=kind))
    assert dataset.schema["cover"].size == 3
    held = dataset.items.vectors.columns["cover"]
    assert held.dtype == torch.float16
    found = dict(zip(dataset.item_ids, held.tolist(), strict=True))
    assert found == {**COVERS, "c": [0.0] * 3, None: [0.0] * 3}
    batch = dataset.items.select(torch.tensor([2, 1, 1]))
    assert batch.vectors.columns["cover"].tolist() == held[[2, 1, 1]].tolist()


def test_vectors_are_mapped_and_kept_out_of_the_items_table(tmp_path):
    dataset = opened(tmp_path)
    assert "raw.cover" not in dataset.raw_items.column_names
    file = vector_file(dataset.path, "cover")
    assert str(file.relative_to(dataset.path)) in manifest_of(dataset.path)["files"]
    assert isinstance(np.load(file, mmap_mode="r"), np.memmap)
    assert dataset.items.vectors.columns["cover"].is_contiguous()


def test_a_fixed_length_list_of_fractions_is_recognised(tmp_path):
    dataset = opened(tmp_path, item_features=None)
    assert dataset.schema["cover"].kind == "vector"


@pytest.mark.parametrize(
    ("cover", "message"),
    [
        ([1.0, 2.0], "row 2 (item_id `b`): the vector in `cover` holds 2 numbers, where the first has 3"),
        ([1.0, float("nan"), 2.0], "row 2 (item_id `b`): the vector in `cover` holds NaN, null or infinity"),
        ([1.0, None, 2.0], "row 2 (item_id `b`): the vector in `cover` holds NaN, null or infinity"),
        ([1.0, 7e4, 2.0], "row 2 (item_id `b`): the vector in `cover` holds 70000, more than float16 holds"),
    ],
)
def test_a_vector_that_is_none_names_its_row(tmp_path, cover, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        opened(tmp_path, items({**COVERS, "b": cover}))


def test_a_column_of_something_else_is_refused(tmp_path):
    table = {"item_id": ["a", "b"], "cover": [0.5, 0.25]}
    with pytest.raises(ValueError, match=r"expected lists of numbers in the column `cover`, .* float64"):
        opened(tmp_path, table)
    with pytest.raises(ValueError, match="the column `cover` holds no vector"):
        opened(tmp_path, items(dict.fromkeys("ab")))


def test_a_vector_of_an_event_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`data.interactions.features.cover.kind` must be one of"):
        opened(tmp_path, context={"cover": {"kind": "vector"}})
