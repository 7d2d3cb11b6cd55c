"""Two small prepared datasets, and a model that knows the answers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare
from recsys.evaluation.comparing import stations
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.station import EvaluatedRun
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep
from tests.data.preparing import STARS, options_for, prepared

NUM_USERS, NUM_ITEMS, NUM_EVENTS = 50, 30, 1500
START = 1_600_000_000
DAY = 86_400
COMPARED = EvaluationOptions(k=(3, 5), resamples=60, num_examples=0, small_slice=5, ease_l2=(100.0,))


@pytest.fixture(scope="session")
def ratings():
    """Ratings over 100 days, ids as text; even users like even items, and some rate an item twice."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(NUM_USERS * NUM_ITEMS)[:NUM_EVENTS]
    users, items = pairs // NUM_ITEMS, (pairs % NUM_ITEMS) ** 2 // NUM_ITEMS
    return {
        "user_id": [f"u{user}" for user in users],
        "item_id": [f"i{item:02}" for item in items],
        "stars": (1 + rng.integers(0, 3, NUM_EVENTS) + 2 * ((users + items) % 2 == 0)).tolist(),
        "timestamp": (START + np.sort(rng.integers(0, 100 * DAY, NUM_EVENTS))).tolist(),
    }


@pytest.fixture(scope="session")
def rated(ratings, tmp_path_factory) -> PreparedDataset:
    """The ratings, split by global time; titles that HTML has to escape, and an item that train never saw."""
    titles = {
        "item_id": [f"i{item:02}" for item in range(NUM_ITEMS)],
        "title": [f"Film <{item}> & co" for item in range(NUM_ITEMS)],
    }
    options = options_for(tmp_path_factory.mktemp("rated"), ratings, items=titles, label=STARS)
    options = dataclasses.replace(options, items=dataclasses.replace(options.items, title_column="title"))
    return PreparedDataset.open(prepare(options))


@pytest.fixture(scope="session")
def clicked(ratings, tmp_path_factory) -> PreparedDataset:
    """The same events as clicks without label and time, split at random."""
    clicks = {"user_id": [int(user[1:]) for user in ratings["user_id"]], "item_id": ratings["item_id"]}
    unique = list(dict.fromkeys(zip(clicks["user_id"], clicks["item_id"], strict=True)))
    clicks = {"user_id": [user for user, _ in unique], "item_id": [item for _, item in unique]}
    folder = tmp_path_factory.mktemp("clicked")
    return PreparedDataset.open(prepared(folder, clicks, split="random", columns={"timestamp": None}))


class Oracle(nn.Module):
    """A retrieval model that looks up what is relevant in the batch it is given."""

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.query_tower = self.candidate_tower = nn.Identity()
        self.vectors = nn.Parameter(torch.eye(num_items))
        self.position = 0

    def encode_queries(self, batch):
        """The vectors of each query's relevant items, added."""
        added = torch.zeros(len(batch.relevant), self.vectors.shape[1])
        return added.index_add(0, batch.relevant.rows, self.vectors[batch.relevant.values])

    def encode_candidates(self, batch):
        """One-hot by catalogue row, in which the catalogue is encoded."""
        return self.vectors[: len(batch)]


@pytest.fixture
def oracle(rated) -> Oracle:
    """Knows the answers to the queries of `rated`."""
    return Oracle(rated.num_items)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """An evaluation station, read back."""

    path: Path
    results: dict[str, Any]
    page: str


@pytest.fixture(scope="session")
def evaluated(rated, tmp_path_factory) -> dict[str, Evaluated]:
    """Untrained models evaluated in earnest, by task, in runs that seem to have had three epochs."""
    options = EvaluationOptions(
        k=(3, 5), resamples=50, num_examples=4, hot_history=10, small_slice=5, latency_requests=20
    )
    torch.manual_seed(0)
    two_tower = TwoTower(rated.schema, embedding_dim=8, hidden=[8])
    wide_deep = WideDeep(rated.schema, embedding_dim=4, hidden=[8])
    found = {}
    for task, monitor in (("retrieval", "ndcg@5"), ("ranking", "auc")):
        run = EvaluatedRun(tmp_path_factory.mktemp(task) / "run <1>")
        (run.folder / "tensorboard").mkdir(parents=True)
        write_curves(run.folder, monitor=monitor)
        if task == "retrieval":
            path = evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), options, run=run)
        else:
            path = evaluate(EvaluatedModel(wide_deep, rated, "ranking", 10), options, run=run)
        results = json.loads((path / "metrics.json").read_text())
        found[task] = Evaluated(path, results, (path / "report.html").read_text(encoding="utf-8"))
    return found


def write_curves(run: Path, *, monitor: str) -> None:
    """What training leaves of three epochs of four steps: losses 3, 2, 1 and validation 0.1, 0.3, 0.2."""
    with SummaryWriter(str(run / "tensorboard")) as board:
        for epoch, (loss, value) in enumerate(((3.0, 0.1), (2.0, 0.3), (1.0, 0.2))):
            step = 4 * epoch + 3
            board.add_scalar("train/loss_step", 9.0, step - 1)
            for tag, number in {"train/loss": loss, f"val/{monitor}": value, "epoch": epoch}.items():
                board.add_scalar(tag, number, step)
        board.add_scalar(f"val/{monitor}", 0.3, 0)  # as the table of hyperparameters does
    (run / "metrics.json").write_text(json.dumps({"monitor": f"val/{monitor}", "best_epoch": 1}))


@pytest.fixture(scope="session")
def retrieved(rated, tmp_path_factory) -> list[stations.ReadEvaluation]:
    """Two evaluations of the same queries."""
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = TwoTower(rated.schema, embedding_dim=8, hidden=[8])
        run = EvaluatedRun(tmp_path_factory.mktemp(f"run{seed} <b>"))
        paths.append(evaluate(EvaluatedModel(model, rated, "retrieval", 10), COMPARED, run=run))
    return [stations.ReadEvaluation.open(path) for path in paths]


@pytest.fixture(scope="session")
def ranked(rated, tmp_path_factory) -> list[stations.ReadEvaluation]:
    """Two evaluations of the same rows."""
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = WideDeep(rated.schema, embedding_dim=4, hidden=[8], init_std=0.3)
        run = EvaluatedRun(tmp_path_factory.mktemp("ranked"))
        paths.append(evaluate(EvaluatedModel(model, rated, "ranking", 10), COMPARED, run=run))
    return [stations.ReadEvaluation.open(path) for path in paths]


@pytest.fixture
def reading():
    """Reads `metrics.json` and the lists of an evaluation."""

    def read(path):
        lists = pq.read_table(path / "recommendations.parquet")
        return json.loads((path / "metrics.json").read_text()), lists

    return read
