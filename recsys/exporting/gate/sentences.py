"""check_sentences: what a sentence model makes of a text now must be what the prepared data hold of it."""

from __future__ import annotations

import logging

import torch

from recsys.data.dataset import PreparedDataset
from recsys.exporting.gate.differences import ParityError
from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import SentenceFeature
from recsys.schema.tables import RAW_PREFIX

LOGGER = logging.getLogger(__name__)

_TEXTS = 8
# Machines add up in other orders; another model, or other tokens, would be far below.
_LEAST_COSINE = 0.99


def check_sentences(dataset: PreparedDataset) -> None:
    """Encodes a few texts anew, as `recsys.serving` will, and compares them with what was trained on.

    Raises:
        ParityError: at the first text whose vector is another.
    """
    for feature in dataset.schema.vectors():
        if isinstance(feature, SentenceFeature):
            _check(feature, dataset)


def _check(feature: SentenceFeature, dataset: PreparedDataset) -> None:
    store, raw = (
        (dataset.users, dataset.raw_users) if feature.role == "user" else (dataset.items, dataset.raw_items)
    )
    assert store.vectors is not None
    held = store.vectors.columns[feature.name]
    try:
        encoder = SentenceEncoder(feature.model)
    except InputError as error:
        LOGGER.warning("the vectors of `%s` are not compared with their texts: %s", feature.name, error)
        return
    for row, text in enumerate(raw[RAW_PREFIX + feature.column].slice(0, _TEXTS + 1).to_pylist()):
        if not text:
            continue
        found = torch.from_numpy(encoder.encode([str(text)])[0]).float()
        cosine = torch.nn.functional.cosine_similarity(found, held[row].float(), dim=0)
        if not cosine >= _LEAST_COSINE:
            raise ParityError(
                f"`{feature.model}` must make of a text the vector that was trained on; but of row {row} of "
                f"`{feature.column}` ({text!r:.80}) it makes another for `{feature.name}`, of cosine "
                f"{float(cosine):.4f} to it; prepare the data anew with this model, and train again"
            )
