import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.options import SideTable
from recsys.exporting.bundle import export_bundle, load_bundle, load_scripted
from recsys.exporting.options import ExportOptions
from recsys.exporting.stage import Stage
from recsys.models.dcn_v2 import DCNv2
from recsys.models.deep_fm import DeepFM
from recsys.models.din import DIN
from recsys.models.dlrm import DLRM
from recsys.models.final_mlp import FinalMLP
from recsys.models.matrix_factorization import MatrixFactorization
from recsys.models.mmoe import MMoE
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep
from tests.exporting import worlds
from tests.exporting.readers import Readers
from tests.pythons import replays_in_forks  # noqa: F401

HISTORY_LENGTH = 4


@dataclasses.dataclass
class Exported:
    """A model, what it was made for, its bundle's folder and the file in it, loaded."""

    model: nn.Module
    dataset: PreparedDataset
    folder: Path
    program: Any


@pytest.fixture(scope="session")
def scripted_readers():
    """The readers of raw values as TorchScript, saved and loaded again."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Readers()), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@pytest.fixture(scope="session", params=["python", "torchscript"])
def readers(request, scripted_readers):
    """The readers of raw values in Python and in TorchScript."""
    return Readers() if request.param == "python" else scripted_readers


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    return worlds.shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def newcomer(tmp_path_factory):
    return worlds.newcomer(tmp_path_factory.mktemp("newcomer"))


def two_tower(dataset: PreparedDataset) -> nn.Module:
    return lively(TwoTower(dataset.schema, embedding_dim=8))


def matrix_factorization(dataset: PreparedDataset) -> nn.Module:
    return lively(MatrixFactorization(dataset.schema, embedding_dim=8))


def sequence_two_tower(dataset: PreparedDataset, **keys: Any) -> nn.Module:
    return lively(SequenceTwoTower(dataset.schema, embedding_dim=8, max_length=HISTORY_LENGTH, **keys))


def wide_deep(dataset: PreparedDataset) -> nn.Module:
    crosses = (
        [["user_id", "genres"], ["age_group", "maker_city", "device"]] if "genres" in dataset.schema else []
    )
    return lively(WideDeep(dataset.schema, embedding_dim=8, crosses=crosses, cross_buckets=100))


def dcn_v2(dataset: PreparedDataset) -> nn.Module:
    return lively(DCNv2(dataset.schema, embedding_dim=8, leave_out=["dwell"], normalisation="layer"))


def dcn_v2_mixture(dataset: PreparedDataset) -> nn.Module:
    return lively(DCNv2(dataset.schema, embedding_dim=8, structure="stacked", rank=4, num_experts=2))


def deep_fm(dataset: PreparedDataset) -> nn.Module:
    return lively(DeepFM(dataset.schema, embedding_dim=8))


def dlrm(dataset: PreparedDataset) -> nn.Module:
    return lively(DLRM(dataset.schema, embedding_dim=8))


def final_mlp(dataset: PreparedDataset) -> nn.Module:
    return lively(
        FinalMLP(dataset.schema, embedding_dim=8, num_heads=2, second_gates=[], normalisation="batch")
    )


def mmoe(dataset: PreparedDataset) -> nn.Module:
    return lively(MMoE(dataset.schema, embedding_dim=8, num_experts=2, hidden=(64,), tower_hidden=(32,)))


def din(dataset: PreparedDataset) -> nn.Module:
    return lively(DIN(dataset.schema, embedding_dim=8))


# All of them together take minutes; `make test-slow` asks these.
SLOW = (dcn_v2, dcn_v2_mixture, deep_fm, dlrm, final_mlp, mmoe)
RANKERS = (
    *(wide_deep, din),
    *(pytest.param(build, marks=pytest.mark.slow) for build in SLOW),
)


def lively(model: nn.Module) -> nn.Module:
    """The model with weights as after training: all of them matter, the wide part and row 0 too."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def export(model: nn.Module, dataset: PreparedDataset, folder: Path) -> Exported:
    run = {"path": "runs/1", "metrics": {"test": {"ndcg@10": 0.1}}}
    export_bundle(stage(model, dataset, **run), folder, config={"seed": 3}, source="run-fingerprint")
    file = "ranking.pt" if (folder / "ranking.pt").exists() else "retrieval.pt"
    return Exported(model, dataset, folder, load_scripted(folder / file))


@pytest.fixture(scope="session")
def retrieval(shop, tmp_path_factory):
    return export(two_tower(shop), shop, tmp_path_factory.mktemp("retrieval") / "bundle")


@pytest.fixture(scope="session")
def ranking(shop, tmp_path_factory):
    return export(wide_deep(shop), shop, tmp_path_factory.mktemp("ranking") / "bundle")


@pytest.fixture(scope="session", params=RANKERS, ids=lambda build: build.__name__)
def ranker(request, shop, tmp_path_factory):
    """Every ranking model in turn."""
    return export(request.param(shop), shop, tmp_path_factory.mktemp("ranker") / "bundle")


@pytest.fixture(scope="session")
def newcomer_retrieval(newcomer, tmp_path_factory):
    return export(
        matrix_factorization(newcomer), newcomer, tmp_path_factory.mktemp("newcomer_bundle") / "bundle"
    )


@dataclasses.dataclass
class Recommender:
    """Two models, the folder of their bundle, its manifest and the program in it."""

    retrieval: Stage
    ranking: Stage
    folder: Path
    manifest: dict[str, Any]
    program: Any


def stage(model: nn.Module, dataset: PreparedDataset, **run: Any) -> Stage:
    return Stage(model, dataset, HISTORY_LENGTH, run)


def export_both(retrieval: Stage, ranking: Stage, folder: Path, **keys: Any) -> Recommender:
    options = ExportOptions(parity_rows=15, recorded_requests=7, **keys)
    export_bundle(retrieval, folder, ranker=ranking, options=options, config={"seed": 3}, source="first-run")
    return Recommender(retrieval, ranking, folder, *load_bundle(folder))


@pytest.fixture(scope="session")
def recommender(shop, tmp_path_factory):
    """Eight candidates of thirty-four items; both models trained on one dataset."""
    folder = tmp_path_factory.mktemp("two_stage") / "bundle"
    return export_both(stage(two_tower(shop), shop), stage(wide_deep(shop), shop), folder, num_candidates=8)


@pytest.fixture(scope="session")
def lean_shop(tmp_path_factory):
    """The shop without its side tables; some of its items never occur in train, and so are unknown."""
    changes = {"users": SideTable(), "items": SideTable(), "split": "cold_item"}
    return worlds.shop(tmp_path_factory.mktemp("lean"), split_fractions=(0.6, 0.2, 0.2), **changes)


@pytest.fixture(scope="session")
def other_shop(tmp_path_factory):
    """The shop, split otherwise."""
    return worlds.shop(tmp_path_factory.mktemp("other"), split="leave_last_out")
