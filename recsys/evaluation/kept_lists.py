"""Lists that the last step of training made, kept in the run's folder for its evaluation to read.

lists.npz   item_rows [Q, K] int32, scores [Q, K] float32, question: digest of all that decides the lists
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from recsys.evaluation.protocol import retrieval_protocol
from recsys.evaluation.questions import RetrievalQuestions
from recsys.evaluation.recommendations import Lists
from recsys.schema.disk import write_file
from recsys.schema.manifest import read_station

FILE = "lists.npz"
WEIGHTS = "checkpoints/best"


def question_of(questions: RetrievalQuestions, *, weights: str | None) -> str:
    """Digest of what decides a model's lists: data, queries, candidates, histories, hash of weights."""
    dataset = questions.dataset
    protocol = retrieval_protocol(dataset, questions.options, queries=questions.queries)
    asked = {
        **{key: value for key, value in protocol.items() if key != "k"},
        "dataset": dataset.manifest["fingerprint"],
        "history_length": questions.history_length,
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def keep_lists(folder: Path, lists: Lists, question: str) -> None:
    """Writes the lists into a run's folder, whose manifest then covers them as it does the weights."""
    content = io.BytesIO()
    rows = lists.item_rows.astype(np.int32)
    np.savez(content, item_rows=rows, scores=lists.scores, question=np.array(question))
    write_file(folder / FILE, content.getvalue())


def read_lists_of(folder: Path, question: str, *, k: int, num_items: int) -> Lists | None:
    """The kept lists cut to `k`; None where there are none, of another question, or shorter ones.

    Args:
        folder: of a run; only a file that its manifest lists is opened.
        question: see `question_of`.
        k: length of the lists.
        num_items: of the catalogue.
    """
    try:
        if FILE not in read_station(folder, "run")["files"]:
            return None
        with np.load(folder / FILE, allow_pickle=False) as kept:
            item_rows, scores, asked = (kept[name] for name in ("item_rows", "scores", "question"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    is_usable = (
        str(asked) == question
        and item_rows.shape == scores.shape
        and item_rows.shape[1] >= k
        and 0 <= item_rows.min(initial=0) <= item_rows.max(initial=0) < num_items
    )
    return Lists(item_rows[:, :k].astype(np.int64), scores[:, :k]) if is_usable else None
