"""The kind `sentence`: vectors that a sentence model makes of a column of texts."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.catalogue import Entities, Side
from recsys.data.preparing.sentences import encode_sentences
from recsys.data.reading.engine import Engine
from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.schema.feature_kinds import SentenceFeature
from recsys.schema.tables import RAW_PREFIX

READ_APART = False


def size(feature: SentenceFeature, engine: Engine, side: Side) -> int:
    """Numbers of each vector."""
    return _encoder(feature.model).size


def write(
    feature: SentenceFeature,
    held: npt.NDArray[np.float16],
    *,
    engine: Engine,
    side: Side,
    entities: Entities,
    cache_dir: Path,
) -> None:
    """Fills in the vectors of the users or items that have a text."""
    texts = entities.table[RAW_PREFIX + feature.column].combine_chunks().cast(pa.string())
    rows = np.flatnonzero(pc.fill_null(pc.greater(pc.utf8_length(texts), 0), False))
    chosen = texts.take(pa.array(rows)).to_pylist()
    for part, vectors in encode_sentences(_encoder(feature.model), chosen, cache_dir):
        held[rows[part]] = vectors


@functools.cache
def _encoder(model: str) -> SentenceEncoder:
    return SentenceEncoder(model, threads=os.cpu_count() or 1)
