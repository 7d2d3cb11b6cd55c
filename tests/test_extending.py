"""A model, a metric and a loss are each one new file; a model brings its configuration too."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.runs.environment import PROJECT

MODEL = '''
"""Logistic regression over the mean embedding of the features."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.fields import Fields, RankingInputs, flat
from recsys.schema.arguments import with_arguments_of
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class Plain(HeadModel):
    """Ranking by a linear layer."""

    auto_sizes = sizes.RANKING

    def __init__(self, schema: FeatureSchema, *, hidden: Sequence[int] = (), **inputs: Any) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        self.tables = shared.tables(schema)
        self.head = PlainHead(shared.fields(schema))


class PlainHead(nn.Module):
    """w x + b."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self.fields = fields
        self.layer = nn.Linear(fields.width, 1)

    def forward(self, embedded: dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:
        """Logits [B]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        return self.layer(flat(features_BFD, dense_BN)).squeeze(1)
'''
MODEL_YAML = """
# @package _global_
model:
  _target_: recsys.models.plain.Plain
  embedding_dim: auto
  hidden: auto

data:
  history_length: auto

task:
  _target_: recsys.training.ranking.RankingTask
  embedding_penalty: auto
"""
LOSS = '''
"""Hinge loss of margins."""

import torch

from recsys.losses.candidates import CandidateScores
from recsys.losses.weighting import weighted_mean


class Margin:
    """Mean of max(0, margin - positive + negative) over the drawn candidates.

    Args:
        margin: by which a positive should be ahead.
    """

    draws = True

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin

    def of_candidates(self, scores: CandidateScores) -> torch.Tensor:
        """Weighted mean over the examples (scalar)."""
        drawn_BN, accidental_BN = scores.drawn
        short_BN = (self.margin - scores.positive_B[:, None] + drawn_BN).clamp(min=0)
        return weighted_mean(short_BN.masked_fill(accidental_BN, 0.0).mean(dim=1), scores.weights_B)
'''
METRIC = '''
"""Rank-biased precision."""

import numpy as np

from recsys.metrics.register import list_metric


@list_metric(better="more", label="RBP")
def rank_biased_precision(hits_QK, num_relevant_Q, *, k):
    """(1 - p) sum over ranks r of p^(r - 1) hit_r of each query, p = 0.8 (Moffat and Zobel 2008)."""
    weights_K = 0.2 * 0.8 ** np.arange(k)
    return (hits_QK[:, :k] * weights_K[: hits_QK.shape[1]]).sum(axis=1)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The project in another folder, with the new files and no old one changed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("recsys", "configs"):
        if (PROJECT / name).exists():
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "evaluate.py", "export.py", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder / name)
    (configs,) = [path.parent for path in folder.rglob("two_tower.yaml") if path.parent.name == "model"][:1]
    new = {
        folder / "recsys/models/plain.py": MODEL,
        configs / "plain.yaml": MODEL_YAML,
        folder / "recsys/losses/margin.py": LOSS,
        folder / "recsys/metrics/rank_biased.py": METRIC,
    }
    for path, text in new.items():
        assert not path.exists()
        path.write_text(text.lstrip())
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "user_id": random.integers(0, 30, 900),
            "item_id": random.integers(0, 25, 900),
            "timestamp": 1_000_000_000 + 3600 * np.arange(900),
        }
    )
    table["rating"] = np.where((table.user_id + table.item_id) % 2 == 0, 5, 1)
    table.drop_duplicates(["user_id", "item_id"]).to_csv(folder / "ratings.csv", index=False)
    return folder


def train(copy: Path, name: str, *overrides: str) -> Path:
    run_dir = copy / name
    command = [
        *(sys.executable, "train.py", "data=table", "data.interactions.path=ratings.csv"),
        *("data.label.column=rating", "data.label.positive_at_least=4", f"data.cache_dir={copy / 'cache'}"),
        *(f"run_dir={run_dir}", "trainer.max_epochs=1", *overrides),
    ]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return run_dir


@pytest.mark.slow
def test_new_model_is_trained_with_sizes_of_its_own(copy):
    run_dir = train(copy, "plain", "model=plain")
    assert "log_loss" in json.loads((run_dir / "metrics.json").read_text())["test"]
    text = (run_dir / "config.yaml").read_text()
    assert "recsys.models.plain.Plain" in text
    assert "embedding_dim: 8" in text  # fewer than 20,000 rows
    assert "auto" not in text.split("task:")[0].split("model:")[1]


@pytest.mark.slow
def test_new_loss_and_metric_are_found(copy):
    loss = "task.loss={_target_:recsys.losses.margin.Margin,margin:0.5}"
    run_dir = train(copy, "margin", "model=matrix_factorization", loss)
    text = (run_dir / "config.yaml").read_text()
    assert "margin: 0.5" in text
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert 0 < metrics["test"]["rank_biased_precision@10"] < 1
    assert 0 < metrics["validation"]["rank_biased_precision@10"] < 1
