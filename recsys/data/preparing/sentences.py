"""SentenceCache: vectors of texts, made once for each text and kept below the cache folder.

What was encoded is kept every few seconds, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.schema.progress import progress

_AT_ONCE = 256


def encode_sentences(
    encoder: SentenceEncoder, texts: Sequence[str], cache_dir: Path
) -> Iterator[tuple[slice, npt.NDArray[np.float16]]]:
    """Yields vectors [N, size] for one part of the texts after the other; known ones are read from the cache.

    Args:
        encoder: of those that are not known.
        texts: each is encoded for itself.
        cache_dir: `sentences/DIGEST.sqlite` below it holds vectors by the hash of their text.
    """
    file = Path(cache_dir) / "sentences" / f"{encoder.digest}.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may write: one waits for the other.
    with closing(sqlite3.connect(file, timeout=600)) as connection:
        connection.execute("create table if not exists vectors (text blob primary key, vector blob)")
        parts = [slice(first, first + _AT_ONCE) for first in range(0, len(texts), _AT_ONCE)]
        for part in progress(parts, f"encoding {len(texts):,} texts by {encoder.model}"):
            yield part, _vectors(encoder, texts[part], connection)


def _vectors(
    encoder: SentenceEncoder, texts: Sequence[str], connection: sqlite3.Connection
) -> npt.NDArray[np.float16]:
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    marks = ", ".join("?" * len(keys))
    rows = connection.execute(f"select text, vector from vectors where text in ({marks})", keys)
    known = {key: np.frombuffer(vector, np.float16) for key, vector in rows}
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if new:
        made = encoder.encode(list(new.values()))
        known |= dict(zip(new, made, strict=True))
        with connection:
            entries = [(key, vector.tobytes()) for key, vector in zip(new, made, strict=True)]
            connection.executemany("insert or ignore into vectors values (?, ?)", entries)
    return np.stack([known[key] for key in keys])
